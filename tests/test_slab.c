/* SPDX-License-Identifier: MIT */
/* test_slab.c - the class backend `slab`, over a core that knows which objects are out (host_spans.h). */
#include "host_spans.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- the plugin ------------------------------------------------------------------------------------------------------ */

static hak_host slab_host;
static uint64_t slab_counters[32];
static void *self;
static const hak_backend_ops *ops;

static uint64_t counter(const char *key)
{
  for (uint32_t i = 0; i < hakmem_plugin.counter_count; i++) {
    if (strcmp(hakmem_plugin.counters[i].key, key) == 0) {
      return __atomic_load_n(&slab_counters[i], __ATOMIC_RELAXED);
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

static void set(const char *key, hak_value value)
{
  ck_assert_int_eq(hakmem_plugin.set(self, option(key), value), HAK_OK);
}

static void *slot; /* of the thread that runs most tests */

static void start(size_t keep, int64_t age, size_t huge_from)
{
  slot = NULL;
  reset_host();
  clock_time = UINT64_C(1000000000000);
  slab_host = spans_host("slab", slab_counters);
  hak_value values[16] = {{0}};
  ck_assert_uint_le(hakmem_plugin.option_count, 16);
  values[option("pages")].pages = &sources[0].pages;
  values[option("huge")].pages = &sources[1].pages;
  values[option("huge_from")].size = huge_from;
  values[option("keep")].size = keep;
  values[option("age")].integer = age;
  ops = hakmem_plugin.ops;
  ck_assert_uint_eq(ops->granularity, HAK_CLASS);
  ck_assert_int_eq(hakmem_plugin.start(&slab_host, values, &self), HAK_OK);
}

static size_t pages_out(void)
{
  return sources[0].bytes + sources[1].bytes;
}

/* The smallest class for so many bytes. */
static uint32_t class_of(size_t bytes)
{
  uint32_t cls = 0;
  while (class_bytes[cls] < bytes) {
    cls++;
  }
  return cls;
}

/* Objects that came in one refill, or go back in one flush. */
struct run {
  uint32_t count;
  void *objects[HAK_RUN_LONGEST];
};

/* One refill of the thread that has the slot, held to its word. */
static struct run refill_by(void **own, uint32_t cls, uint32_t want)
{
  struct run run = {0};
  int32_t result = ops->refill(self, own, cls, run.objects, want);
  ck_assert(result > 0 || result == HAK_NO_MEMORY);
  run.count = result > 0 ? (uint32_t)result : 0;
  ck_assert_uint_le(run.count, want);
  for (uint32_t i = 0; i < run.count; i++) {
    object_moves(run.objects[i], cls, true);
  }
  return run;
}

static struct run refill(uint32_t cls, uint32_t want)
{
  return refill_by(&slot, cls, want);
}

static void flush_by(void **own, uint32_t cls, const struct run *run)
{
  for (uint32_t i = 0; i < run->count; i++) {
    object_moves(run->objects[i], cls, false);
  }
  if (run->count != 0) {
    ops->flush(self, own, cls, run->objects, run->count);
  }
}

static void flush(uint32_t cls, const struct run *run)
{
  flush_by(&slot, cls, run);
}

static void holds(const struct run *run, const struct run *expected)
{
  ck_assert_uint_eq(run->count, expected->count);
  ck_assert_mem_eq(run->objects, expected->objects, expected->count * sizeof *expected->objects);
}

/* Refills until there are so many objects. */
static void take(uint32_t cls, void **objects, uint32_t count)
{
  for (uint32_t i = 0; i < count;) {
    struct run run = refill(cls, count - i < HAK_RUN_LONGEST ? count - i : HAK_RUN_LONGEST);
    ck_assert_uint_ne(run.count, 0);
    memcpy(objects + i, run.objects, run.count * sizeof *objects);
    i += run.count;
  }
}

static void give(uint32_t cls, void **objects, uint32_t count)
{
  for (uint32_t i = 0; i < count; i += HAK_RUN_LONGEST) {
    struct run run = {.count = count - i < HAK_RUN_LONGEST ? count - i : HAK_RUN_LONGEST};
    memcpy(run.objects, objects + i, run.count * sizeof *objects);
    flush(cls, &run);
  }
}

static void nothing_is_left(void)
{
  ops->trim(self);
  ck_assert_uint_eq(pages_out(), 0);
  ck_assert_uint_eq(known_count, 0);
  ck_assert_uint_eq(counter("live_spans"), 0);
  ck_assert_uint_eq(counter("span_bytes"), 0);
  ck_assert_uint_eq(counter("empty_bytes"), 0);
}

/* ---- objects --------------------------------------------------------------------------------------------------------- */

enum { MOST = 200 };

static uint32_t some_of(uint32_t cls)
{
  return class_bytes[cls] <= 4 * KIB ? MOST : 20;
}

START_TEST(objects_of_every_class)
{
  static void *objects[CLASSES][MOST];
  start(0, 0, GIB);
  for (uint32_t cls = 0; cls < CLASSES; cls++) {
    take(cls, objects[cls], some_of(cls));
    for (uint32_t i = 0; i < some_of(cls); i++) {
      ck_assert_uint_eq((uintptr_t)objects[cls][i] % 16, 0);
      memset(objects[cls][i], (int)cls, class_bytes[cls]);
    }
  }
  ck_assert_uint_eq(pages_out(), known_bytes);
  ck_assert_uint_eq(counter("span_bytes"), known_bytes);
  ck_assert_uint_eq(counter("live_spans"), known_count);
  for (uint32_t cls = 0; cls < CLASSES; cls++) {
    for (uint32_t i = 0; i < some_of(cls); i++) {
      char *object = objects[cls][i];
      ck_assert(object[0] == (char)cls && memcmp(object, object + 1, class_bytes[cls] - 1) == 0);
    }
    give(cls, objects[cls], some_of(cls));
  }
  nothing_is_left();
}
END_TEST

START_TEST(spans_waste_an_eighth_at_most)
{
  start(0, 0, GIB);
  for (uint32_t cls = 0; cls < CLASSES; cls++) {
    struct run run = refill(cls, 1);
    const struct known_span *span = granules[granule_of(run.objects[0])];
    ck_assert_uint_le(span->bytes % class_bytes[cls], span->bytes / 8);
    flush(cls, &run);
  }
  nothing_is_left();
}
END_TEST

/* The last object of a run is the first that the program gets. */
START_TEST(objects_come_in_the_order_of_their_addresses)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(64);
  struct run run = refill(cls, HAK_RUN_LONGEST);
  ck_assert_uint_eq(run.count, HAK_RUN_LONGEST);
  for (uint32_t i = 1; i < run.count; i++) {
    ck_assert_ptr_eq((char *)run.objects[i - 1], (char *)run.objects[i] + 64);
  }
  flush(cls, &run);
  nothing_is_left();
}
END_TEST

/* Freed ones share cache lines with objects that may be others': those that do not are used first. */
START_TEST(objects_among_others_come_last)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(16);
  struct run taken = refill(cls, 64), one = {1, {taken.objects[60]}};
  flush(cls, &one);
  struct run run = refill(cls, 64);
  ck_assert_uint_eq(run.count, 64);
  ck_assert_ptr_eq(run.objects[0], one.objects[0]);
  taken.objects[60] = run.objects[63];
  flush(cls, &taken);
  run.count = 63;
  flush(cls, &run);
  nothing_is_left();
}
END_TEST

/* A run that is handed over has the order in which it came. */
START_TEST(runs_are_handed_over_in_order)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(64);
  for (uint32_t count = 16; count <= HAK_RUN_LONGEST; count += 60) {
    struct run run = refill(cls, count);
    uint64_t before = counter("handovers");
    flush(cls, &run);
    struct run again = refill(cls, count);
    holds(&again, &run);
    ck_assert_uint_eq(counter("handovers"), before + 1);
    flush(cls, &again);
    ops->trim(self);
  }
  nothing_is_left();
}
END_TEST

START_TEST(random_operations)
{
  enum { RUNS = 200, STEPS = 15000 };
  static struct {
    struct run run;
    uint32_t cls;
  } held[RUNS];
  const size_t keep = 32 * G;
  start(keep, 5, 64 * G);
  unsigned state = 7;
  for (int step = 0; step < STEPS; step++) {
    uint32_t i = draw(&state) % RUNS, what = draw(&state) % 1000;
    if (what == 0) {
      ops->trim(self);
      ck_assert_uint_eq(counter("empty_bytes"), 0);
    } else if (what < 20) {
      clock_time += 1000000;
      ops->expire(self);
    } else if (held[i].run.count == 0) {
      held[i].cls = draw(&state) % 4 == 0 ? draw(&state) % CLASSES : 10 + draw(&state) % 4;
      held[i].run = refill(held[i].cls, 1 + draw(&state) % 64);
      ck_assert_uint_ne(held[i].run.count, 0);
    } else {
      flush(held[i].cls, &held[i].run);
      held[i].run.count = 0;
    }
    ck_assert_uint_le(counter("empty_bytes"), keep);
    ck_assert_uint_eq(counter("span_bytes"), pages_out());
    ck_assert_uint_eq(counter("live_spans"), known_count);
    ck_assert_uint_eq(known_bytes, pages_out());
  }
  for (int i = 0; i < RUNS; i++) {
    if (held[i].run.count != 0) {
      flush(held[i].cls, &held[i].run);
    }
  }
  nothing_is_left();
}
END_TEST

/* ---- spans ----------------------------------------------------------------------------------------------------------- */

/* Gives back the first `count` of an array of the objects of one span, to the span itself. */
static void thin_out(uint32_t cls, void **objects, uint32_t count)
{
  give(cls, objects, count);
  ops->trim(self);
}

START_TEST(the_fullest_span_is_used_first)
{
  start(64 * MIB, 0, GIB);
  uint32_t cls = class_of(1024); /* 64 in a span */
  void *objects[4][64], *again[44];
  for (int i = 0; i < 4; i++) {
    take(cls, objects[i], 64);
    ck_assert_ptr_eq(span_base(objects[i][0]), span_base(objects[i][63]));
  }
  thin_out(cls, objects[0], 32);
  thin_out(cls, objects[1], 12); /* the fullest */
  thin_out(cls, objects[2], 60);
  take(cls, again, 44);
  for (int i = 0; i < 44; i++) {
    ck_assert_ptr_eq(span_base(again[i]), span_base(objects[i < 12 ? 1 : 0][63]));
  }
  /* So the emptiest becomes empty, and goes back. */
  ck_assert_uint_eq(pages_out(), 4 * G);
  thin_out(cls, objects[2] + 60, 4);
  ck_assert_uint_eq(pages_out(), 3 * G);
  give(cls, again, 44);
  give(cls, objects[0] + 32, 32);
  give(cls, objects[1] + 12, 52);
  give(cls, objects[3], 64);
  nothing_is_left();
}
END_TEST

enum { MANY = 64 };

/* As many spans as MANY, of one object each, are taken and come back one by one. */
static void use_many(void (*after_each)(void))
{
  uint32_t cls = class_of(G);
  void *objects[MANY];
  take(cls, objects, MANY);
  ck_assert_uint_eq(pages_out(), MANY * G);
  for (int i = 0; i < MANY; i++) {
    give(cls, &objects[i], 1);
    if (after_each != NULL) {
      after_each();
    }
  }
}

static size_t kept = 8 * G;

#define DEPOT (256 * KIB) /* bytes of each class that may wait for another thread */

static void within_keep(void)
{
  ck_assert_uint_le(counter("empty_bytes"), kept);
}

START_TEST(empty_spans_are_bounded)
{
  start(kept, 0, GIB);
  use_many(within_keep);
  ck_assert_uint_le(pages_out(), kept + DEPOT); /* some objects may wait for a thread */
  ck_assert_uint_ge(pages_out(), kept);
  ck_assert_uint_ge(counter("released_spans"), MANY - 8 - DEPOT / G);
  ck_assert_uint_eq(counter("empty_bytes"), kept);
  nothing_is_left();
}
END_TEST

START_TEST(none_is_kept)
{
  start(0, 0, GIB);
  kept = 0;
  use_many(within_keep);
  ck_assert_uint_le(pages_out(), DEPOT);
  nothing_is_left();
}
END_TEST

START_TEST(empty_spans_serve_other_classes)
{
  start(GIB, 0, GIB);
  use_many(NULL);
  unsigned made = sources[0].made;
  void *objects[50];
  take(class_of(1024), objects, 50);
  take(class_of(G), objects + 1, 40); /* the same class again; the first of the array is kept for what follows */
  ck_assert_uint_eq(sources[0].made, made);
  give(class_of(G), objects + 1, 40);
  give(class_of(1024), objects, 1);
  /* The other 49 objects of 1 KiB are still out: their span stays, and nothing else. */
  ops->trim(self);
  ck_assert_uint_eq(pages_out(), G);
}
END_TEST

START_TEST(empty_spans_go_with_age)
{
  start(GIB, 1000, GIB);
  use_many(NULL);
  size_t before = counter("empty_bytes");
  ck_assert_uint_ge(before, MANY * G - DEPOT);
  clock_time += UINT64_C(999000000);
  ops->expire(self);
  ck_assert_uint_eq(counter("empty_bytes"), before);
  clock_time += UINT64_C(2000000);
  ops->expire(self);
  ck_assert_uint_le(counter("empty_bytes"), DEPOT); /* spans of objects that nobody came for */
  clock_time += UINT64_C(1001000000);
  ops->expire(self);
  ck_assert_uint_eq(pages_out(), 0);
  nothing_is_left();
}
END_TEST

START_TEST(age_counts_from_when_a_span_became_empty)
{
  start(GIB, 1000, GIB);
  uint32_t cls = class_of(4 * G);
  void *objects[8];
  take(cls, objects, 8);
  for (int i = 0; i < 8; i++) {
    give(cls, &objects[i], 1);
    clock_time += UINT64_C(200000000);
  }
  ops->expire(self); /* 1.6 s after the first */
  ck_assert_uint_ge(counter("empty_bytes"), 4 * 4 * G);
  ck_assert_uint_le(counter("empty_bytes"), 5 * 4 * G);
  nothing_is_left();
}
END_TEST

START_TEST(options_change_while_it_runs)
{
  start(GIB, 0, GIB);
  use_many(NULL);
  ck_assert_uint_ge(counter("empty_bytes"), MANY * G - DEPOT);
  clock_time += UINT64_C(3600000000000);
  ops->expire(self); /* no bound: nothing goes */
  ck_assert_uint_ge(counter("empty_bytes"), MANY * G - DEPOT);
  set("keep", (hak_value){.size = 10 * G});
  ck_assert_uint_eq(counter("empty_bytes"), 10 * G);
  set("age", (hak_value){.integer = 1});
  for (int i = 0; i < 2; i++) { /* what waited for a thread goes the second time */
    clock_time += UINT64_C(2000000);
    ops->expire(self);
  }
  ck_assert_uint_eq(counter("empty_bytes"), 0);
  nothing_is_left();
}
END_TEST

START_TEST(further_spans_come_from_huge)
{
  start(0, 0, 4 * G);
  uint32_t cls = class_of(G);
  void *objects[12];
  take(cls, objects, 4);
  ck_assert_uint_eq(sources[0].bytes, 4 * G);
  ck_assert_uint_eq(sources[1].bytes, 0);
  take(cls, objects + 4, 8);
  ck_assert_uint_eq(sources[0].bytes, 4 * G);
  ck_assert_uint_eq(sources[1].bytes, 8 * G);
  give(cls, objects, 4);
  ops->trim(self);
  ck_assert_uint_eq(sources[0].bytes, 0);
  take(cls, objects, 4); /* the first ones are needed again */
  ck_assert_uint_eq(sources[0].bytes, 4 * G);
  give(cls, objects, 12);
  nothing_is_left();
}
END_TEST

START_TEST(small_classes_stay_with_small_pages)
{
  start(0, 0, 4 * G);
  uint32_t large = class_of(G), small = class_of(G / 2);
  void *objects[5], *others[6];
  take(large, objects, 5);
  ck_assert_uint_eq(sources[1].bytes, G);
  take(small, others, 4); /* two spans */
  ck_assert_uint_eq(sources[0].bytes, 6 * G);
  ck_assert_uint_eq(sources[1].bytes, G);
  take(small, others + 4, 2); /* the third */
  ck_assert_uint_eq(sources[0].bytes, 6 * G);
  ck_assert_uint_eq(sources[1].bytes, 2 * G);
  give(large, objects, 5);
  give(small, others, 6);
  nothing_is_left();
}
END_TEST

START_TEST(all_may_come_from_huge)
{
  start(0, 0, 0);
  struct run run = refill(class_of(16), 1);
  ck_assert_uint_eq(sources[0].made, 0);
  flush(class_of(16), &run);
  nothing_is_left();
}
END_TEST

/* ---- runs ------------------------------------------------------------------------------------------------------------ */

START_TEST(runs_are_handed_over_whole)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(256);
  void *objects[256];
  take(cls, objects, 256);
  give(cls, objects, 48);
  ck_assert_uint_eq(counter("handovers"), 0);
  ck_assert_uint_eq(counter("scattered"), 0);
  struct run run = refill(cls, 64); /* no more than the run has */
  ck_assert_mem_eq(run.objects, objects, 48 * sizeof *objects);
  ck_assert_uint_eq(run.count, 48);
  ck_assert_uint_eq(counter("handovers"), 1);
  ck_assert_uint_eq(counter("scattered"), 0);
  flush(cls, &run);
  give(cls, objects + 48, 208);
  nothing_is_left();
  ck_assert_uint_eq(counter("scattered"), 256);
}
END_TEST

START_TEST(the_depot_is_bounded)
{
  enum { OBJECTS = 8192 };
  static void *objects[OBJECTS];
  start(GIB, 0, GIB);
  uint32_t cls = class_of(1024);
  take(cls, objects, OBJECTS);
  give(cls, objects, OBJECTS / 2);
  uint64_t out = OBJECTS / 2, waiting = OBJECTS / 2 - counter("scattered");
  ck_assert_uint_gt(waiting, 0);
  ck_assert_uint_le(waiting, (out + waiting) / 8);
  give(cls, objects + OBJECTS / 2, OBJECTS / 2);
  waiting = OBJECTS - counter("scattered");
  ck_assert_uint_le(waiting, 256); /* a floor of 256 KiB */
  nothing_is_left();
}
END_TEST

/* ---- mistakes of the program ------------------------------------------------------------------------------------------ */

START_TEST(an_object_twice)
{
  start(0, 0, GIB);
  void *objects[40], *first;
  take(class_of(64), objects, 40);
  first = objects[7];
  ops->flush(self, &slot, class_of(64), objects, 20);
  ops->trim(self);
  objects[30] = first;
  mistaken = first;
  ops->flush(self, &slot, class_of(64), objects + 20, 20);
  ops->trim(self);
}
END_TEST

START_TEST(an_object_twice_in_a_run)
{
  start(0, 0, GIB);
  void *objects[40];
  take(class_of(64), objects, 40);
  objects[6] = objects[5];
  mistaken = objects[5];
  ops->flush(self, &slot, class_of(64), objects + 5, 2);
  ops->trim(self);
}
END_TEST

/* Before anybody could get it from the depot. */
START_TEST(the_inside_of_an_object)
{
  start(0, 0, GIB);
  void *objects[40];
  take(class_of(112), objects, 40);
  objects[20] = (char *)objects[20] + 16;
  mistaken = objects[20];
  ops->flush(self, &slot, class_of(112), objects, 40);
}
END_TEST

START_TEST(an_object_of_another_class)
{
  start(0, 0, GIB);
  void *objects[40];
  take(class_of(64), objects, 20);
  take(class_of(80), objects + 20, 20);
  mistaken = objects[20];
  ops->flush(self, &slot, class_of(64), objects, 40);
  ops->trim(self);
}
END_TEST

/* ---- when memory is short -------------------------------------------------------------------------------------------- */

START_TEST(no_pages)
{
  start(0, 0, 2 * G);
  uint32_t cls = class_of(G);
  for (int available = 0; available < 4; available++) {
    fail_pages = available;
    struct run run = refill(cls, 8);
    ck_assert_uint_eq(run.count, (uint32_t)available);
    ck_assert_uint_eq(refill(cls, 1).count, 0);
    fail_pages = -1;
    struct run more = refill(cls, 8);
    ck_assert_uint_eq(more.count, 8);
    flush(cls, &run);
    flush(cls, &more);
    nothing_is_left();
  }
}
END_TEST

START_TEST(no_page_map)
{
  start(GIB, 0, GIB);
  uint32_t cls = class_of(G);
  for (int available = 0; available < 4; available++) {
    fail_register = available;
    struct run run = refill(cls, 8);
    ck_assert_uint_eq(run.count, (uint32_t)available);
    ck_assert_uint_eq(known_bytes, pages_out()); /* the pages of the one that could not be announced went back */
    fail_register = -1;
    struct run more = refill(cls, 8);
    ck_assert_uint_eq(more.count, 8);
    flush(cls, &run);
    flush(cls, &more);
    nothing_is_left();
  }
  /* An empty span that is to serve another class: it is lost to nobody. */
  void *objects[8];
  take(cls, objects, 8);
  give(cls, objects, 4);
  give(cls, objects + 4, 4);
  ck_assert_uint_ge(counter("empty_bytes"), G);
  fail_register = 0;
  ck_assert_uint_eq(refill(class_of(1024), 8).count, 0);
  fail_register = -1;
  struct run run = refill(class_of(1024), 8);
  ck_assert_uint_eq(run.count, 8);
  flush(class_of(1024), &run);
  nothing_is_left();
}
END_TEST

START_TEST(no_bookkeeping)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(G);
  fail_kinds = META;
  fail_countdown = 2;
  uint32_t count = 0;
  static struct run run, runs[300];
  unsigned got = 0;
  while ((run = refill(cls, 8)).count == 8) {
    runs[got++] = run;
    count += run.count;
    ck_assert_uint_lt(got, 300);
  }
  ck_assert_uint_eq(count + run.count, known_count);
  fail_kinds = NOTHING;
  struct run more = refill(cls, 8);
  ck_assert_uint_eq(more.count, 8);
  flush(cls, &more);
  flush(cls, &run);
  while (got > 0) {
    flush(cls, &runs[--got]);
  }
  nothing_is_left();
}
END_TEST

static unsigned lines; /* logged */

static void count_line(const hak_host *of, const char *text)
{
  (void)of;
  lines += text != NULL;
}

START_TEST(no_memory_to_start_with)
{
  for (long available = 0; available < 2; available++) {
    reset_host();
    slab_host = spans_host("slab", slab_counters);
    slab_host.log = count_line;
    lines = 0;
    hak_value values[16] = {{0}};
    fail_kinds = META;
    fail_countdown = available;
    ck_assert_int_lt(hakmem_plugin.start(&slab_host, values, &self), 0);
    ck_assert_uint_eq(lines, 1);
  }
}
END_TEST

/* ---- lanes ----------------------------------------------------------------------------------------------------------- */

/* What a thread gave back last it has again, whatever others did meanwhile. */
START_TEST(threads_have_their_runs_again)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(64);
  void *other = NULL;
  struct run one = refill(cls, 64), two = refill_by(&other, cls, 64);
  ck_assert_uint_eq(counter("live_spans"), 1);
  flush(cls, &one);
  flush_by(&other, cls, &two);
  struct run again = refill(cls, 64);
  holds(&again, &one);
  again = refill_by(&other, cls, 64);
  holds(&again, &two);
  flush(cls, &one);
  flush_by(&other, cls, &two);
  nothing_is_left();
}
END_TEST

/* So it has its spans, when they were empty in between, too. */
START_TEST(threads_have_their_spans_again)
{
  enum { COUNT = 2 * 1024 }; /* two spans */
  static struct run runs[2][COUNT / 8];
  start(64 * MIB, 0, GIB);
  uint32_t cls = class_of(64);
  void *slots[2] = {NULL, NULL}, *first[2] = {NULL, NULL};
  for (int round = 0; round < 3; round++) {
    for (int turn = 0; turn < 2; turn++) {
      int thread = (round + turn) % 2;
      for (int i = 0; i < COUNT / 8; i++) {
        runs[thread][i] = refill_by(&slots[thread], cls, 8);
        ck_assert_uint_eq(runs[thread][i].count, 8);
        char *base = span_base(runs[thread][i].objects[0]);
        first[thread] = first[thread] == NULL || base < (char *)first[thread] ? base : first[thread];
        ck_assert_uint_lt((size_t)(base - (char *)first[thread]), 2 * G);
      }
    }
    for (int i = 0; i < COUNT / 8; i++) { /* too short to wait in a depot */
      flush_by(&slots[0], cls, &runs[0][i]);
      flush_by(&slots[1], cls, &runs[1][i]);
    }
    ck_assert_uint_eq(counter("empty_bytes"), 4 * G);
  }
  nothing_is_left();
}
END_TEST

/* What one thread frees serves another before that has new spans. */
START_TEST(runs_cross_lanes)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(64);
  void *consumer = NULL;
  for (int i = 0; i < 1000; i++) {
    struct run run = refill(cls, 64);
    ck_assert_uint_eq(run.count, 64);
    flush_by(&consumer, cls, &run);
  }
  ck_assert_uint_eq(counter("handovers"), 999 - 15); /* until the span is used up */
  ck_assert_uint_eq(counter("scattered"), 0);
  ck_assert_uint_eq(counter("live_spans"), 1);
  nothing_is_left();
}
END_TEST

/* A thread has the free objects of all others, to the last one, before there is a new span. */
START_TEST(all_free_objects_come_before_a_new_span)
{
  enum { COUNT = 4 * 1024 };
  static void *objects[COUNT];
  start(0, 0, GIB);
  uint32_t cls = class_of(64), got = 0;
  void *other = NULL;
  take(cls, objects, COUNT); /* four spans */
  for (int i = 0; i < COUNT; i += 2) {
    struct run one = {1, {objects[i]}};
    flush(cls, &one);
  }
  uint64_t spans = counter("live_spans");
  while (got < COUNT / 2) {
    struct run run = refill_by(&other, cls, 60);
    ck_assert_uint_ne(run.count, 0);
    for (uint32_t i = 0; i < run.count; i++, got++) {
      ck_assert_uint_lt(got, COUNT / 2);
      objects[got * 2] = run.objects[i];
    }
  }
  ck_assert_uint_eq(counter("live_spans"), spans);
  struct run one = refill_by(&other, cls, 1);
  ck_assert_uint_eq(counter("live_spans"), spans + 1);
  flush(cls, &one);
  give(cls, objects, COUNT);
  nothing_is_left();
}
END_TEST

/* Threads that come and go, one at a time, have one lane: the next one finds there what the last one has left. */
START_TEST(lanes_of_threads_that_ended)
{
  start(0, 0, GIB);
  uint32_t cls = class_of(64);
  struct run own = refill(cls, 64), left = refill(cls, 64);
  flush(cls, &own);
  for (int i = 0; i < 100; i++) {
    void *passing = NULL;
    if (i != 0) {
      struct run run = refill_by(&passing, cls, 64);
      holds(&run, &left);
    }
    flush_by(&passing, cls, &left);
    ops->thread_exit(self, &passing);
  }
  nothing_is_left();
}
END_TEST

START_TEST(more_threads_than_lanes)
{
  enum { THREADS = 100 };
  static struct run runs[THREADS];
  start(0, 0, GIB);
  uint32_t cls = class_of(64);
  void *slots[THREADS] = {NULL};
  for (int i = 0; i < 3 * THREADS; i++) {
    void **own = &slots[i % THREADS];
    struct run *run = &runs[i % THREADS];
    flush_by(own, cls, run);
    *run = refill_by(own, cls, 64);
    ck_assert_uint_eq(run->count, 64);
  }
  for (int i = 0; i < THREADS; i++) {
    flush_by(&slots[i], cls, &runs[i]);
    ops->thread_exit(self, &slots[i]);
  }
  nothing_is_left();
}
END_TEST

/* ---- threads and forks ----------------------------------------------------------------------------------------------- */

enum { THREADS = 4, SHARED = 32, STEPS = 1200 };

struct parcel {
  struct run run;
  uint32_t cls;
  uint64_t seed;
};

static struct parcel *shared[SHARED];
static bool stop; /* atomic */

static void paint(struct parcel *parcel)
{
  uint64_t number = parcel->seed;
  for (uint32_t i = 0; i < parcel->run.count; i++) {
    uint64_t *object = parcel->run.objects[i];
    object[0] = ++number;
    object[class_bytes[parcel->cls] / 8 - 1] = number;
  }
}

static void inspect(const struct parcel *parcel)
{
  uint64_t number = parcel->seed;
  for (uint32_t i = 0; i < parcel->run.count; i++) {
    const uint64_t *object = parcel->run.objects[i];
    number++;
    ck_assert_uint_eq(object[0], number);
    ck_assert_uint_eq(object[class_bytes[parcel->cls] / 8 - 1], number);
  }
}

static void *work(void *argument)
{
  unsigned state = (unsigned)(uintptr_t)argument;
  void *own = NULL;
  static const uint32_t busy[] = {16, 64, 1024, 8192, 65536};
  for (unsigned step = 0; step < STEPS; step++) {
    struct parcel **place = &shared[draw(&state) % SHARED];
    struct parcel *parcel = __atomic_exchange_n(place, NULL, __ATOMIC_ACQ_REL);
    if (parcel == NULL) {
      parcel = malloc(sizeof *parcel);
      parcel->cls = class_of(busy[draw(&state) % 5]);
      int32_t got = ops->refill(self, &own, parcel->cls, parcel->run.objects, 1 + draw(&state) % HAK_RUN_LONGEST);
      ck_assert_int_gt(got, 0);
      parcel->run.count = (uint32_t)got;
      for (uint32_t i = 0; i < parcel->run.count; i++) {
        object_moves(parcel->run.objects[i], parcel->cls, true);
      }
      parcel->seed = (uint64_t)draw(&state) << 20;
      paint(parcel);
      parcel = __atomic_exchange_n(place, parcel, __ATOMIC_ACQ_REL);
    }
    if (parcel != NULL) {
      inspect(parcel);
      flush_by(&own, parcel->cls, &parcel->run);
      free(parcel);
    }
  }
  ops->thread_exit(self, &own);
  return NULL;
}

static void *housekeeping(void *unused)
{
  (void)unused;
  for (unsigned step = 0; !__atomic_load_n(&stop, __ATOMIC_ACQUIRE); step++) {
    __atomic_fetch_add(&clock_time, 1000000, __ATOMIC_RELAXED);
    if (step % 16 == 0) {
      ops->trim(self);
    } else if (step % 16 == 8) {
      set("keep", (hak_value){.size = step % 32 == 8 ? 8 * G : 64 * G});
    } else {
      ops->expire(self);
    }
    sched_yield();
  }
  return NULL;
}

START_TEST(four_threads)
{
  start(16 * G, 5, 64 * G);
  pthread_t threads[THREADS], keeper;
  ck_assert_int_eq(pthread_create(&keeper, NULL, housekeeping, NULL), 0);
  for (uintptr_t i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
  pthread_join(keeper, NULL);
  for (int i = 0; i < SHARED; i++) {
    if (shared[i] != NULL) {
      inspect(shared[i]);
      flush(shared[i]->cls, &shared[i]->run);
      free(shared[i]);
    }
  }
  nothing_is_left();
}
END_TEST

START_TEST(a_fork)
{
  start(16 * G, 0, GIB);
  void *other = NULL;
  struct run others = refill_by(&other, class_of(64), 64);
  flush_by(&other, class_of(64), &others);
  struct run before = refill(class_of(64), 64), kept_run = refill(class_of(G), 2);
  flush(class_of(64), &before);
  ops->fork_prepare(self);
  pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) {
    alarm(20);
    ops->fork_child(self);
  } else {
    ops->fork_parent(self);
  }
  for (uint32_t cls = 0; cls < CLASSES; cls++) {
    struct run run = refill(cls, 4);
    if (run.count == 0) {
      _exit(1);
    }
    flush(cls, &run);
  }
  flush(class_of(G), &kept_run);
  nothing_is_left();
  if (child == 0) {
    _exit(0);
  }
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
}
END_TEST

static bool is_locked; /* a thread that waits for a callback to return is not through */

static void *flush_while_forking(void *argument)
{
  flush(class_of(64), argument);
  __atomic_store_n(&is_locked, false, __ATOMIC_RELEASE);
  return NULL;
}

START_TEST(others_wait_for_a_fork)
{
  start(16 * G, 0, GIB);
  struct run run = refill(class_of(64), 64);
  ops->fork_prepare(self);
  is_locked = true;
  pthread_t thread;
  ck_assert_int_eq(pthread_create(&thread, NULL, flush_while_forking, &run), 0);
  usleep(50000);
  ck_assert(__atomic_load_n(&is_locked, __ATOMIC_ACQUIRE));
  ops->fork_parent(self);
  pthread_join(thread, NULL);
  nothing_is_left();
}
END_TEST

/* A class that fills span after span gets the pages of the next one together. Where objects are pages, they come one by one. */
START_TEST(pages_come_together)
{
  enum { SPANS_FULL = 4, MORE = 4 };
  static void *objects[(SPANS_FULL + MORE) * 4096];
  static const struct {
    size_t size;
    bool together;
  } cases[] = {{64, true}, {2 * KIB, true}, {4 * KIB, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    start(64 * MIB, 0, 64 * MIB);
    uint32_t cls = class_of(cases[i].size), each = (uint32_t)(G / cases[i].size);
    for (uint32_t taken = 0; taken < SPANS_FULL * each; taken++) {
      take(cls, &objects[taken], 1);
      *(char *)objects[taken] = 1;
      if (taken % each == 0) {
        size_t pages = resident_pages(objects[taken], G);
        ck_assert_uint_eq(pages, cases[i].together && taken / each >= 2 ? G / 4096 : 1);
      }
    }
    give(cls, objects, SPANS_FULL * each);
    nothing_is_left();
  }
}
END_TEST

/* A few objects are no run to hand over: those of a thread's first frees would come back to it, in others' cache lines. */
START_TEST(short_runs_are_not_handed_over)
{
  void *objects[64];
  start(64 * MIB, 0, 64 * MIB);
  take(class_of(16), objects, 64);
  give(class_of(16), &objects[10], 8);
  ck_assert_uint_eq(counter("scattered"), 8);
  struct run run = refill(class_of(16), 64);
  ck_assert_uint_eq(run.count, 64);
  ck_assert_uint_eq(counter("handovers"), 0);
  flush(class_of(16), &run);
  ck_assert_uint_eq(counter("scattered"), 8);
}
END_TEST

int main(void)
{
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* pages are counted here: none that nobody asked for */
  Suite *suite = suite_create("slab");
  TCase *tests = tcase_create("slab");
  tcase_set_timeout(tests, 60);
  tcase_add_test(tests, objects_of_every_class);
  tcase_add_test(tests, spans_waste_an_eighth_at_most);
  tcase_add_test(tests, objects_come_in_the_order_of_their_addresses);
  tcase_add_test(tests, objects_among_others_come_last);
  tcase_add_test(tests, runs_are_handed_over_in_order);
  tcase_add_test(tests, random_operations);
  tcase_add_test(tests, the_fullest_span_is_used_first);
  tcase_add_test(tests, empty_spans_are_bounded);
  tcase_add_test(tests, none_is_kept);
  tcase_add_test(tests, empty_spans_serve_other_classes);
  tcase_add_test(tests, empty_spans_go_with_age);
  tcase_add_test(tests, age_counts_from_when_a_span_became_empty);
  tcase_add_test(tests, options_change_while_it_runs);
  tcase_add_test(tests, further_spans_come_from_huge);
  tcase_add_test(tests, small_classes_stay_with_small_pages);
  tcase_add_test(tests, all_may_come_from_huge);
  tcase_add_test(tests, runs_are_handed_over_whole);
  tcase_add_test(tests, the_depot_is_bounded);
  tcase_add_test(tests, short_runs_are_not_handed_over);
  tcase_add_test(tests, pages_come_together);
  tcase_add_test(tests, threads_have_their_runs_again);
  tcase_add_test(tests, threads_have_their_spans_again);
  tcase_add_test(tests, runs_cross_lanes);
  tcase_add_test(tests, all_free_objects_come_before_a_new_span);
  tcase_add_test(tests, lanes_of_threads_that_ended);
  tcase_add_test(tests, more_threads_than_lanes);
  tcase_add_exit_test(tests, an_object_twice, MISUSE);
  tcase_add_exit_test(tests, an_object_twice_in_a_run, MISUSE);
  tcase_add_exit_test(tests, the_inside_of_an_object, MISUSE);
  tcase_add_exit_test(tests, an_object_of_another_class, MISUSE);
  tcase_add_test(tests, no_pages);
  tcase_add_test(tests, no_page_map);
  tcase_add_test(tests, no_bookkeeping);
  tcase_add_test(tests, no_memory_to_start_with);
  tcase_add_test(tests, four_threads);
  tcase_add_test(tests, a_fork);
  tcase_add_test(tests, others_wait_for_a_fork);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? 0 : 1;
}
