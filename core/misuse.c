/* SPDX-License-Identifier: MIT */
/* misuse.c - the messages for misuse. Owns nothing. Their wording is part of the interface: tests hold it word for word. */
#include "misuse.h"

#include "byte.h"
#include "front.h"
#include "span.h"

static _Noreturn void inside(const char *func, const void *pointer, size_t size, uintptr_t start, const char *backend)
{
  hki_die("%s(%p): inside a live block of %lu bytes at %p (backend %s)", func, pointer, (unsigned long)size, (void *)start,
          backend);
}

HKI_COLD _Noreturn void hki_misuse(const char *func, const void *pointer, hki_entry entry)
{
  uintptr_t at = (uintptr_t)pointer;
  if (at % HKI_ALIGN != 0) {
    hki_die("%s(%p): not aligned to 16 bytes", func, pointer);
  }
  if (hki_entry_kind(entry) == HKI_CLASS || hki_entry_kind(entry) == HKI_CLASS_FULL) {
    const struct hki_span *span = hki_entry_record(entry);
    uintptr_t start = at - (at - span->base) % span->object_bytes;
    if (start != at && (span->starts == NULL || hki_front_valid((void *)start, entry))) {
      inside(func, pointer, span->object_bytes, start, hki_backends[span->backend].name);
    }
    hki_die("%s(%p): already freed, or never allocated", func, pointer);
  }
  const struct hki_span *span = hki_pagemap_enclosing(at);
  if (span != NULL && span->base != at) {
    inside(func, pointer, span->requested, span->base, hki_backends[span->backend].name);
  }
  uintptr_t start = hki_starts_below(at);
  if (start != 0 && start != at) {
    const struct hki_header *header = hki_header((void *)start);
    size_t size = hki_header_size(header);
    if (at < start + size) {
      inside(func, pointer, size, start, hki_header_backend(header)->name);
    }
  }
  hki_die("%s(%p): already freed, or never allocated", func, pointer);
}

HKI_COLD _Noreturn void hki_broken(const char *name, const void *pointer)
{
  hki_die("backend %s handed out %p, which is not its own or already live", name, pointer);
}
