/* SPDX-License-Identifier: MIT */
/*
 * suite.h - what the programs of the suite share: options, random numbers, objects that are counted and checked, threads that
 * start together, the clock, and the line of JSON at the end.
 *
 *   PROGRAM [KIND] [-n PERCENT] [-j THREADS] [-t SECONDS] [-c]
 *
 *   KIND         where a program has several
 *   -n PERCENT   of the usual work (100)
 *   -j THREADS   1 or more (1)
 *   -t SECONDS   instead of an amount of work, where a program can (0: no)
 *   -c           every byte of every object is written and checked; otherwise one of each cache line is written, and the first
 *                and the last are checked
 *
 * A program is its main: suite_begin, the work between suite_start and suite_stop, then it frees everything that is still live
 * and calls suite_end. The clock is read at suite_start and suite_stop and never between, except between the rounds of -t. What
 * a program needs for itself is static, and resident before the clock runs.
 *
 * Each thread counts its calls in `calls`, which nobody else touches, and adds them to `all_calls` when it ends. `suite` is
 * written by the main thread only.
 */
#ifndef BENCH_SUITE_H
#define BENCH_SUITE_H

#include "../reading.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

enum { LINE = 64, THREADS_MAX = 16 };

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* ---- random numbers -------------------------------------------------------------------------------------------------- */

/* The state of a generator. Not 0. */
typedef uint64_t random_state;

static inline random_state random_seed(uint64_t number)
{
  return (number + 1) * 0x9e3779b97f4a7c15U;
}

static inline uint64_t random_bits(random_state *state)
{
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

/* From `least` to `most`, both included; by a product instead of a division. */
static inline uint32_t random_between(random_state *state, uint32_t least, uint32_t most)
{
  return least + (uint32_t)((random_bits(state) >> 32) * ((uint64_t)most - least + 1) >> 32);
}

/* ---- the process ----------------------------------------------------------------------------------------------------- */

struct calls {
  uint64_t allocs, frees, resizes; /* malloc and its relatives, free, realloc */
};

static _Thread_local struct calls calls;

static struct {
  _Atomic uint64_t allocs, frees, resizes;
} all_calls;

static struct {
  const char *kind;       /* empty: none was given */
  unsigned percent;       /* of the usual work */
  unsigned threads, time; /* time: seconds, 0: an amount of work */
  unsigned helpers;       /* most threads beside the main one at any moment */
  bool thorough;
  uint64_t ns; /* at the start; after the stop, what the work took */
  uint64_t operations, live_bytes, misaligned;
  struct rusage usage; /* at the start; after the stop, see below */
  int64_t cpu_us, faults, live_kib;
  struct hak_totals before;
} suite;

/* So many times the usual work. At least 1. */
static inline uint64_t suite_times(uint64_t usual)
{
  uint64_t times = usual * suite.percent / 100;
  return times > 0 ? times : 1;
}

/* ---- objects --------------------------------------------------------------------------------------------------------- */

/* An object, known by whoever holds it. */
struct object {
  unsigned char *at; /* NULL: none */
  uint32_t size;     /* bytes, at least 1 */
};

static inline unsigned char object_mark(uint32_t size)
{
  return (unsigned char)(size * 37 + 11);
}

static inline void object_write(const struct object *object)
{
  if (suite.thorough) {
    memset(object->at, object_mark(object->size), object->size);
    return;
  }
  volatile unsigned char *at = object->at;
  for (uint32_t i = 0; i < object->size; i += LINE) {
    at[i] = object_mark(object->size);
  }
  at[object->size - 1] = object_mark(object->size);
}

/* Ends the process unless an object holds what object_write wrote. */
static inline void object_check(const struct object *object)
{
  unsigned char mark = object_mark(object->size);
  bool intact = object->at[0] == mark && object->at[object->size - 1] == mark;
  for (uint32_t i = 0; suite.thorough && i < object->size; i++) {
    intact = intact && object->at[i] == mark;
  }
  if (!intact) {
    die("object", "its bytes were changed");
  }
}

static inline struct object object_take(void *at, uint32_t size)
{
  if (at == NULL) {
    die("malloc", "no memory");
  }
  struct object object = {at, size};
  calls.allocs++;
  object_write(&object);
  return object;
}

static inline struct object object_new(uint32_t size)
{
  return object_take(malloc(size), size);
}

/* Checks and frees an object, if there is one. */
static inline void object_free(struct object *object)
{
  if (object->at != NULL) {
    object_check(object);
    free(object->at);
    object->at = NULL;
    calls.frees++;
  }
}

static inline void object_free_all(struct object *objects, size_t count)
{
  for (size_t i = 0; i < count; i++) {
    object_free(&objects[i]);
  }
}

/* Makes static memory resident. */
static inline void make_resident(void *memory, size_t size)
{
  for (size_t i = 0; i < size; i += 4096) {
    ((volatile unsigned char *)memory)[i] = 0;
  }
}

/* ---- threads --------------------------------------------------------------------------------------------------------- */

/* To be called by each thread as the last thing that it does. */
static inline void calls_add(void)
{
  atomic_fetch_add(&all_calls.allocs, calls.allocs);
  atomic_fetch_add(&all_calls.frees, calls.frees);
  atomic_fetch_add(&all_calls.resizes, calls.resizes);
  calls = (struct calls){0};
}

/* A thread with a small stack, so that libc keeps the stacks of those that have ended: a new one would be a call of calloc. */
static inline pthread_t thread_start(void *(*work)(void *), void *argument)
{
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * KIB);
  if (pthread_create(&thread, &attributes, work, argument) != 0) {
    die("pthread_create", "no thread");
  }
  pthread_attr_destroy(&attributes);
  return thread;
}

static inline void *thread_idle(void *barrier)
{
  pthread_barrier_wait(barrier);
  return NULL;
}

/* Runs so many threads at once that do nothing: their stacks serve those of the work. */
static inline void threads_prepare(unsigned count)
{
  pthread_t threads[2 * THREADS_MAX];
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, NULL, count);
  for (unsigned i = 0; i < count; i++) {
    threads[i] = thread_start(thread_idle, &barrier);
  }
  for (unsigned i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
  }
  pthread_barrier_destroy(&barrier);
}

/* Runs `work` in each thread of the suite. Its argument points at the number of the thread, 0 for the main one; it calls calls_add
 * at its end. */
static inline void threads_run(void *(*work)(void *))
{
  static unsigned numbers[THREADS_MAX];
  pthread_t threads[THREADS_MAX];
  for (unsigned i = 1; i < suite.threads; i++) {
    numbers[i] = i;
    threads[i] = thread_start(work, &numbers[i]);
  }
  work(&numbers[0]);
  for (unsigned i = 1; i < suite.threads; i++) {
    pthread_join(threads[i], NULL);
  }
}

/* ---- begin, start, stop, end ----------------------------------------------------------------------------------------- */

static inline unsigned suite_number(const char *text, unsigned least, unsigned most)
{
  char *end = NULL;
  unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end != '\0' || value < least || value > most) {
    die(text, "not a usable number");
  }
  return (unsigned)value;
}

static inline void suite_begin(int argc, char **argv)
{
  suite.kind = "";
  suite.percent = 100;
  suite.threads = 1;
  for (int option; (option = getopt(argc, argv, "n:j:t:c")) != -1;) {
    switch (option) {
    case 'n':
      suite.percent = suite_number(optarg, 1, 100000);
      break;
    case 'j':
      suite.threads = suite_number(optarg, 1, THREADS_MAX);
      break;
    case 't':
      suite.time = suite_number(optarg, 0, 1000000);
      break;
    case 'c':
      suite.thorough = true;
      break;
    default:
      exit(2);
    }
  }
  suite.helpers = suite.threads - 1;
  if (optind < argc) {
    suite.kind = argv[optind];
  }
}

/* Which of the names the kind is. Ends the process when it is none. */
static inline unsigned suite_kind(const char *const *names, unsigned count)
{
  for (unsigned i = 0; i < count; i++) {
    if (strcmp(suite.kind, names[i]) == 0) {
      return i;
    }
  }
  die(suite.kind, "no such kind");
}

static inline void suite_start(void)
{
  if (suite.helpers > 0) {
    threads_prepare(suite.helpers);
  }
  suite.before = hakmem_totals();
  suite.usage = usage();
  suite.ns = now();
}

/* Whether a program that was given a time has used it. */
static inline bool suite_expired(void)
{
  return now() - suite.ns >= (uint64_t)suite.time * 1000000000U;
}

static inline int64_t resident_kib(void)
{
  return sum_of_line("/proc/self/smaps_rollup", "Rss:");
}

static inline void suite_stop(uint64_t operations)
{
  suite.ns = now() - suite.ns;
  struct rusage after = usage();
  suite.cpu_us = cpu_us(&after) - cpu_us(&suite.usage);
  suite.faults = after.ru_minflt - suite.usage.ru_minflt;
  suite.operations = operations;
  suite.live_kib = resident_kib();
}

/* Everything is free. Prints the result; returns what main returns. */
static inline int suite_end(void)
{
  int64_t freed_kib = resident_kib();
  malloc_trim(0);
  int64_t trimmed_kib = resident_kib(), peak = peak_kib();
  peak = peak > suite.live_kib ? peak : suite.live_kib; /* the kernel's is counted apart for each processor, and not exact */
  calls_add();
  struct hak_totals after = hakmem_totals();
  if (all_calls.allocs != all_calls.frees) {
    die("objects", "not all are free");
  }
  const struct {
    const char *name;
    uint64_t value;
  } fields[] = {
      {"ns", suite.ns},
      {"operations", suite.operations},
      {"cpu_us", (uint64_t)suite.cpu_us},
      {"faults", (uint64_t)suite.faults},
      {"peak_kib", (uint64_t)peak},
      {"live_kib", (uint64_t)suite.live_kib},
      {"freed_kib", (uint64_t)freed_kib},
      {"trimmed_kib", (uint64_t)trimmed_kib},
      {"live_bytes", suite.live_bytes},
      {"misaligned", suite.misaligned},
      {"blocks", all_calls.allocs},
      {"reallocs", all_calls.resizes},
      {"allocs", after.allocs - suite.before.allocs},
      {"frees", after.frees - suite.before.frees},
      {"resizes", after.resizes - suite.before.resizes},
  };
  unsigned count = sizeof fields / sizeof fields[0] - (hakmem_stats != NULL ? 0 : 3);
  dprintf(STDOUT_FILENO, "{");
  for (unsigned i = 0; i < count; i++) {
    dprintf(STDOUT_FILENO, "\"%s\": %llu, ", fields[i].name, (unsigned long long)fields[i].value);
  }
  dprintf(STDOUT_FILENO, "\"malloc\": \"%s\"}\n", malloc_object());
  return 0;
}

#endif
