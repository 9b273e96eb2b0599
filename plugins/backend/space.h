/* SPDX-License-Identifier: MIT */
/* space.h - mapping and unmapping of address space for the extent allocator. space.c says what it owns. */
#ifndef SPACE_H
#define SPACE_H

#include "hakmem/plugin.h"

enum { SPACE_LATE = 32 }; /* unmappings remembered for another try */

/* Part of a pool. Zero but for the host is a valid state. */
struct space {
  const hak_host *host;          /* constant */
  hak_lock lock;                 /* guards `late` */
  uint32_t late_count;           /* entries of `late`; written under the lock, atomic for readers without it */
  struct iovec late[SPACE_LATE]; /* what could not be unmapped; its pages are gone */
};

static inline size_t round_up(size_t value, size_t multiple)
{
  return (value + multiple - 1) / multiple * multiple;
}

#pragma GCC visibility push(hidden)

/* [any] Address space without access, at a multiple of `align`; NULL when there is none. */
char *space_reserve(struct space *space, size_t size, size_t align);

/*
 * [any] Moves the pages of [from, from + old) to new address space, `size` bytes at a multiple of `align`, with `flags` of
 * mremap. NULL when the system refuses; the pages are then where they were.
 */
char *space_move(struct space *space, char *from, size_t old, size_t size, size_t align, int flags);

/*
 * [any] Unmaps address space. That can fail: at the limit of kernel mappings, one that would have to be split stays. Its pages
 * go back all the same, and space_retry tries it again.
 */
void space_unmap(struct space *space, char *base, size_t size);
void space_retry(struct space *space);

#pragma GCC visibility pop

#endif
