/* SPDX-License-Identifier: MIT */
/*
 * meta.c - bookkeeping memory.
 *
 * Owns the current chunk, under hki_meta_lock. Small pieces are cut from chunks of CHUNK bytes; a piece that would waste much of one
 * gets a mapping of its own. The first chunk is about what loading and the first blocks need, with its pages: one call for what would
 * be a page fault each. Nothing is ever freed, so that a stale pointer to a record always meets a record.
 */
#define _GNU_SOURCE
#include "meta.h"

#include <string.h>
#include <sys/mman.h>

#include "lock.h"
#include "os.h"

enum { FIRST = 128 * 1024, CHUNK = 256 * 1024, LARGE = CHUNK / 4, PAGE = 4096 };

hak_lock hki_meta_lock;
static char *at, *end; /* unused part of the current chunk */

static char *map(size_t size, int populate)
{
  long r = hki_os.mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | populate, -1, 0);
  if (hak_os_failed(r)) {
    return NULL;
  }
  HKI_ADD(&hakmem_root.metadata, size);
  return (char *)r;
}

void *hki_meta_alloc(size_t size, size_t align)
{
  if (size >= LARGE) {
    return size <= HKI_SIZE_MAX - PAGE ? map(hki_round_up(size, PAGE), 0) : NULL;
  }
  hki_leaf_lock(&hki_meta_lock);
  char *p = (char *)hki_round_up((uintptr_t)at, align);
  if (at == NULL || p + size > end) {
    size_t chunk = end == NULL && size <= FIRST ? FIRST : CHUNK;
    p = map(chunk, end == NULL ? MAP_POPULATE : 0);
    if (p == NULL) { /* address space is short: a page may still be there */
      p = map(hki_round_up(size, PAGE), 0);
      hki_leaf_unlock(&hki_meta_lock);
      return p;
    }
    end = p + chunk;
  }
  at = p + size;
  hki_leaf_unlock(&hki_meta_lock);
  return p;
}

const char *hki_meta_string(const char *s)
{
  size_t size = strlen(s) + 1;
  char *copy = hki_meta_alloc(size, 1);
  if (copy != NULL) {
    memcpy(copy, s, size);
  }
  return copy;
}
