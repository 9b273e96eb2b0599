/* SPDX-License-Identifier: MIT */
/*
 * host_spans.h - the made-up core of host.h for class backends: size classes, spans and who they belong to, and two page sources.
 *
 * It knows which objects are out, and so holds a backend to its word: an object is handed out once, inside a span of its class that
 * is announced; a span goes when none of its objects is out; pages go back whole to where they came from.
 */
#ifndef HOST_SPANS_H
#define HOST_SPANS_H

#include "host.h"

#include <pthread.h>
#include <stdlib.h>

enum { CLASSES = 97, SPANS = 16384, LONGEST = 32, UNITS = LONGEST * 4096, MISUSE = 42, OTHER_MISUSE = 43 };

struct known_span {
  char *base; /* NULL: free entry */
  size_t bytes;
  uint32_t cls;
  void *tag;
  size_t out;            /* objects handed out */
  unsigned char *is_out; /* for each object */
};

struct source {
  hak_pages pages;
  size_t bytes;  /* out; atomic */
  unsigned made; /* calls that succeeded; atomic */
};

static pthread_mutex_t spans_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct known_span known_spans[SPANS];
static struct known_span *granules[1 << 18]; /* by address, for the part of the address space that the sources use */
static size_t known_bytes;
static unsigned known_count;
static int fail_pages = -1, fail_register = -1; /* so many calls succeed, then all fail; -1: none fails */

static uint32_t class_bytes[CLASSES];
static const void *mistaken; /* the object that a message of misuse must name */

/* All pages come from one reserved range, so that a table finds the span of an address. Freed ones are found by first fit. */
static char *arena;
static unsigned char granule_source[1 << 18]; /* 0: free, else the number of the source, and 128 at the first of a block */

static size_t granule_of(const void *at)
{
  size_t granule = (size_t)((const char *)at - arena) / G;
  ck_assert(arena != NULL && (const char *)at >= arena && granule < (1 << 18));
  return granule;
}

static bool counted_down(int *countdown)
{
  return *countdown == 0 || (*countdown > 0 && (*countdown)-- < 0);
}

static unsigned char number_of(const struct source *source);

static hak_block source_alloc(const hak_pages *pages, size_t size, size_t align)
{
  struct source *source = (struct source *)(uintptr_t)pages;
  ck_assert(size % G == 0 && align == G);
  size_t count = size / G, run = 0, at = 0;
  pthread_mutex_lock(&spans_lock);
  if (counted_down(&fail_pages)) {
    pthread_mutex_unlock(&spans_lock);
    return HAK_NO_BLOCK;
  }
  for (; run < count; at++) {
    ck_assert_uint_lt(at, 1 << 18);
    run = granule_source[at] == 0 ? run + 1 : 0;
  }
  memset(granule_source + at - count, number_of(source), count);
  granule_source[at - count] |= 128;
  source->bytes += size;
  source->made++;
  pthread_mutex_unlock(&spans_lock);
  return hak_block_make(arena + (at - count) * G, size, HAK_ZEROED);
}

static void source_free(const hak_pages *pages, void *base, size_t capacity)
{
  struct source *source = (struct source *)(uintptr_t)pages;
  size_t at = granule_of(base), count = capacity / G;
  pthread_mutex_lock(&spans_lock);
  for (size_t i = 0; i < count; i++) {
    ck_assert_uint_eq(granule_source[at + i], number_of(source) | (i == 0 ? 128 : 0));
    ck_assert_ptr_null(granules[at + i]); /* unregistered before */
    granule_source[at + i] = 0;
  }
  ck_assert((granule_source[at + count] & 127) == 0 || (granule_source[at + count] & 128) != 0);
  source->bytes -= capacity;
  madvise(base, capacity, MADV_DONTNEED);
  pthread_mutex_unlock(&spans_lock);
}

static struct source sources[2] = {
    {.pages = {.struct_size = sizeof(hak_pages), .name = "first", .alloc = source_alloc, .free = source_free}},
    {.pages = {.struct_size = sizeof(hak_pages), .name = "huge", .alloc = source_alloc, .free = source_free}}};

static unsigned char number_of(const struct source *source)
{
  return (unsigned char)(source - sources + 1);
}

static int32_t span_register(const hak_host *of, void *base, size_t bytes, uint32_t cls, void *tag)
{
  (void)of;
  ck_assert((uintptr_t)base % G == 0 && bytes % G == 0 && bytes >= class_bytes[cls] && bytes <= LONGEST * G);
  pthread_mutex_lock(&spans_lock);
  if (counted_down(&fail_register)) {
    pthread_mutex_unlock(&spans_lock);
    return HAK_NO_MEMORY;
  }
  struct known_span *span = known_spans;
  while (span->base != NULL) {
    span++;
    ck_assert(span < known_spans + SPANS);
  }
  span->is_out = calloc(bytes / class_bytes[cls], 1);
  span->base = base;
  span->bytes = bytes;
  span->cls = cls;
  span->tag = tag;
  span->out = 0;
  for (size_t i = 0; i < bytes / G; i++) {
    ck_assert_uint_ne(granule_source[granule_of(base) + i], 0);
    ck_assert_ptr_null(granules[granule_of(base) + i]);
    granules[granule_of(base) + i] = span;
  }
  known_bytes += bytes;
  known_count++;
  pthread_mutex_unlock(&spans_lock);
  return HAK_OK;
}

static void span_unregister(const hak_host *of, void *base)
{
  (void)of;
  pthread_mutex_lock(&spans_lock);
  struct known_span *span = granules[granule_of(base)];
  ck_assert_ptr_nonnull(span);
  ck_assert_ptr_eq(span->base, base);
  ck_assert_uint_eq(span->out, 0);
  memset(&granules[granule_of(base)], 0, span->bytes / G * sizeof *granules);
  known_bytes -= span->bytes;
  known_count--;
  free(span->is_out);
  span->base = NULL;
  pthread_mutex_unlock(&spans_lock);
}

/* Ends the test program as the core would end the process; the status says whether the right object was blamed. */
static void misuse(const hak_host *of, const void *object)
{
  (void)of;
  _exit(object == mistaken ? MISUSE : OTHER_MISUSE);
}

static void span_tags(const hak_host *of, uint32_t cls, void *const *objects, uint32_t count, void **tags)
{
  ck_assert_uint_le(count, HAK_RUN_LONGEST);
  pthread_mutex_lock(&spans_lock);
  for (uint32_t i = 0; i < count; i++) {
    struct known_span *span = granules[granule_of(objects[i])];
    if (span == NULL || span->cls != cls || (size_t)((char *)objects[i] - span->base) % class_bytes[cls] != 0) {
      misuse(of, objects[i]);
    }
    tags[i] = span->tag;
  }
  pthread_mutex_unlock(&spans_lock);
}

/* The object comes out of the backend, or goes back to it. */
static void object_moves(void *object, uint32_t cls, bool out)
{
  pthread_mutex_lock(&spans_lock);
  struct known_span *span = granules[granule_of(object)];
  ck_assert_msg(span != NULL && span->cls == cls, "found an object outside the spans of its class");
  size_t offset = (size_t)((char *)object - span->base), index = offset / class_bytes[cls];
  ck_assert_uint_eq(offset % class_bytes[cls], 0);
  ck_assert_uint_le(offset + class_bytes[cls], span->bytes);
  ck_assert_uint_eq(span->is_out[index], !out);
  span->is_out[index] = out;
  span->out += out ? 1 : (size_t)-1;
  pthread_mutex_unlock(&spans_lock);
}

static char *span_base(const void *object)
{
  return granules[granule_of(object)] != NULL ? granules[granule_of(object)]->base : NULL;
}

static hak_host spans_host(const char *name, uint64_t *of_counters)
{
  if (arena == NULL) {
    arena = mmap(NULL, ((size_t)1 << 18) * G, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(arena, MAP_FAILED);
    arena += G - (uintptr_t)arena % G;
    granule_source[(1 << 18) - 1] = 255; /* cut off by the alignment */
  }
  for (uint32_t cls = 0; cls < CLASSES; cls++) {
    uint32_t step = cls - 17;
    class_bytes[cls] = cls <= 16 ? (cls == 0 ? 16 : cls * 16) : (256U << step / 8) + (step % 8 + 1) * (32U << step / 8);
  }
  hak_host made = host;
  made.name = name;
  made.counters = of_counters;
  made.class_count = CLASSES;
  made.class_bytes = class_bytes;
  made.span_register = span_register;
  made.span_unregister = span_unregister;
  made.span_tags = span_tags;
  made.misuse = misuse;
  return made;
}

#endif
