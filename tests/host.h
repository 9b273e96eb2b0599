/* SPDX-License-Identifier: MIT */
/*
 * host.h - a made-up core for tests that drive a plugin directly, and what they need to look at memory.
 *
 * System calls are the real ones, unless a test makes one fail; bookkeeping memory is a static buffer, so that the size of the
 * address space tells exactly what a plugin has left behind. The calls do not go through libc, whose functions sanitizers
 * replace.
 */
#ifndef HOST_H
#define HOST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hakmem/plugin.h"

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define G HAK_GRANULE

enum {
  NOTHING,
  MMAP = 1,
  MUNMAP = 2,
  MPROTECT = 4,
  MREMAP = 8,
  MADVISE = 16,
  META = 32,
  EVERYTHING = 63,
  PROCESS_MADVISE = 64 /* fails through a script: see process_madvise_script */
};

static char meta[8 * 1024 * 1024] __attribute__((aligned(4096)));
static size_t meta_used;
static uint64_t counters[32];
static int fail_kinds;      /* calls of these kinds fail ... */
static long fail_countdown; /* ... once this many have succeeded; and if fail_once, only one */
static bool fail_once;
static bool half_mremap; /* a fixed mremap unmaps its target before it fails */
static unsigned calls[PROCESS_MADVISE + 1];
static unsigned kernel;     /* touched around each call: what is unmapped here and mapped there is ordered by the kernel */
static uint64_t clock_time; /* what the clock shows, ns */

/* Answers in place of the kernel; NULL: the kernel does. */
static long (*process_madvise_script)(const struct iovec *spans, size_t count, int advice);

static bool failing(int kind)
{
  __atomic_fetch_add(&calls[kind], 1U, __ATOMIC_RELAXED);
  __atomic_fetch_add(&kernel, 1U, __ATOMIC_ACQ_REL);
  if (!(fail_kinds & kind) || fail_countdown-- > 0) {
    return false;
  }
  if (fail_once) {
    fail_kinds = NOTHING;
  }
  return true;
}

static long checked(long result)
{
  __atomic_fetch_add(&kernel, 1U, __ATOMIC_ACQ_REL);
  return result == -1 ? -errno : result;
}

static long os_mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)
{
  return failing(MMAP) ? -ENOMEM : checked(syscall(SYS_mmap, addr, length, prot, flags, fd, offset));
}

static long os_munmap(void *addr, size_t length)
{
  return failing(MUNMAP) ? -ENOMEM : checked(syscall(SYS_munmap, addr, length));
}

static long os_mprotect(void *addr, size_t length, int prot)
{
  return failing(MPROTECT) ? -ENOMEM : checked(syscall(SYS_mprotect, addr, length, prot));
}

static long os_mremap(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr)
{
  if (failing(MREMAP)) {
    if (half_mremap && (flags & MREMAP_FIXED)) {
      syscall(SYS_munmap, new_addr, new_length);
    }
    return -ENOMEM;
  }
  return checked(syscall(SYS_mremap, old_addr, old_length, new_length, flags, new_addr));
}

static long os_madvise(void *addr, size_t length, int advice)
{
  return failing(MADVISE) ? -EINVAL : checked(syscall(SYS_madvise, addr, length, advice));
}

/* The kernel's own call, or where it is too old for that, what it does: one span after the other, to the first error. */
static long real_process_madvise(int pidfd, const struct iovec *spans, size_t count, int advice)
{
  long result = checked(syscall(SYS_process_madvise, pidfd, spans, count, advice, 0));
  if (result != -EBADF && result != -ENOSYS && result != -EPERM && result != -EINVAL) {
    return result;
  }
  long done = 0;
  for (size_t i = 0; i < count; i++) {
    result = checked(syscall(SYS_madvise, spans[i].iov_base, spans[i].iov_len, advice));
    if (result < 0) {
      return done > 0 ? done : result;
    }
    done += (long)spans[i].iov_len;
  }
  return done;
}

static long os_process_madvise(int pidfd, const void *iovec, size_t count, int advice, uint32_t flags)
{
  (void)failing(PROCESS_MADVISE);
  ck_assert_uint_le(count, HAK_PURGE_SPANS);
  ck_assert_int_eq(pidfd, -10000);
  ck_assert_uint_eq(flags, 0);
  return process_madvise_script != NULL ? process_madvise_script(iovec, count, advice)
                                        : real_process_madvise(pidfd, iovec, count, advice);
}

static uint64_t os_clock(void)
{
  return __atomic_load_n(&clock_time, __ATOMIC_RELAXED);
}

static void *meta_alloc(const hak_host *host, size_t size, size_t align)
{
  (void)host;
  if (failing(META)) {
    return NULL;
  }
  size_t used = __atomic_load_n(&meta_used, __ATOMIC_RELAXED), at;
  do { /* [any]: threads come at once */
    at = (used + align - 1) & ~(align - 1);
    ck_assert_uint_le(at + size, sizeof meta);
  } while (!__atomic_compare_exchange_n(&meta_used, &used, at + size, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return meta + at;
}

static void lock_wait(const hak_host *host, hak_lock *lock)
{
  (void)host;
  while (__atomic_exchange_n(&lock->word, 1U, __ATOMIC_ACQUIRE) != 0) {
    sched_yield();
  }
}

static const hak_os os = {.struct_size = sizeof(hak_os),
                          .mmap = os_mmap,
                          .munmap = os_munmap,
                          .mprotect = os_mprotect,
                          .mremap = os_mremap,
                          .madvise = os_madvise,
                          .process_madvise = os_process_madvise,
                          .now = os_clock,
                          .coarse = os_clock};

static const hak_host host = {.struct_size = sizeof(hak_host),
                              .name = "test",
                              .os = &os,
                              .counters = counters,
                              .page_size = 4096,
                              .meta_alloc = meta_alloc,
                              .lock_wait = lock_wait};

static void reset_host(void)
{
  memset(meta, 0, meta_used);
  meta_used = 0;
  memset(counters, 0, sizeof counters);
  memset(calls, 0, sizeof calls);
  fail_kinds = NOTHING;
  process_madvise_script = NULL;
}

/* ---- contents of memory ---------------------------------------------------------------------------------------------- */

static inline void fill(char *block, size_t size, unsigned seed)
{
  for (size_t i = 0; i < size; i += 512) {
    *(uint64_t *)(void *)(block + i) = (i << 20) + seed + 1;
  }
}

static inline bool filled(const char *block, size_t size, unsigned seed)
{
  for (size_t i = 0; i < size; i += 512) {
    if (*(const uint64_t *)(const void *)(block + i) != (i << 20) + seed + 1) {
      return false;
    }
  }
  return true;
}

static inline bool zero(const char *block, size_t size)
{
  return block[0] == 0 && memcmp(block, block + 1, size - 1) == 0;
}

static inline unsigned draw(unsigned *state)
{
  *state = *state * 1664525U + 1013904223U;
  return *state >> 8;
}

/* Pages that are there. */
static inline size_t resident_pages(const char *base, size_t size)
{
  static unsigned char vec[4096];
  ck_assert_uint_le(size / 4096, sizeof vec);
  ck_assert_int_eq(mincore((void *)(uintptr_t)base, size, vec), 0);
  size_t count = 0;
  for (size_t i = 0; i < size / 4096; i++) {
    count += vec[i] & 1U;
  }
  return count;
}

#endif
