/* SPDX-License-Identifier: MIT */
/*
 * test_bigcache.c - the cache plugin, driven through its descriptor.
 *
 * The host is made up here, with a clock that tests set. Ranges describe no memory, except that the test for single ownership
 * writes into the descriptions themselves. A small model of a program, with a backend that rounds, stands behind the tests
 * that need to know what is live.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hakmem/plugin.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define G HAK_GRANULE
#define MS UINT64_C(1000000)

/* ---- the host -------------------------------------------------------------------------------------------------------- */

enum {
  ROWS = 64,
  OPTIONS = 5,
  PART = 8 /* of a request: by so much and a granule a range may be larger, whatever it was made for */
};

static uint64_t counters[ROWS];
static uint64_t clock_now;
static uint64_t spans;  /* bytes in spans of small blocks; atomic */
static uint64_t tried;  /* bytes in live blocks of challengers; atomic */
static uint64_t active; /* bytes in live blocks: raised after an allocation, lowered before a put; atomic */
static bool no_memory;
static int lines;
static void *self;
static const hak_cache_ops *ops;

static uint64_t os_coarse(void)
{
  return __atomic_load_n(&clock_now, __ATOMIC_RELAXED);
}

static void *meta_alloc(const hak_host *host, size_t size, size_t align)
{
  (void)host;
  size = (size + align - 1) & ~(align - 1);
  void *memory = no_memory ? NULL : aligned_alloc(align, size);
  return memory == NULL ? NULL : memset(memory, 0, size);
}

static void write_line(const hak_host *host, const char *text)
{
  (void)host;
  (void)text;
  lines++;
}

static uint32_t waits; /* atomic */

static void lock_wait(const hak_host *host, hak_lock *lock)
{
  (void)host;
  __atomic_fetch_add(&waits, 1U, __ATOMIC_RELAXED);
  while (__atomic_exchange_n(&lock->word, 2U, __ATOMIC_ACQUIRE) != 0) {
    sched_yield();
  }
}

static void lock_wake(const hak_host *host, hak_lock *lock)
{
  (void)host;
  (void)lock;
}

static const hak_os os = {.struct_size = sizeof(hak_os), .coarse = os_coarse};

static const hak_host host = {.struct_size = sizeof(hak_host),
                              .name = "test",
                              .os = &os,
                              .counters = counters,
                              .active = &active,
                              .spans = &spans,
                              .tried = &tried,
                              .page_size = 4096,
                              .meta_alloc = meta_alloc,
                              .log = write_line,
                              .lock_wait = lock_wait,
                              .lock_wake = lock_wake};

static uint32_t option(const char *key)
{
  for (uint32_t i = 0; i < hakmem_plugin.option_count; i++) {
    if (strcmp(hakmem_plugin.options[i].key, key) == 0) {
      return i;
    }
  }
  ck_abort_msg("no option %s", key);
}

static uint64_t count(const char *key)
{
  for (uint32_t i = 0; i < hakmem_plugin.counter_count; i++) {
    if (strcmp(hakmem_plugin.counters[i].key, key) == 0) {
      return __atomic_load_n(&counters[i], __ATOMIC_RELAXED);
    }
  }
  ck_abort_msg("no counter %s", key);
}

static void set(const char *key, uint64_t value)
{
  ck_assert_int_eq(hakmem_plugin.set(self, option(key), (hak_value){.size = value}), HAK_OK);
}

static int32_t start(size_t min, size_t max, size_t limit, size_t floor_bytes, int64_t age)
{
  hak_value values[OPTIONS];
  ck_assert_uint_eq(hakmem_plugin.option_count, OPTIONS);
  ck_assert_uint_le(hakmem_plugin.counter_count, ROWS);
  memset(counters, 0, sizeof counters);
  active = 0;
  spans = 0;
  tried = 0;
  values[option("min")].size = min;
  values[option("max")].size = max;
  values[option("limit")].size = limit;
  values[option("floor")].size = floor_bytes;
  values[option("age")].integer = age;
  ops = hakmem_plugin.ops;
  free(self);
  self = NULL;
  return hakmem_plugin.start(&host, values, &self);
}

/* Bounded by its limit alone. */
static void new_cache(size_t limit)
{
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(64 * KIB, GIB, limit, SIZE_MAX, 0), HAK_OK);
}

/* ---- ranges ---------------------------------------------------------------------------------------------------------- */

static const char sites[256]; /* their addresses are return addresses */

static hak_range *range_at(uintptr_t base, size_t capacity, int site)
{
  hak_range *range = calloc(1, sizeof *range);
  range->base = (void *)base;
  range->capacity = capacity;
  range->requested = capacity;
  range->site = &sites[site];
  return range;
}

static hak_range *range_of(size_t capacity)
{
  return range_at(GIB, capacity, 0);
}

static hak_range *take_or_evict(const hak_need *need, hak_range **victims)
{
  *victims = NULL;
  hak_range *range = ops->take(self, need, victims);
  ck_assert(range == NULL || *victims == NULL);
  return range;
}

/* For where nothing has to go. */
static hak_range *take_with(size_t size, size_t align, int site, uint32_t backend)
{
  const hak_need need = {.size = size, .align = align, .site = &sites[site], .backend = backend};
  hak_range *victims;
  hak_range *range = take_or_evict(&need, &victims);
  ck_assert_ptr_null(victims);
  return range;
}

static hak_range *take(size_t size)
{
  return take_with(size, G, 0, 0);
}

static void keep(hak_range *range)
{
  ck_assert_ptr_null(ops->put(self, range));
}

static unsigned discard(hak_range *chain)
{
  unsigned length = 0;
  while (chain != NULL) {
    hak_range *next = chain->next;
    free(chain);
    chain = next;
    length++;
  }
  return length;
}

/* Every range that was kept has gone one way, or is still there. For where nothing has to go. */
static void balance(void)
{
  ck_assert_ptr_null(ops->expire(self)); /* which brings cached_ranges up to date */
  ck_assert_uint_eq(count("kept"),
                    count("hits") + count("evictions") + count("expired") + count("drained") + count("cached_ranges"));
}

/* ---- a hit ----------------------------------------------------------------------------------------------------------- */

START_TEST(a_freed_block_comes_back)
{
  new_cache(GIB);
  ck_assert_ptr_null(take(2 * MIB));
  hak_range *range = range_of(2 * MIB);
  keep(range);
  ck_assert_uint_eq(count("cached"), 2 * MIB);
  ck_assert_ptr_null(ops->expire(self));
  ck_assert_uint_eq(count("cached_ranges"), 1);
  ck_assert_ptr_eq(take(2 * MIB), range);
  ck_assert_ptr_null(range->next);
  ck_assert_ptr_null(take(2 * MIB));
  ck_assert_uint_eq(count("hits"), 1);
  ck_assert_uint_eq(count("misses"), 2);
  ck_assert_uint_eq(count("cached"), 0);
  balance();
  free(range);
}
END_TEST

START_TEST(what_was_reused_without_asking_counts)
{
  new_cache(GIB);
  hak_range *range = range_of(2 * MIB);
  ops->reused(self, range, 41);
  keep(range);
  ck_assert_ptr_eq(take(2 * MIB), range);
  ck_assert_uint_eq(count("hits"), 42);
  ck_assert_uint_eq(count("misses"), 0);
  ck_assert_uint_eq(count("top1_hits"), 0); /* as of lately */
  balance();
  ck_assert_uint_eq(count("top1_hits"), 42);
  free(range);
}
END_TEST

static bool fits(hak_range *range, size_t size, size_t align, uint32_t backend)
{
  keep(range);
  hak_range *got = take_with(size, align, 0, backend);
  if (got != NULL) {
    ck_assert_ptr_eq(got, range);
    return true;
  }
  ck_assert_ptr_eq(ops->drain(self), range);
  return false;
}

START_TEST(what_suits)
{
  new_cache(GIB);
  hak_range *range = range_at(GIB + 4 * G, 4 * MIB, 0);
  range->backend = 2;
  ck_assert(fits(range, 4 * MIB, G, 2));
  ck_assert(!fits(range, 4 * MIB, G, 1));
  ck_assert(!fits(range, 4 * MIB, G, 258)); /* no backend that a range can name */
  ck_assert(fits(range, 4 * MIB, 4 * G, 2));
  ck_assert(!fits(range, 4 * MIB, 8 * G, 2));
  ck_assert(!fits(range, 4 * MIB + 1, G, 2));
  ck_assert(fits(range, 4 * MIB - 1, G, 2));

  size_t least = (63 * G * PART + PART) / (PART + 1); /* 4 MiB is this part and a granule more */
  ck_assert(fits(range, least, G, 2));
  ck_assert(!fits(range, least - 1, G, 2));
  ck_assert(!fits(range, 2 * MIB, G, 2));
  ck_assert(!fits(range, 1, G, 2));
  ck_assert(!fits(range, 0, G, 2));
  ck_assert(!fits(range, SIZE_MAX, G, 2));

  range->requested = 2 * MIB + 1; /* then everything from there on */
  ck_assert(fits(range, 2 * MIB + 1, G, 2));
  ck_assert(fits(range, 3 * MIB, G, 2));
  ck_assert(!fits(range, 2 * MIB, G, 2));
  ck_assert(!fits(range, 4 * MIB + 1, G, 2));
  ck_assert(!fits(range, 3 * MIB, 8 * G, 2));
  ck_assert(!fits(range, 3 * MIB, G, 1));
  range->requested = MIB; /* a block that shrank where it is, by more than any rounding */
  ck_assert(!fits(range, MIB, G, 2));
  free(range);
}
END_TEST

START_TEST(odd_rounding)
{
  new_cache(GIB);
  hak_range *range = range_of(2 * MIB + G);
  range->requested = MIB + MIB / 5;
  for (int i = 0; i < 1000; i++) {
    ck_assert(fits(range, range->requested, G, 0));
    ck_assert(!fits(range, range->requested - 1, G, 0));
  }
  ck_assert_uint_eq(count("hits"), 1000);
  free(range);
}
END_TEST

static size_t round_to(size_t size, size_t unit)
{
  return (size + unit - 1) / unit * unit;
}

START_TEST(a_request_of_the_same_size_always_hits)
{
  size_t checked = 0;
  new_cache(2 * GIB);
  hak_range *range = range_of(0);
  for (size_t size = 64 * KIB; size <= GIB; size += 1 + size / 997) {
    const size_t capacity[] = {round_to(size, 4096), round_to(size, G), round_to(size, 2 * MIB), round_to(size, 2 * MIB) + G,
                               size + 2 * MIB + G};
    range->requested = size;
    for (size_t i = 0; i < sizeof capacity / sizeof *capacity && capacity[i] <= GIB; i++) {
      range->capacity = capacity[i];
      ck_assert_msg(fits(range, size, G, 0), "%zu in %zu", size, capacity[i]);
      bool close = capacity[i] <= size - 1 + (size - 1) / PART + G;
      ck_assert_msg(fits(range, size - 1, G, 0) == close, "%zu - 1 in %zu", size, capacity[i]);
    }
    checked++;
  }
  ck_assert_uint_gt(checked, 5000);
  free(range);
}
END_TEST

START_TEST(own_site_first_then_any)
{
  new_cache(GIB);
  for (int mine = 0; mine < 16; mine++) { /* on each of the shelves, for whatever that site's hash is */
    hak_range *own = range_at(GIB, 2 * MIB, mine);
    hak_range *others[16];
    keep(own);
    for (int i = 0; i < 16; i++) {
      keep(others[i] = range_at(GIB, 2 * MIB, 16 + i));
    }
    ck_assert_ptr_eq(take_with(2 * MIB, G, mine, 0), own);
    for (int i = 0; i < 16; i++) {
      ck_assert_ptr_nonnull(take_with(2 * MIB, G, mine, 0));
    }
    ck_assert_ptr_null(take_with(2 * MIB, G, mine, 0));
    for (int i = 0; i < 16; i++) {
      free(others[i]);
    }
    free(own);
  }
}
END_TEST

START_TEST(smallest_first_then_newest)
{
  static const size_t capacity[] = {37, 33, 37, 34, 37, 33, 36, 37, 35, 36}; /* granules */
  enum { N = sizeof capacity / sizeof *capacity };
  hak_range *ranges[N], *got[N];
  new_cache(GIB);
  for (int i = 0; i < N; i++) {
    keep(ranges[i] = range_of(capacity[i] * G));
  }
  for (int i = 0; i < N; i++) {
    got[i] = take(32 * G);
    ck_assert_ptr_nonnull(got[i]);
    ck_assert_ptr_null(got[i]->next);
    ck_assert(i == 0 || got[i]->capacity >= got[i - 1]->capacity);
  }
  ck_assert_ptr_eq(got[0], ranges[5]);
  ck_assert_ptr_eq(got[1], ranges[1]);
  for (int i = 0; i < N; i++) {
    free(ranges[i]);
  }
}
END_TEST

START_TEST(every_third_backend_has_its_own)
{
  new_cache(GIB);
  for (int i = 0; i < 30; i++) {
    hak_range *range = range_of(MIB);
    range->backend = (uint8_t)(i % 3 * 100);
    keep(range);
  }
  for (int i = 0; i < 30; i++) {
    hak_range *range = take_with(MIB, G, 0, (uint32_t)(i % 3 * 100));
    ck_assert_ptr_nonnull(range);
    ck_assert_int_eq(range->backend, i % 3 * 100);
    free(range);
  }
}
END_TEST

/* ---- bounds ---------------------------------------------------------------------------------------------------------- */

START_TEST(too_small_and_too_large_are_refused)
{
  ck_assert_int_eq(start(256 * KIB, 8 * MIB, 64 * MIB, SIZE_MAX, 0), HAK_OK);
  hak_range *range = range_of(256 * KIB - 4096);
  ck_assert_ptr_eq(ops->put(self, range), range);
  ck_assert_ptr_null(range->next);
  range->capacity = 8 * MIB + 4096;
  ck_assert_ptr_eq(ops->put(self, range), range);
  range->capacity = 4 * GIB;
  ck_assert_ptr_eq(ops->put(self, range), range);
  ck_assert_uint_eq(count("refused"), 3);
  ck_assert_uint_eq(count("kept"), 0);
  ck_assert_uint_eq(count("cached"), 0);
  range->capacity = 256 * KIB;
  keep(range);
  ck_assert_ptr_eq(take(256 * KIB), range);
  range->capacity = 8 * MIB;
  keep(range);
  ck_assert_uint_eq(discard(ops->drain(self)), 1);
}
END_TEST

START_TEST(the_limit_evicts_the_oldest)
{
  hak_range *ranges[12], *newest = NULL;
  new_cache(8 * MIB);
  for (int i = 0; i < 12; i++) { /* of many sites, so of several shelves */
    clock_now += 10 * MS;
    ranges[i] = range_at(GIB, MIB, i);
    hak_range *victim = ops->put(self, ranges[i]);
    if (i < 8) {
      ck_assert_ptr_null(victim);
    } else {
      ck_assert_ptr_eq(victim, ranges[i - 8]);
      ck_assert_ptr_null(victim->next);
      free(victim);
    }
    newest = ranges[i];
  }
  ck_assert_uint_eq(count("evictions"), 4);
  ck_assert_uint_eq(count("cached"), 8 * MIB);

  hak_range *large = range_of(7 * MIB); /* room for one of the small ones is left */
  ck_assert_uint_eq(discard(ops->put(self, large)), 7);
  ck_assert_ptr_eq(take(MIB), newest);
  free(newest);

  hak_range *too_large = range_of(8 * MIB + G); /* would not fit an empty cache: nobody has to go */
  ck_assert_ptr_eq(ops->put(self, too_large), too_large);
  ck_assert_ptr_null(too_large->next);
  ck_assert_ptr_eq(take(7 * MIB), large);
  free(too_large);
  free(large);
  balance();
}
END_TEST

START_TEST(useless_sizes_go_first)
{
  hak_range *useful, *last = NULL;
  new_cache(16 * MIB);
  keep(useful = range_of(2 * MIB)); /* the oldest of all, and of the smallest size: the hand meets it first */
  for (size_t i = 3; i <= 6; i++) {
    ck_assert_ptr_eq(take(2 * MIB), useful);
    keep(useful);
    clock_now += MS;
    hak_range *victim = ops->put(self, last = range_of(i * MIB));
    ck_assert_ptr_ne(victim, useful);
    discard(victim);
  }
  ck_assert_ptr_eq(take(2 * MIB), useful);
  ck_assert_ptr_eq(take(6 * MIB), last);
  ck_assert_uint_ge(count("evictions"), 1);
  keep(useful);
  keep(last);
  for (int i = 0; i < 10; i++) { /* spared once, not for ever */
    discard(ops->put(self, range_of(5 * MIB)));
  }
  ck_assert_ptr_null(take(2 * MIB));
  discard(ops->drain(self));
  balance();
}
END_TEST

START_TEST(a_lower_limit_holds_from_the_next_call)
{
  new_cache(64 * MIB);
  for (int i = 0; i < 64; i++) {
    keep(range_of(MIB));
  }
  set("limit", 32 * MIB);
  ck_assert_uint_eq(discard(ops->expire(self)), 32);
  ck_assert_uint_eq(count("cached"), 32 * MIB);
  set("limit", 16 * MIB);
  ck_assert_uint_eq(discard(ops->put(self, range_of(MIB))), 17);
  set("limit", 8 * MIB);
  ck_assert_uint_eq(discard(ops->put(self, range_of(9 * MIB))), 9); /* refused, and still */
  set("limit", 0);
  ck_assert_uint_eq(discard(ops->put(self, range_of(MIB))), 9);
  ck_assert_uint_eq(count("cached"), 0);
  set("limit", 64 * MIB);
  for (int i = 0; i < 8; i++) {
    keep(range_of(MIB));
  }
  set("limit", 4 * MIB);
  hak_range *victims;
  const hak_need miss = {.size = 2 * MIB, .align = G, .site = &sites[0]};
  ck_assert_ptr_null(take_or_evict(&miss, &victims));
  ck_assert_uint_eq(discard(victims), 4);
  ck_assert_uint_eq(discard(ops->drain(self)), 4);
  balance();
}
END_TEST

START_TEST(age)
{
  new_cache(GIB);
  set("age", 100);
  for (int i = 0; i < 10; i++, clock_now += 10 * MS) {
    keep(range_at(GIB, (size_t)(1 + i) * MIB, i));
  }
  clock_now = 1100 * MS;
  ck_assert_ptr_null(ops->expire(self));
  clock_now += MS; /* the first is 101 ms old */
  hak_range *old = ops->expire(self);
  ck_assert_ptr_nonnull(old);
  ck_assert_uint_eq(old->capacity, MIB);
  ck_assert_uint_eq(discard(old), 1);
  clock_now += 49 * MS;
  ck_assert_uint_eq(discard(ops->expire(self)), 4);
  ck_assert_uint_eq(count("expired"), 5);
  set("age", 0);
  clock_now += UINT64_C(3600000) * MS;
  ck_assert_ptr_null(ops->expire(self));
  set("age", 3600000);
  ck_assert_uint_eq(discard(ops->expire(self)), 5);
  ck_assert_uint_eq(count("cached"), 0);
  balance();
}
END_TEST

START_TEST(a_full_class_displaces_its_oldest)
{
  enum { MANY = 1000 };
  new_cache(GIB);
  unsigned displaced = 0;
  uint64_t youngest = 0;
  for (int i = 0; i < MANY; i++) {
    clock_now += MS;
    hak_range *victim = ops->put(self, range_of(64 * KIB));
    if (victim != NULL) {
      ck_assert_ptr_null(victim->next);
      youngest = victim->stamp > youngest ? victim->stamp : youngest;
      displaced += discard(victim);
    }
  }
  balance();
  ck_assert_uint_eq(count("cached_ranges") + displaced, MANY);
  ck_assert_uint_eq(count("evictions"), displaced);
  ck_assert_uint_ge(count("cached_ranges"), 128);
  ck_assert_uint_le(count("cached_ranges"), 256); /* what bounds the time that a callback takes */
  ck_assert_uint_lt(youngest, clock_now);         /* never the one that is offered */
  ck_assert_uint_eq(discard(ops->drain(self)), MANY - displaced);
}
END_TEST

START_TEST(drain_returns_all_and_the_cache_goes_on)
{
  new_cache(GIB);
  ck_assert_ptr_null(ops->drain(self));
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 100; i++) {
      keep(range_at(GIB, (size_t)(1 + i) * G, i));
    }
    ck_assert_uint_eq(discard(ops->drain(self)), 100);
    ck_assert_uint_eq(count("cached"), 0);
    ck_assert_uint_eq(count("cached_ranges"), 0);
    ck_assert_ptr_null(take(50 * G));
    hak_range *range = range_of(50 * G);
    keep(range);
    ck_assert_ptr_eq(take(50 * G), range);
    free(range);
  }
  ck_assert_uint_eq(count("drained"), 300);
  balance();
}
END_TEST

/* ---- the peak -------------------------------------------------------------------------------------------------------- */

/* A program with a backend that rounds to `unit`, and what it would have had resident without a cache. */
static struct {
  size_t unit;
  size_t live, live_peak;         /* bytes as the backend would have rounded the requests */
  size_t resident, resident_peak; /* bytes of blocks that are live or cached */
  uint64_t seed;
} program;

static uint32_t draw(uint32_t below)
{
  program.seed = program.seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (uint32_t)((program.seed >> 33) % below);
}

static void new_program(size_t unit)
{
  memset(&program, 0, sizeof program);
  program.unit = unit;
}

static void program_release(hak_range *chain)
{
  for (const hak_range *range = chain; range != NULL; range = range->next) {
    program.resident -= range->capacity;
  }
  discard(chain);
}

/* For a strategy with that backend; HAK_TRIED: a challenger. */
static hak_range *program_malloc_as(size_t size, uint32_t backend, uint32_t flags)
{
  const hak_need need = {.size = size, .align = G, .site = &sites[0], .backend = backend, .flags = flags};
  size_t whole = round_to(size, size < MIB ? G : program.unit);
  hak_range *victims;
  hak_range *range = take_or_evict(&need, &victims);
  program_release(victims);
  if (range == NULL) {
    range = range_of(whole);
    program.resident += range->capacity;
  }
  active += range->capacity;
  tried += flags != 0 ? range->capacity : 0;
  range->backend = (uint8_t)backend;
  range->flags = (uint8_t)flags;
  range->requested = size;
  range->stamp = whole;
  program.live += whole;
  program.live_peak = program.live > program.live_peak ? program.live : program.live_peak;
  program.resident_peak = program.resident > program.resident_peak ? program.resident : program.resident_peak;
  return range;
}

static hak_range *program_malloc(size_t size)
{
  return program_malloc_as(size, 0, 0);
}

static void program_free(hak_range *range)
{
  active -= range->capacity;
  tried -= range->flags != 0 ? range->capacity : 0;
  program.live -= range->stamp;
  program_release(ops->put(self, range));
}

static void new_default_cache(void)
{
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(256 * KIB, GIB, 256 * MIB, 8 * MIB, 1000), HAK_OK);
}

/* One block, allocated and freed again and again: only the first is a miss, whatever its size and however long it goes on. */
START_TEST(a_loop_of_one_block_always_hits)
{
  static const size_t size[] = {300 * KIB, 2 * MIB, 2 * MIB + 200 * KIB, 64 * MIB};
  new_default_cache();
  new_program(_i % 2 == 0 ? G : 2 * MIB);
  for (int i = 0; i < 1000; i++) {
    hak_range *range = program_malloc(size[_i / 2]);
    clock_now += 10 * MS;
    program_free(range);
    if (i % 5 == 0) {
      program_release(ops->expire(self));
    }
  }
  ck_assert_uint_eq(count("misses"), 1);
  ck_assert_uint_eq(count("hits"), 999);
  discard(ops->drain(self));
}
END_TEST

START_TEST(cached_blocks_do_not_raise_the_peak)
{
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(MIB, GIB, GIB, 0, 0), HAK_OK);
  new_program(G);
  hak_range *ranges[8];
  for (int i = 0; i < 4; i++) {
    ck_assert_ptr_null(take(PTRDIFF_MAX / 2 + 1)); /* whose failure nobody reports */
  }
  for (int i = 0; i < 8; i++) {
    ranges[i] = program_malloc(4 * MIB);
  }
  for (int i = 0; i < 8; i++) {
    program_free(ranges[i]); /* so much was live a moment ago: all of it may stay */
  }
  ck_assert_uint_eq(count("cached"), 32 * MIB);
  for (int i = 0; i < 100; i++) {
    program_free(program_malloc(512 * KIB)); /* nothing suits, and it is refused: one makes room, once */
  }
  ck_assert_uint_eq(count("cached"), 28 * MIB);
  hak_range *other = program_malloc(7 * MIB); /* nothing suits */
  hak_range *another = program_malloc(7 * MIB);
  ck_assert_uint_eq(program.resident, 30 * MIB); /* it would have been 42 MiB: three more have gone */
  ck_assert_uint_eq(program.resident_peak, 32 * MIB);
  program_free(another);
  ck_assert_uint_eq(program.resident, 30 * MIB);
  ck_assert_uint_eq(count("cached"), 23 * MIB);

  set("floor", 32 * MIB); /* below it no questions are asked */
  hak_range *third = program_malloc(12 * MIB);
  program_free(third);
  ck_assert_uint_eq(count("evictions"), 4 + 1);
  ck_assert_uint_le(count("cached"), 32 * MIB);
  set("floor", 0);
  program_release(ops->expire(self));
  ck_assert_uint_le(program.resident, 32 * MIB);
  program_free(other);
  program_release(ops->drain(self));
  ck_assert_uint_eq(program.resident, 0);
}
END_TEST

START_TEST(the_peak_is_that_of_the_last_periods)
{
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(64 * KIB, GIB, GIB, 4 * MIB, 0), HAK_OK);
  new_program(G);
  hak_range *ranges[8];
  for (int i = 0; i < 8; i++) {
    ranges[i] = program_malloc(4 * MIB);
  }
  for (int i = 0; i < 8; i++) {
    program_free(ranges[i]);
  }
  program_release(ops->expire(self));
  ck_assert_uint_eq(count("cached"), 32 * MIB);
  clock_now += 1000 * MS;
  program_release(ops->expire(self));
  ck_assert_uint_eq(count("cached"), 32 * MIB);
  for (int i = 0; i < 8; i++) {
    ranges[i] = program_malloc(4 * MIB); /* hits count too: what is live rises */
  }
  for (int i = 0; i < 8; i++) {
    program_free(ranges[i]);
  }
  clock_now += 1000 * MS;
  program_release(ops->expire(self));
  ck_assert_uint_eq(count("cached"), 32 * MIB);
  clock_now += 1000 * MS; /* nothing was live in the period that ends now, nor is anything in the new one */
  program_release(ops->expire(self));
  ck_assert_uint_eq(count("cached"), 4 * MIB);
  set("floor", 0);
  program_release(ops->expire(self));
  ck_assert_uint_eq(count("cached"), 0);
}
END_TEST

/* Requests that nothing suits, up to the old peak and beyond it. What is cached makes way before the new block is there. */
START_TEST(misses_evict)
{
  static const size_t floors[] = {0, 16 * MIB};
  enum { BLOCKS = 24 };
  hak_range *ranges[BLOCKS];
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(MIB, GIB, GIB, floors[_i], 0), HAK_OK);
  new_program(G);
  for (int i = 0; i < 16; i++) {
    ranges[i] = program_malloc(4 * MIB);
  }
  for (int i = 0; i < 16; i++) {
    program_free(ranges[i]);
  }
  ck_assert_uint_eq(count("cached"), 64 * MIB);
  for (size_t i = 0; i < BLOCKS; i++) {
    ranges[i] = program_malloc(7 * MIB);
    size_t spare = 64 * MIB > program.live ? 64 * MIB - program.live : 0;
    spare = spare > floors[_i] ? spare : floors[_i];
    ck_assert_uint_eq(program.resident - program.live, count("cached"));
    ck_assert_uint_eq(count("cached"), spare / (4 * MIB) * (4 * MIB)); /* and no more has gone than had to */
  }
  ck_assert_uint_eq(count("misses"), 16 + BLOCKS);
  ck_assert_uint_eq(program.live, BLOCKS * 7 * MIB);
  ck_assert_uint_le(program.resident_peak, program.live_peak + floors[_i]);
  for (int i = 0; i < BLOCKS; i++) {
    program_free(ranges[i]);
  }
  ck_assert_uint_le(program.resident_peak, program.live_peak + floors[_i]);
  program_release(ops->drain(self));
  ck_assert_uint_eq(program.resident, 0);
  ck_assert_uint_eq(active, 0);
}
END_TEST

/*
 * Blocks that the cache never sees are live as well: those of strategies without one, what grows or shrinks in place, and small
 * ones. They are noticed at whatever the cache is called for.
 */
START_TEST(other_live_blocks_count)
{
  enum { PUT, MISS, HIT, EXPIRE, WAYS };
  int way = _i % WAYS;
  uint64_t *others = _i < WAYS ? &active : &spans;
  hak_range *ranges[10], *range = NULL;
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(MIB, GIB, GIB, 0, 0), HAK_OK);
  new_program(G);
  if (way != MISS) {
    range = program_malloc(4 * MIB);
  }
  if (way == HIT || way == EXPIRE) {
    program_free(range);
  }
  *others += 100 * MIB;
  if (way == PUT) {
    program_free(range);
  } else if (way == EXPIRE) {
    clock_now += 1000 * MS;
    program_release(ops->expire(self));
  } else {
    range = program_malloc(4 * MIB);
  }
  *others -= 100 * MIB;
  if (way == MISS || way == HIT) {
    program_free(range);
  }

  for (int i = 0; i < 10; i++) {
    ranges[i] = program_malloc(4 * MIB);
  }
  for (int i = 0; i < 10; i++) {
    program_free(ranges[i]);
  }
  range = program_malloc(60 * MIB);
  ck_assert_uint_eq(count("cached"), 40 * MIB); /* 100 MiB have been live, or 104 */
  *others += 20 * MIB;
  program_release(ops->expire(self));
  ck_assert_uint_ge(count("cached"), 20 * MIB);
  ck_assert_uint_le(count("cached"), 24 * MIB);
  *others -= 20 * MIB;
  program_free(range);
  program_release(ops->drain(self));
  ck_assert_uint_eq(program.resident, 0);
}
END_TEST

/* ---- challengers ----------------------------------------------------------------------------------------------------- */

/* A block now and then comes from another backend. The champion's does not go for it, nor that for the champion's. */
START_TEST(a_challenger_spoils_nothing)
{
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(MIB, GIB, GIB, 0, 1000), HAK_OK);
  new_program(G);
  for (int i = 0; i < 400; i++) {
    bool challenger = i % 4 == 3;
    hak_range *range = program_malloc_as(2 * MIB, challenger, challenger ? HAK_TRIED : 0);
    clock_now += 10 * MS;
    program_free(range);
    program_release(ops->expire(self));
  }
  ck_assert_uint_eq(count("misses"), 2);
  ck_assert_uint_eq(count("evictions"), 0);
  ck_assert_uint_eq(program.resident_peak, 4 * MIB);
  discard(ops->drain(self));
}
END_TEST

/* Beside what the champion has cached, one is kept, or as many as are a sixteenth of the peak: the newest. */
START_TEST(guests_are_few)
{
  enum { BLOCKS = 16, GUESTS = 10 };
  size_t size = _i == 0 ? 4 * MIB : MIB;
  hak_range *ranges[BLOCKS], *guests[GUESTS];
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(MIB, GIB, GIB, 0, 0), HAK_OK);
  new_program(G);
  for (int i = 0; i < BLOCKS; i++) {
    ranges[i] = program_malloc(4 * MIB);
  }
  for (int i = 0; i < BLOCKS; i++) {
    program_free(ranges[i]);
  }
  for (int i = 0; i < GUESTS; i++) {
    guests[i] = program_malloc_as(size, 1, HAK_TRIED);
  }
  ck_assert_uint_eq(count("cached"), BLOCKS * 4 * MIB);
  for (int i = 0; i < GUESTS; i++) {
    program_free(guests[i]);
    ck_assert_uint_le(count("cached"), BLOCKS * 4 * MIB + 4 * MIB);
  }
  ck_assert_uint_gt(count("cached"), BLOCKS * 4 * MIB);
  for (int i = 0; i < BLOCKS; i++) {
    ranges[i] = take(4 * MIB); /* they are all there */
    ck_assert_ptr_nonnull(ranges[i]);
    free(ranges[i]);
  }
  hak_range *last = take_with(size, G, 0, 1);
  ck_assert_ptr_eq(last, guests[GUESTS - 1]);
  free(last);
  discard(ops->drain(self));
}
END_TEST

/* The bound on the peak is what it is without challengers. */
START_TEST(guests_raise_no_peak)
{
  clock_now = 1000 * MS;
  ck_assert_int_eq(start(MIB, GIB, GIB, 0, 0), HAK_OK);
  new_program(G);
  program_free(program_malloc_as(32 * MIB, 1, HAK_TRIED));
  program_free(program_malloc_as(32 * MIB, 1, HAK_TRIED)); /* a hit */
  ck_assert_uint_eq(count("misses"), 1);
  program_free(program_malloc(4 * MIB));
  ck_assert_uint_eq(count("cached"), 36 * MIB);
  hak_range *range = program_malloc(5 * MIB); /* for which the other one goes */
  ck_assert_uint_ge(count("evictions"), 1);
  ck_assert_ptr_null(take(4 * MIB));
  program_free(range);

  /* One that the champion takes over is none any longer. */
  hak_range *other = program_malloc_as(5 * MIB, 0, HAK_TRIED);
  program_free(other);
  range = program_malloc(5 * MIB);
  ck_assert_ptr_eq(range, other);
  program_free(range);
  ck_assert_uint_eq(active, 0);
  ck_assert_uint_eq(tried, 0);
  range = program_malloc(6 * MIB);
  program_free(range);
  ck_assert_uint_eq(count("cached"), 6 * MIB);
  program_release(ops->drain(self));
  ck_assert_uint_eq(program.resident, 0);
}
END_TEST

START_TEST(the_limit_is_for_guests_too)
{
  new_cache(8 * MIB);
  keep(range_of(8 * MIB));
  hak_range *guest = range_of(2 * MIB);
  guest->flags = HAK_TRIED;
  ck_assert_ptr_eq(ops->put(self, guest), guest);
  ck_assert_ptr_null(guest->next);
  ck_assert_uint_eq(count("cached"), 8 * MIB);
  ck_assert_uint_eq(count("refused"), 1);
  free(guest);
  ck_assert_uint_eq(discard(ops->drain(self)), 1);
}
END_TEST

/*
 * A queue of up to 64 blocks of 1 to 8 MiB, which grows and shrinks: as a random walk, or in a sawtooth, where only a few
 * blocks are freed while it grows.
 */
START_TEST(a_streaming_program)
{
  enum { QUEUE = 64, STEPS = 40000 };
  hak_range *queue[QUEUE];
  unsigned length = 0;
  new_default_cache();
  new_program(_i % 2 == 0 ? G : 2 * MIB);
  program.seed = 7;
  bool walk = (_i & 2) == 0, growing = true;
  for (unsigned i = 0; i < STEPS; i++) {
    clock_now += MS / 10;
    if (i % 500 == 0) {
      program_release(ops->expire(self));
    }
    growing = length == 0 || (length < QUEUE && growing);
    bool more = walk ? draw(2) == 0 : draw(4) != 0 ? growing : !growing;
    if (length == 0 || (more && length < QUEUE)) {
      queue[length++] = program_malloc(MIB + draw(7 * MIB));
    } else {
      program_free(queue[0]);
      memmove(queue, queue + 1, --length * sizeof *queue);
    }
  }
  while (length > 0) {
    program_free(queue[--length]);
  }
  uint64_t requests = count("hits") + count("misses");
  ck_assert_uint_le(program.resident_peak * 100, program.live_peak * 105);
  ck_assert_uint_ge(count("hits") * 100, requests * 60);
  discard(ops->drain(self));
}
END_TEST

/* ---- call sites ------------------------------------------------------------------------------------------------------ */

START_TEST(counts_of_sites)
{
  new_cache(4 * MIB);
  for (int site = 1; site <= 6; site++) {
    for (int i = 0; i < site; i++) {
      hak_range *range = take_with(MIB, G, site, 0);
      if (range == NULL) {
        range = range_at(GIB, MIB, site);
      }
      keep(range);
    }
  }
  ck_assert_uint_eq(count("sites"), 6);
  ck_assert_uint_eq(discard(ops->put(self, range_at(GIB, 4 * MIB, 6))), count("evictions"));
  ck_assert_ptr_null(ops->expire(self));
  ck_assert_uint_eq(count("top1_site"), (uintptr_t)&sites[6]);
  ck_assert_uint_eq(count("top1_hits") + count("top1_misses"), 6);
  ck_assert_uint_eq(count("top4_site"), (uintptr_t)&sites[3]);
  ck_assert_uint_eq(count("top4_hits") + count("top4_misses"), 3);
  ck_assert_uint_eq(count("misses") - count("top1_misses") - count("top2_misses") - count("top3_misses") - count("top4_misses"),
                    1); /* the very first request, of site 1 */
  for (int site = 7; site < 256; site++) {
    ck_assert_ptr_null(take_with(MIB, G, site, 0));
  }
  ck_assert_uint_gt(count("sites"), 32);
  ck_assert_uint_le(count("sites"), 64);
  const hak_need nowhere = {.size = MIB, .align = G};
  hak_range *victims;
  ck_assert_ptr_null(take_or_evict(&nowhere, &victims));
  ck_assert_ptr_null(victims);
  discard(ops->drain(self));
}
END_TEST

START_TEST(evictions_of_sites)
{
  new_cache(MIB);
  for (int i = 0; i < 10; i++) {
    ck_assert_ptr_null(take_with(2 * MIB, G, 3, 0));
    discard(ops->put(self, range_at(GIB, MIB, 3)));
  }
  ck_assert_ptr_null(ops->expire(self));
  ck_assert_uint_eq(count("top1_evictions"), 9);
  ck_assert_uint_eq(count("top1_misses"), 10);
  ck_assert_uint_eq(count("top1_hits"), 0);
  discard(ops->drain(self));
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------------------------------- */

enum { THREADS = 8 };

struct block {
  hak_range range; /* first, so that a range is its block */
  uint32_t owner;  /* 0: in the cache; atomic */
  uint32_t mark;   /* written by the owner */
};

static uint32_t rounds;
static bool stop;
static uint64_t lost; /* ranges that the cache let go */
static uint64_t made;

static void own(struct block *block, uint32_t who)
{
  uint32_t nobody = 0;
  ck_assert(__atomic_compare_exchange_n(&block->owner, &nobody, who, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  block->mark = who;
  block->range.stamp = who;
}

static void disown(struct block *block, uint32_t who)
{
  ck_assert_uint_eq(block->mark, who);
  ck_assert_uint_eq(__atomic_exchange_n(&block->owner, 0U, __ATOMIC_RELAXED), who);
}

static void release_owned(hak_range *chain, uint32_t who)
{
  while (chain != NULL) {
    struct block *block = (struct block *)(void *)chain;
    chain = chain->next;
    own(block, who);
    free(block);
    __atomic_fetch_add(&lost, 1U, __ATOMIC_RELAXED);
  }
}

static void *churn(void *argument)
{
  uint32_t who = (uint32_t)(uintptr_t)argument, seed = who;
  for (uint32_t i = 0; i < rounds && !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
    struct block *held[4] = {NULL};
    for (int j = 0; j < 4; j++) {
      seed = seed * 1664525U + 1013904223U;
      size_t size = (1 + (seed >> 16) % 24) * 4 * G;
      const hak_need need = {.size = size, .align = G, .site = &sites[seed >> 28]};
      hak_range *victims;
      held[j] = (struct block *)(void *)take_or_evict(&need, &victims);
      release_owned(victims, who);
      if (held[j] == NULL) {
        held[j] = calloc(1, sizeof *held[j]);
        held[j]->range = (hak_range){.base = (void *)GIB, .capacity = size, .site = need.site};
        __atomic_fetch_add(&made, 1U, __ATOMIC_RELAXED);
      }
      own(held[j], who);
      held[j]->range.requested = size;
      __atomic_fetch_add(&active, held[j]->range.capacity, __ATOMIC_RELAXED);
    }
    for (int j = 0; j < 4; j++) {
      __atomic_fetch_sub(&active, held[j]->range.capacity, __ATOMIC_RELAXED);
      disown(held[j], who);
      release_owned(ops->put(self, &held[j]->range), who);
    }
    __atomic_fetch_add(&clock_now, MS / 100, __ATOMIC_RELAXED);
  }
  return NULL;
}

static void *slow_callbacks(void *argument)
{
  (void)argument;
  for (uint32_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
    release_owned(i % 64 == 0 ? ops->drain(self) : ops->expire(self), THREADS + 1);
    set("age", 1 + i % 5);
    set("floor", i % 2 == 0 ? 0 : SIZE_MAX);
    sched_yield();
  }
  return NULL;
}

static void start_churn(pthread_t *threads, uint32_t n)
{
  lost = 0;
  made = 0;
  stop = false;
  for (uint32_t i = 0; i < n; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, (void *)(uintptr_t)(i + 1)), 0);
  }
}

START_TEST(one_owner_at_a_time)
{
  const size_t limit = 24 * MIB;
  pthread_t threads[THREADS], slow;
  new_cache(limit);
  rounds = 10000;
  start_churn(threads, THREADS);
  ck_assert_int_eq(pthread_create(&slow, NULL, slow_callbacks, NULL), 0);
  for (uint32_t i = 0; i < 200000; i++) {
    ck_assert_uint_le(count("cached"), limit);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  pthread_join(slow, NULL);
  ck_assert_uint_gt(count("hits"), 0);
  ck_assert_uint_gt(count("evictions"), 0);
  ck_assert_uint_eq(count("hits") + count("misses"), THREADS * rounds * 4);
  set("age", 0);
  release_owned(ops->expire(self), 1); /* the bounds may just have been lowered */
  balance();
  release_owned(ops->drain(self), 1);
  ck_assert_uint_eq(lost, made); /* none has vanished, none came twice */
  ck_assert_uint_eq(count("cached"), 0);
  ck_assert_uint_eq(count("cached_ranges"), 0);
  ck_assert_uint_eq(active, 0);
}
END_TEST

/* No assertions here: they take a lock of Check, which a thread that is gone may have held. */
static int look_around_in_child(void)
{
  ops->fork_child(self);
  uint64_t bytes = 0;
  if (count("cached") > 24 * MIB) {
    return 1;
  }
  uint64_t cached = count("cached");
  for (const hak_range *range = ops->drain(self); range != NULL; range = range->next) {
    bytes += range->capacity;
  }
  if (bytes != cached || count("cached") != 0 || count("cached_ranges") != 0) {
    return 2;
  }
  hak_range mine = {.base = (void *)GIB, .capacity = MIB, .requested = MIB, .site = &sites[0]};
  const hak_need need = {.size = MIB, .align = G, .site = &sites[0]};
  hak_range *victims = NULL;
  if (ops->put(self, &mine) != NULL || ops->take(self, &need, &victims) != &mine || victims != NULL) {
    return 3;
  }
  return 0;
}

START_TEST(fork_while_threads_work)
{
  pthread_t threads[4];
  new_cache(24 * MIB);
  rounds = UINT32_MAX;
  start_churn(threads, 4);
  for (int i = 0; i < 100; i++) {
    ops->fork_prepare(self);
    pid_t child = fork();
    if (child == 0) {
      _exit(look_around_in_child());
    }
    ops->fork_parent(self);
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
  }
  release_owned(ops->drain(self), 1);
  ck_assert_uint_eq(lost, made);
}
END_TEST

static void *take_one(void *ended)
{
  hak_range *range = take(2 * MIB);
  __atomic_store_n((bool *)ended, true, __ATOMIC_RELEASE);
  return range;
}

static void *put_one(void *ended)
{
  hak_range *refused = ops->put(self, range_of(4 * MIB));
  __atomic_store_n((bool *)ended, true, __ATOMIC_RELEASE);
  return refused;
}

/* A thread that meets all shelves locked waits, and then gets what is there. */
START_TEST(nobody_is_at_a_shelf_during_a_fork)
{
  pthread_t threads[2];
  bool ended[2] = {false, false};
  void *result[2];
  new_cache(GIB);
  hak_range *range = range_of(2 * MIB);
  keep(range);
  waits = 0;
  ops->fork_prepare(self);
  ck_assert_int_eq(pthread_create(&threads[0], NULL, take_one, &ended[0]), 0);
  ck_assert_int_eq(pthread_create(&threads[1], NULL, put_one, &ended[1]), 0);
  while (__atomic_load_n(&waits, __ATOMIC_RELAXED) < 2) {
    ck_assert(!__atomic_load_n(&ended[0], __ATOMIC_ACQUIRE) && !__atomic_load_n(&ended[1], __ATOMIC_ACQUIRE));
    sched_yield();
  }
  ck_assert_uint_eq(count("hits"), 0);
  ops->fork_parent(self);
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], &result[i]);
  }
  ck_assert_ptr_eq(result[0], range);
  ck_assert_ptr_null(result[1]);
  ck_assert_uint_eq(discard(ops->drain(self)), 1);
  free(range);
}
END_TEST

START_TEST(ranges_live_on_in_the_child)
{
  new_cache(GIB);
  keep(range_of(2 * MIB));
  ops->fork_prepare(self);
  pid_t child = fork();
  if (child == 0) {
    ops->fork_child(self);
    hak_range *range = take(2 * MIB);
    _exit(range != NULL && range->capacity == 2 * MIB && count("cached") == 0 ? 0 : 1);
  }
  ops->fork_parent(self);
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  ck_assert_uint_eq(count("cached"), 2 * MIB);
  ck_assert_uint_eq(discard(ops->drain(self)), 1);
}
END_TEST

/* ---- start ----------------------------------------------------------------------------------------------------------- */

START_TEST(what_start_refuses)
{
  lines = 0;
  ck_assert_int_eq(start(2 * MIB, MIB, GIB, 0, 0), HAK_INVALID);
  ck_assert_int_eq(lines, 1);
  no_memory = true;
  ck_assert_int_eq(start(MIB, MIB, GIB, 0, 0), HAK_NO_MEMORY);
  ck_assert_int_eq(lines, 2);
  no_memory = false;
  ck_assert_int_eq(start(MIB, MIB, GIB, 0, 0), HAK_OK);
  ck_assert_int_eq(lines, 2);
}
END_TEST

START_TEST(live_options_are_those_that_set_takes)
{
  new_cache(GIB);
  for (uint32_t i = 0; i <= OPTIONS; i++) {
    bool live = i < OPTIONS && (hakmem_plugin.options[i].flags & HAK_LIVE) != 0;
    ck_assert_int_eq(hakmem_plugin.set(self, i, (hak_value){.size = 1000}), live ? HAK_OK : HAK_INVALID);
  }
}
END_TEST

int main(void)
{
  const TTest *const once[] = {a_freed_block_comes_back,
                               what_was_reused_without_asking_counts,
                               what_suits,
                               odd_rounding,
                               a_request_of_the_same_size_always_hits,
                               own_site_first_then_any,
                               smallest_first_then_newest,
                               every_third_backend_has_its_own,
                               too_small_and_too_large_are_refused,
                               the_limit_evicts_the_oldest,
                               useless_sizes_go_first,
                               a_lower_limit_holds_from_the_next_call,
                               age,
                               a_full_class_displaces_its_oldest,
                               drain_returns_all_and_the_cache_goes_on,
                               cached_blocks_do_not_raise_the_peak,
                               the_peak_is_that_of_the_last_periods,
                               counts_of_sites,
                               evictions_of_sites,
                               one_owner_at_a_time,
                               fork_while_threads_work,
                               nobody_is_at_a_shelf_during_a_fork,
                               ranges_live_on_in_the_child,
                               what_start_refuses,
                               live_options_are_those_that_set_takes};
  Suite *suite = suite_create("bigcache");
  TCase *tests = tcase_create("bigcache");
  tcase_set_timeout(tests, 60);
  for (size_t i = 0; i < sizeof once / sizeof *once; i++) {
    tcase_add_test(tests, once[i]);
  }
  tcase_add_loop_test(tests, a_loop_of_one_block_always_hits, 0, 8);
  tcase_add_loop_test(tests, misses_evict, 0, 2);
  tcase_add_loop_test(tests, other_live_blocks_count, 0, 8);
  tcase_add_test(tests, a_challenger_spoils_nothing);
  tcase_add_loop_test(tests, guests_are_few, 0, 2);
  tcase_add_test(tests, guests_raise_no_peak);
  tcase_add_test(tests, the_limit_is_for_guests_too);
  tcase_add_loop_test(tests, a_streaming_program, 0, 4);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
