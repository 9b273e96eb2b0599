/* SPDX-License-Identifier: MIT */
/*
 * alloc.h - the slow path of every allocation, and what the entry points share.
 */
#ifndef HKI_ALLOC_H
#define HKI_ALLOC_H

#include "base.h"
#include "byte.h"
#include "front.h"
#include "thread.h"
#include "want.h"

/* A block, from wherever the size, the alignment (a power of two >= 16) and the thread's state say. NULL: errno is ENOMEM. */
void *hki_alloc_slow(size_t size, size_t align, uint32_t request, const void *site);

/* The same past the block that the thread freed last. */
void *hki_alloc_long(size_t size, size_t align, uint32_t request, const void *site);

/* The same for a large request that has been routed already; `measured`: it begins a trial. [own record] */
void *hki_alloc_routed(struct hki_thread *thread, struct hki_want *want, bool measured);

/* hot: malloc where a byte backend serves the size; apart, so that a magazine hit needs no stack frame. */
void *hki_alloc_direct(size_t size, struct hki_thread *thread);

/* hot: malloc. */
HKI_INLINE void *hki_alloc(size_t size, const void *site)
{
  struct hki_thread *thread = hki_self;
  if (HKI_LIKELY(size < HKI_LOAD(&thread->front_end))) {
    void *block;
    if (HKI_LIKELY(hki_magazine_pop(hki_magazine_of(thread, size), &block))) {
      return block;
    }
  } else if (HKI_LIKELY(size < HKI_LOAD(&thread->direct_end))) {
    return hki_alloc_direct(size, thread);
  }
  return hki_alloc_slow(size, HKI_ALIGN, 0, site);
}

/* Work that waits for a slow event: live options from outside, deferred frees. Opens the gates. [slow path of an own record] */
void hki_slow_event(struct hki_thread *thread);

#endif
