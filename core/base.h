/* SPDX-License-Identifier: MIT */
/*
 * base.h - the words and the compiler helpers that every file of the core uses.
 *
 * Glossary
 *   arm         a strategy of the INI as a policy sees it: a row of size ranges, each with its backend
 *   backend     a plugin that memory comes from; boot is the one that is built in
 *   bin         a power-of-two range of request sizes, the unit a policy decides for
 *   block       what a program got from malloc
 *   class       one of the fixed object sizes up to 256 KiB
 *   detached    a thread that has no record of its own now: before its first call, after its exit, inside a callback or a fork
 *   epoch       a number of large blocks, after which the policy is asked again
 *   gate        a limit in the thread record below which requests take the fast path; 0 sends every call to the slow path
 *   granule     64 KiB of address space, the unit of the page map
 *   magazine    a thread's stack of free objects of one class
 *   run         free objects of one class that change hands in one call
 *   site        the return address of the call that allocated a block
 *   slow event  a call that left the fast path; the moment at which live options and deferred work are looked at
 *   span        granules that the core knows as one thing: a page block, or a piece of a class backend's memory
 */
#ifndef HKI_BASE_H
#define HKI_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hakmem/plugin.h"
#include "root.h"

#define HKI_LIKELY(x) __builtin_expect(!!(x), 1)
#define HKI_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HKI_INLINE static inline __attribute__((always_inline))
#define HKI_SLOW __attribute__((noinline))
#define HKI_COLD __attribute__((noinline, cold))
/* Data of the core that hot paths read: its address then needs no detour through the global offset table. */
#define HKI_HIDDEN __attribute__((visibility("hidden")))

enum {
  HKI_ALIGN = 16,        /* alignment of every block */
  HKI_GRANULE_SHIFT = 16 /* log2 of HAK_GRANULE */
};
_Static_assert(HAK_GRANULE == (size_t)1 << HKI_GRANULE_SHIFT, "the page map counts in granules");

/* No request above this can succeed: differences of pointers into a block must fit into ptrdiff_t. */
#define HKI_SIZE_MAX ((size_t)PTRDIFF_MAX)

/* Shared words are plain members, because tools read them from outside; every access goes through these. */
#define HKI_LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define HKI_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define HKI_ADD(p, v) ((void)__atomic_fetch_add((p), (v), __ATOMIC_RELAXED))
#if defined(__SANITIZE_THREAD__)
#define HKI_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HKI_TSAN 1
#endif
#endif

/*
 * For a word that one thread writes and others read. A plain addition compiles to one instruction where an atomic load and store
 * take three; the thread sanitizer gets the latter, since it cannot know that the word is aligned and read whole.
 */
#ifdef HKI_TSAN
#define HKI_BUMP(p, v) HKI_STORE((p), HKI_LOAD(p) + (v))
#else
#define HKI_BUMP(p, v) ((void)(*(p) += (v)))
#endif

HKI_INLINE size_t hki_round_up(size_t n, size_t power_of_two)
{
  return (n + power_of_two - 1) & ~(power_of_two - 1);
}

HKI_INLINE bool hki_is_power_of_two(size_t n)
{
  return n != 0 && (n & (n - 1)) == 0;
}

/* Rounded down; n > 0. */
HKI_INLINE uint32_t hki_log2(size_t n)
{
  return 63U ^ (uint32_t)__builtin_clzll(n);
}

#endif
