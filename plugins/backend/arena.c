/* SPDX-License-Identifier: MIT */
/*
 * arena.c - stretches of address space and their bitmaps: where a run of granules is free, which are writable, which have pages.
 *
 * Owns nothing: arenas belong to a pool, whose lock the caller holds throughout. System calls are made under it here: they reserve
 * address space or make it writable. Giving back is in extent.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "arena.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

enum {
  HORIZON = 4096,  /* granules to each side that are searched for the length of a free run */
  ARENA_STEP = 16, /* an arena that cannot be reserved is tried again so many times smaller */
  SCATTER = 128    /* granules of an arena over which the first blocks are strewn, if they are */
};

static_assert(EXTENT_HUGE == HUGE_GRANULES * HAK_GRANULE, "huge pages are whole granules");

/* ---- one arena ------------------------------------------------------------------------------------------------------- */

/* The order of a run: the largest whose power of two is not longer. */
size_t order_of(size_t granules)
{
  size_t order = 63 - (size_t)__builtin_clzll(granules);
  return order < ORDERS ? order : ORDERS - 1;
}

/* The lowest free run of `count` granules in [from, limit) that begins at a multiple of `align` bytes; or limit. */
static size_t fit_within(const struct arena *arena, size_t from, size_t limit, size_t count, size_t align)
{
  while ((from = bits_clear_run(arena->used, from, limit, count)) < limit) {
    size_t first = granule_index(arena, (char *)round_up((uintptr_t)granule_address(arena, from), align));
    size_t wanted = first + count;
    size_t end = bits_next(arena->used, from + count, wanted < limit ? wanted : limit, true);
    if (end == wanted) {
      return first;
    }
    from = end;
  }
  return limit;
}

/* The lowest free run of `count` granules at a multiple of `align` bytes; arena->granules when there is none. */
size_t arena_fit(struct arena *arena, size_t count, size_t align)
{
  size_t order = order_of(count);
  size_t lowest = bits_clear_run(arena->used, arena->lowest[order], arena->granules, (size_t)1 << order);
  arena->lowest[order] = lowest;
  return fit_within(arena, lowest, arena->granules, count, align);
}

/* The generator of G. Marsaglia: Xorshift RNGs, 2003. */
static size_t draw_below(struct extent_pool *pool, size_t limit)
{
  pool->random ^= pool->random << 13;
  pool->random ^= pool->random >> 7;
  pool->random ^= pool->random << 17;
  return (size_t)(pool->random % limit);
}

size_t arena_fit_random(struct extent_pool *pool, const struct arena *arena, size_t count, size_t align)
{
  size_t limit = arena->top > SCATTER ? arena->top : SCATTER;
  limit = limit < arena->granules ? limit : arena->granules;
  size_t first = fit_within(arena, draw_below(pool, limit), limit, count, align);
  return first < limit ? first : arena->granules;
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

/* The same with all that is closed around them: that joins what is open beside it, where another kernel mapping is refused. */
static bool open_gaps(struct extent_pool *pool, struct arena *arena, size_t first, size_t end)
{
  bool opened = true;
  for (size_t at; opened && (at = bits_next(arena->open, first, end, false)) < end;) {
    opened = open_range(pool, arena, bits_back(arena->open, 0, at), bits_next(arena->open, at, arena->granules, true));
  }
  return opened;
}

/*
 * Makes granules writable that belong to a block. Without a lead in front of it: whole huge pages, and some more at the top for the
 * next blocks, which saves system calls and keeps an arena at two kernel mappings.
 */
bool arena_open(struct extent_pool *pool, struct arena *arena, size_t first, size_t end, bool lead)
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
  return open_range(pool, arena, from, to + ahead) || (ahead > 0 && open_range(pool, arena, from, to)) ||
         open_gaps(pool, arena, first, end);
}

/* Takes free granules; returns how many of them do not read as zero. */
size_t arena_take(struct extent_pool *pool, struct arena *arena, size_t first, size_t end)
{
  pool->empty -= arena->taken == 0;
  arena->taken += end - first;
  pool->taken += end - first;
  bits_set(arena->used, first, end);
  size_t dirty = bits_clear(arena->dirty, first, end);
  note_dirty(pool, 0 - dirty);
  return dirty;
}

/* Frees taken granules; `dirty` when the system has not got their pages back. */
void arena_put(struct extent_pool *pool, struct arena *arena, size_t first, size_t end, bool dirty)
{
  bits_clear(arena->used, first, end);
  if (dirty) {
    bits_set(arena->dirty, first, end);
    note_dirty(pool, end - first);
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

/* ---- all arenas ------------------------------------------------------------------------------------------------------ */

/* Index of the first arena that ends above `address`. Under pool->lock. */
size_t arena_above(const struct extent_pool *pool, const char *address)
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
struct arena *arena_of(const struct extent_pool *pool, const char *address)
{
  size_t i = arena_above(pool, address);
  return i < pool->count && pool->arenas[i]->base <= address ? pool->arenas[i] : NULL;
}

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
struct arena *arena_reserve(struct extent_pool *pool, size_t need)
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
  if (pool->advice != MADV_NORMAL) {
    pool->host->os->madvise(base, size, pool->advice);
  }
  return arena;
}

/* Takes an empty arena out of the pool; the caller unmaps it once the lock is released. Under pool->lock. */
void arena_detach(struct extent_pool *pool, struct arena *arena)
{
  size_t i = arena_above(pool, arena->base);
  pool->count--;
  pool->empty--;
  memmove(&pool->arenas[i], &pool->arenas[i + 1], (pool->count - i) * sizeof(*pool->arenas));
  note_dirty(pool, 0 - bits_clear(arena->dirty, 0, arena->granules));
  uncount(pool, EXTENT_MAPPED, bits_clear(arena->open, 0, arena->granules) * HAK_GRANULE);
  pool->leads -= arena->leads;
  uncount(pool, EXTENT_RESERVED, arena->granules * HAK_GRANULE);
  hak_count(pool->host, EXTENT_RELEASES, 1);
  arena->next = pool->unused;
  pool->unused = arena;
}
