/* SPDX-License-Identifier: MIT */
/*
 * extent.c - address space for page backends: where blocks of whole granules lie, and when their pages come and go.
 *
 * It owns arenas: large aligned stretches of address space, reserved without access and opened (made writable) as blocks need it.
 * A block is a run of 64 KiB granules, found in a bitmap by address-ordered first fit. Its pages go back to the system when it
 * is freed, its address space stays, and stays open. Blocks too large for an arena, and blocks that moved in order to grow, are
 * mappings of their own. Nothing is recorded of those: what lies in no arena is one.
 *
 * A block may have a lead: address space in front of it that is never opened on its behalf, so that the block begins in the last
 * granule of a huge page that cannot be one. Its first granule has small pages then, and only who touches more gets a huge page.
 *
 * pool->lock guards the arenas, their bitmaps and their order. Address space is reserved and made writable under it, and
 * given back without it: granules whose pages are being released stay taken until the kernel has answered, so that nobody
 * gets them in between. space.c maps and unmaps; its lock is taken last.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bits.h"
#include "extent.h"
#include "space.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum {
  HUGE_GRANULES = 32, /* granules in a huge page; arenas and their writable parts are whole multiples */
  ORDERS = 21,        /* powers of two up to the granules of the largest arena */
  HORIZON = 4096,     /* granules to each side that are searched for the length of a free run */
  ARENA_DIVISOR = 4,  /* a larger part of an arena than this becomes a mapping of its own */
  ARENA_STEP = 16,    /* an arena that cannot be reserved is tried again so many times smaller */
  LIMIT_SHARE = 64,   /* of a limited address space, one arena takes this fraction */
  GAPS = 32,          /* of the peak, this part more may be dirty or taken */
  LEADS = 8192,       /* no more than so many leads, for the same reason as with moves */
  MOVES_LIVE = 1024   /* no moves beyond so many own mappings: each is a kernel mapping, and there are 65530 */
};

#define ARENA_MIN ((size_t)4 << 20)
#define MOVE_MIN ((size_t)256 << 10) /* below, copying costs little more than the system calls of a move */
#define SIZE_LIMIT (SIZE_MAX / 8)    /* keeps sums of a size, an alignment and their rounding from overflowing */

static_assert(EXTENT_HUGE == HUGE_GRANULES * HAK_GRANULE, "huge pages are whole granules");

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
  size_t peak;                   /* `taken` at most in this period */
  size_t peak_before;            /* the same of the period before */
  uint64_t since;                /* start of this period, ns */
  uint64_t keep;                 /* length of a period, ns; 0: freed pages are given back at once; constant */
  size_t stuck;                  /* dirty granules beside live blocks, as of the last search for some to purge */
  bool busy;                     /* a block came or went in this period */
  const hak_purger *last_purger; /* for what was kept; NULL: none yet */
  bool advise;                   /* ask for transparent huge pages; constant */
};

static struct arena *arena_reserve(struct extent_pool *pool, size_t need);
static void arena_detach(struct extent_pool *pool, struct arena *arena);
static bool drop_empty(struct extent_pool *pool);
static void note_use(struct extent_pool *pool);
static void settle(struct extent_pool *pool);

static void uncount(const struct extent_pool *pool, uint32_t counter, uint64_t amount)
{
  hak_count(pool->host, counter, 0 - amount);
}

static size_t dirty_now(const struct extent_pool *pool)
{
  return __atomic_load_n(&pool->host->counters[EXTENT_RETAINED], __ATOMIC_RELAXED) / HAK_GRANULE;
}

/* ---- one arena, under pool->lock ------------------------------------------------------------------------------------- */

static char *granule_address(const struct arena *arena, size_t granule)
{
  return arena->base + granule * HAK_GRANULE;
}

static size_t granule_index(const struct arena *arena, const char *address)
{
  return (size_t)(address - arena->base) / HAK_GRANULE;
}

static bool arena_free(const struct arena *arena, size_t first, size_t end)
{
  return bits_next(arena->used, first, end, true) == end;
}

/* The order of a run: the largest whose power of two is not longer. */
static size_t order_of(size_t granules)
{
  size_t order = 63 - (size_t)__builtin_clzll(granules);
  return order < ORDERS ? order : ORDERS - 1;
}

/* The lowest free run of `count` granules at a multiple of `align`; arena->granules when there is none. */
static size_t arena_fit(struct arena *arena, size_t count, size_t align)
{
  size_t order = order_of(count);
  size_t lowest = arena->granules;
  size_t from = bits_next(arena->used, arena->lowest[order], arena->granules, false);
  size_t first = arena->granules;
  while (from < arena->granules) {
    first = granule_index(arena, (char *)round_up((uintptr_t)granule_address(arena, from), align));
    size_t wanted = first + count;
    size_t end = bits_next(arena->used, from, wanted < arena->granules ? wanted : arena->granules, true);
    lowest = end - from >= (size_t)1 << order && from < lowest ? from : lowest;
    if (end == wanted) {
      break;
    }
    first = arena->granules;
    from = bits_next(arena->used, end, arena->granules, false);
  }
  arena->lowest[order] = lowest;
  return first;
}

/* Makes granules writable. False when the system refuses. */
static bool open_range(struct extent_pool *pool, struct arena *arena, size_t first, size_t end)
{
  char *base = granule_address(arena, first);
  if (hak_os_failed(pool->host->os->mprotect(base, (end - first) * HAK_GRANULE, PROT_READ | PROT_WRITE))) {
    return false;
  }
  size_t before = bits_clear(arena->open, first, end);
  bits_set(arena->open, first, end);
  arena->top = end > arena->top ? end : arena->top;
  hak_count(pool->host, EXTENT_MAPPED, (end - first - before) * HAK_GRANULE);
  return true;
}

/*
 * Makes granules writable that belong to a block. Without a lead in front of it: whole huge pages, and some more at the top for the
 * next blocks, which saves system calls and keeps an arena at two kernel mappings.
 */
static bool arena_open(struct extent_pool *pool, struct arena *arena, size_t first, size_t end, bool lead)
{
  size_t from = bits_next(arena->open, first, end, false);
  if (from == end) {
    return true;
  }
  if (lead) {
    bool opened = open_range(pool, arena, first, end);
    arena->leads += opened;
    pool->leads += opened;
    return opened;
  }
  from = from / HUGE_GRANULES * HUGE_GRANULES;
  size_t to = round_up(end, HUGE_GRANULES);
  size_t ahead = pool->lead == 0 && to > arena->top ? round_up(arena->top / 4, HUGE_GRANULES) : 0;
  ahead = ahead > arena->granules - to ? arena->granules - to : ahead;
  return open_range(pool, arena, from, to + ahead) || (ahead > 0 && open_range(pool, arena, from, to));
}

/* Takes free granules; returns how many of them do not read as zero. */
static size_t arena_take(struct extent_pool *pool, struct arena *arena, size_t first, size_t end)
{
  pool->empty -= arena->taken == 0;
  arena->taken += end - first;
  pool->taken += end - first;
  bits_set(arena->used, first, end);
  size_t dirty = bits_clear(arena->dirty, first, end);
  uncount(pool, EXTENT_RETAINED, dirty * HAK_GRANULE);
  return dirty;
}

/* Frees taken granules; `dirty` when the system has not got their pages back. */
static void arena_put(struct extent_pool *pool, struct arena *arena, size_t first, size_t end, bool dirty)
{
  bits_clear(arena->used, first, end);
  if (dirty) {
    bits_set(arena->dirty, first, end);
    hak_count(pool->host, EXTENT_RETAINED, (end - first) * HAK_GRANULE);
  }
  arena->taken -= end - first;
  pool->taken -= end - first;
  pool->empty += arena->taken == 0;
  pool->low = arena->base < pool->low ? arena->base : pool->low;

  /* The free run that this now is part of. Where it starts beyond the horizon, orders within the horizon know it already. */
  size_t left = bits_back(arena->used, first > HORIZON ? first - HORIZON : 0, first);
  size_t right = bits_next(arena->used, end, end + HORIZON < arena->granules ? end + HORIZON : arena->granules, true);
  bool beyond = first - left == HORIZON || right - end == HORIZON;
  size_t orders = order_of(beyond ? arena->granules : right - left) + 1;
  for (size_t order = 0; order < orders; order++) {
    size_t start = beyond && (size_t)1 << order > HORIZON ? 0 : left;
    arena->lowest[order] = start < arena->lowest[order] ? start : arena->lowest[order];
  }
}

/* ---- blocks ---------------------------------------------------------------------------------------------------------- */

/* Index of the first arena that ends above `address`. Under pool->lock. */
static size_t arena_above(const struct extent_pool *pool, const char *address)
{
  size_t from = 0, to = pool->count;
  while (from < to) {
    size_t middle = (from + to) / 2;
    const struct arena *arena = pool->arenas[middle];
    if (granule_address(arena, arena->granules) > address) {
      to = middle;
    } else {
      from = middle + 1;
    }
  }
  return from;
}

/* The arena around `address`, or NULL. Under pool->lock. */
static struct arena *arena_of(const struct extent_pool *pool, const char *address)
{
  size_t i = arena_above(pool, address);
  return i < pool->count && pool->arenas[i]->base <= address ? pool->arenas[i] : NULL;
}

/* A block of `count` granules, behind `lead` granules, from the lowest arena that has room, or from a new one. Under pool->lock. */
static hak_block arena_alloc(struct extent_pool *pool, size_t lead, size_t count, size_t align)
{
  size_t all = lead + count;
  struct arena *found = NULL;
  size_t first = 0;
  bool refused = false, full = true;
  for (size_t i = arena_above(pool, pool->low); i < pool->count && found == NULL; i++) {
    struct arena *arena = pool->arenas[i];
    full = full && arena->taken == arena->granules;
    if (full) {
      pool->low = granule_address(arena, arena->granules);
    }
    if (arena->lowest[order_of(all)] == arena->granules) {
      continue;
    }
    first = arena_fit(arena, all, align);
    if (first < arena->granules && bits_next(arena->open, first, first + lead, true) < first + lead) {
      return HAK_NO_BLOCK; /* a lead that is open is none */
    }
    if (first < arena->granules) {
      found = arena_open(pool, arena, first + lead, first + all, lead != 0) ? arena : NULL;
      refused = found == NULL;
    }
  }
  if (found == NULL && !refused) { /* where opening is refused, another arena would not help */
    size_t margin = align > EXTENT_HUGE ? align : 0;
    found = arena_reserve(pool, all * HAK_GRANULE + margin);
    if (found != NULL) {
      first = arena_fit(found, all, align);
      found = arena_open(pool, found, first + lead, first + all, lead != 0) ? found : NULL;
    }
  }
  if (found == NULL) {
    return HAK_NO_BLOCK;
  }
  bool zeroed = arena_take(pool, found, first, first + all) == 0;
  note_use(pool);
  if (lead != 0) {
    bits_set(found->led, first + lead, first + lead + 1);
  }
  return hak_block_make(granule_address(found, first + lead), count * HAK_GRANULE, zeroed ? HAK_ZEROED : 0);
}

/* Writable address space that belongs to no arena. */
static char *own_map(struct extent_pool *pool, size_t size, size_t align)
{
  const hak_os *os = pool->host->os;
  char *base = space_reserve(&pool->space, size, align);
  if (base == NULL) {
    return NULL;
  }
  if (hak_os_failed(os->mprotect(base, size, PROT_READ | PROT_WRITE))) {
    space_unmap(&pool->space, base, size);
    return NULL;
  }
  if (pool->advise) {
    os->madvise(base, size, MADV_HUGEPAGE);
  }
  return base;
}

/* A block that is a mapping of its own. */
static hak_block own_alloc(struct extent_pool *pool, size_t size, size_t align)
{
  size = round_up(size, pool->unit * HAK_GRANULE);
  space_retry(&pool->space);
  char *base = own_map(pool, size, align);
  if (base == NULL && drop_empty(pool)) { /* address space may be limited */
    base = own_map(pool, size, align);
  }
  if (base == NULL) {
    return HAK_NO_BLOCK;
  }
  extent_adopt(pool, size);
  return hak_block_make(base, size, HAK_ZEROED);
}

hak_block extent_alloc(struct extent_pool *pool, size_t size, size_t align)
{
  if (size > SIZE_LIMIT || align > SIZE_LIMIT) {
    return HAK_NO_BLOCK;
  }
  size_t margin = align > EXTENT_HUGE ? align : 0; /* arenas are aligned to huge pages only */
  if (size + margin > __atomic_load_n(&pool->arena_now, __ATOMIC_RELAXED) / ARENA_DIVISOR) {
    return own_alloc(pool, size, align);
  }
  hak_lock_acquire(pool->host, &pool->lock);
  hak_block block = arena_alloc(pool, 0, round_up(size, HAK_GRANULE) / HAK_GRANULE, align);
  settle(pool);
  hak_lock_release(pool->host, &pool->lock);
  return block;
}

hak_block extent_alloc_lead(struct extent_pool *pool, size_t size)
{
  if (pool->lead == 0 || size > __atomic_load_n(&pool->arena_now, __ATOMIC_RELAXED) / ARENA_DIVISOR) {
    return HAK_NO_BLOCK;
  }
  hak_lock_acquire(pool->host, &pool->lock);
  hak_block block = HAK_NO_BLOCK;
  if (pool->leads < LEADS) {
    block = arena_alloc(pool, pool->lead, round_up(size, HAK_GRANULE) / HAK_GRANULE, EXTENT_HUGE);
    settle(pool);
  }
  hak_lock_release(pool->host, &pool->lock);
  return block;
}

/* ---- giving back ----------------------------------------------------------------------------------------------------- */

/* The purger of a pool: one call for each span. */
static uint64_t purge_each(const hak_purger *purger, const struct iovec *spans, uint32_t count)
{
  const struct extent_pool *pool = (const struct extent_pool *)(const void *)purger;
  uint64_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    long result = pool->host->os->madvise(spans[i].iov_base, spans[i].iov_len, MADV_DONTNEED);
    kept |= (uint64_t)hak_os_failed(result) << i;
  }
  return kept;
}

/* Releases the pages of spans of taken granules and frees them. Drops pool->lock meanwhile. Returns what the purger does. */
static uint64_t purge(struct extent_pool *pool, const hak_purger *purger, const struct iovec *spans, uint32_t count)
{
  hak_lock_release(pool->host, &pool->lock);
  uint64_t kept = purger->purge(purger, spans, count);
  hak_lock_acquire(pool->host, &pool->lock);
  hak_count(pool->host, EXTENT_RELEASES, count);
  for (uint32_t i = 0; i < count; i++) {
    struct arena *arena = arena_of(pool, spans[i].iov_base);
    size_t first = granule_index(arena, spans[i].iov_base);
    bool dirty = (kept >> i & 1) != 0;
    arena_put(pool, arena, first, first + spans[i].iov_len / HAK_GRANULE, dirty);
    hak_count(pool->host, EXTENT_UNRELEASED, dirty ? spans[i].iov_len : 0);
  }
  return kept;
}

/*
 * Purges the spans that have been claimed. An arena that is empty now is unmapped when another one is empty. Uses up `spans`.
 * Called with pool->lock, which is dropped meanwhile.
 */
static uint64_t give_back(struct extent_pool *pool, const hak_purger *purger, struct iovec *spans, uint32_t count)
{
  if (count == 0) {
    return 0;
  }
  uint64_t kept = purge(pool, purger, spans, count);
  uint32_t surplus = 0;
  for (uint32_t i = 0; i < count; i++) {
    struct arena *arena = arena_of(pool, spans[i].iov_base);
    if (arena != NULL && arena->taken == 0 && pool->empty > 1) { /* NULL: unmapped on account of an earlier span */
      spans[surplus++] = (struct iovec){arena->base, arena->granules * HAK_GRANULE};
      arena_detach(pool, arena);
    }
  }
  if (surplus == 0) {
    return kept;
  }
  hak_lock_release(pool->host, &pool->lock);
  for (uint32_t i = 0; i < surplus; i++) {
    space_unmap(&pool->space, spans[i].iov_base, spans[i].iov_len);
  }
  hak_lock_acquire(pool->host, &pool->lock);
  return kept;
}

/* ---- keeping --------------------------------------------------------------------------------------------------------- */

/* Starts a new period when this one is over. What nobody took a block from for a whole period keeps nothing. Under pool->lock. */
static void turn(struct extent_pool *pool)
{
  uint64_t now = pool->host->os->coarse();
  if (now - pool->since >= pool->keep) {
    pool->since = now;
    pool->peak_before = pool->busy ? pool->peak : 0;
    pool->peak = pool->busy ? pool->taken : 0;
    pool->busy = false;
    pool->stuck = 0;
  }
}

/* Notes that a block has been handed out. Under pool->lock. */
static void note_use(struct extent_pool *pool)
{
  pool->busy = true;
  pool->peak = pool->taken > pool->peak ? pool->taken : pool->peak;
}

/*
 * How many dirty granules are too many: those that, with the taken ones, exceed what was taken at most in the last two periods.
 * First fit leaves gaps, for which a part of that is allowed on top. Under pool->lock.
 */
static size_t surplus(const struct extent_pool *pool)
{
  size_t peak = pool->peak > pool->peak_before ? pool->peak : pool->peak_before;
  size_t allowed = peak + peak / GAPS > pool->taken ? peak + peak / GAPS - pool->taken : 0;
  size_t dirty = dirty_now(pool);
  return dirty >= allowed + pool->unit && dirty >= pool->stuck + pool->unit ? dirty - allowed : 0;
}

/* Claims dirty units until so many granules are, from the highest on: first fit wants the lowest. Under pool->lock. */
static uint32_t claim_dirty(struct extent_pool *pool, size_t granules, struct iovec spans[HAK_PURGE_SPANS])
{
  size_t unit = pool->unit, first = HAK_PURGE_SPANS; /* spans are filled from the end: they must rise */
  for (size_t i = pool->count; i-- > 0 && granules > 0;) {
    struct arena *arena = pool->arenas[i];
    size_t at = arena->granules, below = 0; /* `below`: where the last span starts, in this arena */
    while (granules > 0 && first > 0 && (at = bits_back(arena->dirty, 0, at)) > 0) {
      at = (at - 1) / unit * unit;
      if (!arena_free(arena, at, at + unit)) {
        continue;
      }
      size_t dirty = arena_take(pool, arena, at, at + unit);
      granules -= dirty < granules ? dirty : granules;
      if (below != at + unit) {
        spans[--first] = (struct iovec){NULL, 0};
      }
      below = at;
      spans[first] = (struct iovec){granule_address(arena, at), spans[first].iov_len + unit * HAK_GRANULE};
    }
  }
  memmove(spans, spans + first, (HAK_PURGE_SPANS - first) * sizeof *spans);
  return HAK_PURGE_SPANS - (uint32_t)first;
}

/* Purges what is too much of the dirty granules. Called with pool->lock, which is dropped meanwhile. */
static void settle(struct extent_pool *pool)
{
  for (size_t granules; pool->last_purger != NULL && (granules = surplus(pool)) > 0;) {
    struct iovec spans[HAK_PURGE_SPANS];
    uint32_t count = claim_dirty(pool, granules, spans);
    if (count == 0 || give_back(pool, pool->last_purger, spans, count) != 0) {
      pool->stuck = dirty_now(pool); /* what shares a unit with a live block, or the system does not take */
    }
  }
}

/*
 * Turns the granules [*first, *end) of a block into whole units to purge, all of them taken. Where the unit is larger than a
 * granule, what shares a unit with a live block is freed with its pages, and what was free beside the block goes with it.
 * False when no unit is left. Under pool->lock.
 */
static bool claim(struct extent_pool *pool, struct arena *arena, size_t *first, size_t *end)
{
  size_t from = *first / pool->unit * pool->unit;
  size_t to = round_up(*end, pool->unit);
  from += arena_free(arena, from, *first) ? 0 : pool->unit;
  to -= arena_free(arena, *end, to) ? 0 : pool->unit;
  if (from >= to) {
    arena_put(pool, arena, *first, *end, true);
    return false;
  }
  if (from > *first) {
    arena_put(pool, arena, *first, from, true);
  } else if (from < *first) {
    arena_take(pool, arena, from, *first);
  }
  if (to < *end) {
    arena_put(pool, arena, to, *end, true);
  } else if (to > *end) {
    arena_take(pool, arena, *end, to);
  }
  *first = from;
  *end = to;
  return true;
}

/* Unmaps a block that is a mapping of its own. Called without pool->lock. */
static void own_free(struct extent_pool *pool, void *base, size_t capacity)
{
  uncount(pool, EXTENT_MAPPED, capacity);
  uncount(pool, EXTENT_OWN, 1);
  hak_count(pool->host, EXTENT_RELEASES, 1);
  space_unmap(&pool->space, base, capacity);
}

/* Frees the granules [first, end) of an arena's block, behind a lead from `lead` on, and keeps their pages. Under pool->lock. */
static void keep(struct extent_pool *pool, struct arena *arena, size_t lead, size_t first, size_t end)
{
  if (lead < first) {
    arena_put(pool, arena, lead, first, false);
  }
  arena_put(pool, arena, first, end, true);
}

static void free_chain(struct extent_pool *pool, const hak_range *chain, const hak_purger *purger, bool keeps)
{
  struct iovec spans[HAK_PURGE_SPANS];
  uint32_t count = 0;
  hak_lock_acquire(pool->host, &pool->lock);
  for (const hak_range *range = chain; range != NULL; range = range->next) {
    struct arena *arena = arena_of(pool, range->base);
    if (arena == NULL) {
      hak_lock_release(pool->host, &pool->lock);
      own_free(pool, range->base, range->capacity);
      hak_lock_acquire(pool->host, &pool->lock);
      continue;
    }
    size_t first = granule_index(arena, range->base);
    size_t end = first + range->capacity / HAK_GRANULE;
    size_t lead = first - bits_clear(arena->led, first, first + 1) * pool->lead;
    if (keeps) {
      keep(pool, arena, lead, first, end);
      continue;
    }
    first = lead;
    if (!claim(pool, arena, &first, &end)) {
      continue;
    }
    char *base = granule_address(arena, first);
    size_t bytes = (end - first) * HAK_GRANULE;
    /* A span stays within its arena, although the next arena may follow immediately. */
    if (count > 0 && first > 0 && (char *)spans[count - 1].iov_base + spans[count - 1].iov_len == base) {
      spans[count - 1].iov_len += bytes;
      continue;
    }
    if (count == HAK_PURGE_SPANS) {
      (void)give_back(pool, purger, spans, count);
      count = 0;
    }
    spans[count++] = (struct iovec){base, bytes};
  }
  (void)give_back(pool, purger, spans, count);
  if (keeps) {
    pool->last_purger = purger;
    turn(pool);
    settle(pool);
  }
  hak_lock_release(pool->host, &pool->lock);
}

void extent_free_many(struct extent_pool *pool, const hak_range *chain, const hak_purger *purger)
{
  free_chain(pool, chain, purger, pool->keep != 0);
}

bool extent_expire(struct extent_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
  turn(pool);
  settle(pool);
  bool more = dirty_now(pool) > pool->stuck;
  hak_lock_release(pool->host, &pool->lock);
  return more;
}

void extent_free(struct extent_pool *pool, void *base, size_t capacity)
{
  const hak_range range = {.base = base, .capacity = capacity};
  free_chain(pool, &range, &pool->purger, false);
}

/* ---- resizing -------------------------------------------------------------------------------------------------------- */

/*
 * Whether the pages of a block may be moved out of its arena. Not when the program has split the kernel mapping under the
 * block, by mlock or mprotect of a part: such a range does not move as one. And not when the arena is locked into memory:
 * the kernel would unlock all of it. Both are asked by calls that change nothing: an extension that cannot succeed, save
 * at the very end of the arena, and a release where no block has pages. Under pool->lock.
 */
static bool movable(const struct extent_pool *pool, const struct arena *arena, char *base, size_t capacity)
{
  const hak_os *os = pool->host->os;
  size_t page = pool->host->page_size;
  long extended = os->mremap(base, capacity, capacity + page, 0, NULL);
  if (!hak_os_failed(extended)) {
    os->munmap(base + capacity, page);
  } else if (extended != -ENOMEM) {
    return false;
  }
  size_t at = arena->lowest[0] / pool->unit * pool->unit;
  while (at < arena->granules && !arena_free(arena, at, at + pool->unit)) {
    at = bits_next(arena->used, at + pool->unit, arena->granules, false) / pool->unit * pool->unit;
  }
  return at < arena->granules && !hak_os_failed(os->madvise(granule_address(arena, at), page, MADV_DONTNEED));
}

/*
 * Grows an arena block into a mapping of its own. That takes two steps, because a move that leaves the arena mapped cannot
 * grow at the same time; and it must stay mapped, lest another thread's mapping land in the hole.
 */
static hak_block move_out(struct extent_pool *pool, char *base, size_t capacity, size_t size, size_t align)
{
  char *between = space_move(&pool->space, base, capacity, capacity, align, MREMAP_DONTUNMAP);
  if (between == NULL) {
    return HAK_NO_BLOCK;
  }
  char *target = space_move(&pool->space, between, capacity, size, align, 0);
  if (target == NULL) {
    memcpy(base, between, capacity);
    space_unmap(&pool->space, between, capacity);
    return HAK_NO_BLOCK;
  }
  extent_adopt(pool, size);
  hak_count(pool->host, EXTENT_MOVES, 1);
  extent_free(pool, base, capacity);
  return hak_block_make(target, size, HAK_ZEROED);
}

/* Resizes a block that is a mapping of its own. */
static hak_block own_resize(struct extent_pool *pool, char *base, size_t capacity, size_t size, size_t align)
{
  const hak_os *os = pool->host->os;
  size = round_up(size, pool->unit * HAK_GRANULE);
  if (size <= capacity) {
    if (size < capacity && !hak_os_failed(os->munmap(base + size, capacity - size))) {
      uncount(pool, EXTENT_MAPPED, capacity - size);
      hak_count(pool->host, EXTENT_RELEASES, 1);
      capacity = size;
    }
    return hak_block_make(base, capacity, 0);
  }
  long extended = os->mremap(base, capacity, size, 0, NULL);
  if (extended == -EFAULT) { /* the program has split the mapping: it does not move as one */
    return HAK_NO_BLOCK;
  }
  if (hak_os_failed(extended)) {
    base = space_move(&pool->space, base, capacity, size, align, 0);
    if (base == NULL) {
      return HAK_NO_BLOCK;
    }
    hak_count(pool->host, EXTENT_MOVES, 1);
  }
  hak_count(pool->host, EXTENT_MAPPED, size - capacity);
  return hak_block_make(base, size, HAK_ZEROED);
}

hak_block extent_resize(struct extent_pool *pool, void *base, size_t capacity, size_t size, size_t align)
{
  if (size > SIZE_LIMIT) {
    return HAK_NO_BLOCK;
  }
  hak_lock_acquire(pool->host, &pool->lock);
  struct arena *arena = arena_of(pool, base);
  if (arena == NULL) {
    hak_lock_release(pool->host, &pool->lock);
    return own_resize(pool, base, capacity, size, align);
  }
  size_t grown = round_up(size, HAK_GRANULE);
  size_t old_end = granule_index(arena, base) + capacity / HAK_GRANULE;
  size_t new_end = granule_index(arena, base) + grown / HAK_GRANULE;
  if (new_end < old_end) {
    hak_lock_release(pool->host, &pool->lock);
    extent_free(pool, (char *)base + grown, capacity - grown);
    return hak_block_make(base, grown, 0);
  }
  hak_block block = HAK_NO_BLOCK;
  bool move = false;
  size_t first = granule_index(arena, base);
  bool led = bits_next(arena->led, first, first + 1, true) == first;
  if (new_end == old_end) {
    block = hak_block_make(base, capacity, 0);
  } else if (((uintptr_t)base % align == 0 || led) && new_end <= arena->granules && arena_free(arena, old_end, new_end) &&
             arena_open(pool, arena, old_end, new_end, led)) {
    block = hak_block_make(base, grown, arena_take(pool, arena, old_end, new_end) == 0 ? HAK_ZEROED : 0);
    note_use(pool);
    settle(pool);
  } else {
    move = !led && capacity >= MOVE_MIN && __atomic_load_n(&pool->host->counters[EXTENT_OWN], __ATOMIC_RELAXED) < MOVES_LIVE &&
           movable(pool, arena, base, capacity);
  }
  hak_lock_release(pool->host, &pool->lock);
  return move ? move_out(pool, base, capacity, round_up(size, pool->unit * HAK_GRANULE), align) : block;
}

bool extent_in_arena(struct extent_pool *pool, const void *base)
{
  hak_lock_acquire(pool->host, &pool->lock);
  bool found = arena_of(pool, base) != NULL;
  hak_lock_release(pool->host, &pool->lock);
  return found;
}

void extent_adopt(struct extent_pool *pool, size_t bytes)
{
  hak_count(pool->host, EXTENT_MAPPED, bytes);
  hak_count(pool->host, EXTENT_OWN, 1);
}

/* ---- arenas come and go ---------------------------------------------------------------------------------------------- */

/* Makes room for one more arena in the array. Under pool->lock. */
static bool arena_slot(struct extent_pool *pool)
{
  if (pool->count < pool->slots) {
    return true;
  }
  size_t slots = pool->slots == 0 ? 64 : pool->slots * 2;
  struct arena **arenas = pool->host->meta_alloc(pool->host, slots * sizeof(*arenas), sizeof(*arenas));
  if (arenas == NULL) {
    return false;
  }
  if (pool->count > 0) {
    memcpy(arenas, pool->arenas, pool->count * sizeof(*arenas));
  }
  pool->arenas = arenas;
  pool->slots = slots;
  return true;
}

/* A record whose bitmaps have room for so many granules, all clear; NULL when there is no memory. Under pool->lock. */
static struct arena *arena_record(struct extent_pool *pool, size_t granules)
{
  for (struct arena **link = &pool->unused; *link != NULL; link = &(*link)->next) {
    struct arena *arena = *link;
    if (arena->room >= granules) {
      *link = arena->next;
      return arena;
    }
  }
  size_t words = round_up(granules, WORD) / WORD;
  struct arena *arena = pool->host->meta_alloc(pool->host, sizeof(*arena) + MAPS * words * sizeof(uint64_t), 64);
  if (arena != NULL) {
    arena->room = words * WORD;
    arena->open = (uint64_t *)(arena + 1);
    arena->used = arena->open + 1;
    arena->dirty = arena->used + 1;
    arena->led = arena->dirty + 1;
  }
  return arena;
}

/* A new arena with room for at least `need` bytes, smaller than wished for where address space is scarce. Under pool->lock. */
static struct arena *arena_reserve(struct extent_pool *pool, size_t need)
{
  space_retry(&pool->space);
  need = round_up(need, EXTENT_HUGE);
  size_t size = pool->arena_now > need ? pool->arena_now : need;
  char *base = space_reserve(&pool->space, size, EXTENT_HUGE);
  while (base == NULL && size > need) {
    size = round_up(size / ARENA_STEP, EXTENT_HUGE);
    size = size > need ? size : need;
    base = space_reserve(&pool->space, size, EXTENT_HUGE);
  }
  if (base == NULL) {
    return NULL;
  }
  struct arena *arena = arena_slot(pool) ? arena_record(pool, size / HAK_GRANULE) : NULL;
  if (arena == NULL) {
    space_unmap(&pool->space, base, size);
    return NULL;
  }
  arena->base = base;
  arena->granules = size / HAK_GRANULE;
  arena->taken = 0;
  arena->top = 0;
  arena->leads = 0;
  memset(arena->lowest, 0, sizeof arena->lowest);

  size_t i = arena_above(pool, base);
  memmove(&pool->arenas[i + 1], &pool->arenas[i], (pool->count - i) * sizeof(*pool->arenas));
  pool->arenas[i] = arena;
  pool->count++;
  pool->empty++;
  pool->low = base < pool->low ? base : pool->low;
  size_t next = size < pool->arena_max / 2 ? size * 2 : pool->arena_max;
  __atomic_store_n(&pool->arena_now, next, __ATOMIC_RELAXED);
  hak_count(pool->host, EXTENT_RESERVED, size);
  if (pool->advise) {
    pool->host->os->madvise(base, size, MADV_HUGEPAGE);
  }
  return arena;
}

/* Takes an empty arena out of the pool; the caller unmaps it once the lock is released. Under pool->lock. */
static void arena_detach(struct extent_pool *pool, struct arena *arena)
{
  size_t i = arena_above(pool, arena->base);
  pool->count--;
  pool->empty--;
  memmove(&pool->arenas[i], &pool->arenas[i + 1], (pool->count - i) * sizeof(*pool->arenas));
  uncount(pool, EXTENT_RETAINED, bits_clear(arena->dirty, 0, arena->granules) * HAK_GRANULE);
  uncount(pool, EXTENT_MAPPED, bits_clear(arena->open, 0, arena->granules) * HAK_GRANULE);
  pool->leads -= arena->leads;
  uncount(pool, EXTENT_RESERVED, arena->granules * HAK_GRANULE);
  hak_count(pool->host, EXTENT_RELEASES, 1);
  arena->next = pool->unused;
  pool->unused = arena;
}

/* Unmaps all empty arenas; false when there was none. Called without pool->lock. */
static bool drop_empty(struct extent_pool *pool)
{
  bool any = false;
  hak_lock_acquire(pool->host, &pool->lock);
  for (size_t i = 0; i < pool->count && pool->empty > 0;) {
    struct arena *arena = pool->arenas[i];
    if (arena->taken > 0) {
      i++;
      continue;
    }
    char *base = arena->base;
    size_t size = arena->granules * HAK_GRANULE;
    arena_detach(pool, arena);
    hak_lock_release(pool->host, &pool->lock);
    space_unmap(&pool->space, base, size);
    any = true;
    hak_lock_acquire(pool->host, &pool->lock);
  }
  hak_lock_release(pool->host, &pool->lock);
  return any;
}

/* The first run of whole free units, from granule `*first` on, of which each has dirty granules; false when there is none. */
static bool dirty_units(const struct arena *arena, size_t unit, size_t *first, size_t *end)
{
  size_t at = *first;
  while ((at = bits_next(arena->dirty, at, arena->granules, true) / unit * unit) < arena->granules) {
    size_t to = at;
    while (to < arena->granules && arena_free(arena, to, to + unit) &&
           bits_next(arena->dirty, to, to + unit, true) < to + unit) {
      to += unit;
    }
    if (to > at) {
      *first = at;
      *end = to;
      return true;
    }
    at += unit;
  }
  return false;
}

size_t extent_trim(struct extent_pool *pool)
{
  const hak_host *host = pool->host;
  size_t released = 0;
  space_retry(&pool->space);
  hak_lock_acquire(host, &pool->lock);
  const char *from = NULL; /* arenas come and go while the lock is dropped: an address keeps the place */
  for (size_t i = 0; (i = arena_above(pool, from)) < pool->count;) {
    struct arena *arena = pool->arenas[i];
    from = granule_address(arena, arena->granules);
    for (size_t first = 0, end = 0; dirty_units(arena, pool->unit, &first, &end); first = end) {
      size_t dirty = arena_take(pool, arena, first, end);
      const struct iovec span = {granule_address(arena, first), (end - first) * HAK_GRANULE};
      released += purge(pool, &pool->purger, &span, 1) == 0 ? dirty * HAK_GRANULE : 0;
    }
  }
  hak_lock_release(host, &pool->lock);
  drop_empty(pool);
  return released;
}

/* ---- start and fork -------------------------------------------------------------------------------------------------- */

struct extent_pool *extent_start(const hak_host *host, const struct extent_setup *setup)
{
  struct extent_pool *pool = host->meta_alloc(host, sizeof(*pool), 64);
  if (pool == NULL) {
    host->log(host, "no memory to start with");
    return NULL;
  }
  size_t arena = setup->arena;
  struct rlimit limit;
  bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  if (limited && limit.rlim_cur / LIMIT_SHARE < arena) {
    arena = limit.rlim_cur / LIMIT_SHARE > ARENA_MIN ? limit.rlim_cur / LIMIT_SHARE : ARENA_MIN;
  }
  pool->purger.purge = purge_each;
  pool->host = host;
  pool->space.host = host;
  pool->arena_max = round_up(arena, EXTENT_HUGE);
  pool->arena_now = pool->arena_max;
  pool->unit = setup->unit / HAK_GRANULE;
  pool->lead = limited ? 0 : setup->lead / HAK_GRANULE; /* leads are address space */
  pool->advise = setup->advise;
  pool->keep = setup->keep;
  pool->since = host->os->coarse();
  return pool;
}

void extent_warm(struct extent_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
  struct arena *arena = arena_reserve(pool, 0); /* if it fails, the first request will try again */
  if (arena != NULL) {
    char *first = granule_address(arena, pool->lead);
    bool open = arena_open(pool, arena, pool->lead, pool->lead + HUGE_GRANULES + 1, pool->lead != 0);
    if (open && (pool->lead != 0 || !pool->advise)) { /* no huge page */
      *(volatile char *)first = 0;
    }
    if (pool->host->expect != NULL) {
      pool->host->expect(pool->host, first);
    }
  }
  hak_lock_release(pool->host, &pool->lock);
}

void extent_fork_prepare(struct extent_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
  hak_lock_acquire(pool->host, &pool->space.lock);
}

void extent_fork_parent(struct extent_pool *pool)
{
  hak_lock_release(pool->host, &pool->space.lock);
  hak_lock_release(pool->host, &pool->lock);
}

/* What other threads were just releasing stays taken in the child, like every block that was in their hands. */
void extent_fork_child(struct extent_pool *pool)
{
  pool->space.lock.word = 0;
  pool->lock.word = 0;
}
