/* SPDX-License-Identifier: MIT */
/* resize.c - realloc: in place or through the block's own backend where both agree, else by a copy. Owns nothing. */
#define _GNU_SOURCE
#include "resize.h"

#include <errno.h>

#include "alloc.h"
#include "byte.h"
#include "free.h"
#include "page.h"
#include "route.h"
#include "span.h"

/* Whether malloc could choose the backend now for a block of that size and arm. */
static bool stays(const struct hki_backend *backend, uint32_t arm, size_t size, const void *site)
{
  if (size < hki_route.small_end) {
    return hki_route.small == backend;
  }
  uint32_t champion = HKI_LOAD(&hakmem_root.champion[hki_route_row(size)]);
  return hki_route_backend(hki_route_in_force(arm, size, site) ? arm : champion, size) == backend;
}

/* The same block with another size, from its own backend. NULL when that is refused or not wise. */
static void *resize_own(struct hki_thread *thread, void *block, hki_entry entry, size_t size, const void *site)
{
  const struct hki_header *header;
  const struct hki_span *span;
  switch (hki_entry_kind(entry)) {
  case HKI_CLASS:
  case HKI_CLASS_FULL:
    return size < hki_route.small_end && hki_class_of(size) == hki_entry_class(entry) ? block : NULL;
  case HKI_STARTS:
    header = hki_header(block);
    return stays(hki_header_backend(header), hki_header_arm(header), size, site) ? hki_byte_resize(thread, block, size) : NULL;
  case HKI_PAGE_BLOCK:
    span = hki_page_live(block, entry);
    return span != NULL && stays(&hki_backends[span->range.backend], span->range.arm, size, span->range.site)
               ? hki_page_resize(thread, block, entry, size)
               : NULL;
  default:
    return NULL;
  }
}

HKI_SLOW void *hki_resize(void *block, size_t size, const void *site)
{
  int saved = errno;
  size_t old = hki_usable(block, "realloc"); /* settles whether this is a live block at all */
  struct hki_thread *thread = hki_thread_attach();
  if (size > HKI_SIZE_MAX) {
    errno = ENOMEM;
    return NULL;
  }
  if (!hki_detached(thread)) {
    hki_slow_event(thread);
    void *same = resize_own(thread, block, hki_pagemap_get((uintptr_t)block), size, site);
    if (same != NULL) {
      errno = saved;
      return same;
    }
  }
  void *fresh = hki_alloc(size, site);
  if (fresh != NULL) {
    memcpy(fresh, block, old < size ? old : size);
    hki_free(block, "realloc");
  }
  return fresh;
}
