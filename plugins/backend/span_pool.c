/* SPDX-License-Identifier: MIT */
/*
 * span_pool.c - spans for slab.c: their records, where their pages come from, and the empty ones that are kept.
 *
 * It owns the idle records and the empty spans, under pool->lock. An empty span stays registered for its last class, so that it
 * serves that class again without a change to the page map. The lock is taken inside those of classes; page backends are called
 * under it only to get pages, never to give them back, because what that sets off may take locks that come before it.
 */
#include "fault_meter.h"
#include "span_pool.h"

#include <assert.h>
#include <stdalign.h>
#include <string.h>

enum {
  LENGTHS = 33, /* granules of the longest span, and one */
  KINDS = 3,    /* of records, by the words that their bitmaps have room for */
  GROUPS = 4,   /* of lanes */
  BATCH = 16    /* records made at a time */
};

#define PAUSE ((size_t)64 << 20) /* bytes that come from small pages at least, when a huge one was dear */

static const uint16_t kind_words[KINDS] = {4, 16, 64};

static_assert(sizeof(struct span) == 64, "the bitmap begins with a cache line");

struct list {
  struct span *newest, *oldest;
};

struct span_pool {
  const hak_host *host;
  hak_lock lock;
  struct span_setup setup;            /* pages and first are constant; keep and age are atomic */
  size_t bytes[SPAN_SOURCES];         /* of spans, by where they come from */
  size_t empty;                       /* bytes of empty spans */
  struct fault_meter meter;           /* what pages of the second source cost */
  struct list lists[GROUPS][LENGTHS]; /* of empty spans, by their lanes and granules */
  struct span *idle[KINDS];           /* records without a span */
};

/* ---- records, under pool->lock --------------------------------------------------------------------------------------- */

static struct span *record_get(struct span_pool *pool, uint32_t words)
{
  uint32_t kind = 0;
  /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): one of the kinds is found */
  while (kind_words[kind] < words) {
    kind++;
  }
  if (pool->idle[kind] == NULL) {
    size_t size = sizeof(struct span) + kind_words[kind] * sizeof(uint64_t);
    size = (size + 63) / 64 * 64;
    char *fresh = pool->host->meta_alloc(pool->host, BATCH * size, 64);
    for (int i = BATCH; fresh != NULL && i-- > 0;) {
      struct span *span = (struct span *)(void *)(fresh + (size_t)i * size);
      span->room = kind_words[kind];
      span->next = pool->idle[kind];
      pool->idle[kind] = span;
    }
  }
  struct span *span = pool->idle[kind];
  if (span != NULL) {
    pool->idle[kind] = span->next;
  }
  return span;
}

static void record_put(struct span_pool *pool, struct span *span)
{
  uint32_t kind = 0;
  /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): one of the kinds is found */
  while (kind_words[kind] != span->room) {
    kind++;
  }
  span->next = pool->idle[kind];
  pool->idle[kind] = span;
}

/* ---- empty spans, under pool->lock ----------------------------------------------------------------------------------- */

static void add(struct span_pool *pool, struct span *span)
{
  struct list *list = &pool->lists[span->lane % GROUPS][span->granules];
  span->prev = NULL;
  span->next = list->newest;
  if (list->newest != NULL) {
    list->newest->prev = span;
  } else {
    list->oldest = span;
  }
  list->newest = span;
  pool->empty += span->granules * HAK_GRANULE;
}

static void take_out(struct span_pool *pool, struct span *span)
{
  struct list *list = &pool->lists[span->lane % GROUPS][span->granules];
  *(span->prev != NULL ? &span->prev->next : &list->newest) = span->next;
  *(span->next != NULL ? &span->next->prev : &list->oldest) = span->prev;
  pool->empty -= span->granules * HAK_GRANULE;
}

/* Takes an empty span out of use; `surplus` is the chain of those that go back to their page backend. */
static struct span *dismiss(struct span_pool *pool, struct span *span, struct span *surplus)
{
  take_out(pool, span);
  pool->host->span_unregister(pool->host, span->base);
  span->next = surplus;
  return span;
}

/* Dismisses the spans that have been empty since `before` or longer, and as many more as are too many bytes for `keep`. */
static struct span *shrink(struct span_pool *pool, size_t keep, uint64_t before)
{
  struct span *surplus = NULL;
  for (uint32_t i = LENGTHS * GROUPS; i-- > 0;) { /* long ones first: fewer calls for the same bytes */
    struct list *list = &pool->lists[i % GROUPS][i / GROUPS];
    while (list->oldest != NULL && (pool->empty > keep || list->oldest->stamp <= before)) {
      surplus = dismiss(pool, list->oldest, surplus);
    }
  }
  return surplus;
}

static void show(struct span_pool *pool)
{
  hak_gauge(pool->host, SPAN_BYTES, pool->bytes[0] + pool->bytes[1]);
  hak_gauge(pool->host, SPAN_EMPTY_BYTES, pool->empty);
}

/* Returns spans to where they came from. Called with the lock, which is dropped meanwhile. Returns the bytes. */
static size_t give_back(struct span_pool *pool, struct span *surplus)
{
  size_t bytes = 0;
  if (surplus != NULL) {
    hak_lock_release(pool->host, &pool->lock);
    uint64_t count = 0;
    for (struct span *span = surplus; span != NULL; span = span->next) {
      const hak_pages *pages = pool->setup.pages[span->source];
      pages->free(pages, span->base, span->length);
      bytes += span->length;
      count++;
    }
    hak_count(pool->host, SPAN_COUNT, 0 - count);
    hak_count(pool->host, SPAN_RELEASED, count);
    hak_lock_acquire(pool->host, &pool->lock);
  }
  while (surplus != NULL) {
    struct span *next = surplus->next;
    pool->bytes[surplus->source] -= surplus->length;
    record_put(pool, surplus);
    surplus = next;
  }
  show(pool);
  return bytes;
}

/* ---- getting spans, under pool->lock --------------------------------------------------------------------------------- */

/* Takes over the place of an empty span of another class. */
static void inherit(struct span_pool *pool, struct span *span, struct span *empty)
{
  take_out(pool, empty);
  pool->host->span_unregister(pool->host, empty->base);
  span->base = empty->base;
  span->length = empty->length;
  span->source = empty->source;
  span->fresh = false;
  record_put(pool, empty);
}

/* The second source, which may have huge pages, is for classes and heaps that are no longer small, and while these cost less. */
static uint32_t choose_source(struct span_pool *pool, size_t bytes, bool large)
{
  bool earned = pool->setup.first == 0 || (large && pool->bytes[0] >= pool->setup.first);
  return earned && fault_huge_pays(&pool->meter, bytes);
}

/* Touches a new span and notes how long that takes. */
static void try_page(struct span_pool *pool, const struct span *span)
{
  uint64_t took = fault_touch(pool->host, span->base);
  if (span->source == 0) {
    fault_note_small(&pool->meter, took, 1);
  } else {
    (void)fault_note_huge(&pool->meter, took, PAUSE);
  }
}

/* A place from a page backend, or where that has none from the other. False when there is none. */
static bool find_place(struct span_pool *pool, struct span *span, uint32_t granules, bool large)
{
  uint32_t source = choose_source(pool, granules * HAK_GRANULE, large);
  hak_block got = HAK_NO_BLOCK;
  for (int tries = 0; got.base == NULL && tries < SPAN_SOURCES; tries++) {
    source = tries == 0 ? source : !source;
    const hak_pages *pages = pool->setup.pages[source];
    got = pages->alloc(pages, granules * HAK_GRANULE, HAK_GRANULE);
  }
  if (got.base == NULL) {
    return false;
  }
  span->base = got.base;
  span->length = hak_block_capacity(got);
  span->source = (uint8_t)source;
  span->fresh = source == 0 && (got.info & HAK_ZEROED) != 0;
  pool->bytes[source] += span->length;
  hak_count(pool->host, SPAN_COUNT, 1);
  try_page(pool, span);
  return true;
}

/* The empty span that was used last by the lane, or others of its group, or, if `any` will do, of another group. NULL: there is none. */
static struct span *find_empty(const struct span_pool *pool, const struct span_order *order)
{
  struct span *empty = NULL;
  for (uint32_t i = 0; empty == NULL && i < (order->any ? GROUPS : 1); i++) {
    empty = pool->lists[(order->lane + i) % GROUPS][order->granules].newest;
  }
  return empty;
}

/* An empty span of that class, or of another, or a new one: registered for the class. NULL when there is none. */
static struct span *obtain(struct span_pool *pool, const struct span_order *order)
{
  struct span *empty = find_empty(pool, order);
  if (empty != NULL && empty->cls == order->cls) {
    take_out(pool, empty);
    return empty;
  }
  struct span *span = empty != NULL || order->any ? record_get(pool, (order->capacity + 63) / 64) : NULL;
  if (span == NULL) {
    return NULL;
  }
  if (empty != NULL) {
    inherit(pool, span, empty);
  } else if (!find_place(pool, span, order->granules, order->large)) {
    record_put(pool, span);
    return NULL;
  }
  span->granules = (uint16_t)order->granules;
  span->cls = order->cls;
  if (pool->host->span_register(pool->host, span->base, order->granules * HAK_GRANULE, order->cls, span) != HAK_OK) {
    span->next = NULL;
    (void)give_back(pool, span);
    return NULL;
  }
  return span;
}

struct span *span_pool_get(struct span_pool *pool, const struct span_order *order)
{
  hak_lock_acquire(pool->host, &pool->lock);
  struct span *span = obtain(pool, order);
  show(pool);
  hak_lock_release(pool->host, &pool->lock);
  uint32_t capacity = order->capacity;
  if (span != NULL) {
    memset(span->bits, 0xff, capacity / 64 * sizeof(uint64_t));
    if (capacity % 64 != 0) {
      span->bits[capacity / 64] = (UINT64_C(1) << capacity % 64) - 1;
    }
    span->free = capacity;
    span->cursor = 0;
    span->listed = 0;
  }
  return span;
}

void span_pool_put(struct span_pool *pool, struct span *chain)
{
  uint64_t now = pool->host->os->coarse();
  hak_lock_acquire(pool->host, &pool->lock);
  while (chain != NULL) {
    struct span *next = chain->next;
    chain->stamp = now;
    add(pool, chain);
    chain = next;
  }
  (void)give_back(pool, shrink(pool, __atomic_load_n(&pool->setup.keep, __ATOMIC_RELAXED), 0));
  hak_lock_release(pool->host, &pool->lock);
}

bool span_pool_expire(struct span_pool *pool)
{
  uint64_t age = __atomic_load_n(&pool->setup.age, __ATOMIC_RELAXED) * 1000000, now = pool->host->os->coarse();
  if (age == 0) {
    return false;
  }
  hak_lock_acquire(pool->host, &pool->lock);
  if (now > age) {
    (void)give_back(pool, shrink(pool, SIZE_MAX, now - age));
  }
  bool more = pool->empty != 0;
  hak_lock_release(pool->host, &pool->lock);
  return more;
}

size_t span_pool_trim(struct span_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
  size_t bytes = give_back(pool, shrink(pool, 0, 0));
  hak_lock_release(pool->host, &pool->lock);
  return bytes;
}

/* ---- start, options, fork -------------------------------------------------------------------------------------------- */

struct span_pool *span_pool_start(const hak_host *host, const struct span_setup *setup)
{
  struct span_pool *pool = host->meta_alloc(host, sizeof *pool, alignof(struct span_pool));
  if (pool != NULL) {
    pool->host = host;
    pool->setup = *setup;
  }
  return pool;
}

void span_pool_keep(struct span_pool *pool, size_t bytes)
{
  __atomic_store_n(&pool->setup.keep, bytes, __ATOMIC_RELAXED);
  hak_lock_acquire(pool->host, &pool->lock);
  (void)give_back(pool, shrink(pool, bytes, 0));
  hak_lock_release(pool->host, &pool->lock);
}

void span_pool_age(struct span_pool *pool, uint64_t milliseconds)
{
  __atomic_store_n(&pool->setup.age, milliseconds, __ATOMIC_RELAXED);
}

void span_pool_fork_prepare(struct span_pool *pool)
{
  hak_lock_acquire(pool->host, &pool->lock);
}

void span_pool_fork_parent(struct span_pool *pool)
{
  hak_lock_release(pool->host, &pool->lock);
}

void span_pool_fork_child(struct span_pool *pool)
{
  pool->lock.word = 0;
}
