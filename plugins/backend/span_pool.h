/* SPDX-License-Identifier: MIT */
/*
 * span_pool.h - spans for slab.c: their records, where their pages come from, and the empty ones that are kept.
 */
#ifndef SPAN_POOL_H
#define SPAN_POOL_H

#include "hakmem/plugin.h"

/* Rows of the counter table of the plugin. */
enum slab_counter { SPAN_COUNT, SPAN_BYTES, SPAN_EMPTY_BYTES, SPAN_RELEASED, SLAB_HANDOVERS, SLAB_SCATTERED, SLAB_COUNTERS };

/*
 * A span. Everything but what the pool needs belongs to the class that it serves, under its lock. Records are reused for other
 * spans, never for anything else.
 */
struct span {
  struct span *next, *prev; /* in a list of the class, or of the pool */
  char *base;
  size_t length;     /* bytes, as its page backend handed it out */
  uint64_t stamp;    /* of an empty one: when it became so, in ns */
  uint32_t free;     /* objects whose bits are set */
  uint32_t cursor;   /* no bit is set in the words below */
  uint32_t cls;      /* class that it is registered for */
  uint16_t granules; /* that it covers */
  uint16_t room;     /* words that `bits` has room for; constant */
  uint8_t level;     /* list of the class that it is in */
  uint8_t listed;    /* it is in a list of its class */
  uint8_t source;    /* of its pages: index into span_setup.pages */
  uint8_t fresh;     /* nobody has had objects of it, and its pages are small and not there yet */
  uint8_t lane;      /* of the class, the last one when it is empty */
  uint8_t reserved[3];
  uint64_t bits[]; /* bit i: object i is free; bits beyond the last object are never set */
};

enum { SPAN_SOURCES = 2 };

struct span_setup {
  const hak_pages *pages[SPAN_SOURCES]; /* the first for `first` bytes, the second beyond them */
  size_t first;
  size_t keep;  /* most bytes in empty spans */
  uint64_t age; /* milliseconds that they are kept for; 0: no bound */
};

/* What a class needs. */
struct span_order {
  uint32_t cls, granules;
  uint32_t capacity; /* objects */
  uint32_t lane;
  bool large; /* the class has much memory */
  bool any;   /* else only an empty one of the lane */
};

struct span_pool;

#pragma GCC visibility push(hidden)

/* [load] NULL when there is no memory. */
struct span_pool *span_pool_start(const hak_host *host, const struct span_setup *setup);

/* [any] A span that is registered for the class, with that many free objects. NULL: there is none. */
struct span *span_pool_get(struct span_pool *pool, const struct span_order *order);

/* [any] Takes a chain of empty spans, keeps them or gives them back. The caller holds no lock. */
void span_pool_put(struct span_pool *pool, struct span *chain);

/* [slow] Gives back what has been kept for too long: true while more may be so later. Or everything: returns the bytes. */
bool span_pool_expire(struct span_pool *pool);
size_t span_pool_trim(struct span_pool *pool);

/* [slow] Change the bounds. */
void span_pool_keep(struct span_pool *pool, size_t bytes);
void span_pool_age(struct span_pool *pool, uint64_t milliseconds);

/* [fork] */
void span_pool_fork_prepare(struct span_pool *pool);
void span_pool_fork_parent(struct span_pool *pool);
void span_pool_fork_child(struct span_pool *pool);

#pragma GCC visibility pop

#endif
