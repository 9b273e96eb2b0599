/* SPDX-License-Identifier: MIT */
/*
 * threads.c - the beginning and the end of threads and of the process, and blocks that cross between threads. Run preloaded
 * by threads.sh. What threads share is atomic.
 */
#include "probe.h"

#include <limits.h>
#include <pthread.h>

enum { KEYS = 40, SHARED = 1024, SWAPPERS = 8, SWAPS = 40000, HANDLERS = 40 };

/* The C++ run-time's way to run a destructor of a thread_local object, part of glibc's interface to compilers. */
extern int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *library);
extern void *__dso_handle;

static _Atomic int destroyed, unwound, exits;

static void use_memory(void)
{
  for (size_t size = 24; size < (3U << 20); size *= 5) {
    char *block = calloc(1, size);
    if (block == NULL || block[size - 1] != 0) {
      abort();
    }
    block = realloc(block, size + 99);
    memset(block, 1, size + 99);
    free(block);
  }
}

static pthread_key_t keys[KEYS];

struct object {
  int key;
};

/* Comes back in every round of destruction that POSIX allows. */
static void destroy(void *value)
{
  struct object *old = value, *next = malloc(sizeof *next);
  *next = *old;
  free(old);
  use_memory();
  destroyed++;
  pthread_setspecific(keys[next->key], next); /* what the last round leaves is lost, as for any program */
}

static void unwind(void *object)
{
  use_memory();
  free(object);
  unwound++;
}

static void *with_destructors(void *unused)
{
  for (int i = 0; i < KEYS; i++) {
    struct object *object = malloc(sizeof *object);
    object->key = i;
    pthread_setspecific(keys[i], object);
  }
  __cxa_thread_atexit_impl(unwind, malloc(300000), &__dso_handle);
  return unused;
}

static void run(void *(*body)(void *), void *argument)
{
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, argument) != 0 || pthread_join(thread, NULL) != 0) {
    abort();
  }
}

static void test_destructors(void)
{
  for (int i = 0; i < KEYS; i++) {
    if (pthread_key_create(&keys[i], destroy) != 0) {
      abort();
    }
  }
  for (int i = 0; i < 10; i++) {
    run(with_destructors, NULL);
  }
  probe_equal("key destructors allocate in every round", (uint64_t)destroyed, 10 * KEYS * PTHREAD_DESTRUCTOR_ITERATIONS);
  probe_equal("destructors of thread-local objects allocate", (uint64_t)unwound, 10);
  for (int i = 0; i < KEYS; i++) {
    pthread_key_delete(keys[i]);
  }
}

static void *free_all(void *blocks)
{
  void **block = blocks;
  for (int i = 0; i < SHARED; i++) {
    free(block[i]);
  }
  return NULL;
}

static void test_thread_that_only_frees(void)
{
  void *block[SHARED];
  for (int i = 0; i < SHARED; i++) {
    block[i] = malloc((size_t)i * (size_t)i);
  }
  struct hak_totals before = probe_totals();
  run(free_all, block);
  struct hak_totals after = probe_totals();
  PROBE(after.frees - before.frees >= SHARED, "a thread that only frees", "found %llu frees, expected %d",
        (unsigned long long)(after.frees - before.frees), SHARED);
}

struct parcel {
  uint64_t seed;
  size_t size;
};

static struct parcel *shelf[SHARED]; /* exchanged atomically */
static _Atomic int spoilt;

static void open_parcel(struct parcel *parcel)
{
  if (parcel != NULL) {
    size_t size = parcel->size;
    spoilt += !probe_intact(parcel + 1, size, size, parcel->seed);
    free(parcel);
  }
}

static void *swap(void *argument)
{
  uint32_t state = (uint32_t)(uintptr_t)argument;
  for (int i = 0; i < SWAPS; i++) {
    size_t size = probe_random(&state) >> 12 >> probe_random(&state) % 20;
    struct parcel *parcel = malloc(sizeof *parcel + size);
    parcel->size = size < 4096 ? size : 4096;
    parcel->seed = probe_random(&state);
    probe_fill(parcel + 1, parcel->size, parcel->seed);
    open_parcel(__atomic_exchange_n(&shelf[probe_random(&state) % SHARED], parcel, __ATOMIC_ACQ_REL));
  }
  return NULL;
}

static void test_crossing(void)
{
  pthread_t thread[SWAPPERS];
  for (uintptr_t i = 0; i < SWAPPERS; i++) {
    if (pthread_create(&thread[i], NULL, swap, (void *)(i + 1)) != 0) {
      abort();
    }
  }
  for (int i = 0; i < SWAPPERS; i++) {
    pthread_join(thread[i], NULL);
  }
  for (int i = 0; i < SHARED; i++) {
    open_parcel(shelf[i]);
  }
  probe_equal("320,000 blocks freed by other threads are intact", (uint64_t)spoilt, 0);
}

static void *live_briefly(void *unused)
{
  use_memory();
  return unused;
}

static void test_short_lives(void)
{
  for (int i = 0; i < 100; i++) {
    run(live_briefly, NULL);
  }
  struct hak_totals before = probe_totals();
  for (int i = 0; i < 1900; i++) {
    run(live_briefly, NULL);
  }
  struct hak_totals after = probe_totals();
  probe_equal("1900 more threads need no more metadata", after.metadata, before.metadata);
  probe_equal("they leave no block behind", after.allocs - after.frees, before.allocs - before.frees);
  probe_equal("one thread is left", after.threads, 1);
}

static void at_exit(void)
{
  use_memory();
  exits++;
}

__attribute__((destructor)) static void last(void)
{
  use_memory();
  probe_equal("exit handlers allocate", (uint64_t)exits, HANDLERS);
  if (probe_failures != 0) {
    _exit(1);
  }
}

int main(void)
{
  probe_served();
  test_destructors();
  test_thread_that_only_frees();
  test_crossing();
  test_short_lives();
  for (int i = 0; i < HANDLERS; i++) {
    atexit(at_exit); /* more than 32: libc allocates */
  }
  return 0;
}
