/* SPDX-License-Identifier: MIT */
/*
 * foreign.c - owns the decision whether a strange pointer is libc's. Cold: system calls are allowed here.
 *
 * What glibc's allocator keeps in front of a chunk (malloc/malloc.c, "Chunks"): the word before the block is its size with three
 * flag bits: 1 previous in use, 2 mapped on its own, 4 in an arena other than the main one. The chunk behind a live one, or the
 * top of the heap, has the first flag set.
 */
#define _GNU_SOURCE
#include "foreign.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot.h"
#include "message.h"
#include "os.h"
#include "settings.h"

enum { PREVIOUS_USED = 1, MAPPED = 2, OTHER_ARENA = 4, FLAGS = 7, PAGE = 4096, SMALLEST = 32 };
#define HEAP_BYTES ((uintptr_t)64 << 20) /* alignment of the pieces of other arenas */

/* Advice that changes nothing asks the kernel whether there is a mapping; strict sandboxes know madvise, but not mincore. */
static bool is_mapped(uintptr_t address)
{
  return hki_os.madvise((void *)(address & ~(uintptr_t)(PAGE - 1)), PAGE, MADV_WILLNEED) != -ENOMEM;
}

static bool plausible(uintptr_t at)
{
  if (at % HKI_ALIGN != 0) {
    return false;
  }
  int saved = errno;
  uintptr_t brk = (uintptr_t)sbrk(0);
  errno = saved;
  bool in_brk = at >= hki_boot_brk() && at < brk;
  if (!is_mapped(at - HKI_ALIGN) || !is_mapped(at)) {
    return false;
  }
  uint64_t head = *(const uint64_t *)(at - 8);
  size_t bytes = head & ~(uint64_t)FLAGS;
  if (bytes < SMALLEST || bytes % HKI_ALIGN != 0 || bytes > HKI_SIZE_MAX) {
    return false;
  }
  if (head & MAPPED) {
    size_t before = *(const uint64_t *)(at - 16);
    return !in_brk && (at - HKI_ALIGN - before) % PAGE == 0 && (before + bytes) % PAGE == 0;
  }
  uintptr_t next = at - HKI_ALIGN + bytes;
  if ((in_brk ? next + HKI_ALIGN > brk : !is_mapped(next + 8)) || (*(const uint64_t *)(next + 8) & PREVIOUS_USED) == 0) {
    return false;
  }
  if (head & OTHER_ARENA) {
    /* Its piece of the arena starts with the arena's address, and holds the whole chunk. */
    uintptr_t heap = at & ~(HEAP_BYTES - 1);
    if (in_brk || at - heap + bytes > HEAP_BYTES || !is_mapped(heap)) {
      return false;
    }
    uintptr_t arena = *(const uintptr_t *)heap;
    return arena % HKI_ALIGN == 0 && arena != 0 && is_mapped(arena);
  }
  return in_brk;
}

HKI_COLD bool hki_foreign_is_libc(const char *func, const void *pointer)
{
  if (HKI_LOAD(&hki_settings.foreign) == HKI_FOREIGN_ABORT || !plausible((uintptr_t)pointer)) {
    return false;
  }
  static bool told;
  if (!__atomic_exchange_n(&told, true, __ATOMIC_RELAXED)) {
    hki_say("%s(%p): not memory of hakmem; libc's by its looks, and left to libc (core.foreign = libc; said once)", func,
            pointer);
  }
  return true;
}

void hki_foreign_free(void *pointer)
{
  HKI_ADD(&hakmem_root.foreign_frees, UINT64_C(1));
  __libc_free(pointer);
}

size_t hki_foreign_size(const void *pointer)
{
  uint64_t head = *(const uint64_t *)((uintptr_t)pointer - 8);
  return (size_t)(head & ~(uint64_t)FLAGS) - (head & MAPPED ? 16 : 8);
}
