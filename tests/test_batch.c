/* SPDX-License-Identifier: MIT */
/*
 * test_batch.c - the reclaim plugin `batch`, over a pool of the page backends.
 *
 * What stands in for the core looks at every chain that is released: its order, its bytes, and the cap that holds at every
 * moment.
 */
#include "host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "extent.h"

/* ---- the core -------------------------------------------------------------------------------------------------------- */

enum { RANGES = 1024 };

static uint64_t batch_counters[32];
static struct extent_pool *pool;
static void *self; /* of the plugin */
static const hak_reclaim_ops *ops;
static char logged[256];
static size_t cap;
static uint64_t live_bytes;
static unsigned releases; /* calls of release */
static size_t released;   /* bytes */
static hak_range ranges[RANGES];

static uint64_t counter(const char *key)
{
  for (uint32_t i = 0; i < hakmem_plugin.counter_count; i++) {
    if (strcmp(hakmem_plugin.counters[i].key, key) == 0) {
      return __atomic_load_n(&batch_counters[i], __ATOMIC_RELAXED);
    }
  }
  ck_abort_msg("no counter %s", key);
}

static uint32_t option(const char *key)
{
  for (uint32_t i = 0; i < hakmem_plugin.option_count; i++) {
    if (strcmp(hakmem_plugin.options[i].key, key) == 0) {
      return i;
    }
  }
  ck_abort_msg("no option %s", key);
}

static size_t release(const hak_host *of, hak_range *chain, const hak_purger *purger)
{
  ck_assert_str_eq(of->name, "batch");
  ck_assert_uint_le(counter("pending"), cap);
  size_t bytes = 0;
  while (chain != NULL) {
    hak_range *last = chain;
    bytes += last->capacity;
    for (; last->next != NULL && last->next->backend == chain->backend; last = last->next) {
      ck_assert(last->base < last->next->base);
      bytes += last->next->capacity;
    }
    hak_range *rest = last->next;
    ck_assert(rest == NULL || rest->backend > chain->backend);
    last->next = NULL;
    extent_free_many(pool, chain, purger);
    chain = rest;
  }
  __atomic_fetch_add(&releases, 1U, __ATOMIC_RELAXED);
  __atomic_fetch_add(&released, bytes, __ATOMIC_RELAXED);
  return bytes;
}

static void write_log(const hak_host *of, const char *text)
{
  (void)of;
  snprintf(logged, sizeof logged, "%s", text);
}

static hak_host batch_host;

/* The configuration of a test; what is zero has a value that never matters. */
struct config {
  size_t bytes, cap;
  int64_t share, count, age;
  uint32_t method, advice; /* indices of choices */
  bool basic;
  size_t unit;
};

static void set(const char *key, hak_value value)
{
  ck_assert_int_eq(hakmem_plugin.set(self, option(key), value), HAK_OK);
}

static void start(struct config config)
{
  long (*script)(const struct iovec *, size_t, int) = process_madvise_script;
  reset_host();
  process_madvise_script = script;
  memset(batch_counters, 0, sizeof batch_counters);
  logged[0] = 0;
  releases = 0;
  released = 0;
  live_bytes = 0;
  clock_time = UINT64_C(1000000000000);
  const struct extent_setup setup = {.arena = GIB, .unit = config.unit == 0 ? G : config.unit};
  pool = extent_start(&host, &setup);

  batch_host = host;
  batch_host.name = "batch";
  batch_host.counters = batch_counters;
  batch_host.basic_syscalls = config.basic;
  batch_host.release = release;
  batch_host.log = write_log;
  batch_host.active = &live_bytes;
  cap = config.cap == 0 ? GIB : config.cap;
  hak_value values[16] = {{0}};
  values[option("bytes")].size = config.bytes == 0 ? GIB : config.bytes;
  values[option("share")].integer = config.share;
  values[option("count")].integer = config.count == 0 ? 1000000 : config.count;
  values[option("age")].integer = config.age == 0 ? 1000000 : config.age;
  values[option("cap")].size = cap;
  values[option("method")].choice = config.method;
  values[option("advice")].choice = config.advice;
  ck_assert_int_eq(hakmem_plugin.start(&batch_host, values, &self), HAK_OK);
  ops = hakmem_plugin.ops;
  memset(calls, 0, sizeof calls);
}

/* Blocks of a granule side by side, filled with a pattern. The ranges describe them in the same order. */
static char *blocks(size_t count)
{
  char *base = NULL;
  for (size_t i = 0; i < count; i++) {
    hak_block block = extent_alloc(pool, G, G);
    base = i == 0 ? block.base : base;
    ck_assert_ptr_eq(block.base, base + i * G);
    fill(block.base, G, (unsigned)i);
    ranges[i] = (hak_range){.base = block.base, .capacity = G};
  }
  return base;
}

static void put(size_t i)
{
  ranges[i].next = NULL;
  ops->put(self, &ranges[i]);
}

/* Puts every other block, which no two spans can share. */
static void put_every_other(size_t count)
{
  for (size_t i = 0; i < count; i++) {
    put(2 * i);
  }
}

static bool gone(size_t i)
{
  return zero(ranges[i].base, G);
}

static bool there(size_t i)
{
  return filled(ranges[i].base, G, (unsigned)i);
}

/* ---- thresholds ------------------------------------------------------------------------------------------------------ */

START_TEST(descriptor)
{
  ck_assert_uint_eq(hakmem_plugin.kind, HAK_RECLAIM);
  ck_assert_str_eq(hakmem_plugin.name, "batch");
  ck_assert_uint_le(hakmem_plugin.option_count, 16);
  ck_assert_uint_le(hakmem_plugin.counter_count, sizeof batch_counters / sizeof *batch_counters);
  start((struct config){0});
  for (uint32_t i = 0; i < hakmem_plugin.option_count; i++) {
    hak_value value = {.size = 4096};
    int32_t expected = (hakmem_plugin.options[i].flags & HAK_LIVE) != 0 ? HAK_OK : HAK_INVALID;
    ck_assert_int_eq(hakmem_plugin.set(self, i, value), expected);
  }
  ck_assert_int_eq(hakmem_plugin.set(self, hakmem_plugin.option_count, (hak_value){.size = 4096}), HAK_INVALID);
}
END_TEST

START_TEST(bytes_that_wait_are_released_together)
{
  start((struct config){.bytes = MIB});
  blocks(64);
  put_every_other(15);
  ck_assert_uint_eq(releases, 0);
  ck_assert_uint_eq(counter("pending"), 15 * G);
  ck_assert(there(0) && there(28));
  put(30);
  ck_assert_uint_eq(releases, 1);
  ck_assert_uint_eq(calls[PROCESS_MADVISE], 1);
  ck_assert_uint_eq(calls[MADVISE], 0);
  for (size_t i = 0; i < 64; i++) {
    ck_assert(i % 2 == 0 && i <= 30 ? gone(i) : there(i));
  }
  ck_assert_uint_eq(counter("vectored"), 1);
  ck_assert_uint_eq(counter("pending"), 0);
  ck_assert_uint_eq(counter("longest"), 16);
  ck_assert_uint_eq(counter("ranges"), 16);
  ck_assert_uint_eq(counter("batches"), 1);
  ck_assert_uint_eq(counter("over_cap"), 0);
  ck_assert_uint_eq(counter("released"), MIB);
  ck_assert_uint_eq(counter("spans"), 16);
  ck_assert_uint_eq(counter("purge_calls"), 1);
  ck_assert_uint_eq(counter("purged"), MIB);
  ck_assert_uint_eq(counter("unreleased"), 0);
  ck_assert_uint_eq(counter("fallbacks"), 0);
}
END_TEST

START_TEST(so_are_ranges_by_number)
{
  start((struct config){.count = 5});
  blocks(20);
  put_every_other(4);
  ck_assert_uint_eq(releases, 0);
  put(8);
  ck_assert_uint_eq(releases, 1);
}
END_TEST

START_TEST(so_are_ranges_by_their_share_of_what_is_live)
{
  start((struct config){.share = 8});
  blocks(80);
  live_bytes = 64 * G;
  put_every_other(8);
  ck_assert_uint_eq(releases, 0);
  put(16); /* more than an eighth */
  ck_assert_uint_eq(releases, 1);
  live_bytes = 0;
  put(18);
  put(20);
  put(22);
  ck_assert_uint_eq(releases, 1); /* a little may always wait */
  put(24);
  ck_assert_uint_eq(releases, 2);
  set("share", (hak_value){.integer = 0});
  for (size_t i = 26; i < 80; i += 2) {
    put(i);
  }
  ck_assert_uint_eq(releases, 2);
}
END_TEST

START_TEST(so_are_ranges_by_age)
{
  start((struct config){.age = 50});
  blocks(20);
  ops->expire(self);
  put(0);
  clock_time += 30 * UINT64_C(1000000);
  put(2);
  clock_time += 19 * UINT64_C(1000000);
  ops->expire(self);
  ck_assert_uint_eq(releases, 0);
  clock_time += 1 * UINT64_C(1000000); /* the oldest is old enough */
  ops->expire(self);
  ck_assert_uint_eq(releases, 1);
  ck_assert(gone(0) && gone(2));
  put(4);
  clock_time += 49 * UINT64_C(1000000);
  ops->expire(self);
  ck_assert_uint_eq(releases, 1);
  clock_time += 1 * UINT64_C(1000000);
  put(6); /* notices as well */
  ck_assert_uint_eq(releases, 2);
  ck_assert(gone(4) && gone(6));
}
END_TEST

START_TEST(thresholds_change_while_ranges_wait)
{
  start((struct config){0});
  blocks(40);
  put_every_other(8);
  set("count", (hak_value){.integer = 8});
  ops->expire(self);
  ck_assert_uint_eq(releases, 1);
  set("count", (hak_value){.integer = 1000});
  set("bytes", (hak_value){.size = 4 * G});
  for (size_t i = 16; i < 20; i++) {
    put(i);
  }
  ck_assert_uint_eq(releases, 2);
  set("bytes", (hak_value){.size = GIB});
  set("age", (hak_value){.integer = 7});
  put(20);
  clock_time += 7 * UINT64_C(1000000);
  ops->expire(self);
  ck_assert_uint_eq(releases, 3);
  set("cap", (hak_value){.size = 0}); /* nothing may wait */
  put(22);
  ck_assert_uint_eq(releases, 4);
  ck_assert(gone(22));
}
END_TEST

START_TEST(the_cap_holds)
{
  start((struct config){.cap = 4 * G});
  blocks(64);
  put_every_other(4);
  ck_assert_uint_eq(counter("pending"), 4 * G);
  ck_assert_uint_eq(releases, 0);
  put(8); /* does not fit: goes at once, and what waits with it */
  ck_assert_uint_eq(releases, 1);
  ck_assert_uint_eq(counter("pending"), 0);
  ck_assert_uint_eq(counter("over_cap"), 1);
  ck_assert_uint_eq(released, 5 * G);
  ck_assert_uint_eq(calls[PROCESS_MADVISE], 1);
  for (size_t i = 20; i < 40; i++) { /* a chain larger than the cap */
    ranges[i].next = i < 39 ? &ranges[i + 1] : NULL;
  }
  put(10);
  ops->put(self, &ranges[20]);
  ck_assert_uint_eq(releases, 2);
  ck_assert_uint_eq(counter("over_cap"), 21);
  ck_assert_uint_eq(counter("pending"), 0);
  for (size_t i = 20; i < 40; i++) {
    ck_assert(gone(i));
  }
  ck_assert(gone(10) && there(40));
}
END_TEST

START_TEST(drain_releases_everything)
{
  start((struct config){0});
  ck_assert_uint_eq(ops->drain(self), 0);
  ck_assert_uint_eq(releases, 0);
  blocks(20);
  put_every_other(10);
  ck_assert_uint_eq(ops->drain(self), 10 * G);
  ck_assert_uint_eq(counter("pending"), 0);
  ck_assert(gone(18) && there(19));
}
END_TEST

START_TEST(chains_are_sorted_by_backend_and_address)
{
  for (size_t count = 1; count <= RANGES; count = count < 20 ? count + 1 : count * 3 / 2) {
    start((struct config){0});
    char *base = blocks(count);
    unsigned state = (unsigned)count;
    for (size_t i = count; i-- > 1;) {
      size_t j = draw(&state) % (i + 1);
      hak_range swap = ranges[i];
      ranges[i] = ranges[j];
      ranges[j] = swap;
    }
    for (size_t i = 0; i < count; i++) { /* the second backend has every seventh block */
      size_t number = (size_t)((char *)ranges[i].base - base) / G;
      ranges[i].backend = number % 7 == 6;
      put(i);
    }
    ck_assert_uint_eq(ops->drain(self), count * G); /* release checks the order */
    ck_assert(zero(base, count * G));
    ck_assert_uint_eq(counter("spans"), (count + 6) / 7 + count / 7); /* neighbours went together */
    extent_trim(pool);
  }
}
END_TEST

/* ---- what the system may answer -------------------------------------------------------------------------------------- */

static unsigned script_step;
static size_t script_counts[8]; /* spans that each call was given */

static long forward(const struct iovec *spans, size_t count, int advice)
{
  return real_process_madvise(-10000, spans, count, advice);
}

/* Does three spans and stops; then goes on. */
static long short_count(const struct iovec *spans, size_t count, int advice)
{
  script_counts[script_step] = count;
  return forward(spans, script_step++ == 0 ? 3 : count, advice);
}

START_TEST(a_short_count_is_resumed)
{
  start((struct config){.count = 10});
  blocks(20);
  process_madvise_script = short_count;
  put_every_other(10);
  ck_assert_uint_eq(script_step, 2);
  ck_assert_uint_eq(script_counts[1], 6); /* behind the three, and the one that was tried alone */
  ck_assert_uint_eq(calls[MADVISE], 1);
  ck_assert_uint_eq(counter("fallbacks"), 1);
  ck_assert_uint_eq(counter("purge_calls"), 3);
  ck_assert_uint_eq(counter("purged"), 10 * G);
  ck_assert_uint_eq(counter("vectored"), 1);
  for (size_t i = 0; i < 20; i++) {
    ck_assert(i % 2 == 0 ? gone(i) : there(i));
  }
}
END_TEST

/* Stops in the middle of a span, and counts what it did of it. */
static long part_of_a_span(const struct iovec *spans, size_t count, int advice)
{
  return script_step++ == 0 ? forward(spans, 2, advice) + 4096 : forward(spans, count, advice);
}

START_TEST(a_span_done_in_part_is_not_done)
{
  start((struct config){.count = 10});
  blocks(20);
  process_madvise_script = part_of_a_span;
  put_every_other(10);
  ck_assert_uint_eq(counter("fallbacks"), 1);
  for (size_t i = 0; i < 20; i += 2) {
    ck_assert(gone(i));
  }
}
END_TEST

START_TEST(locked_pages_are_kept)
{
  static const size_t locked[] = {0, 6, 8, 18}; /* the first, two in a row, the last */
  start((struct config){.count = 10});
  blocks(20);
  for (size_t i = 0; i < 4; i++) {
    ck_assert_int_eq(syscall(SYS_mlock, (char *)ranges[locked[i]].base + 8192, 4096), 0);
  }
  put_every_other(10);
  ck_assert_uint_eq(counter("unreleased"), 4 * G);
  ck_assert_uint_eq(counter("purged"), 6 * G);
  ck_assert_uint_eq(counter("fallbacks"), 4);
  ck_assert_uint_eq(counter("pending"), 0);
  ck_assert_uint_eq(counter("vectored"), 1); /* that is no reason to give it up */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 4 * G);
  for (size_t i = 0; i < 20; i += 2) {
    bool kept = i == 0 || i == 6 || i == 8 || i == 18;
    ck_assert(kept || gone(i));
    hak_block block = extent_alloc(pool, G, G); /* first fit: the same blocks again */
    ck_assert_ptr_eq(block.base, ranges[i].base);
    ck_assert_uint_eq(hak_block_flags(block), kept ? 0 : HAK_ZEROED);
  }
}
END_TEST

static long answer;

static long refuse_all(const struct iovec *spans, size_t count, int advice)
{
  (void)spans;
  (void)count;
  (void)advice;
  return answer;
}

/* Forbidden at run time: not asked again. An error that spans can cause: asked again behind each of them. */
START_TEST(an_error_at_run_time)
{
  static const long errors[] = {-EPERM, -ENOSYS, -EBADF, -EINVAL, -ENOMEM};
  start((struct config){.count = 4});
  blocks(16);
  answer = errors[_i];
  process_madvise_script = refuse_all;
  bool forever = _i < 3;
  put_every_other(8);
  ck_assert_uint_eq(calls[PROCESS_MADVISE], forever ? 1 : 8);
  ck_assert_uint_eq(calls[MADVISE], 8);
  ck_assert_uint_eq(counter("vectored"), !forever);
  ck_assert_uint_eq(counter("fallbacks"), 8);
  ck_assert_uint_eq(counter("purged"), 8 * G);
  for (size_t i = 0; i < 16; i++) {
    ck_assert(i % 2 == 0 ? gone(i) : there(i));
  }
}
END_TEST

/* A system without it, and one that says yes and does nothing. */
START_TEST(a_failed_probe)
{
  static const long answers[] = {-EPERM, -ENOSYS, -EBADF, -EINVAL, 4096};
  answer = answers[_i];
  process_madvise_script = refuse_all;
  start((struct config){.count = 8, .method = (uint32_t)_i % 2}); /* auto, process_madvise */
  ck_assert_int_eq(logged[0] != 0, _i % 2 == 1);
  blocks(16);
  put_every_other(8);
  ck_assert_uint_eq(counter("vectored"), 0);
  ck_assert_uint_eq(calls[PROCESS_MADVISE], 0);
  ck_assert_uint_eq(calls[MADVISE], 8);
  ck_assert_uint_eq(counter("fallbacks"), 8);
  ck_assert_uint_eq(counter("purge_calls"), 8);
  for (size_t i = 0; i < 16; i++) {
    ck_assert(i % 2 == 0 ? gone(i) : there(i));
  }
}
END_TEST

static long never(const struct iovec *spans, size_t count, int advice)
{
  (void)spans;
  (void)count;
  (void)advice;
  ck_abort_msg("process_madvise is not to be called");
}

START_TEST(no_process_madvise_where_it_is_not_wanted)
{
  process_madvise_script = never;
  start((struct config){.count = 8, .method = _i == 2 ? 2 : (uint32_t)_i, .basic = _i != 2}); /* 2: method = madvise */
  ck_assert_int_eq(logged[0] != 0, _i == 1);
  blocks(16);
  put_every_other(8);
  ck_assert_uint_eq(counter("vectored"), 0);
  ck_assert_uint_eq(counter("fallbacks"), 0);
  ck_assert_uint_eq(counter("purged"), 8 * G);
}
END_TEST

START_TEST(refused_by_both)
{
  start((struct config){.count = 8});
  blocks(16);
  answer = -EINVAL;
  process_madvise_script = refuse_all;
  fail_kinds = MADVISE;
  put_every_other(8);
  ck_assert_uint_eq(counter("unreleased"), 8 * G);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 8 * G);
  for (size_t i = 0; i < 16; i++) {
    ck_assert(there(i));
  }
  fail_kinds = NOTHING;
  ck_assert_uint_eq(extent_trim(pool), 8 * G);
}
END_TEST

static long check_free(const struct iovec *spans, size_t count, int advice)
{
  ck_assert_int_eq(advice, MADV_FREE);
  return forward(spans, count, advice);
}

START_TEST(freed_lazily_means_kept)
{
  start((struct config){.count = 8, .advice = 1});
  blocks(16);
  process_madvise_script = check_free;
  put_every_other(8);
  ck_assert_uint_eq(counter("unreleased"), 8 * G);
  ck_assert_uint_eq(counter("purged"), 0);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 8 * G);
  ck_assert_uint_eq(hak_block_flags(extent_alloc(pool, G, G)), 0);
  ck_assert_uint_eq(extent_trim(pool), 7 * G);
  ck_assert_uint_eq(hak_block_flags(extent_alloc(pool, G, G)), HAK_ZEROED);
}
END_TEST

START_TEST(huge_units_go_whole)
{
  start((struct config){.unit = EXTENT_HUGE});
  char *base = blocks(96);
  for (size_t i = 10; i < 70; i++) { /* the second of three units, and parts of the others */
    put(i);
  }
  ck_assert_uint_eq(ops->drain(self), 60 * G);
  ck_assert_uint_eq(counter("spans"), 1);
  ck_assert_uint_eq(counter("purged"), EXTENT_HUGE);
  ck_assert(zero(base + EXTENT_HUGE, EXTENT_HUGE));
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 28 * G);
  ck_assert(there(9) && there(70));
}
END_TEST

/* ---- threads and fork ------------------------------------------------------------------------------------------------ */

static bool done;

static void *watch(void *unused)
{
  (void)unused;
  while (!__atomic_load_n(&done, __ATOMIC_RELAXED)) {
    ck_assert_uint_le(counter("pending"), cap);
    sched_yield();
  }
  return NULL;
}

enum { THREADS = 8, ROUNDS = 3000, LIVE = 8 };

static struct {
  hak_range ranges[ROUNDS];
  size_t bytes;
} work[THREADS];

static void *churn(void *number)
{
  unsigned me = *(unsigned *)number, state = me;
  struct {
    char *base;
    size_t capacity;
    unsigned seed;
  } live[LIVE] = {{0}};
  for (unsigned round = 0; round < ROUNDS + LIVE; round++) {
    unsigned at = round % LIVE;
    if (live[at].base != NULL) {
      ck_assert(filled(live[at].base, 8192, live[at].seed));
      hak_range *range = &work[me].ranges[round - LIVE];
      *range = (hak_range){.base = live[at].base, .capacity = live[at].capacity};
      work[me].bytes += range->capacity;
      ops->put(self, range);
      if (round % 500 == 0) {
        ops->expire(self);
      }
    }
    if (round < ROUNDS) {
      hak_block block = extent_alloc(pool, (1 + draw(&state) % 8) * G, G);
      ck_assert(!(hak_block_flags(block) & HAK_ZEROED) || zero(block.base, 8192));
      live[at].base = block.base;
      live[at].capacity = hak_block_capacity(block);
      live[at].seed = draw(&state);
      fill(block.base, 8192, live[at].seed);
    }
  }
  return NULL;
}

START_TEST(eight_threads)
{
  static const size_t caps[] = {64 * G, 20 * G, 1000 * G}; /* above the threshold, below it, never reached */
  pthread_t threads[THREADS], watcher;
  unsigned number[THREADS];
  start((struct config){.bytes = 32 * G, .count = 20, .cap = caps[_i]});
  ck_assert_int_eq(pthread_create(&watcher, NULL, watch, NULL), 0);
  for (unsigned i = 0; i < THREADS; i++) {
    number[i] = i;
    ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, &number[i]), 0);
  }
  size_t bytes = 0;
  for (unsigned i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    bytes += work[i].bytes;
  }
  __atomic_store_n(&done, true, __ATOMIC_RELAXED);
  pthread_join(watcher, NULL);
  ops->drain(self);
  ck_assert_uint_eq(released, bytes);
  ck_assert_uint_eq(counter("released"), bytes);
  ck_assert_uint_eq(counter("ranges"), THREADS * ROUNDS);
  ck_assert_uint_eq(counter("batches"), releases);
  ck_assert_uint_eq(counter("pending"), 0);
  ck_assert_uint_eq(counter("unreleased"), 0);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  extent_trim(pool);
  ck_assert_uint_eq(counters[EXTENT_MAPPED], 0);
}
END_TEST

START_TEST(a_child_releases_its_own_pages)
{
  start((struct config){0});
  blocks(20);
  put_every_other(10);
  ops->fork_prepare(self);
  extent_fork_prepare(pool);
  pid_t child = fork();
  if (child == 0) {
    extent_fork_child(pool);
    ops->fork_child(self);
    bool good = counter("pending") == 10 * G && ops->drain(self) == 10 * G && gone(0) && gone(18) && there(1);
    put(1);
    _exit(good && ops->drain(self) == G && gone(1) ? 0 : 1);
  }
  extent_fork_parent(pool);
  ops->fork_parent(self);
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  for (size_t i = 0; i < 20; i++) {
    ck_assert(there(i));
  }
  ck_assert_uint_eq(ops->drain(self), 10 * G);
}
END_TEST

/* A batch that another thread was releasing is out of the child's reach: it must not count against the cap for ever. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static unsigned in_flight;

static long wait_at_gate(const struct iovec *spans, size_t count, int advice)
{
  __atomic_store_n(&in_flight, 1U, __ATOMIC_RELEASE);
  pthread_mutex_lock(&gate);
  pthread_mutex_unlock(&gate);
  return forward(spans, count, advice);
}

static void *drain_in_thread(void *unused)
{
  (void)unused;
  ops->drain(self);
  return NULL;
}

START_TEST(a_child_forgets_what_others_were_releasing)
{
  pthread_t thread;
  start((struct config){.cap = 20 * G});
  blocks(40);
  put_every_other(10);
  process_madvise_script = wait_at_gate;
  pthread_mutex_lock(&gate);
  ck_assert_int_eq(pthread_create(&thread, NULL, drain_in_thread, NULL), 0);
  while (__atomic_load_n(&in_flight, __ATOMIC_ACQUIRE) == 0) {
    sched_yield();
  }
  for (size_t i = 10; i < 15; i++) { /* no lock is held: others go on */
    put(2 * i);
  }
  ck_assert_uint_eq(counter("pending"), 15 * G);
  ops->fork_prepare(self);
  pid_t child = fork();
  if (child == 0) {
    ops->fork_child(self);
    _exit(counter("pending") == 5 * G ? 0 : 1);
  }
  ops->fork_parent(self);
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  pthread_mutex_unlock(&gate);
  pthread_join(thread, NULL);
  ck_assert_uint_eq(counter("pending"), 5 * G);
  ck_assert_uint_eq(ops->drain(self), 5 * G);
}
END_TEST

int main(void)
{
  const TTest *const once[] = {descriptor,
                               bytes_that_wait_are_released_together,
                               so_are_ranges_by_number,
                               so_are_ranges_by_their_share_of_what_is_live,
                               so_are_ranges_by_age,
                               thresholds_change_while_ranges_wait,
                               the_cap_holds,
                               drain_releases_everything,
                               chains_are_sorted_by_backend_and_address,
                               a_short_count_is_resumed,
                               a_span_done_in_part_is_not_done,
                               locked_pages_are_kept,
                               refused_by_both,
                               freed_lazily_means_kept,
                               huge_units_go_whole,
                               a_child_releases_its_own_pages,
                               a_child_forgets_what_others_were_releasing};
  Suite *suite = suite_create("batch");
  TCase *tests = tcase_create("batch");
  tcase_set_timeout(tests, 60);
  for (size_t i = 0; i < sizeof once / sizeof *once; i++) {
    tcase_add_test(tests, once[i]);
  }
  tcase_add_loop_test(tests, an_error_at_run_time, 0, 5);
  tcase_add_loop_test(tests, a_failed_probe, 0, 5);
  tcase_add_loop_test(tests, no_process_madvise_where_it_is_not_wanted, 0, 3);
  tcase_add_loop_test(tests, eight_threads, 0, 3);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
