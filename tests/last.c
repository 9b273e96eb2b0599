/* SPDX-License-Identifier: MIT */
/*
 * last.c - the large block that a thread freed last: who gets it again, and that it is held, counted and given up like any other.
 *
 *     last [none]        none: the configuration lets nothing be held
 */
#include "probe.h"

#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>

enum { MIB = 1 << 20, ROUNDS = 1000 };

static void *volatile passed; /* from one thread to another; joined in between */

/* Frees a block of `size` and returns its former address. */
static uintptr_t freed(size_t size)
{
  void *block = malloc(size);
  uintptr_t at = (uintptr_t)block;
  free(block);
  return at;
}

static void *free_and_end(void *size)
{
  passed = (void *)freed((size_t)(uintptr_t)size);
  return NULL;
}

static void test_reuse(void)
{
  size_t sizes[] = {2 * MIB, 3 * MIB, 1500 * 1024};
  for (int i = 0; i < 3; i++) {
    uintptr_t at = freed(sizes[i]);
    int same = 0;
    for (int j = 0; j < ROUNDS; j++) {
      unsigned char *block = malloc(sizes[i]);
      same += (uintptr_t)block == at;
      memset(block, 1, 4096);
      free(block);
    }
    probe_equal("a size again and again is one block", (uint64_t)same, ROUNDS);
  }
  (void)freed(2 * MIB);
  unsigned char *zeroes = calloc(1, 2 * MIB);
  probe_equal("calloc gets zeroes", zeroes[0] | zeroes[1] | zeroes[4095], 0);
  free(zeroes);
  void *aligned = aligned_alloc(4 * MIB, 2 * MIB);
  probe_equal("an alignment is met", (uintptr_t)aligned % (4 * MIB), 0);
  free(aligned);
  void *first = malloc(2 * MIB), *second = malloc(2 * MIB);
  PROBE(first != second, "two live blocks are two", "found %p twice, expected two addresses", first);
  free(first);
  free(second);
}

static void test_accounts(bool none)
{
  (void)malloc_trim(0);
  uint64_t before = probe_totals().held;
  (void)freed(2 * MIB);
  uint64_t after = probe_totals().held;
  probe_equal("nothing is held after malloc_trim", before, 0);
  if (none) {
    probe_equal("nothing is held where nothing may be", after, 0);
  } else {
    PROBE(after >= 2 * MIB, "it is held", "found %llu, expected at least 2 MiB", (unsigned long long)after);
    (void)malloc_trim(0);
    probe_equal("malloc_trim gets it", probe_totals().held, 0);
  }
}

static void test_threads(void)
{
  pthread_t thread;
  (void)malloc_trim(0);
  if (pthread_create(&thread, NULL, free_and_end, (void *)(uintptr_t)(5 * MIB)) != 0 || pthread_join(thread, NULL) != 0) {
    abort();
  }
  void *block = malloc(5 * MIB);
  PROBE(block == passed, "a thread that ends leaves it to others", "found %p, expected %p", block, passed);
  free(block);
}

static void test_fork(void)
{
  uintptr_t at = freed(2 * MIB);
  int status = 0;
  pid_t pid = fork();
  if (pid == 0) {
    void *block = malloc(2 * MIB);
    bool same = (uintptr_t)block == at;
    free(block);
    (void)malloc_trim(0);
    _exit(same && probe_totals().held == 0 ? 0 : 1);
  }
  PROBE(waitpid(pid, &status, 0) == pid && status == 0, "the child has its own", "found status %#x, expected 0",
        (unsigned)status);
  void *block = malloc(2 * MIB);
  probe_equal("and the parent", (uintptr_t)block, at);
  free(block);
}

int main(int argc, char **argv)
{
  bool none = argc > 1 && strcmp(argv[1], "none") == 0;
  test_accounts(none);
  if (!none) {
    test_reuse();
    test_threads();
    test_fork();
  }
  return probe_failures == 0 ? 0 : 1;
}
