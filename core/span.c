/* SPDX-License-Identifier: MIT */
/* span.c - owns the pool of span records, under hki_span_lock. */
#include "span.h"

#include "backend.h"
#include "front.h"
#include "lock.h"
#include "meta.h"
#include "misuse.h"
#include "pagemap.h"
#include "settings.h"
#include "starts.h"

enum { BATCH = 64 }; /* records made at a time */

hak_lock hki_span_lock;
static hak_range *idle;
static struct hki_span *fresh, *fresh_end; /* records never used */

struct hki_span *hki_span_get(void)
{
  hki_lock(&hki_span_lock);
  struct hki_span *span = hki_span_of(idle);
  if (span != NULL) {
    idle = span->range.next;
  } else {
    if (fresh == fresh_end) {
      fresh = hki_meta_alloc(BATCH * sizeof *fresh, _Alignof(struct hki_span));
      fresh_end = fresh != NULL ? fresh + BATCH : NULL;
    }
    span = fresh;
    fresh += fresh != NULL;
  }
  hki_unlock(&hki_span_lock);
  return span;
}

void hki_span_put(struct hki_span *span)
{
  __atomic_store_n(&span->state, (uint32_t)HKI_SPAN_IDLE, __ATOMIC_RELEASE);
  hki_lock(&hki_span_lock);
  span->range.next = idle;
  idle = &span->range;
  hki_unlock(&hki_span_lock);
}

static void enter(uintptr_t base, size_t bytes, hki_entry e)
{
  for (uintptr_t a = base; a < base + bytes; a += HAK_GRANULE) {
    __atomic_store_n(hki_pagemap_slot(a), e, __ATOMIC_RELEASE);
  }
}

bool hki_span_holds(const struct hki_span *span, uintptr_t address)
{
  if (!hki_class_starts(span->cls, address - hki_span_base(span))) {
    return false;
  }
  return hki_span_starts(span) == NULL ||
         hki_starts_test(&hki_span_starts(span)[(address - hki_span_base(span)) / HAK_GRANULE], address);
}

int32_t hki_span_register(uint32_t backend, void *base, size_t bytes, uint32_t cls, void *tag)
{
  uintptr_t start = (uintptr_t)base;
  if (start % HAK_GRANULE != 0 || bytes % HAK_GRANULE != 0 || bytes == 0 || bytes > UINT32_MAX || cls >= HKI_CLASSES) {
    return HAK_INVALID;
  }
  bool full = hki_settings.hardening == HKI_FULL;
  struct hki_starts *starts = full ? hki_starts_get(bytes / HAK_GRANULE) : NULL;
  struct hki_span *span = hki_span_get();
  bool have_leaves = true;
  for (uintptr_t a = start; a < start + bytes && have_leaves; a += HAK_GRANULE) {
    have_leaves = hki_pagemap_slot(a) != NULL;
  }
  if (span == NULL || !have_leaves || (full && starts == NULL)) {
    if (span != NULL) {
      hki_span_put(span);
    }
    if (starts != NULL) {
      hki_starts_put(starts, bytes / HAK_GRANULE);
    }
    return HAK_NO_MEMORY;
  }
  span->range = (hak_range){
      .base = base, .capacity = bytes, .site = tag, .stamp = (uint64_t)(uintptr_t)starts, .backend = (uint8_t)backend};
  span->cls = cls;
  HKI_STORE(&span->state, (uint32_t)HKI_SPAN_CLASS); /* a trial that has just ended may look at what the record was */
  HKI_ADD(&hakmem_root.class_span_bytes[cls], bytes);
  HKI_ADD(&hakmem_root.span_bytes, bytes);
  enter(start, bytes, hki_entry_make(full ? HKI_CLASS_FULL : HKI_CLASS, span, cls));
  return HAK_OK;
}

void hki_span_unregister(void *base)
{
  hki_entry e = hki_pagemap_get((uintptr_t)base);
  if (hki_entry_kind(e) != HKI_CLASS && hki_entry_kind(e) != HKI_CLASS_FULL) {
    return;
  }
  struct hki_span *span = hki_entry_record(e);
  HKI_ADD(&hakmem_root.class_span_bytes[span->cls], -span->range.capacity);
  HKI_ADD(&hakmem_root.span_bytes, -span->range.capacity);
  enter(hki_span_base(span), span->range.capacity, HKI_NONE);
  if (hki_span_starts(span) != NULL) {
    hki_starts_put(hki_span_starts(span), span->range.capacity / HAK_GRANULE);
  }
  hki_span_put(span);
}

/* Neighbours often lie in the same granule, which is looked up once. */
void hki_span_tags(uint32_t backend, uint32_t cls, void *const *objects, uint32_t count, void **tags)
{
  const uint64_t inverse = hki_class_inverse[cls];
  uintptr_t granule = 0, base = 0;
  void *tag = NULL;
  for (uint32_t i = 0; i < count; i++) {
    uintptr_t object = (uintptr_t)objects[i];
    if (object >> HKI_GRANULE_SHIFT != granule) {
      hki_entry entry = hki_pagemap_get(object);
      const struct hki_span *span = hki_entry_record(entry);
      if ((entry & (HKI_CLASS | HKI_CLASS_FULL)) == 0 || hki_entry_class(entry) != cls || span->range.backend != backend) {
        hki_misuse("free", objects[i], entry);
      }
      granule = object >> HKI_GRANULE_SHIFT;
      base = hki_span_base(span);
      tag = (void *)(uintptr_t)span->range.site;
    }
    if (HKI_UNLIKELY((object - base) * inverse >= inverse)) {
      hki_misuse("free", objects[i], hki_pagemap_get(object));
    }
    tags[i] = tag;
  }
}
