/* SPDX-License-Identifier: MIT */
/* free.h - the free path. */
#ifndef HKI_FREE_H
#define HKI_FREE_H

#include "base.h"
#include "byte.h"
#include "front.h"
#include "pagemap.h"
#include "thread.h"

/* Everything that the hot path below does not do itself: NULL, page blocks, detached threads, misuse, foreign pointers. */
void hki_free_slow(void *block, hki_entry entry, const char *func);

/* hot: free of a byte block; apart, so that a free into a magazine needs no stack frame. */
void hki_free_byte(void *block, hki_entry entry, struct hki_thread *thread, const char *func);

/* hot: free. errno is kept. `func` is the caller's name in messages. */
HKI_INLINE void hki_free(void *block, const char *func)
{
  struct hki_thread *thread = hki_self;
  hki_entry entry = hki_pagemap_get((uintptr_t)block);
  if ((entry & HKI_CLASS) != 0) {
    if (HKI_LIKELY(hki_magazine_push(&thread->magazine[hki_entry_class(entry)], block))) {
      return;
    }
  } else if (HKI_LIKELY((entry & HKI_STARTS) != 0) && HKI_LIKELY(thread->inside == NULL)) {
    hki_free_byte(block, entry, thread, func);
    return;
  }
  hki_free_slow(block, entry, func);
}

/* free with the size the caller believes in. */
void hki_free_sized(void *block, size_t size, const char *func);

/* What malloc_usable_size says of a live block; misuse of any other pointer, but for libc's. */
size_t hki_usable(const void *block, const char *func);

/*
 * Frees that arrived where they could not be done, inside a callback of a plugin that may hold its lock or between fork's handlers,
 * wait for the next slow event of any thread.
 */
bool hki_free_waits(void);
void hki_free_deferred(void);

#endif
