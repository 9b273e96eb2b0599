/* SPDX-License-Identifier: MIT */
/*
 * test_extent.c - the address-space allocator of the page backends, driven directly.
 *
 * A host is made up here: its system calls are the real ones, unless a test makes one fail; its bookkeeping memory is a
 * static buffer, so that the size of the address space tells exactly what a pool has left behind. The calls do not go through
 * libc, whose functions sanitizers replace.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "extent.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
#define G HAK_GRANULE

/* ---- the host -------------------------------------------------------------------------------------------------------- */

enum { NOTHING, MMAP = 1, MUNMAP = 2, MPROTECT = 4, MREMAP = 8, MADVISE = 16, META = 32, EVERYTHING = 63 };

static char meta[8 * 1024 * 1024] __attribute__((aligned(4096)));
static size_t meta_used;
static uint64_t counters[EXTENT_COUNTERS];
static int fail_kinds;      /* calls of these kinds fail ... */
static long fail_countdown; /* ... once this many have succeeded; and if fail_once, only one */
static bool fail_once;
static bool half_mremap; /* a fixed mremap unmaps its target before it fails */
static unsigned calls[64];
static unsigned kernel; /* touched around each call: what is unmapped here and mapped there is ordered by the kernel */

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

static void *meta_alloc(const hak_host *host, size_t size, size_t align)
{
  (void)host;
  if (failing(META)) {
    return NULL;
  }
  size_t at = (meta_used + align - 1) & ~(align - 1);
  ck_assert_uint_le(at + size, sizeof meta);
  meta_used = at + size;
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
                          .madvise = os_madvise};

static const hak_host host = {.struct_size = sizeof(hak_host),
                              .name = "test",
                              .os = &os,
                              .counters = counters,
                              .page_size = 4096,
                              .meta_alloc = meta_alloc,
                              .lock_wait = lock_wait};

static struct extent_pool *new_pool(size_t arena, size_t unit)
{
  memset(meta, 0, meta_used);
  meta_used = 0;
  memset(counters, 0, sizeof counters);
  memset(calls, 0, sizeof calls);
  fail_kinds = NOTHING;
  const struct extent_setup setup = {.arena = arena, .unit = unit, .advise = unit == EXTENT_HUGE};
  struct extent_pool *pool = extent_start(&host, &setup);
  ck_assert_ptr_nonnull(pool);
  return pool;
}

/* ---- helpers --------------------------------------------------------------------------------------------------------- */

static char *take(struct extent_pool *pool, size_t size)
{
  hak_block block = extent_alloc(pool, size, G);
  ck_assert_ptr_nonnull(block.base);
  ck_assert_uint_eq((uintptr_t)block.base % G, 0);
  return block.base;
}

static void fill(char *block, size_t size, unsigned seed)
{
  for (size_t i = 0; i < size; i += 512) {
    *(uint64_t *)(void *)(block + i) = (i << 20) + seed + 1;
  }
}

static bool filled(const char *block, size_t size, unsigned seed)
{
  for (size_t i = 0; i < size; i += 512) {
    if (*(const uint64_t *)(const void *)(block + i) != (i << 20) + seed + 1) {
      return false;
    }
  }
  return true;
}

static bool zero(const char *block, size_t size)
{
  return block[0] == 0 && memcmp(block, block + 1, size - 1) == 0;
}

/* Kernel mappings in the process; with a range, those that touch it; *bytes is what they cover of it. */
static unsigned mappings(const char *from, size_t size, size_t *bytes)
{
  static char line[512];
  unsigned count = 0;
  size_t covered = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps) != NULL) {
    uintptr_t low = 0, high = 0;
    sscanf(line, "%lx-%lx", &low, &high);
    low = low < (uintptr_t)from ? (uintptr_t)from : low;
    high = high > (uintptr_t)from + size ? (uintptr_t)from + size : high;
    if (low < high) {
      count++;
      covered += high - low;
    }
  }
  fclose(maps);
  if (bytes != NULL) {
    *bytes = covered;
  }
  return count;
}

static size_t address_space(void)
{
  size_t bytes = 0;
  mappings(NULL, SIZE_MAX, &bytes);
  return bytes;
}

static unsigned draw(unsigned *state)
{
  *state = *state * 1664525U + 1013904223U;
  return *state >> 8;
}

/* ---- tests ----------------------------------------------------------------------------------------------------------- */

START_TEST(first_fit)
{
  struct extent_pool *pool = new_pool(GIB, G);
  char *a = take(pool, 3 * G), *b = take(pool, 5 * G), *c = take(pool, G);
  ck_assert_ptr_eq(b, a + 3 * G);
  ck_assert_ptr_eq(c, b + 5 * G);
  extent_free(pool, b, 5 * G);
  ck_assert_ptr_eq(take(pool, 2 * G), b);
  ck_assert_ptr_eq(take(pool, 4 * G), c + G);
  ck_assert_ptr_eq(take(pool, 3 * G - 1), b + 2 * G);
  ck_assert_uint_eq(hak_block_capacity(extent_alloc(pool, G + 1, G)), 2 * G);
  ck_assert_uint_eq(mappings(a, GIB, NULL), 2);
  ck_assert_uint_eq(counters[EXTENT_RESERVED], GIB);
}
END_TEST

START_TEST(alignment)
{
  struct extent_pool *pool = new_pool(64 * MIB, G);
  size_t before = address_space();
  for (size_t align = G; align <= GIB; align *= 2) {
    char *pad = take(pool, G);
    hak_block block = extent_alloc(pool, 3 * G, align);
    ck_assert(block.base != NULL && (uintptr_t)block.base % align == 0);
    fill(block.base, 3 * G, 1);
    extent_free(pool, block.base, hak_block_capacity(block));
    extent_free(pool, pad, G);
  }
  ck_assert_ptr_null(extent_alloc(pool, PTRDIFF_MAX, G).base);
  ck_assert_ptr_null(extent_alloc(pool, (size_t)1 << 60, (size_t)1 << 60).base);
  extent_trim(pool);
  ck_assert_uint_eq(address_space(), before);
}
END_TEST

START_TEST(many_blocks_in_random_order)
{
  enum { N = 200000 };
  static char *block[N];
  struct extent_pool *pool = new_pool(GIB, G);
  unsigned before = mappings(NULL, SIZE_MAX, NULL), state = 1;
  for (unsigned i = 0; i < N; i++) {
    block[i] = take(pool, G);
    block[i][(i % 16) * 4096] = (char)i;
  }
  ck_assert_uint_eq(counters[EXTENT_RESERVED], 13 * GIB);
  ck_assert_uint_lt(mappings(NULL, SIZE_MAX, NULL), before + 100);
  for (unsigned i = N; i-- > 1;) {
    unsigned j = draw(&state) % (i + 1);
    char *swap = block[i];
    block[i] = block[j];
    block[j] = swap;
  }
  for (unsigned round = 0; round < 2; round++) {
    for (unsigned i = 0; i < N / 2; i++) {
      extent_free(pool, block[i], G);
    }
    ck_assert_uint_lt(mappings(NULL, SIZE_MAX, NULL), before + 100);
    for (unsigned i = 0; i < N / 2; i++) { /* sizes that have to be searched for */
      hak_block larger = extent_alloc(pool, (1 + draw(&state) % 8) * G, G);
      ck_assert_uint_eq(hak_block_flags(larger), HAK_ZEROED);
      extent_free(pool, larger.base, hak_block_capacity(larger));
      block[i] = take(pool, G);
    }
  }
  ck_assert_uint_eq(counters[EXTENT_RESERVED], 13 * GIB);
  for (unsigned i = 0; i < N; i++) {
    extent_free(pool, block[i], G);
  }
  ck_assert_uint_lt(mappings(NULL, SIZE_MAX, NULL), before + 100);
  ck_assert_uint_eq(counters[EXTENT_RESERVED], GIB); /* one spare */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  ck_assert_uint_lt(calls[MPROTECT], 13 * 40);
  ck_assert_uint_eq(calls[MADVISE], 3 * N); /* one call to release a block */
}
END_TEST

START_TEST(zeroed_only_when_released)
{
  struct extent_pool *pool = new_pool(GIB, G);
  hak_block block = extent_alloc(pool, 2 * G, G);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  ck_assert(zero(block.base, 2 * G));
  memset(block.base, 1, 2 * G);
  extent_free(pool, block.base, 2 * G);
  block = extent_alloc(pool, 2 * G, G);
  ck_assert(zero(block.base, 2 * G));

  memset(block.base, 1, 2 * G);
  ck_assert_int_eq(syscall(SYS_mlock, (char *)block.base + G, 4096), 0);
  extent_free(pool, block.base, 2 * G);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 2 * G);
  ck_assert_uint_eq(counters[EXTENT_UNRELEASED], 2 * G);
  hak_block part = extent_alloc(pool, G, G);
  ck_assert_uint_eq(hak_block_flags(part), 0);
  hak_block both = extent_alloc(pool, 2 * G, G); /* half of it dirty */
  ck_assert_ptr_eq(both.base, (char *)block.base + G);
  ck_assert_uint_eq(hak_block_flags(both), 0);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  extent_free(pool, both.base, 2 * G);
  ck_assert_uint_eq(hak_block_flags(extent_resize(pool, part.base, G, 2 * G, G)), 0);
  extent_resize(pool, part.base, 2 * G, G, G);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 2 * G);
  ck_assert_uint_eq(extent_trim(pool), 0);
  syscall(SYS_munlock, (char *)block.base + G, 4096);
  ck_assert_uint_eq(extent_trim(pool), 2 * G);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  hak_block again = extent_resize(pool, part.base, G, 3 * G, G);
  ck_assert_ptr_eq(again.base, part.base);
  ck_assert_uint_eq(hak_block_flags(again), HAK_ZEROED);
  ck_assert(zero((char *)again.base + G, 2 * G));
}
END_TEST

START_TEST(resize_in_place)
{
  struct extent_pool *pool = new_pool(GIB, G);
  char *a = take(pool, 2 * G);
  fill(a, 2 * G, 7);
  hak_block block = extent_resize(pool, a, 2 * G, 100 * MIB, G);
  ck_assert_ptr_eq(block.base, a);
  ck_assert_uint_eq(hak_block_capacity(block), 100 * MIB);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  ck_assert(zero(a + 2 * G, MIB));
  memset(a + 2 * G, 1, MIB);
  block = extent_resize(pool, a, 100 * MIB, G + 1, G);
  ck_assert_ptr_eq(block.base, a);
  ck_assert_uint_eq(hak_block_capacity(block), 2 * G);
  ck_assert(filled(a, 2 * G, 7));
  char *b = take(pool, G); /* what was cut off is free, and zero */
  ck_assert_ptr_eq(b, a + 2 * G);
  ck_assert(zero(b, G));
  ck_assert_ptr_null(extent_resize(pool, a, 2 * G, 3 * G, G).base); /* too small to be moved */
  ck_assert_ptr_null(extent_resize(pool, a, 2 * G, SIZE_MAX - 1, G).base);
}
END_TEST

START_TEST(resize_by_moving)
{
  struct extent_pool *pool = new_pool(GIB, G);
  char *a = take(pool, MIB), *wall = take(pool, G);
  fill(a, MIB, 3);
  unsigned before = mappings(NULL, SIZE_MAX, NULL);
  hak_block block = extent_resize(pool, a, MIB, 3 * MIB, G);
  char *moved = block.base;
  ck_assert_ptr_nonnull(moved);
  ck_assert_uint_eq((uintptr_t)moved % G, 0);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  ck_assert(filled(moved, MIB, 3));
  ck_assert(zero(moved + MIB, 2 * MIB));
  ck_assert(!extent_in_arena(pool, moved));
  ck_assert_uint_eq(counters[EXTENT_MOVES], 1);
  ck_assert_uint_eq(counters[EXTENT_OWN], 1);
  ck_assert_uint_le(mappings(NULL, SIZE_MAX, NULL), before + 1);

  size_t covered = 0; /* the arena has no hole, and its granules serve again */
  ck_assert_uint_eq(mappings(a, GIB, &covered), 2);
  ck_assert_uint_eq(covered, GIB);
  ck_assert_ptr_eq(take(pool, MIB), a);
  ck_assert(zero(a, MIB));
  fill(a, MIB, 4);

  size_t size = 3 * MIB;
  fill(moved, size, 5);
  for (int i = 0; i < 6; i++) { /* grows on, at one mapping a block */
    block = extent_resize(pool, moved, size, 2 * size, G);
    moved = block.base;
    ck_assert_ptr_nonnull(moved);
    ck_assert(filled(moved, size, 5));
    ck_assert(zero(moved + size, MIB));
    size *= 2;
    fill(moved, size, 5);
  }
  ck_assert_uint_le(mappings(NULL, SIZE_MAX, NULL), before + 1);
  block = extent_resize(pool, moved, size, MIB, G);
  ck_assert_ptr_eq(block.base, moved);
  ck_assert_uint_eq(hak_block_capacity(block), MIB);
  ck_assert(filled(moved, MIB, 5));
  ck_assert(filled(a, MIB, 4));
  extent_free(pool, moved, MIB);
  extent_free(pool, a, MIB);
  extent_free(pool, wall, G);
  ck_assert_uint_eq(counters[EXTENT_OWN], 0);
  ck_assert_uint_le(mappings(NULL, SIZE_MAX, NULL), before);
}
END_TEST

START_TEST(moves_are_bounded)
{
  enum { N = 1200 };
  static char *block[N], *wall[N];
  struct extent_pool *pool = new_pool(GIB, G);
  unsigned before = mappings(NULL, SIZE_MAX, NULL);
  for (unsigned i = 0; i < N; i++) {
    block[i] = take(pool, 4 * G);
    wall[i] = take(pool, G);
    fill(block[i], 4 * G, i);
  }
  for (unsigned i = 0; i < N; i++) {
    hak_block grown = extent_resize(pool, block[i], 4 * G, 8 * G, G);
    ck_assert_int_eq(grown.base != NULL, i < 1024);
    block[i] = i < 1024 ? grown.base : block[i];
  }
  ck_assert_uint_le(mappings(NULL, SIZE_MAX, NULL), before + 1024 + 10);
  for (unsigned i = 0; i < N; i++) {
    ck_assert(filled(block[i], 4 * G, i));
    extent_free(pool, block[i], i < 1024 ? 8 * G : 4 * G);
    extent_free(pool, wall[i], G);
  }
  ck_assert_uint_le(mappings(NULL, SIZE_MAX, NULL), before + 10);
}
END_TEST

START_TEST(split_or_locked_blocks_are_not_moved)
{
  struct extent_pool *pool = new_pool(4 * MIB, G);
  char *a = take(pool, MIB), *wall = take(pool, MIB);
  fill(a, MIB, 1);
  mprotect(a + 8192, 4096, PROT_READ);
  ck_assert_ptr_null(extent_resize(pool, a, MIB, 2 * MIB, G).base);
  mprotect(a + 8192, 4096, PROT_READ | PROT_WRITE);
  syscall(SYS_mlock, a, 4096);
  ck_assert_ptr_null(extent_resize(pool, a, MIB, 2 * MIB, G).base);
  syscall(SYS_munlock, a, 4096);
  ck_assert_int_eq(syscall(SYS_mlock2, a, 4 * MIB, MLOCK_ONFAULT), 0); /* the whole arena, as by mlockall */
  ck_assert_ptr_null(extent_resize(pool, a, MIB, 2 * MIB, G).base);
  syscall(SYS_munlock, a, 4 * MIB);
  ck_assert(filled(a, MIB, 1));
  hak_block own = extent_resize(pool, a, MIB, 2 * MIB, G);
  ck_assert_ptr_nonnull(own.base);
  mprotect((char *)own.base + 8192, 4096, PROT_READ);
  ck_assert_ptr_null(extent_resize(pool, own.base, 2 * MIB, 4 * MIB, G).base);
  ck_assert(filled(own.base, MIB, 1));
  extent_free(pool, own.base, 2 * MIB);
  extent_free(pool, wall, MIB);
}
END_TEST

START_TEST(own_mapping)
{
  struct extent_pool *pool = new_pool(GIB, G);
  size_t before = address_space();
  hak_block block = extent_alloc(pool, 300 * MIB + 1, G);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  ck_assert_uint_eq(hak_block_capacity(block), 300 * MIB + G);
  ck_assert_uint_eq(counters[EXTENT_MAPPED], 300 * MIB + G);
  ck_assert_uint_eq(counters[EXTENT_RESERVED], 0);
  fill(block.base, MIB, 9);
  block = extent_resize(pool, block.base, hak_block_capacity(block), 900 * MIB, G);
  ck_assert(filled(block.base, MIB, 9));
  ck_assert_uint_eq(address_space(), before + 900 * MIB);
  block = extent_resize(pool, block.base, 900 * MIB, 2 * MIB, G);
  ck_assert(filled(block.base, MIB, 9));
  ck_assert_uint_eq(address_space(), before + 2 * MIB);
  fail_kinds = MUNMAP;
  extent_free(pool, block.base, 2 * MIB);
  ck_assert_uint_eq(counters[EXTENT_MAPPED], 0);
  ck_assert_uint_eq(counters[EXTENT_UNRELEASED], 2 * MIB);
  ck_assert(zero(block.base, MIB)); /* the pages went back all the same */
  fail_kinds = NOTHING;
  extent_trim(pool);
  ck_assert_uint_eq(address_space(), before);
}
END_TEST

START_TEST(empty_arenas_are_unmapped)
{
  static char *block[1000];
  struct extent_pool *pool = new_pool(4 * MIB, G);
  size_t before = address_space();
  for (unsigned i = 0; i < 1000; i++) {
    block[i] = take(pool, 2 * G);
  }
  ck_assert_uint_eq(counters[EXTENT_RESERVED], 32 * 4 * MIB);
  size_t metadata = meta_used;
  for (unsigned round = 0; round < 20; round++) {
    for (unsigned i = 0; i < 1000; i++) {
      extent_free(pool, block[(i * 7 + round) % 1000], 2 * G);
    }
    ck_assert_uint_eq(counters[EXTENT_RESERVED], 4 * MIB);
    ck_assert_uint_eq(address_space(), before + 4 * MIB);
    for (unsigned i = 0; i < 1000; i++) {
      block[i] = take(pool, 2 * G);
    }
  }
  ck_assert_uint_eq(meta_used, metadata); /* records of unmapped arenas serve again */
}
END_TEST

START_TEST(huge_units)
{
  struct extent_pool *pool = new_pool(64 * MIB, EXTENT_HUGE);
  char *big = extent_alloc(pool, EXTENT_HUGE, EXTENT_HUGE).base;
  ck_assert_uint_eq((uintptr_t)big % EXTENT_HUGE, 0);
  char *small[32];
  for (int i = 0; i < 32; i++) {
    small[i] = take(pool, G);
    memset(small[i], 1, G);
  }
  ck_assert_ptr_eq(small[0], big + EXTENT_HUGE);
  unsigned released = calls[MADVISE];
  for (int i = 0; i < 31; i++) {
    extent_free(pool, small[i], G);
  }
  ck_assert_uint_eq(calls[MADVISE], released); /* a live block keeps the huge page whole */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 31 * G);
  ck_assert_uint_eq(extent_trim(pool), 0);
  hak_block dirty = extent_alloc(pool, 2 * G, G);
  ck_assert_ptr_eq(dirty.base, small[0]);
  ck_assert_uint_eq(hak_block_flags(dirty), 0);
  extent_free(pool, dirty.base, 2 * G);
  extent_free(pool, small[31], G);
  ck_assert_uint_eq(calls[MADVISE], released + 1); /* all of it in one call */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  hak_block again = extent_alloc(pool, EXTENT_HUGE, EXTENT_HUGE);
  ck_assert_ptr_eq(again.base, small[0]);
  ck_assert_uint_eq(hak_block_flags(again), HAK_ZEROED);
  ck_assert(zero(again.base, EXTENT_HUGE));

  hak_block across = extent_alloc(pool, 3 * EXTENT_HUGE, G); /* a block that ends inside a unit */
  char *tail = across.base;
  memset(tail, 1, 3 * EXTENT_HUGE);
  across = extent_resize(pool, tail, 3 * EXTENT_HUGE, EXTENT_HUGE + G, G);
  ck_assert_uint_eq(hak_block_capacity(across), EXTENT_HUGE + G);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 31 * G);
  extent_free(pool, tail, EXTENT_HUGE + G);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);

  take(pool, G);
  tail = take(pool, 8 * G); /* shares a huge page; to own whole ones it has to move */
  ck_assert_uint_eq((uintptr_t)extent_resize(pool, tail, 8 * G, EXTENT_HUGE, EXTENT_HUGE).base % EXTENT_HUGE, 0);
  ck_assert_uint_eq(counters[EXTENT_MOVES], 1);
}
END_TEST

START_TEST(limited_address_space)
{
  struct extent_pool *pool = new_pool(GIB, G);
  struct rlimit limit = {.rlim_cur = address_space() + 256 * MIB, .rlim_max = RLIM_INFINITY};
  ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
  static char *block[10000];
  for (int round = 0; round < 4; round++) {
    unsigned count = 0;
    for (hak_block got; (got = extent_alloc(pool, G, G)).base != NULL; count++) {
      block[count] = got.base;
      fill(block[count], G, count);
    }
    ck_assert_uint_ge(count, 200 * MIB / G);
    for (unsigned i = 0; i < count; i++) {
      ck_assert(filled(block[i], G, i));
      extent_free(pool, block[i], G);
    }
    hak_block large = extent_alloc(pool, 220 * MIB, G); /* needs the space of the spare arena */
    ck_assert_ptr_nonnull(large.base);
    extent_free(pool, large.base, hak_block_capacity(large));
  }
}
END_TEST

START_TEST(refused_commit)
{
  struct extent_pool *pool = new_pool(GIB, G);
  char *block = take(pool, 64 * MIB);
  fail_kinds = MPROTECT;
  for (int i = 0; i < 3; i++) {
    ck_assert_ptr_null(extent_alloc(pool, G, G).base);
  }
  ck_assert_uint_eq(counters[EXTENT_RESERVED], GIB); /* another arena would not help */
  fail_kinds = MPROTECT;
  fail_once = true;
  ck_assert_ptr_eq(take(pool, G), block + 64 * MIB); /* the step ahead is refused, what is needed is not */
  ck_assert_uint_eq(counters[EXTENT_MAPPED], 66 * MIB);
}
END_TEST

/* A day in the life of a pool. Every step may fail; whatever it says, contents and accounts must agree with it. */
static void scenario(struct extent_pool *pool)
{
  enum { N = 32 };
  struct {
    char *base;
    size_t capacity, filled;
  } live[N] = {0};
  for (unsigned i = 0; i < N; i++) {
    size_t size = i % 8 == 7 ? 2 * MIB + G : (1 + i % 6) * G;
    hak_block block = extent_alloc(pool, size, i % 5 == 0 ? 2 * MIB : G);
    if (block.base == NULL) {
      continue;
    }
    live[i].base = block.base;
    live[i].capacity = hak_block_capacity(block);
    live[i].filled = live[i].capacity;
    ck_assert(!(hak_block_flags(block) & HAK_ZEROED) || zero(block.base, live[i].capacity));
    fill(block.base, live[i].filled, i);
  }
  for (unsigned i = 0; i < N; i++) {
    size_t size = i % 2 == 0 || i == 7 ? live[i].capacity * 3 : live[i].capacity / 2 + 1;
    hak_block block = live[i].base == NULL ? HAK_NO_BLOCK : extent_resize(pool, live[i].base, live[i].capacity, size, G);
    if (block.base != NULL) {
      size_t capacity = hak_block_capacity(block);
      ck_assert_uint_ge(capacity, size);
      live[i].filled = capacity < live[i].filled ? capacity : live[i].filled;
      if (hak_block_flags(block) & HAK_ZEROED) {
        ck_assert(zero((char *)block.base + live[i].capacity, capacity - live[i].capacity));
      }
      live[i].base = block.base;
      live[i].capacity = capacity;
      memset(live[i].base + live[i].filled, 1, capacity - live[i].filled);
    }
    ck_assert(live[i].base == NULL || filled(live[i].base, live[i].filled, i));
  }
  for (unsigned i = 0; i < N; i++) {
    if (live[i].base != NULL) {
      ck_assert(filled(live[i].base, live[i].filled, i));
      extent_free(pool, live[i].base, live[i].capacity);
    }
  }
}

static void fail_each_call(size_t unit, int kinds, bool once)
{
  size_t before = address_space();
  long n = 0;
  for (bool failed = true; failed; n++) {
    struct extent_pool *pool = new_pool(4 * MIB, unit);
    fail_kinds = kinds;
    fail_countdown = n;
    fail_once = once;
    scenario(pool);
    failed = once ? fail_kinds == NOTHING : fail_countdown < 0;
    fail_kinds = NOTHING;
    scenario(pool);
    extent_trim(pool);
    ck_assert_msg(address_space() == before, "call %ld of kinds %d failed: %zu bytes of address space lost", n, kinds,
                  address_space() - before);
    ck_assert_uint_eq(counters[EXTENT_MAPPED], 0);
    ck_assert_uint_eq(counters[EXTENT_RESERVED], 0);
    ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
    ck_assert_uint_eq(counters[EXTENT_OWN], 0);
  }
  ck_assert_int_gt(n, 2);
}

START_TEST(any_call_may_fail)
{
  half_mremap = _i == 1;
  fail_each_call(G, EVERYTHING, true);
  ck_assert_uint_gt(counters[EXTENT_MOVES], 2); /* the last run had no failure, and went everywhere */
  fail_each_call(EXTENT_HUGE, EVERYTHING, true);
}
END_TEST

START_TEST(any_kind_of_call_may_keep_failing)
{
  half_mremap = true;
  for (int kind = MMAP; kind <= META; kind *= 2) {
    if (kind != MUNMAP) { /* what cannot be unmapped for long is lost */
      fail_each_call(G, kind, false);
    }
  }
}
END_TEST

/* Threads exchange blocks through shared slots: each was filled by whichever thread put it there. */
static struct extent_pool *shared;
static size_t *slots[256];
static bool stop;

static void free_checked(size_t *block)
{
  if (block != NULL) {
    ck_assert(filled((char *)block, 4096, (unsigned)block[1]));
    extent_free(shared, block, block[2]);
  }
}

static void *churn(void *rounds)
{
  unsigned state = (unsigned)(uintptr_t)&state;
  for (unsigned i = 0; i < *(unsigned *)rounds && !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
    unsigned r = draw(&state);
    size_t size = r % 97 == 0 ? 20 * MIB : r % 7 == 0 ? 8 * G : (1 + r % 4) * G;
    hak_block block = extent_alloc(shared, size, r % 11 == 0 ? EXTENT_HUGE : G);
    ck_assert(!(hak_block_flags(block) & HAK_ZEROED) || zero(block.base, 4096));
    if (r % 5 == 0) {
      hak_block grown = extent_resize(shared, block.base, hak_block_capacity(block), size * 2, G);
      block = grown.base != NULL ? grown : block;
    }
    size_t *mine = block.base;
    fill(block.base, 4096, r);
    mine[1] = r;
    mine[2] = hak_block_capacity(block);
    free_checked(__atomic_exchange_n(&slots[r % 256], mine, __ATOMIC_ACQ_REL));
  }
  return NULL;
}

static void end_churn(pthread_t *threads, unsigned count)
{
  for (unsigned i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
  }
  for (unsigned i = 0; i < 256; i++) {
    free_checked(slots[i]);
  }
  extent_trim(shared);
  ck_assert_uint_eq(counters[EXTENT_MAPPED], 0);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  ck_assert_uint_eq(counters[EXTENT_RESERVED], 0);
}

START_TEST(eight_threads)
{
  unsigned rounds = 4000;
  pthread_t threads[8];
  shared = new_pool(64 * MIB, _i == 0 ? G : EXTENT_HUGE);
  for (int i = 0; i < 8; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, &rounds), 0);
  }
  end_churn(threads, 8);
}
END_TEST

START_TEST(fork_while_threads_allocate)
{
  unsigned rounds = UINT32_MAX;
  pthread_t threads[4];
  shared = new_pool(64 * MIB, G);
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, &rounds), 0);
  }
  for (int i = 0; i < 100; i++) {
    extent_fork_prepare(shared);
    pid_t child = fork();
    if (child == 0) {
      extent_fork_child(shared);
      for (unsigned j = 0; j < 50; j++) {
        hak_block block = extent_alloc(shared, (1 + j % 20) * G, G);
        fill(block.base, 4096, j);
        extent_free(shared, block.base, hak_block_capacity(block));
      }
      _exit(0);
    }
    extent_fork_parent(shared);
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
  }
  __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
  end_churn(threads, 4);
}
END_TEST

int main(void)
{
  const TTest *const once[] = {first_fit,
                               alignment,
                               many_blocks_in_random_order,
                               zeroed_only_when_released,
                               resize_in_place,
                               resize_by_moving,
                               moves_are_bounded,
                               split_or_locked_blocks_are_not_moved,
                               own_mapping,
                               empty_arenas_are_unmapped,
                               huge_units,
                               limited_address_space,
                               refused_commit,
                               any_kind_of_call_may_keep_failing,
                               fork_while_threads_allocate};
  Suite *suite = suite_create("extent");
  TCase *tests = tcase_create("extent");
  tcase_set_timeout(tests, 60);
  for (size_t i = 0; i < sizeof once / sizeof *once; i++) {
    tcase_add_test(tests, once[i]);
  }
  tcase_add_loop_test(tests, any_call_may_fail, 0, 2);
  tcase_add_loop_test(tests, eight_threads, 0, 2);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
