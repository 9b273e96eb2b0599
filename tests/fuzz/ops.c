/* SPDX-License-Identifier: MIT */
/*
 * ops.c - fuzz target: the malloc family. The bytes of an input are a sequence of calls through hak_*, with live options and
 * choices of the policy that change in between, against a model of what is live.
 *
 * Every block is where it may be: aligned, large enough, zero after calloc, over no other one; and has its bytes until it is
 * freed, which are a function of owner, size and place. Every block must come from a plugin, and hakmem must have counted
 * what was called. $FUZZ_PLUGINS has the plugins; $FUZZ_SET is added to the configuration.
 */
#define _GNU_SOURCE
#include "hakmem/hakmem.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "header.h"
#include "must.h"
#include "pagemap.h"
#include "span.h"

enum { SLOTS = 48, MARK = 4711 /* an errno that nobody sets */ };

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define LIVE_MOST (16 * MIB)
#define LOOK (64 * KIB)                         /* so much of what calloc gave must be zero, if it is not looked at closely */
#define HOPELESS ((size_t)PTRDIFF_MAX - 0xffff) /* no request from here on can succeed */

static const uint8_t *at, *end; /* of the input */

static struct block {
  unsigned char *base;
  size_t size, usable, align;
  uint32_t owner;
} block[SLOTS];
static size_t live;                   /* bytes requested */
static uint32_t owners;               /* blocks so far */
static uint64_t made, freed, resized; /* calls that must have been counted */
static uint64_t operations;           /* of all inputs */

/* ---- the configuration --------------------------------------------------------------------------------------------- */

/* Before the constructor that loads it. */
static __attribute__((constructor(101))) void configure(void)
{
  static char text[4096];
  const char *plugins = getenv("FUZZ_PLUGINS"), *more = getenv("FUZZ_SET");
  snprintf(
      text, sizeof text,
      "core.plugin_path=%s;core.strict=on;core.policy=static;core.cap=32M;core.epoch=16;backend.mmap.arena=16M;"
      "backend.hugepage.arena=16M;strategy.default.route=malloc, mmap from 64K, hugepage from 2M;strategy.wrapped.route=malloc;"
      "strategy.pages.route=malloc, mmap from 64K;strategy.huge.route=malloc, hugepage from 256K;"
      "strategy.bare.route=malloc, mmap from 128K;strategy.bare.cache=off;strategy.bare.reclaim=off;%s",
      plugins != NULL ? plugins : "", more != NULL ? more : "");
  setenv("HAKMEM_SET", text, 1);
}

static const struct {
  const char *key, *value;
} settings[] = {{"policy.static.strategy", "default"},
                {"policy.static.strategy", "wrapped"},
                {"policy.static.strategy", "pages"},
                {"policy.static.strategy", "huge"},
                {"policy.static.strategy", "bare"},
                {"core.epoch", "1"},
                {"core.epoch", "16"},
                {"core.cap", "0"},
                {"core.cap", "1M"},
                {"core.cap", "64M"},
                {"core.foreign", "abort"},
                {"core.foreign", "libc"},
                {"cache.bigcache.limit", "0"},
                {"cache.bigcache.limit", "64M"},
                {"cache.bigcache.floor", "8M"},
                {"cache.bigcache.age", "0"},
                {"reclaim.batch.bytes", "64K"},
                {"reclaim.batch.bytes", "8M"},
                {"reclaim.batch.count", "1"},
                {"reclaim.batch.cap", "0"},
                {"backend.slab.keep", "0"},
                {"backend.slab.keep", "64M"},
                {"backend.slab.age", "0"},
                {"core.hardening", "off"}};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* Where the policy is another one than static, or the small backend, the option is unknown; and one cannot change. */
static void change_setting(uint32_t i)
{
  char why[256];
  int result = hak_set(settings[i % SETTINGS].key, settings[i % SETTINGS].value, why, sizeof why);
  MUST(result == 0 || errno == EINVAL || errno == EPERM);
  MUST(why[0] != 0 && (result != 0) == (strncmp(why, "unknown key", 11) == 0 || strstr(why, "cannot change") != NULL));
}

/* ---- from bytes to arguments --------------------------------------------------------------------------------------- */

static uint32_t byte(void)
{
  return at < end ? *at++ : 0;
}

static size_t pair(void)
{
  size_t high = byte() << 8;
  return high | byte();
}

static size_t some_size(void)
{
  static const size_t border[] = {16,        1 * KIB, 4 * KIB, 64 * KIB, 128 * KIB, 256 * KIB,
                                  512 * KIB, 1 * MIB, 2 * MIB, 4 * MIB,  8 * MIB,   16 * MIB - 4096};
  size_t size = 0;
  uint32_t how = byte();
  switch (how % 8) {
  case 0:
  case 1:
    size = byte();
    break;
  case 2:
    size = pair() % (4 * KIB);
    break;
  case 3:
    size = pair() * 5;
    break;
  case 4:
    size = border[byte() % (sizeof border / sizeof *border)] + how / 8 - 16;
    break;
  case 5:
    size = pair() % (2 * KIB) * KIB;
    break;
  case 6:
    size = byte() % 64 * HAK_GRANULE;
    break;
  default:
    size = how < 240 ? pair() : how % 16 == 7 ? SIZE_MAX - pair() : (size_t)PTRDIFF_MAX - pair() % 0xffff;
    break;
  }
  return size < HOPELESS && live + size > LIVE_MOST ? size % (4 * KIB) : size;
}

/* ---- contents ------------------------------------------------------------------------------------------------------ */

static unsigned char content(const struct block *b, size_t i)
{
  return (unsigned char)((b->owner * 0x9e3779b1U + (uint32_t)b->size * 0x85ebca6bU + (uint32_t)i * 0xc2b2ae35U) >> 24);
}

/* One block in eight is looked at closely: each page costs a fault, and they would be most of the time. */
static bool closely(const struct block *b)
{
  return b->owner % 8 == 0;
}

/* The next place that is looked at: all of the first, then fewer and fewer, and the last. */
static size_t next_place(const struct block *b, size_t i)
{
  size_t step = i < 256 ? 1 : i < 16 * KIB ? 127 : i < 256 * KIB && closely(b) ? 4093 : 65521;
  return i + 1 < b->usable && i + step >= b->usable ? b->usable - 1 : i + step;
}

static void fill(struct block *b)
{
  for (size_t i = 0; i < b->usable; i = next_place(b, i)) {
    b->base[i] = content(b, i);
  }
}

/* `base` has what `b` had, in its first `size` bytes at least. Places are those of the whole block. */
static void must_have(const unsigned char *base, const struct block *b, size_t size)
{
  for (size_t i = 0; i < size && i < b->usable; i = next_place(b, i)) {
    MUST(base[i] == content(b, i));
  }
}

/* ---- the model ----------------------------------------------------------------------------------------------------- */

static bool from_plugin(const void *base)
{
  hki_entry entry = hki_pagemap_get((uintptr_t)base);
  switch ((int)hki_entry_kind(entry)) {
  case HKI_STARTS:
    return hki_header_backend(hki_header(base))->index != HKI_BOOT;
  case HKI_CLASS:
  case HKI_CLASS_FULL:
  case HKI_PAGE_BLOCK:
    return ((const struct hki_span *)hki_entry_record(entry))->range.backend != HKI_BOOT;
  default:
    return false;
  }
}

static void enter(struct block *b, void *base, size_t size, size_t align, bool zero)
{
  *b = (struct block){.base = base, .size = size, .align = align, .owner = ++owners, .usable = hak_malloc_usable_size(base)};
  uintptr_t first = (uintptr_t)base, after = first + (b->usable > 0 ? b->usable : 1);
  MUST(base != NULL && first % align == 0 && b->usable >= size && from_plugin(base));
  for (int i = 0; i < SLOTS; i++) {
    uintptr_t other = (uintptr_t)block[i].base;
    MUST(other == 0 || &block[i] == b || other >= after || other + (block[i].usable > 0 ? block[i].usable : 1) <= first);
  }
  size_t looked = size < LOOK || closely(b) ? size : LOOK;
  MUST(!zero || size == 0 || (b->base[0] == 0 && memcmp(b->base, b->base + 1, looked - 1) == 0));
  live += size;
  fill(b);
}

static void leave(struct block *b)
{
  MUST(hak_malloc_usable_size(b->base) == b->usable);
  must_have(b->base, b, b->usable);
  live -= b->size;
  b->base = NULL;
}

static void release(struct block *b, uint32_t how)
{
  if (b->base == NULL) {
    hak_free(NULL);
    return;
  }
  unsigned char *base = b->base;
  leave(b);
  errno = MARK;
  switch (how % 3) {
  case 0:
    hak_free(base);
    break;
  case 1:
    hak_free_sized(base, b->size);
    break;
  default:
    hak_free_aligned_sized(base, b->align, b->size);
    break;
  }
  MUST(errno == MARK);
  freed++;
}

/* A new block in the slot, or none when the request was hopeless. */
static void taken(struct block *b, void *base, size_t size, size_t align, bool zero)
{
  if (size >= HOPELESS) {
    MUST(base == NULL);
    return;
  }
  made++;
  enter(b, base, size, align, zero);
}

/* ---- calls --------------------------------------------------------------------------------------------------------- */

static void call_aligned(struct block *b, uint32_t how)
{
  uint32_t shift = byte() % 22;
  size_t align = (size_t)1 << shift, size = some_size(), least = align < 16 ? 16 : align;
  void *base = NULL;
  switch (how % 5) {
  case 0:
    if (align < sizeof(void *)) {
      MUST(hak_posix_memalign(&base, align, size) == EINVAL && base == NULL);
      return;
    }
    MUST(hak_posix_memalign(&base, align, size) == (size >= HOPELESS ? ENOMEM : 0));
    break;
  case 1:
    base = hak_memalign(align, size);
    break;
  case 2:
    base = hak_aligned_alloc(align + (shift > 1), size); /* which is rounded up */
    least = shift > 3 ? 2 * align : 16;
    break;
  case 3:
    base = hak_valloc(size);
    least = 4096;
    break;
  default:
    base = hak_pvalloc(size);
    least = 4096;
    size = size < HOPELESS ? (size == 0 ? 4096 : (size + 4095) & ~(size_t)4095) : size;
    break;
  }
  taken(b, base, size, least, false);
}

static void call_calloc(struct block *b, bool many)
{
  size_t size = some_size(), count = many ? byte() % 5 : 1;
  size = many && size < HOPELESS ? size % (64 * KIB) : size;
  errno = MARK;
  void *base = hak_calloc(count, size);
  size_t bytes;
  bool hopeless = __builtin_mul_overflow(count, size, &bytes) || bytes >= HOPELESS;
  MUST(errno == (hopeless ? ENOMEM : MARK));
  taken(b, base, hopeless ? SIZE_MAX : bytes, 16, true);
}

static void call_realloc(struct block *b, bool array)
{
  struct block old = *b;
  size_t size = some_size(), count = array ? 1 + byte() % 3 : 1, bytes;
  size = array && size < HOPELESS ? size % (64 * KIB) : size;
  bool hopeless = __builtin_mul_overflow(count, size, &bytes) || bytes >= HOPELESS;
  if (old.base != NULL) {
    must_have(old.base, &old, old.usable);
  }
  errno = MARK;
  void *base = array ? hak_reallocarray(old.base, count, size) : hak_realloc(old.base, size);
  MUST(errno == (hopeless ? ENOMEM : MARK));
  if (hopeless) {
    MUST(base == NULL);
    return;
  }
  if (old.base != NULL && bytes == 0) {
    MUST(base == NULL);
    live -= old.size;
    b->base = NULL;
    freed++;
    return;
  }
  MUST(base != NULL);
  if (old.base != NULL) {
    must_have(base, &old, old.size < bytes ? old.size : bytes);
    live -= old.size;
    resized++;
  } else {
    made++;
  }
  enter(b, base, bytes, 16, false);
}

static void one_call(void)
{
  uint32_t what = byte(), how = what / 16;
  struct block *b = &block[byte() % SLOTS];
  operations++;
  what %= 16;
  if (what < 8 && b->base != NULL && !(what == 6 || what == 7)) {
    release(b, how);
  }
  switch (what) {
  case 0:
  case 1:
  case 2: {
    size_t size = some_size();
    taken(b, hak_malloc(size), size, 16, false);
    break;
  }
  case 3:
  case 4:
    call_calloc(b, how % 2 == 1);
    break;
  case 5:
    call_aligned(b, how);
    break;
  case 6:
  case 7:
  case 8:
    call_realloc(b, how % 4 == 3);
    break;
  case 9:
  case 10:
  case 11:
    release(b, how);
    break;
  case 12:
    if (b->base != NULL) {
      must_have(b->base, b, b->usable);
    }
    break;
  case 13: {
    int given = how == 0 ? hak_malloc_trim(0) : 0; /* seldom: everything is faulted in again */
    MUST(given == 0 || given == 1);
    break;
  }
  default:
    change_setting(byte());
    break;
  }
}

/* In the form in which libFuzzer prints its own. */
static __attribute__((destructor)) void tell(void)
{
  fprintf(stderr, "stat::operations: %llu\n", (unsigned long long)operations);
}

static struct hak_totals totals(void)
{
  struct hak_totals t = {.struct_size = sizeof t};
  MUST(hak_stats(&t) == 0);
  return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  at = data;
  end = data + size;
  made = freed = resized = 0;
  struct hak_totals before = totals();
  while (at < end) {
    one_call();
  }
  for (uint32_t i = 0; i < SLOTS; i++) {
    release(&block[i], i);
  }
  struct hak_totals after = totals();
  uint64_t allocs = after.allocs - before.allocs, frees = after.frees - before.frees;
  MUST(live == 0 && made == freed);
  MUST(allocs >= made && allocs <= made + resized && frees == allocs); /* a resize may be both */
  MUST(after.resizes - before.resizes <= resized && after.allocated == before.allocated && after.foreign == before.foreign);
  return 0;
}
