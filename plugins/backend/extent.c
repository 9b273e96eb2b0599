/* SPDX-License-Identifier: MIT */
/*
 * extent.c - address space for page backends: where blocks of whole granules lie, and when their pages come and go.
 *
 * It owns arenas: large aligned stretches of address space, reserved without access and made writable from the bottom up, so
 * that a whole arena is two kernel mappings however its blocks come and go. A block is a run of 64 KiB granules, found in a
 * bitmap by address-ordered first fit. Its pages go back to the system when it is freed, its address space stays. Blocks too
 * large for an arena, and blocks that moved in order to grow, are mappings of their own. Nothing is recorded of those: what
 * lies in no arena is one.
 *
 * pool->lock guards the arenas, their bitmaps and their order. Address space is reserved and made writable under it, and
 * given back without it: granules whose pages are being released stay taken until the kernel has answered, so that nobody
 * gets them in between. pool->late_lock guards the list of unmappings to try again, and is taken last.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "bits.h"
#include "extent.h"

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
  MOVES_LIVE = 1024,  /* no moves beyond so many own mappings: each is a kernel mapping, and there are 65530 */
  LATE = 32           /* unmappings remembered for another try */
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
  size_t committed;      /* writable granules, from the base; a multiple of HUGE_GRANULES */
  size_t taken;          /* bits set in `used` */
  size_t lowest[ORDERS]; /* no free run of 1 << order granules or more starts below; what makes first fit fast */
  uint64_t *used;        /* granules that are in a block, or being released */
  uint64_t *dirty;       /* free granules whose pages the system has not got back: they do not read as zero */
  struct arena *next;    /* in pool->unused */
};

struct extent_pool {
  const hak_host *host;
  hak_lock lock;
  hak_lock late_lock;
  struct arena **arenas; /* in the order of their addresses */
  size_t count, slots;   /* arenas, and how many the array has room for */
  size_t empty;          /* arenas without a taken granule */
  char *low;             /* no arena below has a free granule */
  struct arena *unused;  /* records without an arena */
  size_t arena_now;      /* bytes to reserve next; atomic for readers without the lock */
  size_t arena_max;      /* bytes to reserve where nothing hinders it; constant */
  size_t unit;           /* of releases, in granules; constant */
  bool advise;           /* ask for transparent huge pages; constant */
  size_t late_count;
  struct {
    char *base;
    size_t bytes;
  } late[LATE];
};

static struct arena *arena_reserve(struct extent_pool *pool, size_t need);
static void arena_detach(struct extent_pool *pool, struct arena *arena);
static bool drop_empty(struct extent_pool *pool);
static char *reserve(struct extent_pool *pool, size_t size, size_t align);
static void unmap(struct extent_pool *pool, char *base, size_t size);
static void unmap_late(struct extent_pool *pool);

static size_t round_up(size_t value, size_t multiple)
{
  return (value + multiple - 1) / multiple * multiple;
}

static void uncount(const struct extent_pool *pool, uint32_t counter, uint64_t amount)
{
  hak_count(pool->host, counter, 0 - amount);
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

/* Makes the granules below `end` writable, and some more for the next blocks. */
static bool arena_commit(struct extent_pool *pool, struct arena *arena, size_t end)
{
  if (end <= arena->committed) {
    return true;
  }
  const hak_os *os = pool->host->os;
  char *base = granule_address(arena, arena->committed);
  size_t missing = round_up(end - arena->committed, HUGE_GRANULES);
  size_t ahead = round_up(arena->committed / 4, HUGE_GRANULES);
  size_t rest = arena->granules - arena->committed;
  size_t step = ahead < missing ? missing : ahead > rest ? rest : ahead;
  if (hak_os_failed(os->mprotect(base, step * HAK_GRANULE, PROT_READ | PROT_WRITE))) {
    step = missing;
    if (hak_os_failed(os->mprotect(base, step * HAK_GRANULE, PROT_READ | PROT_WRITE))) {
      return false;
    }
  }
  arena->committed += step;
  hak_count(pool->host, EXTENT_MAPPED, step * HAK_GRANULE);
  return true;
}

/* Takes free granules; returns how many of them do not read as zero. */
static size_t arena_take(struct extent_pool *pool, struct arena *arena, size_t first, size_t end)
{
  pool->empty -= arena->taken == 0;
  arena->taken += end - first;
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

/* A block of `count` granules from the lowest arena that has room, or from a new one. Under pool->lock. */
static hak_block arena_alloc(struct extent_pool *pool, size_t count, size_t align)
{
  struct arena *found = NULL;
  size_t first = 0;
  bool refused = false, full = true;
  for (size_t i = arena_above(pool, pool->low); i < pool->count && found == NULL; i++) {
    struct arena *arena = pool->arenas[i];
    full = full && arena->taken == arena->granules;
    if (full) {
      pool->low = granule_address(arena, arena->granules);
    }
    if (arena->lowest[order_of(count)] == arena->granules) {
      continue;
    }
    first = arena_fit(arena, count, align);
    if (first < arena->granules) {
      found = arena_commit(pool, arena, first + count) ? arena : NULL;
      refused = found == NULL;
    }
  }
  if (found == NULL && !refused) { /* where committing is refused, another arena would not help */
    size_t margin = align > EXTENT_HUGE ? align : 0;
    found = arena_reserve(pool, count * HAK_GRANULE + margin);
    if (found != NULL) {
      first = arena_fit(found, count, align);
      found = arena_commit(pool, found, first + count) ? found : NULL;
    }
  }
  if (found == NULL) {
    return HAK_NO_BLOCK;
  }
  bool zeroed = arena_take(pool, found, first, first + count) == 0;
  return hak_block_make(granule_address(found, first), count * HAK_GRANULE, zeroed ? HAK_ZEROED : 0);
}

/* Writable address space that belongs to no arena. */
static char *own_map(struct extent_pool *pool, size_t size, size_t align)
{
  const hak_os *os = pool->host->os;
  char *base = reserve(pool, size, align);
  if (base == NULL) {
    return NULL;
  }
  if (hak_os_failed(os->mprotect(base, size, PROT_READ | PROT_WRITE))) {
    unmap(pool, base, size);
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
  unmap_late(pool);
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
  hak_block block = arena_alloc(pool, round_up(size, HAK_GRANULE) / HAK_GRANULE, align);
  hak_lock_release(pool->host, &pool->lock);
  return block;
}

/* Releases the pages of taken granules; true when the system refuses. Called without pool->lock. */
static bool purge(const struct extent_pool *pool, const struct arena *arena, size_t first, size_t end)
{
  size_t bytes = (end - first) * HAK_GRANULE;
  bool refused = hak_os_failed(pool->host->os->madvise(granule_address(arena, first), bytes, MADV_DONTNEED));
  hak_count(pool->host, EXTENT_RELEASES, 1);
  hak_count(pool->host, EXTENT_UNRELEASED, refused ? bytes : 0);
  return refused;
}

/*
 * Releases the pages of taken granules and frees them. Where the unit is larger than a granule, what shares a unit with a
 * live block keeps its pages, and what was free beside [first, end) goes with it. Called with pool->lock, returns without.
 */
static void give_back(struct extent_pool *pool, struct arena *arena, size_t first, size_t end)
{
  const hak_host *host = pool->host;
  size_t from = first / pool->unit * pool->unit;
  size_t to = round_up(end, pool->unit);
  from += arena_free(arena, from, first) ? 0 : pool->unit;
  to -= arena_free(arena, end, to) ? 0 : pool->unit;
  if (from >= to) {
    arena_put(pool, arena, first, end, true);
    hak_lock_release(host, &pool->lock);
    return;
  }
  if (from > first) {
    arena_put(pool, arena, first, from, true);
  } else if (from < first) {
    arena_take(pool, arena, from, first);
  }
  if (to < end) {
    arena_put(pool, arena, to, end, true);
  } else if (to > end) {
    arena_take(pool, arena, end, to);
  }
  hak_lock_release(host, &pool->lock);

  bool refused = purge(pool, arena, from, to);
  hak_lock_acquire(host, &pool->lock);
  arena_put(pool, arena, from, to, refused);
  char *base = arena->base;
  size_t surplus = 0;
  if (arena->taken == 0 && pool->empty > 1) {
    surplus = arena->granules * HAK_GRANULE;
    arena_detach(pool, arena);
  }
  hak_lock_release(host, &pool->lock);
  if (surplus != 0) {
    unmap(pool, base, surplus);
  }
}

void extent_free(struct extent_pool *pool, void *base, size_t capacity)
{
  hak_lock_acquire(pool->host, &pool->lock);
  struct arena *arena = arena_of(pool, base);
  if (arena != NULL) {
    size_t first = granule_index(arena, base);
    give_back(pool, arena, first, first + capacity / HAK_GRANULE);
    return;
  }
  hak_lock_release(pool->host, &pool->lock);
  uncount(pool, EXTENT_MAPPED, capacity);
  uncount(pool, EXTENT_OWN, 1);
  hak_count(pool->host, EXTENT_RELEASES, 1);
  unmap(pool, base, capacity);
}

/* ---- resizing -------------------------------------------------------------------------------------------------------- */

/*
 * Moves the pages of [from, from + old) to new address space, `size` bytes at a multiple of `align`. NULL when the system
 * refuses; the pages are then where they were.
 */
static char *remap(struct extent_pool *pool, char *from, size_t old, size_t size, size_t align, int flags)
{
  const hak_os *os = pool->host->os;
  char *target = reserve(pool, size, align);
  if (target == NULL) {
    return NULL;
  }
  long result = os->mremap(from, old, size, MREMAP_MAYMOVE | MREMAP_FIXED | flags, target);
  if (!hak_os_failed(result)) {
    return target;
  }
  /*
   * The kernel may have unmapped the target before it refused, and another thread may have mapped something there since. So
   * the target is ours only if it can be taken again, or if nothing has been unmapped: after EFAULT something has.
   */
  long again = os->mmap(target, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (!hak_os_failed(again)) {
    unmap(pool, (char *)again, size);
  } else if (again == -EEXIST && result != -EFAULT) {
    unmap(pool, target, size);
  }
  return NULL;
}

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
  char *between = remap(pool, base, capacity, capacity, align, MREMAP_DONTUNMAP);
  if (between == NULL) {
    return HAK_NO_BLOCK;
  }
  char *target = remap(pool, between, capacity, size, align, 0);
  if (target == NULL) {
    memcpy(base, between, capacity);
    unmap(pool, between, capacity);
    return HAK_NO_BLOCK;
  }
  extent_adopt(pool, size);
  hak_count(pool->host, EXTENT_MOVES, 1);
  hak_lock_acquire(pool->host, &pool->lock);
  struct arena *arena = arena_of(pool, base);
  size_t first = granule_index(arena, base);
  give_back(pool, arena, first, first + capacity / HAK_GRANULE);
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
    base = remap(pool, base, capacity, size, align, 0);
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
    give_back(pool, arena, new_end, old_end);
    return hak_block_make(base, grown, 0);
  }
  hak_block block = HAK_NO_BLOCK;
  bool move = false;
  if (new_end == old_end) {
    block = hak_block_make(base, capacity, 0);
  } else if ((uintptr_t)base % align == 0 && new_end <= arena->granules && arena_free(arena, old_end, new_end) &&
             arena_commit(pool, arena, new_end)) {
    block = hak_block_make(base, grown, arena_take(pool, arena, old_end, new_end) == 0 ? HAK_ZEROED : 0);
  } else {
    move = capacity >= MOVE_MIN && __atomic_load_n(&pool->host->counters[EXTENT_OWN], __ATOMIC_RELAXED) < MOVES_LIVE &&
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

/* ---- address space --------------------------------------------------------------------------------------------------- */

/* Address space without access, aligned; NULL when there is none. */
static char *reserve(struct extent_pool *pool, size_t size, size_t align)
{
  const hak_os *os = pool->host->os;
  long at = os->mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(at)) {
    return NULL;
  }
  if ((uintptr_t)at % align != 0) { /* rarely: the kernel lays mappings side by side */
    unmap(pool, (char *)at, size);
    size_t slack = align - pool->host->page_size;
    at = os->mmap(NULL, size + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (hak_os_failed(at)) {
      return NULL;
    }
    size_t head = round_up((uintptr_t)at, align) - (uintptr_t)at;
    if (head > 0) {
      unmap(pool, (char *)at, head);
    }
    at += (long)head;
    if (head < slack) {
      unmap(pool, (char *)at + size, slack - head);
    }
  }
  return (char *)at;
}

/*
 * Unmaps address space. That can fail: at the limit of kernel mappings, one that would have to be split stays. Its pages go
 * back all the same, and it is tried again later.
 */
static void unmap(struct extent_pool *pool, char *base, size_t size)
{
  const hak_host *host = pool->host;
  if (!hak_os_failed(host->os->munmap(base, size))) {
    return;
  }
  host->os->madvise(base, size, MADV_DONTNEED);
  hak_count(host, EXTENT_UNRELEASED, size);
  hak_lock_acquire(host, &pool->late_lock);
  if (pool->late_count < LATE) {
    pool->late[pool->late_count].base = base;
    pool->late[pool->late_count].bytes = size;
    __atomic_store_n(&pool->late_count, pool->late_count + 1, __ATOMIC_RELAXED);
  }
  hak_lock_release(host, &pool->late_lock);
}

static void unmap_late(struct extent_pool *pool)
{
  const hak_host *host = pool->host;
  if (__atomic_load_n(&pool->late_count, __ATOMIC_RELAXED) == 0) {
    return;
  }
  hak_lock_acquire(host, &pool->late_lock);
  for (size_t i = pool->late_count; i-- > 0;) {
    if (!hak_os_failed(host->os->munmap(pool->late[i].base, pool->late[i].bytes))) {
      pool->late[i] = pool->late[pool->late_count - 1];
      __atomic_store_n(&pool->late_count, pool->late_count - 1, __ATOMIC_RELAXED);
    }
  }
  hak_lock_release(host, &pool->late_lock);
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
  struct arena *arena = pool->host->meta_alloc(pool->host, sizeof(*arena) + 2 * words * sizeof(uint64_t), 64);
  if (arena != NULL) {
    arena->room = words * WORD;
    arena->used = (uint64_t *)(arena + 1);
    arena->dirty = arena->used + words;
  }
  return arena;
}

/* A new arena with room for at least `need` bytes, smaller than wished for where address space is scarce. Under pool->lock. */
static struct arena *arena_reserve(struct extent_pool *pool, size_t need)
{
  unmap_late(pool);
  need = round_up(need, EXTENT_HUGE);
  size_t size = pool->arena_now > need ? pool->arena_now : need;
  char *base = reserve(pool, size, EXTENT_HUGE);
  while (base == NULL && size > need) {
    size = round_up(size / ARENA_STEP, EXTENT_HUGE);
    size = size > need ? size : need;
    base = reserve(pool, size, EXTENT_HUGE);
  }
  if (base == NULL) {
    return NULL;
  }
  struct arena *arena = arena_slot(pool) ? arena_record(pool, size / HAK_GRANULE) : NULL;
  if (arena == NULL) {
    unmap(pool, base, size);
    return NULL;
  }
  arena->base = base;
  arena->granules = size / HAK_GRANULE;
  arena->committed = 0;
  arena->taken = 0;
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
  uncount(pool, EXTENT_MAPPED, arena->committed * HAK_GRANULE);
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
    unmap(pool, base, size);
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
  unmap_late(pool);
  hak_lock_acquire(host, &pool->lock);
  for (size_t i = 0; i < pool->count; i = arena_above(pool, pool->arenas[i]->base) + 1) {
    struct arena *arena = pool->arenas[i];
    for (size_t first = 0, end = 0; dirty_units(arena, pool->unit, &first, &end); first = end) {
      size_t dirty = arena_take(pool, arena, first, end);
      hak_lock_release(host, &pool->lock);
      bool refused = purge(pool, arena, first, end);
      released += refused ? 0 : dirty * HAK_GRANULE;
      hak_lock_acquire(host, &pool->lock);
      arena_put(pool, arena, first, end, refused);
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
  if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur / LIMIT_SHARE < arena) {
    arena = limit.rlim_cur / LIMIT_SHARE > ARENA_MIN ? limit.rlim_cur / LIMIT_SHARE : ARENA_MIN;
  }
  pool->host = host;
  pool->arena_max = round_up(arena, EXTENT_HUGE);
  pool->arena_now = pool->arena_max;
  pool->unit = setup->unit / HAK_GRANULE;
  pool->advise = setup->advise;
  return pool;
}

void extent_fork_prepare(struct extent_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
  hak_lock_acquire(pool->host, &pool->late_lock);
}

void extent_fork_parent(struct extent_pool *pool)
{
  hak_lock_release(pool->host, &pool->late_lock);
  hak_lock_release(pool->host, &pool->lock);
}

/* What other threads were just releasing stays taken in the child, like every block that was in their hands. */
void extent_fork_child(struct extent_pool *pool)
{
  pool->late_lock.word = 0;
  pool->lock.word = 0;
}
