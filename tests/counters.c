/* SPDX-License-Identifier: MIT */
/*
 * counters.c - the totals equal the calls made, in one thread and in four, and the reports can be written.
 *
 *     counters SMALL [FORMAT FILE]...        also writes the report in that format to the file
 *
 * SMALL is class when a class backend serves small blocks: it accounts whole objects, and a realloc inside an object is no event.
 * Built twice by counters.sh: to be preloaded, and with -DDIRECT for the hak_ functions of a linked libhakmem, in any build.
 */
#include "probe.h"

#ifdef DIRECT
#define malloc hak_malloc
#define calloc hak_calloc
#define realloc hak_realloc
#define free hak_free
#define aligned_alloc hak_aligned_alloc
#define posix_memalign hak_posix_memalign
#define malloc_usable_size hak_malloc_usable_size
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#ifndef DIRECT
#include <malloc.h>
#endif

enum { BLOCKS = 2000, ROUNDS = 20, WORKERS = 4 };

struct tally {
  uint64_t allocs, frees, reallocs;
  uint64_t inside; /* reallocs that an object had room for */
};

static bool classes; /* small blocks are objects of a class */

static bool is_object(size_t size)
{
  return classes && size <= 256 * 1024;
}

static size_t pick_size(uint32_t *state)
{
  return probe_random(state) >> 9 >> probe_random(state) % 23;
}

/* Allocates in every way, and counts the calls. Pointers live on the stack, so that no other call is made. */
static struct tally work(uint32_t state, bool with_realloc)
{
  struct tally tally = {0, 0, 0, 0};
  void *block[BLOCKS] = {NULL};
  for (int i = 0; i < BLOCKS; i++) {
    size_t size = pick_size(&state);
    switch (i % 4) {
    case 0:
      block[i] = malloc(size);
      break;
    case 1:
      block[i] = calloc(1, size);
      break;
    case 2:
      block[i] = aligned_alloc((size_t)16 << i % 9, size);
      break;
    default:
      if (posix_memalign(&block[i], 64, size) != 0) {
        abort();
      }
    }
    if (block[i] == NULL) {
      abort();
    }
    tally.allocs++;
  }
  for (int i = 0; with_realloc && i < BLOCKS; i++) {
    uintptr_t before = (uintptr_t)block[i];
    size_t room = malloc_usable_size(block[i]);
    block[i] = realloc(block[i], pick_size(&state) + 1);
    if (block[i] == NULL) {
      abort();
    }
    tally.reallocs++;
    tally.inside += (uintptr_t)block[i] == before && is_object(room);
  }
  for (int i = 0; i < BLOCKS; i++) {
    free(block[i * 7 % BLOCKS]);
    tally.frees++;
  }
  return tally;
}

static void test_one_thread(void)
{
  struct hak_totals before = probe_totals();
  struct tally tally = work(1, false);
  struct hak_totals after = probe_totals();
  probe_equal("allocations", after.allocs - before.allocs, tally.allocs);
  probe_equal("frees", after.frees - before.frees, tally.frees);
  probe_equal("no resizes", after.resizes, before.resizes);
  probe_equal("bytes return to where they were", after.allocated, before.allocated);
  probe_equal("bytes in blocks return to where they were", after.active, before.active);

  before = after;
  tally = work(2, true);
  after = probe_totals();
  uint64_t copied = after.allocs - before.allocs - tally.allocs;
  probe_equal("a resize is counted, or a copy: one allocation and one free", copied + after.resizes - before.resizes,
              tally.reallocs - tally.inside);
  PROBE((tally.inside != 0) == classes, "a realloc inside an object is no event", "found %llu of them",
        (unsigned long long)tally.inside);
  probe_equal("frees with resizes", after.frees - before.frees, tally.frees + copied);
  probe_equal("bytes return after resizes", after.allocated, before.allocated);
  probe_equal("bytes in blocks return after resizes", after.active, before.active);
}

static void test_bytes(void)
{
  static const size_t sizes[] = {1, 100, 5000, 70000, 300000, 1 << 20, 9 << 20};
  char name[64];
  for (int i = 0; i < 7; i++) {
    struct hak_totals before = probe_totals();
    void *block = malloc(sizes[i]);
    struct hak_totals held = probe_totals();
    size_t accounted = is_object(sizes[i]) ? malloc_usable_size(block) : sizes[i];
    free(block);
    snprintf(name, sizeof name, "%zu bytes allocated", sizes[i]);
    probe_equal(name, held.allocated - before.allocated, accounted);
    snprintf(name, sizeof name, "%zu bytes need no much larger object", sizes[i]);
    PROBE(accounted - sizes[i] < 16 || accounted - sizes[i] <= sizes[i] / 8, name, "found %zu", accounted);
    snprintf(name, sizeof name, "%zu bytes active", sizes[i]);
    PROBE(held.active - before.active >= sizes[i], name, "found %llu, expected at least that",
          (unsigned long long)(held.active - before.active));
  }
  struct hak_totals totals = probe_totals();
  PROBE(totals.metadata > 0 && totals.resident > 0, "metadata and resident", "found %llu and %llu, expected both above 0",
        (unsigned long long)totals.metadata, (unsigned long long)totals.resident);
}

static pthread_barrier_t barrier;

static void *worker(void *out)
{
  struct tally *tally = out;
  pthread_barrier_wait(&barrier);
  for (uint32_t i = 0; i < ROUNDS; i++) {
    struct tally round = work((uint32_t)(uintptr_t)out + i, false);
    tally->allocs += round.allocs;
    tally->frees += round.frees;
  }
  pthread_barrier_wait(&barrier); /* the work is done */
  pthread_barrier_wait(&barrier); /* the totals are read: the thread may end */
  return NULL;
}

static void test_threads(void)
{
  pthread_t thread[WORKERS];
  struct tally tally[WORKERS] = {{0, 0, 0, 0}}, sum = {0, 0, 0, 0};
  pthread_barrier_init(&barrier, NULL, WORKERS + 1);
  for (int i = 0; i < WORKERS; i++) {
    if (pthread_create(&thread[i], NULL, worker, &tally[i]) != 0) {
      abort();
    }
  }
  struct hak_totals before = probe_totals();
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  struct hak_totals after = probe_totals();
  for (int i = 0; i < WORKERS; i++) {
    sum.allocs += tally[i].allocs;
    sum.frees += tally[i].frees;
  }
  probe_equal("allocations of four threads", after.allocs - before.allocs, sum.allocs);
  probe_equal("frees of four threads", after.frees - before.frees, sum.frees);
  probe_equal("threads attached", after.threads, WORKERS + 1);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < WORKERS; i++) {
    pthread_join(thread[i], NULL);
  }
}

enum { HANDED_TRIES = 200 };

static void *handed; /* atomic */

static void *free_handed(void *size)
{
  void *block;
  while ((block = __atomic_load_n(&handed, __ATOMIC_ACQUIRE)) == NULL) {
  }
  memset(block, 0x55, *(size_t *)size);
  free(block);
  /* Nothing but the allocator orders this thread's use of the memory and the next one's. */
  __atomic_store_n(&handed, NULL, __ATOMIC_RELAXED);
  return NULL;
}

/* Allocates until the block that another thread has freed comes again. */
static void test_handed(size_t size)
{
  pthread_t other;
  void *block[HANDED_TRIES];
  size_t count = 0, dirty = 0;
  char name[64];
  void *first = malloc(size);
  uintptr_t place = (uintptr_t)first;
  if (first == NULL || pthread_create(&other, NULL, free_handed, &size) != 0) {
    abort();
  }
  __atomic_store_n(&handed, first, __ATOMIC_RELEASE);
  while (__atomic_load_n(&handed, __ATOMIC_RELAXED) != NULL) {
  }
  do {
    unsigned char *bytes = block[count] = calloc(1, size);
    for (size_t i = 0; i < size; i++) {
      dirty += bytes[i];
    }
  } while ((uintptr_t)block[count++] != place && count < HANDED_TRIES);
  snprintf(name, sizeof name, "%zu bytes that another thread freed are zero from calloc", size);
  probe_equal(name, dirty, 0);
  while (count > 0) {
    free(block[--count]);
  }
  pthread_join(other, NULL);
}

static void test_interface(void)
{
  int (*stats)(struct hak_totals *), (*write_to)(int, const char *);
  void *found[] = {probe_symbol("hak_stats"), probe_symbol("hak_stats_write")};
  memcpy(&stats, &found[0], sizeof stats);
  memcpy(&write_to, &found[1], sizeof write_to);
  struct hak_totals totals = {.struct_size = 0};
  errno = 0;
  int code = stats(&totals);
  PROBE(code == -1 && errno == EINVAL, "hak_stats refuses a struct of no size",
        "found %d with errno %d, expected -1 with EINVAL", code, errno);
  memset(&totals, 0x55, sizeof totals);
  totals.struct_size = offsetof(struct hak_totals, frees);
  code = stats(&totals);
  PROBE(code == 0 && totals.allocs > 0 && totals.frees == UINT64_C(0x5555555555555555), "hak_stats fills no more than it may",
        "found %d and frees %#llx, expected the end untouched", code, (unsigned long long)totals.frees);
  errno = 0;
  code = write_to(STDERR_FILENO, "no such format");
  PROBE(code == -1 && errno == EINVAL, "hak_stats_write refuses a format", "found %d with errno %d, expected -1 with EINVAL",
        code, errno);
  errno = 0;
  code = write_to(-1, "json");
  PROBE(code == -1 && errno == EBADF, "hak_stats_write to no file", "found %d with errno %d, expected -1 with EBADF", code,
        errno);
}

static void write_report(const char *format, const char *file)
{
  int (*write_to)(int, const char *);
  void *found = probe_symbol("hak_stats_write");
  memcpy(&write_to, &found, sizeof write_to);
  int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  int code = write_to(fd, format);
  PROBE(fd >= 0 && code == 0, format, "found %d, expected 0", code);
  close(fd);
}

int main(int argc, char **argv)
{
  if (probe_symbol("hak_stats") == NULL) {
    probe_print("FAIL loaded: found no hak_stats, expected libhakmem\n");
    return 1;
  }
  classes = argc > 1 && strcmp(argv[1], "class") == 0;
  test_one_thread();
  test_bytes();
  test_threads();
  test_handed(3000);
  test_handed(300000);
  test_interface();
  for (int i = 2; i + 1 < argc; i += 2) {
    write_report(argv[i], argv[i + 1]);
  }
  return probe_failures == 0 ? 0 : 1;
}
