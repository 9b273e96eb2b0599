/* SPDX-License-Identifier: MIT */
/*
 * bigcache.c - cache: freed blocks wait here, pages and all, for the next request that they suit.
 *
 * It owns the ranges on its shelves. Ranges are sorted by capacity into classes; a class has four shelves, and the call site
 * that allocated a range says on which of them it is looked for first. A shelf is a short list, newest first, linked through
 * the ranges themselves. Each shelf has a lock of its own, which guards the list and all ranges on it. Nobody holds two of
 * them, except around a fork, and whoever meets one that is taken tries the other shelves of the class first. Everything
 * else that is shared is atomic.
 *
 * Three things bound what is kept. `limit` bounds the bytes, at every moment. `age` bounds the time. The third keeps the peak
 * of resident memory where it would be without a cache: what is live, spans of small blocks included, and what is cached together may not
 * exceed what was live alone at the highest point of the last one or two periods, unless the cache is below `floor`.
 *
 * Guests are ranges of strategies that a policy tries out, a few blocks among many. They come from another backend than those of
 * the champion, so the one cannot serve the other, and within the bound each guest would cost the champion a range that it is about
 * to need, and be gone before the next one comes. So the bound knows of the champion only. Beside it one guest is kept, or as many as
 * are a small part of the peak.
 */
#include "call_sites.h"
#include "hakmem/plugin.h"

#include <assert.h>

enum {
  SHELVES = 4,    /* of a class; a power of two */
  DEPTH = 64,     /* ranges on a shelf; what bounds the walk along it */
  STEPS_LOG2 = 3, /* classes to each doubling of the capacity, as a power of two */
  CLASSES = 97,   /* see class_of */
  WORDS = 2,      /* of 64 classes each */
  MANY = 16,      /* blocks of one size, so that each is a small part of what is live */
  PAGE = 4096     /* alignment of the state */
};

#define LARGEST ((size_t)1 << 30)  /* bytes; no class holds larger ranges */
#define ROUNDING ((size_t)2 << 20) /* bytes; what a backend may add to a request, and its range is still found: a huge page */
#define MILLISECOND UINT64_C(1000000)
#define PERIOD (1000 * MILLISECOND) /* of the peak, where no age says how long the past matters */

/* ---- options and counters -------------------------------------------------------------------------------------------- */

enum { BIG_MIN, BIG_MAX, BIG_LIMIT, BIG_FLOOR, BIG_AGE, BIG_OPTIONS };

static const hak_option bigcache_options[BIG_OPTIONS] = {
    [BIG_MIN] =
        {.key = "min", .type = HAK_SIZE, .fallback = "256K", .min = "64K", .max = "1G", .help = "smaller blocks are not kept"},
    [BIG_MAX] =
        {.key = "max", .type = HAK_SIZE, .fallback = "1G", .min = "64K", .max = "1G", .help = "larger blocks are not kept"},
    [BIG_LIMIT] = {.key = "limit",
                   .type = HAK_SIZE,
                   .flags = HAK_LIVE,
                   .fallback = "16M",
                   .min = "0",
                   .max = "1T",
                   .help = "never more bytes than this are kept"},
    [BIG_FLOOR] = {.key = "floor",
                   .type = HAK_SIZE,
                   .flags = HAK_LIVE,
                   .fallback = "0",
                   .min = "0",
                   .max = "1T",
                   .help = "so many bytes may be kept even if the program's peak of resident memory rises by them"},
    [BIG_AGE] = {.key = "age",
                 .type = HAK_INT,
                 .flags = HAK_LIVE,
                 .fallback = "1000",
                 .min = "0",
                 .max = "86400000",
                 .help = "milliseconds that a block is kept for; 0: no bound"},
};

/* What is said of one of the most active sites. The ranks change, so all of it is gauges. */
enum { TOP_SITE, TOP_HITS, TOP_MISSES, TOP_EVICTIONS, TOP_ROWS };

#define TOP(rank)                                                                                                              \
  {"top" #rank "_site", HAK_GAUGE, HAK_SUM_NONE, "", "return address of call site " #rank " by requests, as of lately"},       \
      {"top" #rank "_hits", HAK_GAUGE, HAK_SUM_NONE, "", "its requests served from the cache"},                                \
      {"top" #rank "_misses", HAK_GAUGE, HAK_SUM_NONE, "", "its requests that nothing suited"},                                \
  {                                                                                                                            \
    "top" #rank "_evictions", HAK_GAUGE, HAK_SUM_NONE, "", "blocks it allocated that had to make room"                         \
  }

enum {
  BIG_HITS,
  BIG_MISSES,
  BIG_KEPT,
  BIG_REFUSED,
  BIG_EVICTIONS,
  BIG_EXPIRED,
  BIG_DRAINED,
  BIG_CACHED,
  BIG_RANGES,
  BIG_SITES,
  BIG_TOP,
  BIG_COUNTERS = BIG_TOP + CALL_SITES_TOP * TOP_ROWS
};

/* kept = hits + evictions + expired + drained + cached_ranges, when all are of the same moment */
static const hak_counter bigcache_counters[] = {
    [BIG_HITS] = {"hits", HAK_COUNTER, HAK_SUM_NONE, "", "requests served from the cache"},
    [BIG_MISSES] = {"misses", HAK_COUNTER, HAK_SUM_NONE, "", "requests that nothing in the cache suited"},
    [BIG_KEPT] = {"kept", HAK_COUNTER, HAK_SUM_NONE, "", "freed blocks that were kept"},
    [BIG_REFUSED] = {"refused", HAK_COUNTER, HAK_SUM_NONE, "", "freed blocks that were not kept"},
    [BIG_EVICTIONS] = {"evictions", HAK_COUNTER, HAK_SUM_NONE, "", "blocks that had to make room"},
    [BIG_EXPIRED] = {"expired", HAK_COUNTER, HAK_SUM_NONE, "", "blocks that nobody wanted in time"},
    [BIG_DRAINED] = {"drained", HAK_COUNTER, HAK_SUM_NONE, "", "blocks given up at once, for malloc_trim"},
    [BIG_CACHED] = {"cached", HAK_GAUGE, HAK_SUM_RETAINED, "bytes", "kept now"},
    [BIG_RANGES] = {"cached_ranges", HAK_GAUGE, HAK_SUM_NONE, "", "blocks kept, as of lately"},
    [BIG_SITES] = {"sites", HAK_GAUGE, HAK_SUM_NONE, "", "call sites with counts of their own"},
    TOP(1),
    TOP(2),
    TOP(3),
    TOP(4),
};

static_assert(sizeof bigcache_counters / sizeof *bigcache_counters == BIG_COUNTERS, "a block of rows for each top site");

/* ---- state ----------------------------------------------------------------------------------------------------------- */

struct shelf {
  hak_lock lock;
  uint32_t count;  /* ranges; changed under the lock, read by anyone; atomic */
  hak_range *head; /* the newest; under the lock, as are the ranges */
};

struct size_class {
  _Alignas(64) struct shelf shelf[SHELVES];
};

static_assert(WORDS == (CLASSES + 63) / 64, "one bit for each class");
static_assert(sizeof(struct size_class) == 64, "a class that is empty is passed over by reading one cache line");
static_assert((SHELVES & (SHELVES - 1)) == 0, "a hash is cut to them by masking");

/* What a first request touches lies in the first page. */
struct bigcache {
  const hak_host *host;
  const uint64_t *spans;   /* as in the host; never NULL */
  const uint64_t *tried;   /* the same */
  uint64_t *cached;        /* bytes on the shelves or about to be; atomic. The gauge itself, so one addition serves both. */
  uint64_t guests;         /* of these, in guests; atomic */
  size_t min, max;         /* bytes; constant after start */
  uint64_t limit, floor;   /* bytes; atomic */
  uint64_t age;            /* ns, 0: no bound; atomic */
  uint64_t peak;           /* bytes, live at most in this period; atomic */
  uint64_t peak_before;    /* the same of the period before; atomic */
  uint64_t since;          /* start of this period, ns; atomic */
  uint32_t hand;           /* class at which the next eviction starts; atomic */
  uint64_t filled[WORDS];  /* one bit for each class: clear where no shelf has ranges, set where one may; atomic */
  uint8_t useful[CLASSES]; /* 1: had a hit since the eviction hand last passed; atomic */
  struct call_sites sites;
  struct size_class classes[CLASSES];
};

/* ---- sizes ----------------------------------------------------------------------------------------------------------- */

/*
 * The class of a capacity, or the first one in which a request may find its capacity: by whole granules up to 16, then eight
 * classes to each doubling.
 */
static uint32_t class_of(size_t bytes)
{
  uint64_t granules = bytes / HAK_GRANULE;
  if (granules < 2U << STEPS_LOG2) {
    return (uint32_t)granules;
  }
  uint32_t shift = 63U - (uint32_t)__builtin_clzll(granules) - STEPS_LOG2;
  return (shift << STEPS_LOG2) + (uint32_t)(granules >> shift);
}

static_assert((LARGEST / HAK_GRANULE) >> 14 == 1 && CLASSES == ((14 - STEPS_LOG2) << STEPS_LOG2) + (1 << STEPS_LOG2) + 1,
              "the class of LARGEST is the last one");

/*
 * A range suits when it is at most an eighth and a granule larger than the request. So does one that served a request which was
 * not larger, whatever its backend made of it: the same request always finds it.
 */
static bool suits(const hak_range *range, const hak_need *need)
{
  return range->backend == need->backend && range->capacity >= need->size &&
         ((uintptr_t)range->base & (need->align - 1)) == 0 &&
         (range->capacity <= need->size + need->size / 8 + HAK_GRANULE || range->requested <= need->size);
}

static bool is_guest(const hak_range *range)
{
  return (range->flags & HAK_TRIED) != 0;
}

/* ---- what is live ---------------------------------------------------------------------------------------------------- */

/* Bytes in live blocks that are no guests, and in spans of small ones. */
static uint64_t active_now(const struct bigcache *cache)
{
  uint64_t live = __atomic_load_n(cache->host->active, __ATOMIC_RELAXED);
  uint64_t tried = __atomic_load_n(cache->tried, __ATOMIC_RELAXED);
  return (live > tried ? live - tried : 0) + __atomic_load_n(cache->spans, __ATOMIC_RELAXED);
}

static uint64_t cached_now(const struct bigcache *cache)
{
  return __atomic_load_n(cache->cached, __ATOMIC_RELAXED);
}

/* To be called where so many bytes are live, as far as anybody can tell while other threads go on. */
static void note_peak(struct bigcache *cache, uint64_t live)
{
  uint64_t peak = __atomic_load_n(&cache->peak, __ATOMIC_RELAXED);
  while (live > peak && !__atomic_compare_exchange_n(&cache->peak, &peak, live, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

/* Starts a new period when this one has lasted as long as a range is kept. Clocks of threads may differ by a tick. */
static void turn(struct bigcache *cache, uint64_t now)
{
  uint64_t age = __atomic_load_n(&cache->age, __ATOMIC_RELAXED);
  uint64_t since = __atomic_load_n(&cache->since, __ATOMIC_RELAXED);
  if ((int64_t)(now - since) >= (int64_t)(age != 0 ? age : PERIOD) &&
      __atomic_compare_exchange_n(&cache->since, &since, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    uint64_t peak = __atomic_exchange_n(&cache->peak, active_now(cache), __ATOMIC_RELAXED);
    __atomic_store_n(&cache->peak_before, peak, __ATOMIC_RELAXED);
  }
}

/*
 * What is live beside a block, for the bound on the peak. Among many blocks, purged ranges leave pages behind at their ends, where
 * they share a huge page with a neighbour; a sixteenth stands for these.
 */
static uint64_t live_beside(uint64_t live, size_t size)
{
  return size <= live / MANY ? live + live / MANY : live;
}

/* Bytes that were live at most in this period and the one before. */
static uint64_t peak_of(const struct bigcache *cache)
{
  uint64_t now = __atomic_load_n(&cache->peak, __ATOMIC_RELAXED),
           before = __atomic_load_n(&cache->peak_before, __ATOMIC_RELAXED);
  return now > before ? now : before;
}

/* Whether so many cached bytes are too many, beside `live` ones. */
static bool excessive(const struct bigcache *cache, uint64_t bytes, uint64_t live)
{
  uint64_t guests = __atomic_load_n(&cache->guests, __ATOMIC_RELAXED), own = bytes > guests ? bytes - guests : 0;
  return bytes > __atomic_load_n(&cache->limit, __ATOMIC_RELAXED) ||
         (own > __atomic_load_n(&cache->floor, __ATOMIC_RELAXED) && own + live > peak_of(cache));
}

static void count_for(struct bigcache *cache, const void *site, enum call_site_count which, uint64_t times)
{
  if (call_sites_add(&cache->sites, site, which, times)) {
    hak_count(cache->host, BIG_SITES, 1);
  }
}

/* ---- shelves --------------------------------------------------------------------------------------------------------- */

static bool try_acquire(struct shelf *shelf)
{
  uint32_t expected = 0;
  return __atomic_compare_exchange_n(&shelf->lock.word, &expected, 1U, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* All shelves, in one row. */
static struct shelf *shelf_at(struct bigcache *cache, uint32_t i)
{
  return &cache->classes[i / SHELVES].shelf[i % SHELVES];
}

static uint32_t count_of(const struct shelf *shelf)
{
  return __atomic_load_n(&shelf->count, __ATOMIC_RELAXED);
}

static void push(struct bigcache *cache, uint32_t cls, struct shelf *shelf, hak_range *range)
{
  range->next = shelf->head;
  shelf->head = range;
  __atomic_store_n(&shelf->count, shelf->count + 1, __ATOMIC_RELAXED);
  __atomic_fetch_or(&cache->filled[cls / 64], UINT64_C(1) << cls % 64, __ATOMIC_ACQ_REL); /* always: see note_empty */
}

static hak_range *pull(struct shelf *shelf, hak_range **link)
{
  hak_range *range = *link;
  *link = range->next;
  range->next = NULL;
  __atomic_store_n(&shelf->count, shelf->count - 1, __ATOMIC_RELAXED);
  return range;
}

/* Where the oldest range of a shelf hangs; NULL when there is none. */
static hak_range **oldest_on(struct shelf *shelf)
{
  hak_range **link = shelf->head != NULL ? &shelf->head : NULL;
  while (link != NULL && (*link)->next != NULL) {
    link = &(*link)->next;
  }
  return link;
}

/* The best range for `need`: one of its own site, then the smallest, then the newest. NULL when none suits. */
static hak_range *take_from(struct shelf *shelf, const hak_need *need)
{
  hak_range **best = NULL;
  bool best_own = false;
  for (hak_range **link = &shelf->head; *link != NULL; link = &(*link)->next) {
    const hak_range *range = *link;
    if (!suits(range, need)) {
      continue;
    }
    bool own = range->site == need->site;
    if (best == NULL || (own && !best_own) || (own == best_own && range->capacity < (*best)->capacity)) {
      best = link;
      best_own = own;
    }
    if (own && (range->requested == need->size || range->capacity - need->size < HAK_GRANULE)) {
      break; /* the same request had it last, or a new block would not be smaller */
    }
  }
  return best != NULL ? pull(shelf, best) : NULL;
}

/*
 * The same for a class. Shelves that others are at are tried in a second round: there may be something elsewhere, and then
 * nobody waits.
 */
static hak_range *take_from_class(struct bigcache *cache, struct size_class *class, const hak_need *need)
{
  uint32_t first = call_site_hash(need->site), busy = 0;
  for (uint32_t i = 0; i < SHELVES || (busy != 0 && i < 2 * SHELVES); i++) {
    uint32_t at = (first + i) & (SHELVES - 1);
    struct shelf *shelf = &class->shelf[at];
    if (count_of(shelf) == 0 || (i >= SHELVES && (busy >> at & 1) == 0)) {
      continue;
    }
    if (i >= SHELVES) {
      hak_lock_acquire(cache->host, &shelf->lock);
    } else if (!try_acquire(shelf)) {
      busy |= 1U << at;
      continue;
    }
    hak_range *range = take_from(shelf, need);
    hak_lock_release(cache->host, &shelf->lock);
    if (range != NULL) {
      return range;
    }
  }
  return NULL;
}

/* Puts a range on a shelf of its class. When all are full, the oldest of its own shelf is displaced: that one is returned. */
static hak_range *shelve(struct bigcache *cache, hak_range *range)
{
  uint32_t cls = class_of(range->capacity);
  struct size_class *class = &cache->classes[cls];
  uint32_t first = call_site_hash(range->site);
  for (uint32_t i = 0; i < SHELVES; i++) {
    struct shelf *shelf = &class->shelf[(first + i) & (SHELVES - 1)];
    if (count_of(shelf) < DEPTH && try_acquire(shelf)) {
      bool room = count_of(shelf) < DEPTH;
      if (room) {
        push(cache, cls, shelf, range);
      }
      hak_lock_release(cache->host, &shelf->lock);
      if (room) {
        return NULL;
      }
    }
  }
  struct shelf *own = &class->shelf[first & (SHELVES - 1)];
  hak_lock_acquire(cache->host, &own->lock);
  hak_range *displaced = count_of(own) >= DEPTH ? pull(own, oldest_on(own)) : NULL;
  push(cache, cls, own, range);
  hak_lock_release(cache->host, &own->lock);
  return displaced;
}

/* ---- victims --------------------------------------------------------------------------------------------------------- */

/* Accounts for a range that has left its shelf for good. */
static void account(struct bigcache *cache, const hak_range *range)
{
  if (is_guest(range)) {
    __atomic_fetch_sub(&cache->guests, range->capacity, __ATOMIC_RELAXED);
  }
  __atomic_fetch_sub(cache->cached, range->capacity, __ATOMIC_RELEASE);
}

/* The same, and chains it: nobody asked for it. */
static void give_up(struct bigcache *cache, hak_range *range, uint32_t counter, hak_range **chain)
{
  account(cache, range);
  hak_count(cache->host, counter, 1);
  if (counter == BIG_EVICTIONS) {
    count_for(cache, range->site, SITE_EVICTIONS, 1);
  }
  range->next = *chain;
  *chain = range;
}

static hak_range *oldest_of(struct bigcache *cache, struct size_class *class)
{
  struct shelf *oldest = NULL;
  uint64_t stamp = 0;
  for (uint32_t i = 0; i < SHELVES; i++) {
    struct shelf *shelf = &class->shelf[i];
    if (count_of(shelf) != 0) {
      hak_lock_acquire(cache->host, &shelf->lock);
      hak_range **link = oldest_on(shelf);
      if (link != NULL && (oldest == NULL || (int64_t)((*link)->stamp - stamp) < 0)) {
        oldest = shelf;
        stamp = (*link)->stamp;
      }
      hak_lock_release(cache->host, &shelf->lock);
    }
  }
  if (oldest == NULL) {
    return NULL;
  }
  hak_lock_acquire(cache->host, &oldest->lock); /* it may hold other ranges by now, or none */
  hak_range **link = oldest_on(oldest);
  hak_range *range = link != NULL ? pull(oldest, link) : NULL;
  hak_lock_release(cache->host, &oldest->lock);
  return range;
}

/* The first class from `from` on, and round, where there may be ranges; CLASSES when all are empty. */
static uint32_t next_filled(const struct bigcache *cache, uint32_t from)
{
  uint32_t word = from / 64;
  uint64_t bits = __atomic_load_n(&cache->filled[word], __ATOMIC_RELAXED) & (~UINT64_C(0) << from % 64);
  for (uint32_t i = 0; i < WORDS && bits == 0; i++) {
    word = (word + 1) % WORDS;
    bits = __atomic_load_n(&cache->filled[word], __ATOMIC_RELAXED);
  }
  return bits != 0 ? word * 64 + (uint32_t)__builtin_ctzll(bits) : CLASSES;
}

/*
 * A class was found empty. Whoever puts a range there meanwhile sets the bit after the range is there: either that comes later than
 * the clearing, or the range is seen here.
 */
static void note_empty(struct bigcache *cache, uint32_t cls)
{
  uint64_t *word = &cache->filled[cls / 64], bit = UINT64_C(1) << cls % 64;
  __atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL);
  for (uint32_t i = 0; i < SHELVES; i++) {
    if (count_of(&cache->classes[cls].shelf[i]) != 0) {
      __atomic_fetch_or(word, bit, __ATOMIC_RELAXED);
    }
  }
}

/*
 * Evicts one range. A hand goes round the classes; each loses its oldest range in turn, but one that had a hit since the hand
 * last came by is spared once. False when nothing was found in two rounds.
 */
static bool evict(struct bigcache *cache, hak_range **chain)
{
  uint32_t cls = next_filled(cache, __atomic_load_n(&cache->hand, __ATOMIC_RELAXED));
  for (uint32_t i = 0; i < 2 * CLASSES && cls < CLASSES; i++) {
    uint32_t after = cls + 1 < CLASSES ? cls + 1 : 0;
    if (i < CLASSES && __atomic_load_n(&cache->useful[cls], __ATOMIC_RELAXED) != 0) {
      __atomic_store_n(&cache->useful[cls], 0, __ATOMIC_RELAXED);
    } else {
      hak_range *range = oldest_of(cache, &cache->classes[cls]);
      if (range != NULL) {
        __atomic_store_n(&cache->hand, after, __ATOMIC_RELAXED);
        give_up(cache, range, BIG_EVICTIONS, chain);
        return true;
      }
      note_empty(cache, cls);
    }
    cls = next_filled(cache, after);
  }
  return false;
}

/* Evicts until `bytes` more are not excessive beside `live` ones, and reserves them. False when that cannot be done. */
static bool make_room(struct bigcache *cache, size_t bytes, uint64_t live, hak_range **chain)
{
  uint64_t cached = cached_now(cache);
  for (;;) {
    if (excessive(cache, cached + bytes, live)) {
      if (!evict(cache, chain)) {
        return false;
      }
      cached = cached_now(cache);
    } else if (__atomic_compare_exchange_n(cache->cached, &cached, cached + bytes, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      return true;
    }
  }
}

/* Gives up all ranges, or all guests, that are older than `age` nanoseconds at `now`. */
static void clear(struct bigcache *cache, bool guests, uint64_t now, int64_t age, uint32_t counter, hak_range **chain)
{
  for (uint32_t i = 0; i < CLASSES * SHELVES; i++) {
    struct shelf *shelf = shelf_at(cache, i);
    hak_range *old = NULL;
    if (count_of(shelf) == 0) {
      continue;
    }
    hak_lock_acquire(cache->host, &shelf->lock);
    for (hak_range **link = &shelf->head; *link != NULL;) {
      if ((int64_t)(now - (*link)->stamp) > age && (is_guest(*link) || !guests)) {
        hak_range *range = pull(shelf, link);
        range->next = old;
        old = range;
      } else {
        link = &(*link)->next;
      }
    }
    hak_lock_release(cache->host, &shelf->lock);
    while (old != NULL) {
      hak_range *range = old;
      old = old->next;
      give_up(cache, range, counter, chain);
    }
  }
}

/* Reserves room for a guest; older ones may have to go. False when the limit is in the way. */
static bool admit(struct bigcache *cache, size_t bytes, hak_range **chain)
{
  uint64_t others = __atomic_fetch_add(&cache->guests, bytes, __ATOMIC_RELAXED);
  if (others != 0 && others + bytes > peak_of(cache) / MANY) {
    clear(cache, true, 0, INT64_MIN, BIG_EVICTIONS, chain);
  }
  uint64_t cached = cached_now(cache);
  do {
    if (cached + bytes > __atomic_load_n(&cache->limit, __ATOMIC_RELAXED)) {
      __atomic_fetch_sub(&cache->guests, bytes, __ATOMIC_RELAXED);
      return false;
    }
  } while (!__atomic_compare_exchange_n(cache->cached, &cached, cached + bytes, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
  return true;
}

/* ---- statistics ------------------------------------------------------------------------------------------------------ */

/* Brings the gauges up to date that are not worth an addition for every block: ranges, and the sites with most requests. */
static void publish(struct bigcache *cache)
{
  uint64_t ranges = 0;
  for (uint32_t i = 0; i < CLASSES * SHELVES; i++) {
    ranges += count_of(shelf_at(cache, i));
  }
  hak_gauge(cache->host, BIG_RANGES, ranges);
  uint32_t place[CALL_SITES_TOP], count = call_sites_top(&cache->sites, place);
  for (uint32_t rank = 0; rank < count; rank++) {
    uint32_t row = BIG_TOP + rank * TOP_ROWS;
    const void *address = __atomic_load_n(&cache->sites.place[place[rank]].address, __ATOMIC_RELAXED);
    hak_gauge(cache->host, row + TOP_SITE, (uintptr_t)address);
    hak_gauge(cache->host, row + TOP_HITS, call_sites_get(&cache->sites, place[rank], SITE_HITS));
    hak_gauge(cache->host, row + TOP_MISSES, call_sites_get(&cache->sites, place[rank], SITE_MISSES));
    hak_gauge(cache->host, row + TOP_EVICTIONS, call_sites_get(&cache->sites, place[rank], SITE_EVICTIONS));
  }
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

/* The first range that suits, from the smallest class on that may have one. NULL when none does. */
static hak_range *take_suitable(struct bigcache *cache, const hak_need *need)
{
  size_t reach = need->size + (need->size / 8 > ROUNDING ? need->size / 8 : ROUNDING) + HAK_GRANULE;
  uint32_t last = class_of(reach < LARGEST ? reach : LARGEST);
  for (uint32_t from = class_of(need->size), cls; from <= last; from = cls + 1) {
    cls = next_filled(cache, from);
    if (cls < from || cls > last) {
      return NULL;
    }
    hak_range *range = take_from_class(cache, &cache->classes[cls], need);
    if (range != NULL) {
      if (__atomic_load_n(&cache->useful[cls], __ATOMIC_RELAXED) == 0) {
        __atomic_store_n(&cache->useful[cls], 1, __ATOMIC_RELAXED);
      }
      return range;
    }
  }
  return NULL;
}

static hak_range *bigcache_take(void *self, const hak_need *need, hak_range **victims)
{
  struct bigcache *cache = self;
  bool tried = (need->flags & HAK_TRIED) != 0;
  hak_range *range = need->size <= LARGEST && cached_now(cache) != 0 ? take_suitable(cache, need) : NULL;
  if (range != NULL) {
    account(cache, range);
    note_peak(cache, active_now(cache) + (tried ? 0 : range->capacity));
    hak_count(cache->host, BIG_HITS, 1);
    count_for(cache, need->site, SITE_HITS, 1);
    return range;
  }
  uint64_t live = active_now(cache);
  note_peak(cache, live); /* without the request, which may fail */
  (void)make_room(cache, 0, live_beside(live, need->size) + (tried ? 0 : need->size), victims);
  hak_count(cache->host, BIG_MISSES, 1);
  count_for(cache, need->site, SITE_MISSES, 1);
  return NULL;
}

static hak_range *bigcache_put(void *self, hak_range *range)
{
  struct bigcache *cache = self;
  hak_range *chain = NULL;
  size_t capacity = range->capacity;
  uint64_t now = cache->host->os->coarse();
  uint64_t live = active_now(cache); /* without this one */
  turn(cache, now);
  note_peak(cache, live + (is_guest(range) ? 0 : capacity));
  bool wanted =
      capacity >= cache->min && capacity <= cache->max && capacity <= __atomic_load_n(&cache->limit, __ATOMIC_RELAXED);
  bool room = wanted && (is_guest(range) ? admit(cache, capacity, &chain)
                                         : make_room(cache, capacity, live_beside(live, capacity), &chain));
  if (room) {
    range->stamp = now;
    hak_count(cache->host, BIG_KEPT, 1); /* first, since it may be taken at once */
    hak_range *displaced = shelve(cache, range);
    if (displaced != NULL) {
      give_up(cache, displaced, BIG_EVICTIONS, &chain);
    }
    return chain;
  }
  hak_count(cache->host, BIG_REFUSED, 1);
  (void)make_room(cache, 0, live, &chain); /* the limit may have been lowered */
  range->next = chain;
  return range;
}

static void bigcache_reused(void *self, const hak_range *range, uint64_t times)
{
  struct bigcache *cache = self;
  hak_count(cache->host, BIG_KEPT, times);
  hak_count(cache->host, BIG_HITS, times);
  count_for(cache, range->site, SITE_HITS, times);
}

static hak_range *bigcache_expire(void *self)
{
  struct bigcache *cache = self;
  hak_range *chain = NULL;
  uint64_t now = cache->host->os->coarse();
  uint64_t age = __atomic_load_n(&cache->age, __ATOMIC_RELAXED);
  turn(cache, now);
  if (age != 0) {
    clear(cache, false, now, (int64_t)age, BIG_EXPIRED, &chain);
  }
  (void)make_room(cache, 0, active_now(cache), &chain);
  publish(cache);
  return chain;
}

static hak_range *bigcache_drain(void *self)
{
  struct bigcache *cache = self;
  hak_range *chain = NULL;
  clear(cache, false, 0, INT64_MIN, BIG_DRAINED, &chain);
  publish(cache);
  return chain;
}

static void bigcache_fork_prepare(void *self)
{
  struct bigcache *cache = self;
  for (uint32_t i = 0; i < CLASSES * SHELVES; i++) {
    hak_lock_acquire(cache->host, &shelf_at(cache, i)->lock);
  }
}

static void bigcache_fork_parent(void *self)
{
  struct bigcache *cache = self;
  for (uint32_t i = 0; i < CLASSES * SHELVES; i++) {
    hak_lock_release(cache->host, &shelf_at(cache, i)->lock);
  }
}

/* What threads that are gone had reserved, or not accounted for yet, is forgotten: the bytes are those on the shelves. */
static void bigcache_fork_child(void *self)
{
  struct bigcache *cache = self;
  uint64_t bytes = 0;
  cache->guests = 0;
  for (uint32_t i = 0; i < CLASSES * SHELVES; i++) {
    struct shelf *shelf = shelf_at(cache, i);
    shelf->lock.word = 0;
    for (const hak_range *range = shelf->head; range != NULL; range = range->next) {
      bytes += range->capacity;
      cache->guests += is_guest(range) ? range->capacity : 0;
    }
  }
  hak_gauge(cache->host, BIG_CACHED, bytes);
  for (uint32_t i = 0; i < WORDS; i++) { /* one that is gone may have been about to set a bit */
    cache->filled[i] = i + 1 < WORDS ? ~UINT64_C(0) : ~UINT64_C(0) >> (64 * WORDS - CLASSES);
  }
}

static int32_t bigcache_set(void *self, uint32_t option, hak_value value)
{
  struct bigcache *cache = self;
  switch (option) {
  case BIG_LIMIT:
    __atomic_store_n(&cache->limit, value.size, __ATOMIC_RELAXED);
    return HAK_OK;
  case BIG_FLOOR:
    __atomic_store_n(&cache->floor, value.size, __ATOMIC_RELAXED);
    return HAK_OK;
  case BIG_AGE:
    __atomic_store_n(&cache->age, (uint64_t)value.integer * MILLISECOND, __ATOMIC_RELAXED);
    return HAK_OK;
  default:
    return HAK_INVALID;
  }
}

static int32_t bigcache_start(const hak_host *host, const hak_value *values, void **self)
{
  if (values[BIG_MIN].size > values[BIG_MAX].size) {
    host->log(host, "found min larger than max, expected the smallest and the largest block to keep");
    return HAK_INVALID;
  }
  struct bigcache *cache = host->meta_alloc(host, sizeof(*cache), PAGE);
  if (cache == NULL) {
    host->log(host, "no memory to start with");
    return HAK_NO_MEMORY;
  }
  static const uint64_t none;
  cache->host = host;
  cache->spans = host->spans != NULL ? host->spans : &none;
  cache->tried = host->tried != NULL ? host->tried : &none;
  cache->cached = &host->counters[BIG_CACHED];
  cache->min = values[BIG_MIN].size;
  cache->max = values[BIG_MAX].size;
  cache->since = host->os->coarse();
  for (uint32_t i = BIG_LIMIT; i < BIG_OPTIONS; i++) {
    (void)bigcache_set(cache, i, values[i]);
  }
  *self = cache;
  return HAK_OK;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_cache_ops bigcache_ops = {
    .struct_size = sizeof(hak_cache_ops),
    .take = bigcache_take,
    .put = bigcache_put,
    .expire = bigcache_expire,
    .drain = bigcache_drain,
    .fork_prepare = bigcache_fork_prepare,
    .fork_parent = bigcache_fork_parent,
    .fork_child = bigcache_fork_child,
    .reused = bigcache_reused,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_CACHE,
    .name = "bigcache",
    .version = "0.1",
    .summary = "freed large blocks, kept for the next request of their size",
    .options = bigcache_options,
    .option_count = BIG_OPTIONS,
    .option_stride = sizeof(hak_option),
    .counters = bigcache_counters,
    .counter_count = BIG_COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = bigcache_start,
    .set = bigcache_set,
    .ops = &bigcache_ops,
};
