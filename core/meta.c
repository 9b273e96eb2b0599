/* SPDX-License-Identifier: MIT */
/*
 * meta.c - bookkeeping memory.
 *
 * Owns the current chunk, under hki_meta_lock. Small pieces are cut from chunks of CHUNK bytes; a piece that would waste much of one
 * gets a mapping of its own. The first chunk is about what loading and the first blocks need, with its pages: one call for what would
 * be a page fault each. Nothing is ever freed, so that a stale pointer to a record always meets a record.
 *
 * Around the first chunk lie guard pages, and under hardening = full around all, so that a write beyond a block does not run into
 * records. Each guard is a kernel mapping, so chunks are larger there.
 */
#define _GNU_SOURCE
#include "meta.h"

#include <string.h>
#include <sys/mman.h>

#include "lock.h"
#include "os.h"
#include "settings.h"

enum { FIRST = 160 * 1024, CHUNK = 256 * 1024, CHUNK_GUARDED = 16 * CHUNK, LARGE = CHUNK / 4, PAGE = 4096, LINE = 64 };

hak_lock hki_meta_lock;
static char *at, *end; /* unused part of the current chunk */

static char *map(char *place, size_t size, int protection, int flags)
{
  flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  long r = hki_os.mmap(place, size, protection, flags, -1, 0);
  return hak_os_failed(r) ? NULL : (char *)r;
}

/* Memory for pieces; `populate`: MAP_POPULATE or 0. Without guards where there may be no more mappings. */
static char *obtain(size_t size, int populate, bool guarded)
{
  char *around = guarded ? map(NULL, size + 2 * PAGE, PROT_NONE, 0) : NULL;
  char *p = around != NULL ? map(around + PAGE, size, PROT_READ | PROT_WRITE, MAP_FIXED | populate) : NULL;
  if (p == NULL) {
    if (around != NULL) {
      (void)hki_os.munmap(around, size + 2 * PAGE);
    }
    p = map(NULL, size, PROT_READ | PROT_WRITE, populate);
  }
  HKI_ADD(&hakmem_root.metadata, p != NULL ? size : 0);
  return p;
}

/* Where a piece would begin. Records, which are aligned to lines, do not begin where pages do: see fresh_record() in thread.c. */
static char *place(size_t align)
{
  uintptr_t p = hki_round_up((uintptr_t)at, align);
  return (char *)(align == LINE && p % PAGE == 0 ? p + LINE : p);
}

void *hki_meta_alloc(size_t size, size_t align)
{
  bool full = hki_settings.hardening == HKI_FULL;
  if (size >= LARGE) {
    return size <= HKI_SIZE_MAX - PAGE ? obtain(hki_round_up(size, PAGE), 0, full) : NULL;
  }
  hki_leaf_lock(&hki_meta_lock);
  char *p = place(align);
  if (at == NULL || p + size > end) {
    bool first = end == NULL;
    size_t chunk = first ? FIRST : full ? CHUNK_GUARDED : CHUNK;
    char *fresh = obtain(chunk, first ? MAP_POPULATE : 0, first || full);
    if (fresh == NULL) { /* address space is short: a page may still be there */
      p = obtain(hki_round_up(size, PAGE), 0, false);
      hki_leaf_unlock(&hki_meta_lock);
      return p;
    }
    at = fresh;
    end = fresh + chunk;
    p = place(align);
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
