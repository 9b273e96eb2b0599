/* SPDX-License-Identifier: MIT */
/*
 * large.c - large blocks in many threads, each filled with a pattern and checked before every change, while strategies, caches and
 * purges come and go beneath them; and at the end the proof that nothing is held any more.
 *
 *   large THREADS STEPS SEED CAP
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>

#include "probe.h"

enum { SHARED = 64, OWN = 12, PAGE = 4096 };

struct block {
  unsigned char *bytes;
  size_t size;
  uint64_t mark;
};

static struct block *shared[SHARED]; /* handed from thread to thread by exchange */
static struct block pool[4096];
static unsigned pool_used;
static unsigned bad_patterns, bad_zeros, failures;
static size_t above_cap;
static unsigned long calls;
static int finished;
static size_t cap;

static uint64_t next(uint64_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/* From 64 KiB to 8 MiB, most of them small, and rarely huge. */
static size_t pick(uint64_t *state)
{
  uint64_t r = next(state);
  unsigned shift = 16 + (unsigned)(r % 8);
  if (r % 499 == 0) {
    shift = 25;
  }
  return ((size_t)1 << shift) + (size_t)((r >> 16) % ((uint64_t)1 << shift)) + (r >> 60);
}

/* The mark at the beginning of every page and in the last bytes. */
static void fill(struct block *b, size_t from)
{
  for (size_t at = from; at + sizeof b->mark <= b->size; at += PAGE) {
    memcpy(b->bytes + at, &b->mark, sizeof b->mark);
  }
  memcpy(b->bytes + b->size - sizeof b->mark, &b->mark, sizeof b->mark);
}

static void check(const struct block *b, size_t size, bool with_end)
{
  for (size_t at = 0; at + sizeof b->mark <= size; at += PAGE) {
    if (memcmp(b->bytes + at, &b->mark, sizeof b->mark) != 0 && at + sizeof b->mark <= b->size - sizeof b->mark) {
      __atomic_add_fetch(&bad_patterns, 1, __ATOMIC_RELAXED);
      return;
    }
  }
  if (with_end && memcmp(b->bytes + b->size - sizeof b->mark, &b->mark, sizeof b->mark) != 0) {
    __atomic_add_fetch(&bad_patterns, 1, __ATOMIC_RELAXED);
  }
}

static bool make(struct block *b, uint64_t *state)
{
  size_t size = pick(state);
  bool zeroed = next(state) % 4 == 0;
  b->bytes = zeroed ? calloc(1, size) : malloc(size);
  __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
  if (b->bytes == NULL) {
    __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
    return false;
  }
  for (size_t at = 0; zeroed && at < size; at += 509) {
    if (b->bytes[at] != 0) {
      __atomic_add_fetch(&bad_zeros, 1, __ATOMIC_RELAXED);
      break;
    }
  }
  b->size = size;
  b->mark = next(state);
  fill(b, 0);
  return true;
}

static void drop(struct block *b)
{
  check(b, b->size, true);
  free(b->bytes);
  b->bytes = NULL;
}

static void resize(struct block *b, uint64_t *state)
{
  size_t size = pick(state), old = b->size;
  check(b, old, true);
  unsigned char *moved = realloc(b->bytes, size);
  if (moved == NULL) {
    __atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED);
    return;
  }
  b->bytes = moved;
  check(b, size < old ? size : old, false);
  b->size = size;
  fill(b, 0);
}

static void *work(void *argument)
{
  uint64_t *arguments = argument;
  uint64_t state = arguments[0] * UINT64_C(0x9e3779b97f4a7c15) + 1;
  struct block *own[OWN];
  for (int i = 0; i < OWN; i++) {
    own[i] = &pool[__atomic_fetch_add(&pool_used, 1, __ATOMIC_RELAXED)];
  }
  for (uint64_t step = 0; step < arguments[1]; step++) {
    struct block **slot = &own[next(&state) % OWN];
    uint64_t what = next(&state) % 8;
    if ((*slot)->bytes == NULL) {
      make(*slot, &state);
    } else if (what < 3) {
      drop(*slot);
    } else if (what < 4) {
      resize(*slot, &state);
    } else {
      struct block *other = __atomic_exchange_n(&shared[next(&state) % SHARED], *slot, __ATOMIC_ACQ_REL);
      *slot = other != NULL ? other : &pool[__atomic_fetch_add(&pool_used, 1, __ATOMIC_RELAXED)];
    }
    if (step % 256 == 255) {
      malloc_trim(0);
    }
  }
  for (int i = 0; i < OWN; i++) {
    if (own[i]->bytes != NULL) {
      drop(own[i]);
    }
  }
  return NULL;
}

/* False when there is no memory for it now. */
static bool read_totals(struct hak_totals *totals)
{
  int (*stats)(struct hak_totals *) = NULL;
  void *symbol = probe_symbol("hak_stats");
  memcpy(&stats, &symbol, sizeof stats);
  *totals = (struct hak_totals){.struct_size = sizeof *totals};
  return stats != NULL && stats(totals) == 0;
}

static struct hak_totals totals(void)
{
  struct hak_totals t;
  if (!read_totals(&t)) {
    probe_print("FAIL hakmem serves this process\n");
    _exit(1);
  }
  return t;
}

static void *watch(void *unused)
{
  (void)unused;
  while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) {
    struct hak_totals now;
    if (read_totals(&now) && now.held > cap && now.held > above_cap) {
      above_cap = now.held;
    }
    usleep(500);
  }
  return NULL;
}

int main(int argc, char **argv)
{
  if (argc != 5) {
    return 2;
  }
  unsigned threads = (unsigned)strtoul(argv[1], NULL, 10);
  cap = strtoull(argv[4], NULL, 10);
  pthread_t id[64], watcher;
  uint64_t arguments[64][2];
  struct hak_totals before = totals();
  if (threads > 64 || pthread_create(&watcher, NULL, watch, NULL) != 0) {
    return 2;
  }
  for (unsigned i = 0; i < threads; i++) {
    arguments[i][0] = strtoull(argv[3], NULL, 10) + i;
    arguments[i][1] = strtoull(argv[2], NULL, 10);
    if (pthread_create(&id[i], NULL, work, arguments[i]) != 0) {
      return 2;
    }
  }
  for (unsigned i = 0; i < threads; i++) {
    pthread_join(id[i], NULL);
  }
  __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
  pthread_join(watcher, NULL);
  for (int i = 0; i < SHARED; i++) {
    if (shared[i] != NULL && shared[i]->bytes != NULL) {
      drop(shared[i]);
    }
  }
  struct hak_totals busy = totals();
  malloc_trim(0);
  struct hak_totals after = totals();
  probe_equal("every pattern is intact", bad_patterns, 0);
  probe_equal("calloc is zero", bad_zeros, 0);
  if (getenv("FAILURES_EXPECTED") == NULL) {
    probe_equal("no request failed", failures, 0);
  } else {
    probe_print("ok %u requests failed\n", failures);
  }
  PROBE(busy.allocs - before.allocs >= calls - failures, "hakmem served the calls", "found %llu, expected %lu",
        (unsigned long long)(busy.allocs - before.allocs), calls);
  PROBE(above_cap == 0, "never more held than the cap", "found %zu bytes, expected at most %zu", above_cap, cap);
  probe_equal("everything went back", after.held, 0);
  return probe_failures != 0;
}
