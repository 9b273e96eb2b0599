/* SPDX-License-Identifier: MIT */
/*
 * arena.h - the arenas of a pool, for extent.c alone: what they are made of, and what is done to one. pool->lock guards all of it,
 * but for what is constant or atomic.
 */
#ifndef ARENA_H
#define ARENA_H

#include "bits.h"
#include "extent.h"
#include "space.h"

enum {
  HUGE_GRANULES = 32, /* granules in a huge page; arenas and their writable parts are whole multiples */
  ORDERS = 21         /* powers of two up to the granules of the largest arena */
};

/* A stretch of address space. Records are never freed: those of unmapped arenas serve again. */
struct arena {
  char *base;            /* a multiple of EXTENT_HUGE */
  size_t granules;       /* a multiple of HUGE_GRANULES */
  size_t room;           /* granules that the bitmaps are large enough for */
  size_t taken;          /* bits set in `used` */
  size_t top;            /* no granule from here on is open */
  size_t leads;          /* closed leads: each splits a kernel mapping */
  size_t lowest[ORDERS]; /* no free run of 1 << order granules or more starts below; what makes first fit fast */
  uint64_t *open;        /* writable granules */
  uint64_t *used;        /* granules that are in a block, or being released */
  uint64_t *led;         /* first granules of blocks with a lead */
  uint64_t *dirty;       /* free granules whose pages the system has not got back: they do not read as zero */
  struct arena *next;    /* in pool->unused */
};

struct extent_pool {
  hak_purger purger; /* for blocks that come back one at a time; the first member, by which it finds the pool; constant */
  const hak_host *host;
  hak_lock lock;
  struct space space;            /* the address space around the arenas; has a lock of its own */
  struct arena **arenas;         /* in the order of their addresses */
  size_t count, slots;           /* arenas, and how many the array has room for */
  size_t empty;                  /* arenas without a taken granule */
  char *low;                     /* no arena below has a free granule */
  struct arena *unused;          /* records without an arena */
  size_t arena_now;              /* bytes to reserve next; atomic for readers without the lock */
  size_t arena_max;              /* bytes to reserve where nothing hinders it; constant */
  size_t unit;                   /* of releases, in granules; constant */
  size_t lead;                   /* granules of a lead; constant */
  size_t leads;                  /* of all arenas */
  size_t taken;                  /* granules, of all arenas */
  size_t dirty;                  /* granules that are free, with pages */
  size_t peak;                   /* `taken` at most in this period */
  size_t purged;                 /* granules that had been kept and were purged in this period */
  size_t peak_before;            /* the same of the period before, */
  size_t purged_before;          /* and this */
  uint64_t since;                /* start of this period, ns */
  uint64_t keep;                 /* length of a period, ns; 0: freed pages are given back at once; constant */
  size_t stuck;                  /* dirty granules beside live blocks, as of the last search for some to purge */
  bool limited;                  /* address space is scarce: nothing is kept; constant */
  bool busy;                     /* a block came or went in this period */
  const hak_purger *last_purger; /* for what was kept; NULL: none yet */
  int advice;                    /* as in the setup; constant */
  uint64_t random;               /* state of the numbers that places are drawn by; 0: blocks lie as low as they fit */
};

static inline void uncount(const struct extent_pool *pool, uint32_t counter, uint64_t amount)
{
  hak_count(pool->host, counter, 0 - amount);
}

/* Notes that so many granules more, or fewer, are free with pages. */
static inline void note_dirty(struct extent_pool *pool, size_t granules)
{
  pool->dirty += granules;
  hak_count(pool->host, EXTENT_RETAINED, granules * HAK_GRANULE);
}

static inline char *granule_address(const struct arena *arena, size_t granule)
{
  return arena->base + granule * HAK_GRANULE;
}

static inline size_t granule_index(const struct arena *arena, const char *address)
{
  return (size_t)(address - arena->base) / HAK_GRANULE;
}

static inline bool arena_free(const struct arena *arena, size_t first, size_t end)
{
  return bits_next(arena->used, first, end, true) == end;
}

#pragma GCC visibility push(hidden)

/* The order of a run: the largest whose power of two is not longer. */
size_t order_of(size_t granules);

/* The lowest free run of `count` granules at a multiple of `align` bytes; arena->granules when there is none. */
size_t arena_fit(struct arena *arena, size_t count, size_t align);

/* The same, but the lowest from a random granule on, within what is open; arena->granules when there is none. */
size_t arena_fit_random(struct extent_pool *pool, const struct arena *arena, size_t count, size_t align);

/* Makes granules writable that belong to a block, which may have a lead in front of it. False when the system refuses. */
bool arena_open(struct extent_pool *pool, struct arena *arena, size_t first, size_t end, bool lead);

/* Takes free granules; returns how many of them do not read as zero. */
size_t arena_take(struct extent_pool *pool, struct arena *arena, size_t first, size_t end);

/* Frees taken granules; `dirty` when the system has not got their pages back. */
void arena_put(struct extent_pool *pool, struct arena *arena, size_t first, size_t end, bool dirty);

/* Index of the first arena that ends above `address`. */
size_t arena_above(const struct extent_pool *pool, const char *address);

/* The arena around `address`, or NULL. */
struct arena *arena_of(const struct extent_pool *pool, const char *address);

/* A new arena with room for at least `need` bytes, smaller than wished for where address space is scarce; NULL: none. */
struct arena *arena_reserve(struct extent_pool *pool, size_t need);

/* Takes an empty arena out of the pool; the caller unmaps it once the lock is released. */
void arena_detach(struct extent_pool *pool, struct arena *arena);

#pragma GCC visibility pop

#endif
