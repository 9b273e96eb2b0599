/* SPDX-License-Identifier: MIT */
/*
 * extent.c - address space for page backends: where blocks of whole granules lie, and when their pages come and go.
 *
 * It owns arenas: large aligned stretches of address space, reserved without access and opened (made writable) as blocks need it.
 * A block is a run of 64 KiB granules, found in a bitmap by address-ordered first fit. Its pages go back to the system when it
 * is freed, its address space stays, and stays open. Blocks too large for an arena, and blocks that moved in order to grow, are
 * mappings of their own. Nothing is recorded of those: what lies in no arena is one.
 *
 * Under hardening = full a block lies at a random place among the free ones, so that one block does not tell where others are.
 *
 * A block may have a lead: address space in front of it that is never opened on its behalf, so that the block begins in the last
 * granule of a huge page that cannot be one. Its first granule has small pages then, and only who touches more gets a huge page.
 *
 * pool->lock guards the arenas, their bitmaps and their order. Address space is reserved and made writable under it, and
 * given back without it: granules whose pages are being released stay taken until the kernel has answered, so that nobody
 * gets them in between. What is done to one arena is in arena.c. space.c maps and unmaps; its lock is taken last.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "arena.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>

enum {
  HARDENED_FULL = 2,  /* of host->hardened */
  ARENA_DIVISOR = 4,  /* a larger part of an arena than this becomes a mapping of its own */
  LIMIT_SHARE = 64,   /* of a limited address space, one arena takes this fraction */
  GAPS_LOG2 = 3,      /* of the peak, this part more may be dirty or taken, as a power of two, */
  GAPS_MOST_LOG2 = 1, /* and where blocks fit badly, this */
  LEADS = 8192,       /* no more than so many leads, for the same reason as with moves */
  MOVES_LIVE = 1024   /* no moves beyond so many own mappings: each is a kernel mapping, and there are 65530 */
};

#define ARENA_MIN ((size_t)4 << 20)
#ifndef MOVE_MIN                   /* tests make it less */
#define MOVE_MIN ((size_t)8 << 20) /* below, pages are worth more where they are, for the next block, than the copy costs */
#endif
#define SIZE_LIMIT (SIZE_MAX / 8) /* keeps sums of a size, an alignment and their rounding from overflowing */

static void note_use(struct extent_pool *pool);
static void settle(struct extent_pool *pool);
static bool drop_empty(struct extent_pool *pool);

/* ---- blocks ---------------------------------------------------------------------------------------------------------- */

/* A free run of `count` granules. What needs a lead lies as low as it fits: there is none within what is open. */
static size_t find_run(struct extent_pool *pool, struct arena *arena, size_t lead, size_t count, size_t align)
{
  size_t first = pool->random != 0 && lead == 0 ? arena_fit_random(pool, arena, count, align) : arena->granules;
  return first < arena->granules ? first : arena_fit(arena, count, align);
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
    first = find_run(pool, arena, lead, all, align);
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
      first = find_run(pool, found, lead, all, align);
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
  if (pool->advice != MADV_NORMAL) {
    os->madvise(base, size, pool->advice);
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
    pool->purged_before = pool->purged;
    pool->purged = 0;
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
 * First fit leaves gaps, for which a part of that is allowed on top: twice as much each time that half as much as the peak has been
 * purged, which is touched anew soon after. Under pool->lock.
 */
static size_t surplus(const struct extent_pool *pool)
{
  size_t peak = pool->peak > pool->peak_before ? pool->peak : pool->peak_before;
  size_t again = peak != 0 ? 2 * (pool->purged + pool->purged_before) / peak : 0;
  size_t gaps = peak >> (again < GAPS_LOG2 - GAPS_MOST_LOG2 ? GAPS_LOG2 - again : GAPS_MOST_LOG2);
  size_t allowed = peak + gaps > pool->taken ? peak + gaps - pool->taken : 0;
  return pool->dirty >= allowed + pool->unit && pool->dirty >= pool->stuck + pool->unit ? pool->dirty - allowed : 0;
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
      /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): the first round sets the entry, as `below` is 0 there */
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
    for (uint32_t i = 0; i < count; i++) {
      pool->purged += spans[i].iov_len / HAK_GRANULE;
    }
    if (count == 0 || give_back(pool, pool->last_purger, spans, count) != 0) {
      pool->stuck = pool->dirty; /* what shares a unit with a live block, or the system does not take */
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
  free_chain(pool, chain, purger, __atomic_load_n(&pool->keep, __ATOMIC_RELAXED) != 0);
}

void extent_keep(struct extent_pool *pool, uint64_t ns)
{
  ns = pool->limited ? 0 : ns;
  hak_lock_acquire(pool->host, &pool->lock);
  uint64_t before = pool->keep;
  __atomic_store_n(&pool->keep, ns, __ATOMIC_RELAXED);
  hak_lock_release(pool->host, &pool->lock);
  if (ns == 0 && before != 0) {
    (void)extent_trim(pool);
  }
}

bool extent_expire(struct extent_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
  turn(pool);
  settle(pool);
  bool more = pool->dirty >= pool->unit && pool->dirty > pool->stuck;
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
/* ---- empty arenas, and what is left in others ------------------------------------------------------------------------- */

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

/* What a pass over all dirty units has done so far. */
struct pass {
  const hak_purger *purger;
  struct iovec spans[HAK_PURGE_SPANS]; /* to be purged together */
  size_t dirty[HAK_PURGE_SPANS];       /* bytes of each */
  uint32_t count;
  size_t released, refused; /* bytes */
};

/* Purges the spans of the pass. Drops pool->lock meanwhile. */
static void purge_spans(struct extent_pool *pool, struct pass *pass)
{
  uint64_t kept = pass->count != 0 ? purge(pool, pass->purger, pass->spans, pass->count) : 0;
  for (uint32_t i = 0; i < pass->count; i++) {
    *((kept >> i & 1) != 0 ? &pass->refused : &pass->released) += pass->dirty[i];
  }
  pass->count = 0;
}

/* Releases what is dirty in whole units, so many spans at a time as a purger takes. Under pool->lock, which is dropped meanwhile. */
static void purge_dirty(struct extent_pool *pool, struct pass *pass)
{
  const char *from = NULL; /* arenas come and go while the lock is dropped: an address keeps the place */
  for (size_t i = 0; (i = arena_above(pool, from)) < pool->count;) {
    struct arena *arena = pool->arenas[i]; /* it stays while a span of it is among those that are being purged */
    from = granule_address(arena, arena->granules);
    for (size_t first = 0, end = 0; dirty_units(arena, pool->unit, &first, &end); first = end) {
      pass->dirty[pass->count] = arena_take(pool, arena, first, end) * HAK_GRANULE;
      pass->spans[pass->count++] = (struct iovec){granule_address(arena, first), (end - first) * HAK_GRANULE};
      if (pass->count == HAK_PURGE_SPANS) {
        purge_spans(pool, pass);
      }
    }
  }
  purge_spans(pool, pass);
}

size_t extent_trim(struct extent_pool *pool)
{
  const hak_host *host = pool->host;
  space_retry(&pool->space);
  hak_lock_acquire(host, &pool->lock);
  struct pass together = {.purger = pool->last_purger}, single = {.purger = &pool->purger};
  if (together.purger != NULL) {
    purge_dirty(pool, &together);
  }
  if (together.purger == NULL || together.refused != 0) { /* what that one only advises, or cannot do */
    purge_dirty(pool, &single);
  }
  hak_lock_release(host, &pool->lock);
  drop_empty(pool);
  return together.released + single.released;
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
  pool->lead = limited ? 0 : setup->lead / HAK_GRANULE; /* leads are address space, */
  pool->limited = limited;                              /* and so are kept pages */
  pool->advice = setup->advice;
  pool->keep = limited ? 0 : setup->keep;
  pool->since = host->os->coarse();
  if (host->hardened == HARDENED_FULL) {
    /* Not the bytes at AT_RANDOM: libc makes its guards of them, and places tell about the state. */
    ssize_t got = getrandom(&pool->random, sizeof pool->random, GRND_NONBLOCK);
    pool->random |= got == (ssize_t)sizeof pool->random ? 1 : host->os->now() | 1;
  }
  return pool;
}

void extent_warm(struct extent_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
  struct arena *arena = arena_reserve(pool, 0); /* if it fails, the first request will try again */
  if (arena != NULL) {
    char *first = granule_address(arena, pool->lead);
    bool open = arena_open(pool, arena, pool->lead, pool->lead + HUGE_GRANULES + 1, pool->lead != 0);
    if (open && (pool->lead != 0 || pool->advice != MADV_HUGEPAGE)) { /* no huge page */
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
