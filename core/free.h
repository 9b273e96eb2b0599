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

/* free of a block that is not in the window of the page map that the thread used last: the next ones are looked up in this one. */
void hki_free_far(void *block, const char *func);

/* hot: free of a block whose page map entry is known. */
HKI_INLINE void hki_free_entered(struct hki_thread *thread, void *block, hki_entry entry, const char *func)
{
  if (HKI_LIKELY((entry & HKI_CLASS) != 0)) {
    if (HKI_LIKELY(hki_magazine_push(hki_magazine_entered(thread, entry), block))) {
      return;
    }
  } else if (HKI_LIKELY((entry & HKI_STARTS) != 0) && HKI_LIKELY(thread->inside == NULL)) {
    hki_free_byte(block, entry, thread, func);
    return;
  }
  hki_free_slow(block, entry, func);
}

/* hot: free. errno is kept. `func` is the caller's name in messages. */
HKI_INLINE void hki_free(void *block, const char *func)
{
  struct hki_thread *thread = hki_self;
  uintptr_t address = (uintptr_t)block;
  if (HKI_LIKELY(address >> HKI_WINDOW_SHIFT == thread->window)) {
    const hki_entry *entry = (const hki_entry *)(thread->entries + (address >> HKI_GRANULE_SHIFT) * sizeof(hki_entry));
    hki_free_entered(thread, block, __atomic_load_n(entry, __ATOMIC_ACQUIRE), func);
  } else {
    hki_free_far(block, func);
  }
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
