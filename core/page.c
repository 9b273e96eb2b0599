/* SPDX-License-Identifier: MIT */
/*
 * page.c - large blocks, from the request to the free. Owns nothing: a record is in the hands of whoever moved its state, and what
 * happens to it after the free is in range.c.
 */
#include "page.h"

#include "alloc.h"
#include "epoch.h"
#include "meta.h"
#include "misuse.h"
#include "range.h"
#include "route.h"
#include "site.h"
#include "span.h"
#include "trial.h"
#include "zero.h"

static void enter_map(uintptr_t base, hki_entry entry)
{
  __atomic_store_n(hki_pagemap_slot(base), entry, __ATOMIC_RELEASE); /* the leaf is there */
}

/* Enters `span` in its slot of the page map. False when there was no memory for one. An empty start bitmap may have been there. */
static bool place(struct hki_span *span, hki_entry *slot)
{
  if (slot == NULL) {
    return false;
  }
  hki_entry before = __atomic_exchange_n(slot, hki_entry_make(HKI_PAGE_BLOCK, span, 0), __ATOMIC_ACQ_REL);
  if (hki_entry_kind(before) == HKI_STARTS) {
    hki_starts_put(hki_entry_record(before), 1);
  }
  return true;
}

static void count_active(const struct hki_span *span, size_t bytes)
{
  HKI_ADD(&hakmem_root.active_bytes, bytes);
  if (HKI_UNLIKELY(span->range.flags & HAK_TRIED)) {
    HKI_ADD(&hakmem_root.tried_bytes, bytes);
  }
}

static void count_alloc(struct hki_thread *thread, const struct hki_span *span)
{
  HKI_BUMP(&thread->seat[span->range.backend].tally.allocs, UINT64_C(1));
  HKI_BUMP(&thread->seat[span->range.backend].tally.alloc_bytes, span->range.requested);
  count_active(span, span->range.capacity);
}

/* A block from the backend, entered in the page map. NULL when one of them has no room. */
static struct hki_span *fresh(struct hki_thread *thread, struct hki_backend *backend, const struct hki_want *want)
{
  struct hki_span *span = hki_span_get();
  if (span == NULL) {
    return NULL;
  }
  void **slot = &thread->seat[backend->index].slot;
  size_t size = want->size < HAK_GRANULE ? HAK_GRANULE : want->size;
  size_t align = want->align < HAK_GRANULE ? HAK_GRANULE : want->align;
  hki_enter(backend);
  hak_block got = backend->ops.alloc(backend->self, slot, size, align);
  hki_leave(thread);
  if (got.base == NULL) {
    hki_span_put(span);
    return NULL;
  }
  if ((uintptr_t)got.base % align != 0 || hak_block_capacity(got) < want->size) {
    hki_broken(backend->name, got.base);
  }
  span->range = (hak_range){.base = got.base,
                            .capacity = hak_block_capacity(got),
                            .backend = (uint8_t)backend->index,
                            .flags = (uint8_t)hak_block_flags(got)};
  __atomic_store_n(&span->state, (uint32_t)HKI_SPAN_MOVING, __ATOMIC_RELAXED);
  if (!place(span, hki_pagemap_slot((uintptr_t)got.base))) {
    hki_enter(backend);
    backend->ops.free(backend->self, slot, got.base, hak_block_capacity(got));
    hki_leave(thread);
    hki_span_put(span);
    return NULL;
  }
  return span;
}

/* A backend that lets its pages be purged has anonymous memory, of which pages can be given up. */
static HKI_SLOW void zero(const struct hki_span *span, size_t size)
{
  if (hki_backends[span->range.backend].ops.free_many != NULL) {
    hki_zero(span->range.base, size);
  } else {
    memset(span->range.base, 0, size);
  }
}

/* Hands out the block to the program: what that changes in its record and in the counts. */
HKI_INLINE void *hand_out(struct hki_thread *thread, struct hki_span *span, const struct hki_want *want)
{
  if ((want->request & HKI_ZEROED) && !(span->range.flags & HAK_ZEROED)) {
    zero(span, want->size);
  }
  span->range.flags &= (uint8_t) ~(HAK_ZEROED | HAK_TRIED); /* true of one hand-out, and this is the next */
  span->range.flags |= want->is_challenger ? HAK_TRIED : 0;
  span->range.site = want->site;
  span->range.requested = want->size;
  hki_range_counted(&span->range, hki_epoch_row(want));
  count_alloc(thread, span);
  __atomic_store_n(&span->state, (uint32_t)HKI_SPAN_LIVE, __ATOMIC_RELEASE);
  return span->range.base;
}

void *hki_page_again(size_t size, size_t align, uint32_t request, const void *site)
{
  struct hki_thread *thread = hki_self;
  if (HKI_UNLIKELY(HKI_LOAD(&thread->direct_end) != HKI_LOAD(&hki_route.direct_end)) ||
      HKI_UNLIKELY(HKI_LOAD(&thread->front_end) != HKI_LOAD(&hki_route.front_end))) {
    return hki_alloc_long(size, align, request, site);
  }
  struct hki_want want = {
      .size = size, .align = align, .site = site, .request = request, .row = hki_route_row(size), .hit = true};
  bool learns = hki_epoch_learns(), measured = false;
  if (HKI_UNLIKELY(learns)) {
    hki_route_choose(&want);
    measured = hki_trial_due(&want);
  } else {
    want.arm = HKI_LOAD(&hakmem_root.champion[want.row]);
  }
  struct hki_span *span = HKI_UNLIKELY(measured) ? NULL : hki_range_again(thread, &want);
  if (HKI_UNLIKELY(span == NULL)) { /* the draw holds, where there was one */
    return learns ? hki_alloc_routed(thread, &want, measured) : hki_alloc_long(size, align, request, site);
  }
  void *block = hand_out(thread, span, &want);
  hki_epoch_count(&want);
  return block;
}

HKI_SLOW void *hki_page_alloc(struct hki_thread *thread, struct hki_backend *backend, struct hki_want *want)
{
  struct hki_span *span = hki_route.arm[want->arm].cache ? hki_range_take(thread, backend, want) : NULL;
  want->hit = span != NULL;
  if (span == NULL) {
    span = fresh(thread, backend, want);
  }
  if (span == NULL) {
    return NULL;
  }
  want->untouched = (span->range.flags & HAK_ZEROED) != 0 && !(want->request & HKI_ZEROED);
  span->range.arm = (uint8_t)want->arm;
  span->trial = 0;
  return hand_out(thread, span, want);
}

void hki_page_leave(const struct hki_span *span)
{
  enter_map(hki_span_base(span), HKI_PAGE_FREED);
}

struct hki_span *hki_page_live(const void *block, hki_entry entry)
{
  if (hki_entry_kind(entry) != HKI_PAGE_BLOCK) {
    return NULL;
  }
  struct hki_span *span = hki_entry_record(entry);
  bool live = span->range.base == block && __atomic_load_n(&span->state, __ATOMIC_ACQUIRE) == HKI_SPAN_LIVE;
  return live ? span : NULL;
}

HKI_SLOW void hki_page_free(struct hki_thread *thread, void *block, hki_entry entry, const char *func)
{
  struct hki_span *span = hki_page_live(block, entry);
  if (span == NULL || !hki_span_move(span, HKI_SPAN_LIVE, HKI_SPAN_MOVING)) {
    hki_misuse(func, block, entry);
  }
  HKI_BUMP(&thread->seat[span->range.backend].tally.frees, UINT64_C(1));
  HKI_BUMP(&thread->seat[span->range.backend].tally.free_bytes, span->range.requested);
  count_active(span, -span->range.capacity);
  uint32_t row = hki_range_row(&span->range);
  if (HKI_UNLIKELY(row != 0)) {
    hki_epoch_freed(span->range.arm, row);
  }
  if (HKI_UNLIKELY(span->trial != 0)) {
    struct hki_trial_end end;
    hki_trial_stop(&end, span->trial, block, span->range.capacity, thread);
    span->trial = 0; /* the block may be handed out again at once */
    hki_range_retire(thread, span);
    hki_trial_finish(&end, thread);
  } else {
    hki_range_retire(thread, span);
  }
}

HKI_SLOW void *hki_page_resize(struct hki_thread *thread, void *block, hki_entry entry, size_t size)
{
  struct hki_span *span = hki_page_live(block, entry);
  if (span == NULL || !hki_span_move(span, HKI_SPAN_LIVE, HKI_SPAN_MOVING)) {
    hki_misuse("realloc", block, entry);
  }
  struct hki_tally *tally = &thread->seat[span->range.backend].tally;
  size_t old = span->range.requested;
  uintptr_t base = hki_span_base(span);
  bool fits = size <= span->range.capacity && size >= span->range.capacity / 2;
  if (!fits) {
    /* A move needs an entry at the new place, and there is no way back once the pages are there. */
    struct hki_backend *backend = &hki_backends[span->range.backend];
    hak_block got = HAK_NO_BLOCK;
    if (hki_pagemap_reserve()) {
      enter_map(base, HKI_PAGE_FREED);
      hki_enter(backend);
      got = backend->ops.resize(backend->self, &thread->seat[backend->index].slot, block, span->range.capacity,
                                size < HAK_GRANULE ? HAK_GRANULE : size);
      hki_leave(thread);
    }
    if (got.base == NULL) {
      enter_map(base, entry);
      __atomic_store_n(&span->state, (uint32_t)HKI_SPAN_LIVE, __ATOMIC_RELEASE);
      return NULL;
    }
    base = (uintptr_t)got.base;
    span->trial = 0; /* what it would measure is no longer one block's life */
    count_active(span, hak_block_capacity(got) - span->range.capacity);
    span->range.base = got.base;
    span->range.capacity = hak_block_capacity(got);
    if (!place(span, hki_pagemap_slot_reserved(base))) {
      hki_die("realloc(%p): no memory to record where backend %s moved it", block, backend->name);
    }
  }
  span->range.requested = size;
  HKI_BUMP(&tally->resizes, UINT64_C(1));
  if (size > old) {
    HKI_BUMP(&tally->alloc_bytes, size - old);
  } else {
    HKI_BUMP(&tally->free_bytes, old - size);
  }
  __atomic_store_n(&span->state, (uint32_t)HKI_SPAN_LIVE, __ATOMIC_RELEASE);
  return (void *)base;
}

/* The caller's slot word of a page source. Its callbacks nest in those of the backend that asks, so hki_self is not the record. */
static void **home_slot(const struct hki_backend *backend, void **none)
{
  return hki_home != NULL ? &hki_home->seat[backend->index].slot : none;
}

/* Page sources hand out memory that is no block: the plugin that asked registers it under its own kind. */
static hak_block pages_alloc(const struct hak_pages *pages, size_t size, size_t align)
{
  struct hki_backend *backend = ((const struct hki_pages *)(const void *)pages)->backend;
  struct hki_thread *caller = hki_self;
  void *none = NULL;
  void **slot = home_slot(backend, &none);
  hki_enter(backend);
  hak_block got = backend->ops.alloc(backend->self, slot, size < HAK_GRANULE ? HAK_GRANULE : size, align);
  hki_leave(caller);
  return got;
}

static void pages_free(const struct hak_pages *pages, void *base, size_t capacity)
{
  struct hki_backend *backend = ((const struct hki_pages *)(const void *)pages)->backend;
  if (hki_range_retire_pages(backend, base, capacity)) {
    return;
  }
  struct hki_thread *caller = hki_self;
  void *none = NULL;
  void **slot = home_slot(backend, &none);
  hki_enter(backend);
  backend->ops.free(backend->self, slot, base, capacity);
  hki_leave(caller);
}

const struct hak_pages *hki_pages_of(struct hki_backend *backend)
{
  struct hki_pages *pages = hki_meta_alloc(sizeof *pages, _Alignof(struct hki_pages));
  if (pages == NULL) {
    return NULL;
  }
  pages->base = (struct hak_pages){
      .struct_size = sizeof(struct hak_pages), .name = backend->name, .alloc = pages_alloc, .free = pages_free};
  pages->backend = backend;
  return &pages->base;
}
