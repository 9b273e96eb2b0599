/* SPDX-License-Identifier: MIT */
/*
 * slab.c - small objects through the whole of hakmem: what threads and spans keep is bounded, and goes back. Run by slab.sh.
 *
 *     slab [returns]        with an argument, pages are expected to go back to the system
 */
#define _GNU_SOURCE
#include "probe.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

enum { OBJECTS = 40000, CLASS_MAX = 256 * 1024, MIB = 1 << 20 };

/* What the statistics say about the size classes. */
struct classes {
  uint64_t cached;   /* bytes in magazines */
  uint64_t shortest; /* bytes of two runs of the shortest kind, 2 KiB or one object, of each class that was used */
  uint64_t live, spans, unused;
  unsigned lines;
};

static int file;

/* Reads them from the report, without an allocation. */
static struct classes read_classes(void)
{
  static char text[1 << 18];
  int (*write_to)(int, const char *);
  void *symbol = probe_symbol("hak_stats_write");
  memcpy(&write_to, &symbol, sizeof write_to);
  struct classes sum = {0, 0, 0, 0, 0, 0};
  if (ftruncate(file, 0) != 0 || lseek(file, 0, SEEK_SET) != 0 || write_to(file, "json") != 0) {
    probe_print("FAIL report: found none\n");
    _exit(1);
  }
  ssize_t size = pread(file, text, sizeof text - 1, 0);
  text[size > 0 ? size : 0] = '\0';
  const char *at = strstr(text, "\"classes\":[");
  while (at != NULL && (at = strstr(at, "{\"bytes\":")) != NULL) {
    unsigned long bytes, allocs, frees, live, cached, allocated, span, unused;
    if (sscanf(at,
               "{\"bytes\":%lu,\"allocs\":%lu,\"frees\":%lu,\"live\":%lu,\"cached\":%lu,\"allocated\":%lu,\"span\":%lu,"
               "\"unused\":%lu",
               &bytes, &allocs, &frees, &live, &cached, &allocated, &span, &unused) != 8) {
      probe_print("FAIL report: found a class that does not parse\n");
      _exit(1);
    }
    sum.cached += cached * bytes;
    sum.live += live * bytes;
    sum.spans += span;
    sum.unused += unused;
    sum.shortest += 2 * (bytes < 2048 ? 2048 : bytes);
    sum.lines++;
    at++;
  }
  return sum;
}

static size_t pick(uint32_t *state)
{
  size_t size = (size_t)CLASS_MAX >> probe_random(state) % 15; /* from 16 bytes up */
  return size / 2 + probe_random(state) % (size / 2) + 1;
}

struct object {
  unsigned char *bytes;
  size_t size;
  uint64_t seed;
};

static struct object objects[OBJECTS];
static unsigned damaged; /* atomic */

/* Objects of all classes, `total` bytes of them. Returns how many. */
static size_t allocate(struct object *into, size_t room, size_t total, uint32_t seed)
{
  size_t count = 0;
  for (size_t bytes = 0; bytes < total && count < room; count++) {
    struct object *o = &into[count];
    o->size = pick(&seed);
    o->seed = seed;
    o->bytes = malloc(o->size);
    if (o->bytes == NULL) {
      abort();
    }
    probe_fill(o->bytes, o->size, o->seed);
    bytes += o->size;
  }
  return count;
}

static void release(struct object *from, size_t count)
{
  for (size_t i = 0; i < count; i++) {
    if (!probe_intact(from[i].bytes, from[i].size, from[i].size, from[i].seed)) {
      __atomic_fetch_add(&damaged, 1U, __ATOMIC_RELAXED);
    }
    free(from[i].bytes);
    from[i].bytes = NULL;
  }
}

static void bounded(const char *name)
{
  struct classes now = read_classes();
  PROBE(now.cached <= 2 * MIB + now.shortest, name, "found %lu bytes in magazines, expected at most 2 MiB and %lu",
        (unsigned long)now.cached, (unsigned long)now.shortest);
}

/* One thread frees much: its magazines stay small, at every moment. */
static void test_bound(void)
{
  size_t count = allocate(objects, OBJECTS, 64 * MIB, 1);
  bounded("magazines are bounded after 64 MiB of malloc");
  for (size_t done = 0; done < count;) {
    size_t some = count - done < 500 ? count - done : 500;
    release(objects + done, some);
    done += some;
    struct classes now = read_classes();
    if (now.cached > 2 * MIB + now.shortest) {
      break; /* and what follows fails */
    }
  }
  bounded("magazines are bounded while 64 MiB are freed");
  for (size_t i = 0; i < count; i++) {
    if (objects[i].bytes != NULL) {
      release(&objects[i], 1);
    }
  }
}

/* A thread that allocates and frees hundreds of objects in turn keeps them; one that only frees keeps two runs. */
enum { SWING = 900, SWING_BYTES = 100, TWO_RUNS = 128, QUARANTINE = 256 };

static void swing(void **block)
{
  for (int i = 0; i < SWING; i++) {
    block[i] = malloc(SWING_BYTES);
  }
  for (int i = 0; i < SWING; i++) {
    free(block[i]);
  }
}

static bool hardened; /* full: objects that wait in the quarantine count */

static void *only_free(void *blocks)
{
  void **block = blocks;
  uint64_t before = read_classes().cached;
  for (int i = 0; i < SWING; i++) {
    free(block[i]);
  }
  uint64_t kept = read_classes().cached - before;
  uint64_t most = (TWO_RUNS + (hardened ? QUARANTINE : 0)) * 112;
  PROBE(kept <= most, "a thread that only frees keeps two runs", "found %lu bytes in magazines, expected at most %lu",
        (unsigned long)kept, (unsigned long)most);
  return NULL;
}

static void test_swing(void)
{
  static void *block[SWING];
  pthread_t other;
  for (int round = 0; round < 10; round++) {
    swing(block);
  }
  struct classes now = read_classes();
  PROBE(now.spans == 0 || now.cached >= SWING * SWING_BYTES, "a thread whose stock swings keeps it",
        "found %lu bytes in magazines, expected %d", (unsigned long)now.cached, SWING * SWING_BYTES);
  for (int i = 0; i < SWING; i++) {
    block[i] = malloc(SWING_BYTES);
  }
  pthread_create(&other, NULL, only_free, block);
  pthread_join(other, NULL);
}

enum { TAKEN = 30, TAKEN_BYTES = 208, CACHE_LINE = 64 };

static void *taken[2][2 * TAKEN];
static pthread_barrier_t turn;

static void take_half(void **half)
{
  for (int i = 0; i < TAKEN; i++) {
    half[i] = malloc(TAKEN_BYTES);
  }
}

/* Takes one half in its turn and the other in the next, and lives until all are counted: at its end, what it has left is anybody's. */
static void *take_in_turn(void *number)
{
  int own = *(const int *)number;
  for (int i = 0; i < 4; i++) {
    if (i % 2 == own) {
      take_half(taken[own] + i / 2 * TAKEN);
    }
    pthread_barrier_wait(&turn);
  }
  pthread_barrier_wait(&turn);
  return NULL;
}

static bool in_one_line(const char *a, const char *b)
{
  return (uintptr_t)a / CACHE_LINE <= ((uintptr_t)b + TAKEN_BYTES - 1) / CACHE_LINE &&
         (uintptr_t)b / CACHE_LINE <= ((uintptr_t)a + TAKEN_BYTES - 1) / CACHE_LINE;
}

static void test_lines(void)
{
  static const int number[2] = {0, 1};
  pthread_t thread[2];
  int shared = 0;
  pthread_barrier_init(&turn, NULL, 3);
  for (int i = 0; i < 2; i++) {
    pthread_create(&thread[i], NULL, take_in_turn, (void *)(uintptr_t)&number[i]);
  }
  for (int i = 0; i < 4; i++) {
    pthread_barrier_wait(&turn);
  }
  for (int i = 0; i < 4 * TAKEN * TAKEN; i++) {
    shared += in_one_line(taken[0][i / (2 * TAKEN)], taken[1][i % (2 * TAKEN)]);
  }
  struct classes now = read_classes();
  PROBE(now.spans == 0 || shared == 0, "two threads that allocate in turn share no cache line",
        "found %d pairs of objects in one", shared);
  pthread_barrier_wait(&turn);
  for (int i = 0; i < 2; i++) {
    pthread_join(thread[i], NULL);
    for (int j = 0; j < 2 * TAKEN; j++) {
      free(taken[i][j]);
    }
  }
  pthread_barrier_destroy(&turn);
}

static size_t resident(void)
{
  return probe_totals().resident;
}

static void test_trim(bool returns)
{
  malloc_trim(0);
  size_t before = resident();
  size_t count = allocate(objects, OBJECTS, 100 * MIB, 2);
  size_t full = resident();
  release(objects, count);
  malloc_trim(0);
  size_t after = resident();
  struct classes now = read_classes();
  PROBE(!returns || full >= before + 90 * MIB, "100 MiB are resident", "found %zu after %zu", full, before);
  PROBE(!returns || after <= before + 4 * MIB, "and go back to the system", "found %zu bytes, expected %zu and 4 MiB at most",
        after, before);
  PROBE(now.cached == 0, "malloc_trim empties the magazines", "found %lu bytes", (unsigned long)now.cached);
  PROBE(!returns || now.spans <= now.live + 8 * MIB, "spans go with their objects", "found %lu bytes in spans with %lu live",
        (unsigned long)now.spans, (unsigned long)now.live);
}

enum { WORKERS = 4, EACH = 2000 };

static struct object parcels[WORKERS][EACH];
static size_t parcel_counts[WORKERS];

static void *make(void *number)
{
  size_t i = (size_t)(uintptr_t)number;
  parcel_counts[i] = allocate(parcels[i], EACH, 16 * MIB, (uint32_t)i + 7);
  return NULL;
}

/* Frees what another thread has allocated. */
static void *break_up(void *number)
{
  size_t i = ((size_t)(uintptr_t)number + 1) % WORKERS;
  release(parcels[i], parcel_counts[i]);
  return NULL;
}

static void in_threads(void *(*work)(void *))
{
  pthread_t thread[WORKERS];
  for (uintptr_t i = 0; i < WORKERS; i++) {
    if (pthread_create(&thread[i], NULL, work, (void *)i) != 0) {
      abort();
    }
  }
  for (int i = 0; i < WORKERS; i++) {
    pthread_join(thread[i], NULL);
  }
}

static void test_threads(bool returns)
{
  malloc_trim(0);
  struct classes before = read_classes();
  size_t resident_before = resident();
  for (int round = 0; round < 3; round++) {
    in_threads(make);
    in_threads(break_up);
  }
  struct classes ended = read_classes();
  PROBE(ended.cached <= before.cached + 64 * 1024, "threads that end take nothing with them",
        "found %lu bytes in magazines, expected %lu", (unsigned long)ended.cached, (unsigned long)before.cached);
  malloc_trim(0);
  size_t after = resident();
  PROBE(!returns || after <= resident_before + 4 * MIB, "and what they freed goes back",
        "found %zu bytes, expected %zu and 4 MiB", after, resident_before);
  PROBE(damaged == 0, "every pattern is intact", "found %u that were not", damaged);
}

int main(int argc, char **argv)
{
  (void)argv;
  probe_served();
  const char *settings = getenv("HAKMEM_SET");
  hardened = settings != NULL && strstr(settings, "core.hardening=full") != NULL;
  file = memfd_create("report", 0);
  free(malloc(0));
  test_lines();
  test_bound();
  test_swing();
  test_trim(argc > 1);
  test_threads(argc > 1);
  return probe_failures != 0;
}
