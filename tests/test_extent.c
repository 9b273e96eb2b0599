/* SPDX-License-Identifier: MIT */
/* test_extent.c - the address-space allocator of the page backends, driven directly. */
#include "host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "extent.h"

static struct extent_pool *new_pool(size_t arena, size_t unit)
{
  reset_host();
  const struct extent_setup setup = {.arena = arena, .unit = unit, .advice = unit == EXTENT_HUGE ? MADV_HUGEPAGE : MADV_NORMAL};
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

/* A purger that writes down what it is asked, and may refuse. It takes blocks of its own meanwhile: no lock is held. */
static struct {
  hak_purger purger;
  struct extent_pool *pool;
  uint64_t refuse; /* bits of spans that are kept */
  unsigned calls;
  uint32_t count; /* spans of the last call */
  struct iovec spans[HAK_PURGE_SPANS];
} recorder;

static uint64_t record(const hak_purger *purger, const struct iovec *spans, uint32_t count)
{
  ck_assert_ptr_eq(purger, &recorder.purger);
  ck_assert(count > 0 && count <= HAK_PURGE_SPANS);
  hak_block other = extent_alloc(recorder.pool, G, G);
  recorder.calls++;
  recorder.count = count;
  for (uint32_t i = 0; i < count; i++) {
    char *base = spans[i].iov_base;
    ck_assert(i == 0 || base > (char *)spans[i - 1].iov_base);
    ck_assert((char *)other.base < base || (char *)other.base >= base + spans[i].iov_len);
    recorder.spans[i] = spans[i];
    if ((recorder.refuse >> i & 1) == 0) {
      ck_assert_int_eq(syscall(SYS_madvise, base, spans[i].iov_len, MADV_DONTNEED), 0);
    }
  }
  extent_free(recorder.pool, other.base, hak_block_capacity(other));
  return recorder.refuse;
}

static void record_pool(struct extent_pool *pool)
{
  memset(&recorder, 0, sizeof recorder);
  recorder.purger.purge = record;
  recorder.pool = pool;
}

/* Frees the blocks whose letter in `which` is not '-', each `size` bytes, from `base` on, in that order. */
static void free_chosen(struct extent_pool *pool, char *base, size_t size, const char *which)
{
  static hak_range range[1024];
  size_t count = 0;
  for (size_t i = 0; which[i] != 0; i++) {
    if (which[i] != '-') {
      range[count] = (hak_range){.base = base + i * size, .capacity = size};
      count++;
      range[count - 1].next = &range[count];
    }
  }
  range[count - 1].next = NULL;
  extent_free_many(pool, range, &recorder.purger);
}

/* Block `i` from `base` on, all of which was filled at once, lives or has been released. */
static void expect_block(const char *base, size_t i, bool lives)
{
  for (size_t at = i * G; at < (i + 1) * G; at += 512) {
    ck_assert_uint_eq(*(const uint64_t *)(const void *)(base + at), lives ? (at << 20) + 2 : 0);
  }
}

static void expect_contents(const char *base, const char *which)
{
  for (size_t i = 0; which[i] != 0; i++) {
    expect_block(base, i, which[i] == '-');
  }
}

static void expect_span(uint32_t i, const char *base, size_t bytes)
{
  ck_assert_uint_lt(i, recorder.count);
  ck_assert_ptr_eq(recorder.spans[i].iov_base, base);
  ck_assert_uint_eq(recorder.spans[i].iov_len, bytes);
}

/* The purger that the failing system calls reach. */
static uint64_t purge_simply(const hak_purger *purger, const struct iovec *spans, uint32_t count)
{
  (void)purger;
  uint64_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    kept |= (uint64_t)(os_madvise(spans[i].iov_base, spans[i].iov_len, MADV_DONTNEED) < 0) << i;
  }
  return kept;
}

static const hak_purger simple = {purge_simply};

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

/* The lowest granule at a multiple of `align` granules from which on so many are false. */
static size_t lowest_place(const bool *used, size_t count, size_t align)
{
  for (size_t first = 0, length = 0;; first = first + align, length = 0) {
    while (length < count && !used[first + length]) {
      length++;
    }
    if (length == count) {
      return first;
    }
  }
}

/* Searched for one granule after the other, it is the same place. */
START_TEST(the_lowest_place_that_fits)
{
  enum { LIVE = 120, ROUNDS = 20000, MOST = 130, GRANULES = 16384 };
  static bool used[GRANULES];
  struct extent_pool *pool = new_pool(GIB, G);
  struct {
    size_t first, count;
  } live[LIVE] = {{0}};
  char *base = take(pool, G); /* an arena begins at a multiple of 2 MiB */
  extent_free(pool, base, G);
  unsigned state = 1;
  for (unsigned i = 0; i < ROUNDS; i++) {
    unsigned at = draw(&state) % LIVE;
    if (live[at].count != 0) {
      extent_free(pool, base + live[at].first * G, live[at].count * G);
      memset(used + live[at].first, 0, live[at].count);
    }
    size_t count = 1 + draw(&state) % (draw(&state) % 2 == 0 ? MOST : 4), align = draw(&state) % 8 == 0 ? 2 * MIB / G : 1;
    live[at].count = count;
    live[at].first = lowest_place(used, count, align);
    ck_assert_ptr_eq(extent_alloc(pool, count * G, align * G).base, base + live[at].first * G);
    memset(used + live[at].first, 1, count);
  }
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

START_TEST(neighbours_are_released_together)
{
  struct extent_pool *pool = new_pool(GIB, G);
  char *base = take(pool, G);
  for (int i = 1; i < 12; i++) {
    ck_assert_ptr_eq(take(pool, G), base + (size_t)i * G);
  }
  fill(base, 12 * G, 1);
  record_pool(pool);
  free_chosen(pool, base, G, "xxx--xx--x--");
  ck_assert_uint_eq(recorder.calls, 1);
  ck_assert_uint_eq(recorder.count, 3);
  expect_span(0, base, 3 * G);
  expect_span(1, base + 5 * G, 2 * G);
  expect_span(2, base + 9 * G, G);
  ck_assert_uint_eq(counters[EXTENT_RELEASES], 4); /* and the block of the purger */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  hak_block block = extent_alloc(pool, 3 * G, G);
  ck_assert_ptr_eq(block.base, base);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  expect_contents(base, "xxx--xx--x--");
}
END_TEST

START_TEST(a_call_has_a_bounded_number_of_spans)
{
  enum { BLOCKS = 400 };
  struct extent_pool *pool = new_pool(GIB, G);
  char *base = take(pool, G);
  char which[BLOCKS + 1] = "x";
  for (int i = 1; i < BLOCKS; i++) {
    take(pool, G);
    which[i] = i % 2 == 0 ? 'x' : '-';
  }
  fill(base, BLOCKS * G, 1);
  record_pool(pool);
  free_chosen(pool, base, G, which);
  ck_assert_uint_eq(recorder.calls, 4);
  ck_assert_uint_eq(recorder.count, 200 - 3 * HAK_PURGE_SPANS);
  expect_contents(base, which);
  for (int i = 0; i < BLOCKS / 2; i++) {
    hak_block block = extent_alloc(pool, G, G);
    ck_assert_ptr_eq(block.base, base + 2 * (size_t)i * G);
    ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  }
}
END_TEST

START_TEST(refused_spans_are_dirty)
{
  struct extent_pool *pool = new_pool(GIB, G);
  char *base = take(pool, G);
  for (int i = 1; i < 8; i++) {
    take(pool, G);
  }
  memset(base, 1, 8 * G);
  record_pool(pool);
  recorder.refuse = 2;
  free_chosen(pool, base, G, "x-xx-x--");
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 2 * G);
  ck_assert_uint_eq(counters[EXTENT_UNRELEASED], 2 * G);
  hak_block block = extent_alloc(pool, G, G);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  block = extent_alloc(pool, 2 * G, G);
  ck_assert_ptr_eq(block.base, base + 2 * G);
  ck_assert_uint_eq(hak_block_flags(block), 0);
  free_chosen(pool, base, G, "--xx----");
  recorder.refuse = 1;
  ck_assert_uint_eq(extent_trim(pool), 0);
  extent_alloc(pool, 2 * G, G);
  free_chosen(pool, base, G, "--xx----");
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 2 * G);
  ck_assert_uint_eq(extent_trim(pool), 2 * G);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  ck_assert(zero(base + 2 * G, 2 * G));
}
END_TEST

START_TEST(own_mappings_in_a_chain_are_unmapped)
{
  struct extent_pool *pool = new_pool(4 * MIB, G);
  char *base = take(pool, G);
  take(pool, G);
  take(pool, G);
  size_t before = address_space();
  hak_range range[4];
  range[0] = (hak_range){.base = base, .capacity = G, .next = &range[1]};
  range[1] = (hak_range){.base = take(pool, 3 * MIB), .capacity = 3 * MIB, .next = &range[2]};
  range[2] = (hak_range){.base = base + 2 * G, .capacity = G, .next = &range[3]};
  range[3] = (hak_range){.base = take(pool, 5 * MIB), .capacity = 5 * MIB, .next = NULL};
  ck_assert_uint_eq(counters[EXTENT_OWN], 2);
  record_pool(pool);
  extent_free_many(pool, range, &recorder.purger);
  ck_assert_uint_eq(counters[EXTENT_OWN], 0);
  ck_assert_uint_eq(address_space(), before);
  ck_assert_uint_eq(recorder.calls, 1);
  ck_assert_uint_eq(recorder.count, 2);
}
END_TEST

/* Arenas may lie side by side: a span ends where its arena does. */
START_TEST(empty_arenas_of_a_chain_are_unmapped)
{
  enum { BLOCKS = 512, PER_ARENA = 64 };
  static hak_range range[BLOCKS];
  struct extent_pool *pool = new_pool(4 * MIB, G);
  size_t before = address_space();
  for (int i = 0; i < BLOCKS; i++) {
    range[i] = (hak_range){.base = take(pool, G), .capacity = G};
    memset(range[i].base, 1, G);
  }
  ck_assert_uint_eq(counters[EXTENT_RESERVED], BLOCKS / PER_ARENA * 4 * MIB);
  hak_range *chain = NULL;
  for (int arena = 0; arena < BLOCKS / PER_ARENA; arena++) { /* arenas come from high addresses to low ones */
    for (int i = PER_ARENA; i-- > 0;) {
      hak_range *next = &range[arena * PER_ARENA + i];
      next->next = chain;
      chain = next;
    }
  }
  record_pool(pool);
  extent_free_many(pool, chain, &recorder.purger);
  ck_assert_uint_eq(recorder.count, BLOCKS / PER_ARENA);
  for (uint32_t i = 0; i < recorder.count; i++) {
    ck_assert_uint_eq(recorder.spans[i].iov_len, 4 * MIB);
    ck_assert_uint_eq((uintptr_t)recorder.spans[i].iov_base % EXTENT_HUGE, 0);
  }
  ck_assert_uint_eq(counters[EXTENT_RESERVED], 4 * MIB); /* one spare */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  ck_assert_uint_eq(address_space(), before + 4 * MIB);
  extent_trim(pool);
  ck_assert_uint_eq(address_space(), before);
}
END_TEST

/* Units of 32 blocks: capitals begin one. */
START_TEST(a_chain_releases_whole_huge_units)
{
  enum { BLOCKS = 128 };
  struct extent_pool *pool = new_pool(64 * MIB, EXTENT_HUGE);
  char *base = take(pool, G);
  for (int i = 1; i < BLOCKS; i++) {
    take(pool, G);
  }
  take(pool, EXTENT_HUGE);
  fill(base, BLOCKS * G, 1);
  record_pool(pool);
  const char *which = "Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                      "Xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                      "Xxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx"
                      "--------------------------------";
  free_chosen(pool, base, G, which);
  ck_assert_uint_eq(recorder.calls, 1);
  ck_assert_uint_eq(recorder.count, 1);
  expect_span(0, base, 2 * EXTENT_HUGE);
  ck_assert(zero(base, 2 * EXTENT_HUGE));
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 31 * G); /* a live block keeps its unit */
  ck_assert_uint_eq(counters[EXTENT_UNRELEASED], 0);
  expect_block(base, 79, true);
  free_chosen(pool, base + 79 * G, G, "x");
  ck_assert_uint_eq(recorder.count, 1);
  expect_span(0, base + 2 * EXTENT_HUGE, EXTENT_HUGE); /* with what was free beside it */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  hak_block block = extent_alloc(pool, 3 * EXTENT_HUGE, G);
  ck_assert_ptr_eq(block.base, base);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  ck_assert(zero(base, 3 * EXTENT_HUGE));
  for (size_t i = 96; i < BLOCKS; i++) {
    expect_block(base, i, true);
  }
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

/* Where blocks lie does not follow from where others do, yet they lie close together, and what is free is found. */
START_TEST(random_places)
{
  enum { BLOCKS = 128, SOME = 16 };
  char *block[2][SOME];
  unsigned rising = 0, alike = 0;
  static hak_host hardened;
  reset_host();
  memcpy(&hardened, &host, sizeof hardened);
  hardened.hardened = 2;
  for (unsigned p = 0; p < 2; p++) {
    struct extent_pool *pool = extent_start(&hardened, &(struct extent_setup){.arena = GIB, .unit = G});
    ck_assert_ptr_nonnull(pool);
    char *all[BLOCKS], *lowest = NULL, *highest = NULL;
    for (unsigned i = 0; i < BLOCKS; i++) {
      all[i] = take(pool, G);
      fill(all[i], G, i);
      lowest = lowest == NULL || all[i] < lowest ? all[i] : lowest;
      highest = all[i] > highest ? all[i] : highest;
      rising += i > 0 && all[i] == all[i - 1] + G;
    }
    ck_assert_uint_lt((size_t)(highest - lowest), 2 * BLOCKS * G);
    for (unsigned i = 0; i < BLOCKS; i++) {
      ck_assert(filled(all[i], G, i));
    }
    for (unsigned i = 0; i < SOME; i++) {
      block[p][i] = all[i] - (uintptr_t)lowest;
      alike += p == 1 && block[0][i] == block[1][i];
    }
    ck_assert_uint_le((size_t)(take(pool, 64 * MIB) - lowest), GIB);
    for (unsigned i = 0; i < BLOCKS; i++) {
      extent_free(pool, all[i], G);
    }
  }
  ck_assert_uint_lt(rising, BLOCKS); /* of 254 */
  ck_assert_uint_lt(alike, SOME / 2);
}
END_TEST

/* As where there may be no more mappings: what splits none is not refused. */
START_TEST(refused_split)
{
  struct extent_pool *pool = new_pool(GIB, G);
  fail_kinds = MPROTECT;
  fail_once = true;
  char *block = take(pool, G);
  ck_assert_uint_eq(counters[EXTENT_MAPPED], GIB);
  fill(block + GIB - G, G, 1);
  unsigned before = calls[MPROTECT];
  ck_assert_ptr_eq(take(pool, 64 * MIB), block + G);
  ck_assert_uint_eq(calls[MPROTECT], before);
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
  hak_range range[N];
  hak_range *chain = NULL;
  for (unsigned i = 0; i < N; i++) {
    if (live[i].base != NULL) {
      ck_assert(filled(live[i].base, live[i].filled, i));
      range[i] = (hak_range){.base = live[i].base, .capacity = live[i].capacity, .next = chain};
      chain = &range[i];
    }
    if (i % 4 == 1 && chain != NULL) { /* some alone, some together */
      extent_free(pool, chain->base, chain->capacity);
      chain = chain->next;
    }
  }
  extent_free_many(pool, chain, &simple);
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

/* Each thread frees its blocks in chains, while the others take what becomes free. */
static void *churn_chains(void *seed)
{
  enum { CHAIN = 100 };
  hak_range range[CHAIN];
  unsigned state = *(unsigned *)seed;
  for (unsigned round = 0; round < 60; round++) {
    for (unsigned i = 0; i < CHAIN; i++) {
      size_t size = draw(&state) % 97 == 0 ? 20 * MIB : (1 + draw(&state) % 4) * G;
      hak_block block = extent_alloc(shared, size, G);
      ck_assert_ptr_nonnull(block.base);
      ck_assert(!(hak_block_flags(block) & HAK_ZEROED) || zero(block.base, 8192));
      range[i] = (hak_range){.base = block.base, .capacity = hak_block_capacity(block)};
      fill(block.base, 8192, *(unsigned *)seed + i);
    }
    hak_range *chain = NULL;
    for (unsigned i = 0; i < CHAIN; i++) {
      ck_assert(filled(range[i].base, 8192, *(unsigned *)seed + i));
      range[i].next = chain;
      chain = &range[i];
    }
    extent_free_many(shared, chain, &simple);
  }
  return NULL;
}

START_TEST(four_threads_free_chains)
{
  unsigned seed[4] = {1000, 2000, 3000, 4000};
  pthread_t threads[4];
  shared = new_pool(64 * MIB, _i == 0 ? G : EXTENT_HUGE);
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(pthread_create(&threads[i], NULL, churn_chains, &seed[i]), 0);
  }
  end_churn(threads, 4);
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

/* ---- leads ----------------------------------------------------------------------------------------------------------- */

#define LEAD (EXTENT_HUGE - G)

static struct extent_pool *new_pool_with_leads(size_t arena)
{
  reset_host();
  const struct extent_setup setup = {.arena = arena, .unit = EXTENT_HUGE, .lead = LEAD, .advice = MADV_HUGEPAGE};
  struct extent_pool *pool = extent_start(&host, &setup);
  ck_assert_ptr_nonnull(pool);
  return pool;
}

static char *take_lead(struct extent_pool *pool, size_t size)
{
  hak_block block = extent_alloc_lead(pool, size);
  ck_assert_ptr_nonnull(block.base);
  ck_assert_uint_eq((uintptr_t)block.base % EXTENT_HUGE, LEAD);
  ck_assert_uint_eq(hak_block_capacity(block), (size + G - 1) / G * G);
  ck_assert_uint_eq(hak_block_flags(block), HAK_ZEROED);
  return block.base;
}

START_TEST(first_granule_behind_a_lead_has_small_pages)
{
  struct extent_pool *pool = new_pool_with_leads(GIB);
  for (int i = 0; i < 3; i++) {
    char *block = take_lead(pool, 4 * MIB);
    block[0] = 1;
    ck_assert_uint_eq(resident_pages(block, 4 * MIB), 1);
    extent_free(pool, block, 4 * MIB);
    ck_assert_uint_eq(resident_pages(block, 4 * MIB), 0);
  }
  ck_assert_uint_eq(counters[EXTENT_MAPPED], 4 * MIB); /* the lead is closed, and the place was found again */
}
END_TEST

START_TEST(blocks_with_leads_keep_their_bytes)
{
  enum { COUNT = 20 };
  struct extent_pool *pool = new_pool_with_leads(256 * MIB);
  static hak_range range[COUNT];
  for (unsigned round = 0; round < 3; round++) {
    for (unsigned i = 0; i < COUNT; i++) {
      size_t size = (MIB + G) + i * 5 * G;
      range[i] = (hak_range){.base = take_lead(pool, size), .capacity = size};
      fill(range[i].base, size, i);
    }
    for (unsigned i = 0; i < COUNT; i += 2) { /* shrink, and grow in place */
      size_t size = range[i].capacity;
      hak_block shrunk = extent_resize(pool, range[i].base, size, size - G, G);
      ck_assert_ptr_eq(shrunk.base, range[i].base);
      ck_assert(filled(shrunk.base, size - G, i));
      hak_block grown = extent_resize(pool, shrunk.base, size - G, size, G);
      ck_assert_ptr_eq(grown.base, range[i].base);
      ck_assert_ptr_null(extent_resize(pool, grown.base, size, size + 64 * MIB, G).base); /* never moved */
      fill(range[i].base, size, i);
    }
    for (unsigned i = 0; i < COUNT; i++) {
      ck_assert(filled(range[i].base, range[i].capacity, i));
      range[i].next = i + 1 < COUNT ? &range[i + 1] : NULL;
    }
    record_pool(pool);
    extent_free_many(pool, range, &recorder.purger);
    ck_assert_uint_eq(counters[EXTENT_OWN], 0);
    ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
    extent_trim(pool);
    ck_assert_uint_eq(counters[EXTENT_MAPPED], 0);
  }
}
END_TEST

START_TEST(leads_are_bounded)
{
  struct extent_pool *pool = new_pool_with_leads(64 * GIB);
  unsigned count = 0, before = mappings(NULL, SIZE_MAX, NULL);
  while (extent_alloc_lead(pool, (MIB + G)).base != NULL) {
    count++;
    ck_assert_uint_le(count, 10000);
  }
  ck_assert_uint_ge(count, 8000);
  ck_assert_uint_le(mappings(NULL, SIZE_MAX, NULL), before + 2 * count + 10);
  ck_assert_ptr_nonnull(extent_alloc(pool, EXTENT_HUGE, EXTENT_HUGE).base);
  struct rlimit limit = {.rlim_cur = address_space() + GIB, .rlim_max = RLIM_INFINITY};
  ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
  struct extent_pool *scarce = new_pool_with_leads(GIB);
  limit.rlim_cur = RLIM_INFINITY;
  ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
  ck_assert_ptr_null(extent_alloc_lead(scarce, 4 * MIB).base); /* address space was scarce at the start */
}
END_TEST

/* ---- pages that stay ------------------------------------------------------------------------------------------------- */

#define H EXTENT_HUGE
#define SECOND UINT64_C(1000000000)

/* A pool that keeps pages for a second, with eight filled blocks of a huge page in a row. */
static struct extent_pool *new_pool_that_keeps(char **base)
{
  reset_host();
  clock_time = 10 * SECOND;
  const struct extent_setup setup = {.arena = GIB, .unit = H, .keep = SECOND};
  struct extent_pool *pool = extent_start(&host, &setup);
  ck_assert_ptr_nonnull(pool);
  for (unsigned i = 0; i < 8; i++) {
    char *block = take(pool, H);
    *base = i == 0 ? block : *base;
    ck_assert_ptr_eq(block, *base + i * H);
    fill(block, H, i);
  }
  return pool;
}

/* Frees those of the eight blocks whose bit is set. */
static void release_some(struct extent_pool *pool, char *base, unsigned which)
{
  for (unsigned i = 0; i < 8; i++) {
    if ((which >> i & 1) != 0) {
      const hak_range range = {.base = base + i * H, .capacity = H};
      extent_free_many(pool, &range, &simple);
    }
  }
}

START_TEST(pages_stay_for_the_next_blocks)
{
  char *base;
  struct extent_pool *pool = new_pool_that_keeps(&base);
  release_some(pool, base, 0x3c);
  ck_assert_uint_eq(calls[MADVISE], 0);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 4 * H);
  hak_block block = extent_alloc(pool, 3 * H, G); /* of another size: neighbours have joined */
  ck_assert_ptr_eq(block.base, base + 2 * H);
  ck_assert_uint_eq(hak_block_flags(block), 0);
  ck_assert(filled(base + 2 * H, H, 2));
  ck_assert_uint_eq(counters[EXTENT_RETAINED], H);
  ck_assert_uint_eq(calls[MADVISE], 0);
  ck_assert_uint_eq(extent_trim(pool), H);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  extent_free(pool, block.base, 3 * H); /* not released by a reclaim plugin */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  ck_assert(zero(base + 2 * H, 3 * H));
}
END_TEST

START_TEST(kept_pages_do_not_raise_the_peak)
{
  char *base;
  struct extent_pool *pool = new_pool_that_keeps(&base);
  release_some(pool, base, 0x55);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 4 * H);         /* with four blocks, as much as there was */
  take(pool, 2 * H);                                           /* there is no such gap */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 3 * H);         /* with six, and an eighth for gaps */
  ck_assert(filled(base, H, 0) && filled(base + 2 * H, H, 2)); /* the lowest stay: they are the next */
  ck_assert(filled(base + 4 * H, H, 4) && zero(base + 6 * H, H));
  ck_assert(filled(base + H, H, 1) && filled(base + 7 * H, H, 7));
  ck_assert_uint_eq(hak_block_flags(extent_alloc(pool, H, G)), 0);
}
END_TEST

START_TEST(kept_pages_go_when_the_peak_is_past)
{
  char *base;
  struct extent_pool *pool = new_pool_that_keeps(&base);
  release_some(pool, base, 0xf0);
  ck_assert(extent_expire(pool));
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 4 * H);
  clock_time += SECOND; /* the period with the peak is the one before */
  ck_assert(extent_expire(pool));
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 4 * H);
  clock_time += SECOND; /* nothing came in all of this one */
  ck_assert(!extent_expire(pool));
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  ck_assert(zero(base + 4 * H, 4 * H));
  ck_assert(filled(base, H, 0) && filled(base + 3 * H, H, 3));
  ck_assert_uint_eq(calls[MADVISE], 1); /* neighbours together */
}
END_TEST

/*
 * Blocks of one and of two huge pages in turn, which never fit where the others were. Each time twice as much as the peak would be
 * purged and touched anew; so more is kept, up to half of the peak.
 */
START_TEST(what_is_purged_again_and_again_stays)
{
  char *base;
  struct extent_pool *pool = new_pool_that_keeps(&base);
  unsigned first = 0, last = 0;
  for (int round = 0; round < 20; round++) {
    unsigned before = calls[MADVISE];
    release_some(pool, base, 0x55);
    char *two = take(pool, 2 * H);
    ck_assert(two >= base + 8 * H);
    fill(two, 2 * H, 9);
    const hak_range range = {.base = two, .capacity = 2 * H};
    extent_free_many(pool, &range, &simple);
    for (unsigned i = 0; i < 8; i += 2) {
      ck_assert_ptr_eq(take(pool, H), base + i * H);
      fill(base + i * H, H, i);
    }
    ck_assert_uint_le(counters[EXTENT_RETAINED], 4 * H);
    first += round < 2 ? calls[MADVISE] - before : 0;
    last += round >= 15 ? calls[MADVISE] - before : 0;
  }
  ck_assert_uint_ge(first, 4);
  ck_assert_uint_eq(last, 0);
  clock_time += SECOND; /* and not for longer than the peak */
  (void)extent_expire(pool);
  take(pool, G);
  clock_time += SECOND;
  (void)extent_expire(pool);
  ck_assert_uint_le(counters[EXTENT_RETAINED], 2 * H);
}
END_TEST

START_TEST(a_trim_releases_many_spans_with_one_call)
{
  enum { BLOCKS = 300 };
  reset_host();
  const struct extent_setup setup = {.arena = GIB, .unit = G, .keep = SECOND};
  struct extent_pool *pool = extent_start(&host, &setup);
  char *base = take(pool, G), which[BLOCKS + 1] = "";
  for (int i = 0; i < BLOCKS; i++) {
    ck_assert_ptr_eq(i == 0 ? base : take(pool, G), base + (size_t)i * G);
    strcat(which, i % 2 == 0 ? "x" : "-");
  }
  memset(base, 1, BLOCKS * G);
  record_pool(pool);
  free_chosen(pool, base, G, which);
  ck_assert_uint_eq(counters[EXTENT_RETAINED], BLOCKS / 2 * G);
  recorder.refuse = 5; /* as if it only advised: these go by one call each */
  size_t released = extent_trim(pool);
  ck_assert_uint_eq(recorder.calls, 3);
  ck_assert_uint_ge(released, (BLOCKS / 2 - 3) * G); /* the purger took up to three blocks itself, and freed them */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
  for (int i = 0; i < BLOCKS; i++) {
    ck_assert_int_eq(base[(size_t)i * G], which[i] == '-');
  }
}
END_TEST

START_TEST(kept_pages_that_the_system_keeps)
{
  char *base;
  struct extent_pool *pool = new_pool_that_keeps(&base);
  release_some(pool, base, 0xf0);
  fail_kinds = MADVISE;
  fail_countdown = 0;
  fail_once = false;
  clock_time += SECOND;
  (void)extent_expire(pool);
  clock_time += SECOND;
  ck_assert(!extent_expire(pool)); /* and does not try for ever */
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 4 * H);
  fail_kinds = NOTHING;
  clock_time += SECOND;
  ck_assert(!extent_expire(pool));
  ck_assert_uint_eq(counters[EXTENT_RETAINED], 0);
}
END_TEST

int main(void)
{
  const TTest *const once[] = {first_fit,
                               the_lowest_place_that_fits,
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
                               neighbours_are_released_together,
                               a_call_has_a_bounded_number_of_spans,
                               refused_spans_are_dirty,
                               own_mappings_in_a_chain_are_unmapped,
                               empty_arenas_of_a_chain_are_unmapped,
                               a_chain_releases_whole_huge_units,
                               first_granule_behind_a_lead_has_small_pages,
                               blocks_with_leads_keep_their_bytes,
                               leads_are_bounded,
                               pages_stay_for_the_next_blocks,
                               kept_pages_do_not_raise_the_peak,
                               kept_pages_go_when_the_peak_is_past,
                               what_is_purged_again_and_again_stays,
                               a_trim_releases_many_spans_with_one_call,
                               kept_pages_that_the_system_keeps,
                               limited_address_space,
                               refused_commit,
                               random_places,
                               refused_split,
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
  tcase_add_loop_test(tests, four_threads_free_chains, 0, 2);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
