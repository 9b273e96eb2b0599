/* SPDX-License-Identifier: MIT */
/*
 * atfork.c - a library to preload beside hakmem: its fork handlers allocate and free, small and large, and what `prepare`
 * allocates the others free. Handlers run on the forking thread, so the list needs no lock.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int atfork_prepares;

enum { KEPT = 12 };
static void *kept[KEPT];

static void allocate_and_free(void)
{
  for (size_t size = 8; size < (4U << 20); size *= 4) {
    char *block = malloc(size);
    if (block == NULL) {
      abort();
    }
    memset(block, 1, size < 4096 ? size : 4096);
    block = realloc(block, size * 2);
    free(block);
  }
}

static void prepare(void)
{
  atfork_prepares++;
  allocate_and_free();
  for (int i = 0; i < KEPT; i++) {
    kept[i] = malloc((size_t)16 << i);
  }
}

static void release(void)
{
  allocate_and_free();
  for (int i = 0; i < KEPT; i++) {
    free(kept[i]);
  }
}

__attribute__((constructor)) static void start(void)
{
  pthread_atfork(prepare, release, release);
}
