/* SPDX-License-Identifier: MIT */
/*
 * extent.h - address space for page backends: where blocks of whole granules lie, and when their pages come and go.
 *
 * A backend keeps one pool and forwards its callbacks to it; what distinguishes backends is the setup they start it with.
 * extent.c explains how it works and which lock guards what.
 */
#ifndef EXTENT_H
#define EXTENT_H

#include "hakmem/plugin.h"

#define EXTENT_MILLISECOND UINT64_C(1000000) /* in ns, as setup.keep is */
#define EXTENT_HUGE ((size_t)2 << 20)        /* bytes of a transparent huge page; arenas start and grow at multiples of it */

/* The first counters of a backend that keeps a pool; its table starts with EXTENT_COUNTER_ROWS. */
enum extent_counter {
  EXTENT_MAPPED,
  EXTENT_RESERVED,
  EXTENT_RETAINED,
  EXTENT_OWN,
  EXTENT_MOVES,
  EXTENT_RELEASES,
  EXTENT_UNRELEASED,
  EXTENT_COUNTERS
};

#define EXTENT_COUNTER_ROWS                                                                                                    \
  {"mapped", HAK_GAUGE, HAK_SUM_MAPPED, "bytes", "writable address space, in arenas and own mappings"},                        \
      {"reserved", HAK_GAUGE, HAK_SUM_NONE, "bytes", "address space of arenas, writable or not"},                              \
      {"retained", HAK_GAUGE, HAK_SUM_RETAINED, "bytes", "free, with pages that the system has not got back"},                 \
      {"own_mappings", HAK_GAUGE, HAK_SUM_NONE, "", "live blocks that are mappings of their own"},                             \
      {"moves", HAK_COUNTER, HAK_SUM_NONE, "", "blocks that grew by moving their pages, not copying"},                         \
      {"releases", HAK_COUNTER, HAK_SUM_NONE, "spans", "stretches of pages, and mappings, given back to the system"},          \
  {                                                                                                                            \
    "unreleased", HAK_COUNTER, HAK_SUM_NONE, "bytes", "pages that the system kept when asked to take them back"                \
  }

/* How a backend wants its memory. */
struct extent_setup {
  size_t arena; /* bytes of address space to reserve at a time */
  size_t unit;  /* pages are released in whole units: HAK_GRANULE, or EXTENT_HUGE to keep huge pages whole */
  size_t
      lead; /* bytes that extent_alloc_lead leaves closed in front of a block: whole granules, less than EXTENT_HUGE; 0: no such blocks */
  int advice; /* for all of it: MADV_HUGEPAGE, MADV_NOHUGEPAGE, or MADV_NORMAL for what the system does by itself */
  /* ns; pages of freed blocks stay for the next ones while the peak of so long allows; 0, or with RLIMIT_AS: they go at once */
  uint64_t keep;
};

struct extent_pool;

#pragma GCC visibility push(hidden)

/* [load] A new pool, which counts in host->counters. NULL after logging one line. */
struct extent_pool *extent_start(const hak_host *host, const struct extent_setup *setup);

/* [load] Reserves the first arena now rather than in the first request, and opens the place of a first block of 2 MiB. */
void extent_warm(struct extent_pool *pool);

/* [any] As in hak_backend_ops. The capacity is a multiple of HAK_GRANULE; that of an own mapping, of the unit. */
hak_block extent_alloc(struct extent_pool *pool, size_t size, size_t align);
/*
 * [any] The same, with a lead: the block begins setup.lead bytes behind a multiple of EXTENT_HUGE. Such a block is resized in place
 * only. HAK_NO_BLOCK, too, when there are as many leads as kernel mappings allow, when none are used, or when the place that
 * would be next has been in use without one.
 */
hak_block extent_alloc_lead(struct extent_pool *pool, size_t size);
void extent_free(struct extent_pool *pool, void *base, size_t capacity);
/* With setup.keep, pages stay at first, and `purger` is for later, too: it must stay valid. */
void extent_free_many(struct extent_pool *pool, const hak_range *chain, const hak_purger *purger);

/* [any] Changes setup.keep. With 0 what has been kept goes now. */
void extent_keep(struct extent_pool *pool, uint64_t ns);

/* [slow] Releases what has been kept for too long. True while there may be more. */
bool extent_expire(struct extent_pool *pool);

/* [any] As in hak_backend_ops; a block that grows ends up at a multiple of `align`. */
hak_block extent_resize(struct extent_pool *pool, void *base, size_t capacity, size_t size, size_t align);

/* [any] Whether the block lies in an arena. */
bool extent_in_arena(struct extent_pool *pool, const void *base);

/* [any] Counts a mapping that the caller made; extent_free unmaps it. */
void extent_adopt(struct extent_pool *pool, size_t bytes);

/* [slow] Releases what was refused before, and the spare arena. Returns the bytes of pages given back. */
size_t extent_trim(struct extent_pool *pool);

/* [fork] */
void extent_fork_prepare(struct extent_pool *pool);
void extent_fork_parent(struct extent_pool *pool);
void extent_fork_child(struct extent_pool *pool);

#pragma GCC visibility pop

#endif
