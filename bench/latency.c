/* SPDX-License-Identifier: MIT */
/*
 * latency.c - the program that bench/latency.py measures: how long single calls of malloc take while another thread frees much.
 *
 *   latency [-m MIB] [-s BYTES]
 *
 *   -m MIB     that the other thread frees (1024)
 *   -s BYTES   of each of its blocks (1048576)
 *
 * All of these blocks are filled first. Then the main thread allocates 64 bytes at a time, with 1,024 blocks live, and takes the time
 * of each malloc from when the other thread begins to free until it has freed its last block. The result is one line of JSON with quantiles. Nothing but
 * the measured calls allocates in between.
 *
 * The histogram belongs to the main thread; `began` and `ended` are atomic.
 */
#include "reading.h"

#include <pthread.h>

enum {
  LIVE = 1024,      /* of the main thread's blocks */
  SIZE = 64,        /* bytes of each */
  LONGEST = 1 << 22 /* ns; longer ones count as this */
};

static uint32_t histogram[LONGEST + 1]; /* calls by their ns */
static char **blocks;                   /* of the other thread */
static size_t block_count;
static bool began, ended;

static void *free_all(void *unused)
{
  while (!__atomic_load_n(&began, __ATOMIC_ACQUIRE)) {
  }
  for (size_t i = 0; i < block_count; i++) {
    free(blocks[i]);
  }
  __atomic_store_n(&ended, true, __ATOMIC_RELEASE);
  return unused;
}

static uint64_t measure(void)
{
  static char *live[LIVE];
  uint64_t calls = 0;
  while (!__atomic_load_n(&ended, __ATOMIC_ACQUIRE)) {
    char **place = &live[calls++ % LIVE];
    free(*place);
    uint64_t start = now();
    *place = malloc(SIZE);
    uint64_t took = now() - start;
    if (*place == NULL) {
      die("malloc", strerror(errno));
    }
    **(char *volatile *)place = 1;
    if (calls > LIVE) {
      histogram[took < LONGEST ? took : LONGEST]++;
    } else if (calls == LIVE) {
      __atomic_store_n(&began, true, __ATOMIC_RELEASE);
    }
  }
  for (size_t i = 0; i < LIVE; i++) {
    free(live[i]);
  }
  return calls;
}

/* The shortest time that so many thousandths of a per cent of the calls do not exceed. */
static unsigned quantile(uint64_t calls, uint64_t thousandths)
{
  uint64_t wanted = (calls * thousandths + 99999) / 100000, seen = 0;
  unsigned ns = 0;
  while (ns < LONGEST && (seen += histogram[ns]) < wanted) {
    ns++;
  }
  return ns;
}

static size_t number(const char *text)
{
  char *end;
  unsigned long long value = strtoull(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value == 0) {
    die(text, "expected a number above 0");
  }
  return (size_t)value;
}

int main(int argc, char **argv)
{
  size_t bytes = (size_t)1 << 30, size = (size_t)1 << 20;
  for (int option; (option = getopt(argc, argv, "m:s:")) != -1;) {
    if (option == 'm') {
      bytes = number(optarg) << 20;
    } else if (option == 's') {
      size = number(optarg);
    } else {
      return 2;
    }
  }
  block_count = bytes / size;
  blocks = calloc(block_count, sizeof *blocks);
  struct hak_totals before = hakmem_totals();
  for (size_t i = 0; i < block_count; i++) {
    blocks[i] = malloc(size);
    if (blocks[i] == NULL) {
      die("malloc", strerror(errno));
    }
    memset(blocks[i], 1, size);
  }
  pthread_t thread;
  if (pthread_create(&thread, NULL, free_all, NULL) != 0) {
    die("pthread_create", strerror(errno));
  }
  uint64_t all = measure(), calls = all - LIVE;
  pthread_join(thread, NULL);
  struct hak_totals after = hakmem_totals();

  unsigned longest = LONGEST;
  while (longest > 0 && histogram[longest] == 0) {
    longest--;
  }
  printf("{\"calls\": %llu, \"p50\": %u, \"p99\": %u, \"p99.9\": %u, \"p99.99\": %u, \"longest\": %u, \"peak_kib\": %lld, "
         "\"malloc\": \"%s\", \"blocks\": %llu",
         (unsigned long long)calls, quantile(calls, 50000), quantile(calls, 99000), quantile(calls, 99900),
         quantile(calls, 99990), longest, (long long)peak_kib(), malloc_object(), (unsigned long long)(all + block_count));
  if (hakmem_stats != NULL) {
    /* The stack and the descriptor of the thread are libc's business: a block more than were asked for. */
    printf(", \"allocs\": %llu, \"frees\": %llu, \"reallocs\": 2", (unsigned long long)(after.allocs - before.allocs),
           (unsigned long long)(after.allocs - before.allocs));
  }
  printf("}\n");
  return 0;
}
