/* SPDX-License-Identifier: MIT */
/* misuse.c - the messages for misuse. Owns nothing. Their wording is part of the interface: tests hold it word for word. */
#include "misuse.h"

#include "header.h"
#include "span.h"
#include "starts.h"

struct place {
  uintptr_t start;
  size_t size; /* requested */
  const char *backend;
};

/* The live page block or byte block around an address. */
static bool find(uintptr_t at, struct place *place)
{
  const struct hki_span *span = hki_pagemap_enclosing(at);
  if (span != NULL) {
    *place = (struct place){hki_span_base(span), span->range.requested, hki_backends[span->range.backend].name};
    return true;
  }
  uintptr_t start = hki_starts_below(at);
  if (start != 0) {
    const struct hki_header *header = hki_header((void *)start);
    *place = (struct place){start, hki_header_size(header), hki_header_backend(header)->name};
    return at == start || at < start + place->size;
  }
  return false;
}

HKI_COLD bool hki_in_live_block(const void *pointer)
{
  struct place place;
  return find((uintptr_t)pointer, &place);
}

HKI_COLD _Noreturn void hki_misuse(const char *func, const void *pointer, hki_entry entry)
{
  uintptr_t at = (uintptr_t)pointer;
  struct place place = {0};
  bool found;
  if (at % HKI_ALIGN != 0) {
    hki_die("%s(%p): not aligned to 16 bytes", func, pointer);
  }
  if (hki_entry_kind(entry) == HKI_CLASS || hki_entry_kind(entry) == HKI_CLASS_FULL) {
    const struct hki_span *span = hki_entry_record(entry);
    place.size = hakmem_root.class_bytes[span->cls];
    place.start = at - (at - hki_span_base(span)) % place.size;
    place.backend = hki_backends[span->range.backend].name;
    found = hki_span_starts(span) == NULL || hki_span_holds(span, place.start);
  } else {
    found = find(at, &place);
  }
  if (found && place.start != at) {
    hki_die("%s(%p): inside a live block of %lu bytes at %p (backend %s)", func, pointer, (unsigned long)place.size,
            (void *)place.start, place.backend);
  }
  hki_die("%s(%p): already freed, or never allocated", func, pointer);
}

HKI_COLD _Noreturn void hki_written(const void *object, uint32_t cls)
{
  hki_die("%p: written to after it was freed, an object of %lu bytes", object, (unsigned long)hakmem_root.class_bytes[cls]);
}

HKI_COLD _Noreturn void hki_broken(const char *name, const void *pointer)
{
  hki_die("backend %s handed out %p, which is not its own or already live", name, pointer);
}
