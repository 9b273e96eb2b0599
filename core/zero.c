/* SPDX-License-Identifier: MIT */
/*
 * zero.c - makes used memory read as zero. Owns nothing.
 *
 * Whether a page is there says only whether it has to be written: one that is not may be in swap, so it is given up, which costs little
 * where there is nothing.
 */
#define _GNU_SOURCE
#include "zero.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "os.h"
#include "settings.h"

enum { LOOK = 512 }; /* pages asked for at a time */

#define LEAST ((size_t)256 << 10) /* bytes; below, writing is as fast as asking */

/* The same for pages that are all there, or all not. */
static void zero_alike(char *base, size_t size, size_t pages, bool there)
{
  if (there || hak_os_failed(hki_os.madvise(base, pages, MADV_DONTNEED))) {
    memset(base, 0, size);
  }
}

void hki_zero(void *block, size_t size)
{
  size_t page = getauxval(AT_PAGESZ);
  char *base = block;
  unsigned char there[LOOK];
  size_t at = 0;
  while (size - at >= LEAST && !hki_settings.basic_syscalls) {
    size_t count = (size - at + page - 1) / page;
    count = count < LOOK ? count : LOOK;
    if (hak_os_failed(hki_os.mincore(base + at, count * page, there))) {
      break;
    }
    for (size_t i = 0, end; i < count; i = end) {
      for (end = i + 1; end < count && ((there[end] ^ there[i]) & 1) == 0; end++) {
      }
      size_t bytes = (end - i) * page, first = at + i * page;
      zero_alike(base + first, bytes < size - first ? bytes : size - first, bytes, (there[i] & 1) != 0);
    }
    at += count * page < size - at ? count * page : size - at;
  }
  memset(base + at, 0, size - at);
}
