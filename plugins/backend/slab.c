/* SPDX-License-Identifier: MIT */
/*
 * slab.c - class backend: small objects in spans of one size class each.
 *
 * A span is 64 KiB or more from a page backend. Which of its objects are free stands in a bitmap of its record, away from the
 * objects: taking objects gives them in the order of their addresses, giving them back touches no object, and one that comes back
 * twice is found out. Spans that have free objects are listed by how full they are. Objects are taken from the fullest, so that
 * the emptiest become empty; those go back to their page backend, or serve any class, which is span_pool.c's business.
 *
 * The core exchanges runs. One that comes back waits in the depot of its class, a list of their addresses, until some thread wants
 * one: so a producer and a consumer hand over runs and not objects (the depot of J. Bonwick, J. Adams, "Magazines and Vmem", 2001).
 * The depot holds a part of the objects in use; what is beyond goes back to the spans.
 *
 * Threads have their spans and depots in shards, if there are several: a thread goes to the shard that it was given first.
 * Runs come from its own depot, then from those of other shards, then from its own spans, or those of shards that have many free
 * objects. An object goes back to the span that it is from, in whatever shard that is.
 *
 * Each class of each shard has a lock, which guards its depot, its lists and the records of its spans. Nobody holds two of them, but
 * for a fork, which holds all, and `lock` of the slab, which guards that shards are made, and is taken first.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hakmem/plugin.h"

#include <sched.h>
#include <string.h>

#include "populate.h"
#include "span_pool.h"

enum {
  LEVELS = 8,     /* lists of spans, by how much of them is free */
  RUNS = 8,       /* records of runs made at a time */
  VISITS = 8,     /* spans that one refill takes from at most */
  SPARE = 2,      /* free objects of so many spans are more than a shard keeps from the others */
  SHARDS = 64,    /* most that there can be */
  CROWD = 4,      /* for each processor, unless the configuration says so */
  DEPOT_SHARE = 8 /* the depot holds so large a part of the objects in use, */
};

#define DEPOT_FLOOR ((size_t)256 << 10) /* or so many bytes of them */
#define SHORT 1024                      /* bytes; shorter runs are not worth handing over */
#define SPAN_WASTE 8                    /* a span is so long that at most this part of it is no object */

/* ---- options and counters -------------------------------------------------------------------------------------------- */

enum { SLAB_PAGES, SLAB_HUGE, SLAB_HUGE_FROM, SLAB_KEEP, SLAB_AGE, SLAB_SHARDS, SLAB_OPTIONS };

static const hak_option slab_options[SLAB_OPTIONS] = {
    [SLAB_PAGES] = {.key = "pages",
                    .type = HAK_PAGES,
                    .fallback = "mmap",
                    .help = "page backend that the first spans come from"},
    [SLAB_HUGE] = {.key = "huge",
                   .type = HAK_PAGES,
                   .fallback = "hugepage",
                   .help = "page backend that further spans come from, once there are huge_from bytes of the first"},
    [SLAB_HUGE_FROM] = {.key = "huge_from",
                        .type = HAK_SIZE,
                        .fallback = "4M",
                        .min = "0",
                        .help = "bytes of spans from which on huge pages are earned"},
    [SLAB_KEEP] = {.key = "keep",
                   .type = HAK_SIZE,
                   .flags = HAK_LIVE,
                   .fallback = "64M",
                   .min = "0",
                   .help = "bytes of empty spans that are kept for reuse at most"},
    [SLAB_AGE] = {.key = "age",
                  .type = HAK_INT,
                  .flags = HAK_LIVE,
                  .fallback = "1000",
                  .min = "0",
                  .max = "86400000",
                  .help = "milliseconds that an empty span is kept for; 0: no bound"},
    [SLAB_SHARDS] = {.key = "shards",
                     .type = HAK_INT,
                     .fallback = "1",
                     .min = "0",
                     .max = "64",
                     .help = "parts that threads share spans in; 0: four for each processor"},
};

static const hak_counter slab_counters[] = {
    [SPAN_COUNT] = {"live_spans", HAK_GAUGE, HAK_SUM_NONE, "", "spans, empty ones included"},
    [SPAN_BYTES] = {"span_bytes", HAK_GAUGE, HAK_SUM_NONE, "bytes", "in spans"},
    [SPAN_EMPTY_BYTES] = {"empty_bytes", HAK_GAUGE, HAK_SUM_NONE, "bytes", "in empty spans, kept for reuse"},
    [SPAN_RELEASED] = {"released_spans", HAK_COUNTER, HAK_SUM_NONE, "spans",
                       "empty spans that went back to their page backend"},
    [SLAB_HANDOVERS] = {"handovers", HAK_COUNTER, HAK_SUM_NONE, "runs",
                        "runs that went from one thread's free to another's malloc whole"},
    [SLAB_SCATTERED] = {"scattered", HAK_COUNTER, HAK_SUM_NONE, "objects", "that went back to their spans"},
};

/* ---- state ----------------------------------------------------------------------------------------------------------- */

/* Objects that wait in a depot. */
struct run {
  struct run *next;
  uint64_t count;
  void *objects[HAK_RUN_MAX];
};

/* What is the same in all shards. Constant. */
struct shape {
  uint32_t size;       /* bytes of an object */
  uint32_t granules;   /* of a span */
  uint32_t capacity;   /* objects of a span */
  uint64_t reciprocal; /* 2^32 / (size / 16), rounded up: what is divided by the size is multiplied by it */
};

/* A class in one shard. */
struct __attribute__((aligned(64))) slab_class {
  hak_lock lock;
  uint32_t levels;              /* bit i: partial[i] is not empty */
  uint32_t visited;             /* the depot was used since slab_expire looked last */
  uint32_t roomy;               /* the last flush left room in the depot; atomic for readers without the lock, as a hint */
  struct run *depot;            /* the last one to come is the first */
  struct run *idle;             /* records without objects */
  uint64_t waiting;             /* objects in the depot; atomic for readers without the lock, as a hint */
  uint64_t total;               /* objects of all spans of the class */
  uint64_t free;                /* of them, in no run: their bits are set; atomic like `waiting` */
  struct span *partial[LEVELS]; /* spans with free objects, not all of them, by how many; 0 is the fullest */
};

struct slab {
  const hak_host *host;
  struct span_pool *pool;
  hak_lock lock;
  uint32_t most;                     /* shards that there may be; constant */
  uint32_t count;                    /* that there are; atomic, grows under `lock` */
  uint32_t threads[SHARDS];          /* in each of them; under `lock` */
  struct slab_class *shards[SHARDS]; /* [class_count] each; they come and stay */
  struct shape shapes[];             /* host->class_count */
};

/* ---- shards ---------------------------------------------------------------------------------------------------------- */

/* One more shard, if that may be and there is memory. Under the slab's lock, or before there are threads. */
static bool add_shard(struct slab *slab)
{
  struct slab_class *classes = NULL;
  if (slab->count < slab->most) {
    classes = slab->host->meta_alloc(slab->host, slab->host->class_count * sizeof *classes, _Alignof(struct slab_class));
  }
  if (classes != NULL) {
    slab->shards[slab->count] = classes;
    __atomic_store_n(&slab->count, slab->count + 1, __ATOMIC_RELEASE);
  }
  return classes != NULL;
}

static uint32_t shard_count(const struct slab *slab)
{
  return __atomic_load_n(&slab->count, __ATOMIC_ACQUIRE);
}

/* Gives a shard to a thread: one with the fewest threads, a new one before two have to share. */
static uint32_t settle_down(struct slab *slab, void **slot)
{
  uint32_t best = 0;
  hak_lock_acquire(slab->host, &slab->lock);
  for (uint32_t i = 1; i < slab->count; i++) {
    best = slab->threads[i] < slab->threads[best] ? i : best;
  }
  if (slab->threads[best] != 0 && add_shard(slab)) {
    best = slab->count - 1;
  }
  slab->threads[best]++;
  hak_lock_release(slab->host, &slab->lock);
  __atomic_store_n((uintptr_t *)slot, (uintptr_t)best + 1, __ATOMIC_RELAXED);
  return best;
}

/* The shard of the calling thread, whose slot has its number, from 1 on. */
static uint32_t shard_of(struct slab *slab, void **slot)
{
  uintptr_t shard = __atomic_load_n((uintptr_t *)slot, __ATOMIC_RELAXED);
  return shard != 0 ? (uint32_t)shard - 1 : settle_down(slab, slot);
}

static bool depot_waits(const struct slab_class *class)
{
  return __atomic_load_n(&class->waiting, __ATOMIC_RELAXED) != 0;
}

static bool has_spare(const struct shape *shape, const struct slab_class *class)
{
  return __atomic_load_n(&class->free, __ATOMIC_RELAXED) >= (uint64_t)SPARE * shape->capacity;
}

/* ---- spans of a class in a shard, under its lock --------------------------------------------------------------------- */

/* Eight levels, each an eighth of the span. */
static uint32_t level_of(const struct shape *shape, const struct span *span)
{
  uint32_t level = (uint32_t)((uint64_t)span->free * LEVELS / shape->capacity);
  return level < LEVELS ? level : LEVELS - 1;
}

static void list(const struct shape *shape, struct slab_class *class, struct span *span)
{
  uint32_t level = level_of(shape, span);
  struct span *first = class->partial[level];
  span->level = (uint8_t)level;
  span->listed = true;
  span->prev = NULL;
  span->next = first;
  if (first != NULL) {
    first->prev = span;
  }
  class->partial[level] = span;
  class->levels |= 1U << level;
}

static void unlist(struct slab_class *class, struct span *span)
{
  if (span->prev != NULL) {
    span->prev->next = span->next;
  } else {
    class->partial[span->level] = span->next;
    class->levels &= span->next == NULL ? ~(1U << span->level) : ~0U;
  }
  if (span->next != NULL) {
    span->next->prev = span->prev;
  }
  span->listed = false;
}

static void change_free(struct slab_class *class, int64_t objects)
{
  __atomic_store_n(&class->free, class->free + (uint64_t)objects, __ATOMIC_RELAXED);
}

/*
 * The span to take from: the fullest, but one that is full up to an eighth last, since it would be visited for a few objects. NULL:
 * none has free objects.
 */
static struct span *choose(struct slab_class *class)
{
  uint32_t levels = (class->levels & ~1U) != 0 ? class->levels & ~1U : class->levels;
  struct span *span = levels != 0 ? class->partial[__builtin_ctz(levels)] : NULL;
  if (span != NULL) {
    unlist(class, span);
  }
  return span;
}

/* A new span, with all its objects free. NULL when there is no memory. */
static struct span *add_span(struct slab *slab, uint32_t shard, uint32_t cls)
{
  const struct shape *shape = &slab->shapes[cls];
  struct slab_class *class = &slab->shards[shard][cls];
  struct span *span = span_pool_get(slab->pool, cls, shape->granules, shape->capacity, class->total / 2 >= shape->capacity);
  if (span != NULL) {
    span->shard = (uint8_t)shard;
    class->total += shape->capacity;
    change_free(class, shape->capacity);
  }
  return span;
}

/*
 * Whether all pages of a new span will be touched soon: they have several objects each, and the class has filled two spans before. So
 * at most a third of what the class has is resident in vain.
 */
static bool will_be_dense(const struct slab *slab, const struct shape *shape, const struct slab_class *class,
                          const struct span *span)
{
  return span->fresh && class->total / 2 > shape->capacity && shape->size <= slab->host->page_size / 2;
}

/* Takes up to `want` free objects in the order of their addresses. Returns how many. */
static uint32_t take(const struct shape *shape, struct span *span, void **objects, uint32_t want)
{
  uint32_t size = shape->size, taken = 0, word = span->cursor, words = (shape->capacity + 63) / 64;
  for (; word < words; word++) {
    uint64_t bits = span->bits[word];
    char *base = span->base + (size_t)word * 64 * size;
    for (; bits != 0 && taken < want; bits &= bits - 1) {
      objects[taken++] = base + (size_t)__builtin_ctzll(bits) * size;
    }
    span->bits[word] = bits;
    if (bits != 0) {
      break;
    }
  }
  span->cursor = word;
  span->free -= taken;
  return taken;
}

/* The object of a span that has the byte at that offset. */
static uint64_t index_of(const struct shape *shape, uint64_t offset)
{
  return (offset / 16 * shape->reciprocal) >> 32;
}

/* Marks an object of the span free. False when it was free already. */
static bool put(const struct shape *shape, struct span *span, const void *object)
{
  uint64_t index = index_of(shape, (uint64_t)((const char *)object - span->base));
  uint64_t bit = UINT64_C(1) << (index & 63);
  uint32_t word = (uint32_t)(index / 64);
  if ((span->bits[word] & bit) != 0) {
    return false;
  }
  span->bits[word] |= bit;
  span->cursor = word < span->cursor ? word : span->cursor;
  return true;
}

/* The span has got free objects: it moves to the list where it belongs, or, when it is empty, to the chain *empty. */
static void settle(const struct shape *shape, struct slab_class *class, struct span *span, struct span **empty)
{
  if (span->listed && (span->free == shape->capacity || level_of(shape, span) != span->level)) {
    unlist(class, span);
  }
  if (span->free == shape->capacity) {
    class->total -= shape->capacity;
    change_free(class, -(int64_t)shape->capacity);
    span->next = *empty;
    *empty = span;
  } else if (!span->listed) {
    list(shape, class, span);
  }
}

/* ---- across shards --------------------------------------------------------------------------------------------------- */

/*
 * Gives objects back to their spans, which are their tags. Spans that become empty are chained to *empty. A span whose objects are
 * somebody's stays in its shard, so that may be read before its lock is held.
 */
static void scatter(struct slab *slab, uint32_t cls, void *const *objects, void *const *tags, uint32_t count,
                    struct span **empty)
{
  const struct shape *shape = &slab->shapes[cls];
  for (uint32_t i = 0; i < count;) {
    uint32_t shard = ((const struct span *)tags[i])->shard;
    struct slab_class *class = &slab->shards[shard][cls];
    hak_lock_acquire(slab->host, &class->lock);
    while (i < count && ((const struct span *)tags[i])->shard == shard) {
      struct span *span = tags[i];
      uint32_t first = i;
      for (; i < count && tags[i] == span; i++) {
        if (!put(shape, span, objects[i])) {
          slab->host->misuse(slab->host, objects[i]);
        }
      }
      span->free += i - first;
      change_free(class, i - first);
      settle(shape, class, span, empty);
    }
    hak_lock_release(slab->host, &class->lock);
  }
  hak_count(slab->host, SLAB_SCATTERED, count);
}

/* ---- the depot of a class, under its lock ---------------------------------------------------------------------------- */

/* False when there is no memory to write the objects down. */
static bool depot_push(struct slab *slab, struct slab_class *class, void *const *objects, uint32_t count)
{
  if (class->idle == NULL) {
    struct run *fresh = slab->host->meta_alloc(slab->host, RUNS * sizeof *fresh, _Alignof(struct run));
    for (int i = RUNS; fresh != NULL && i-- > 0;) {
      fresh[i].next = class->idle;
      class->idle = &fresh[i];
    }
  }
  struct run *run = class->idle;
  if (run == NULL) {
    return false;
  }
  class->idle = run->next;
  memcpy(run->objects, objects, count * sizeof *objects);
  run->count = count;
  run->next = class->depot;
  class->depot = run;
  __atomic_store_n(&class->waiting, class->waiting + count, __ATOMIC_RELAXED);
  class->visited = 1;
  return true;
}

/* Up to `want` objects of the last run. Returns how many, 0 when the depot is empty. */
static uint32_t depot_pop(struct slab_class *class, void **objects, uint32_t want)
{
  struct run *run = class->depot;
  if (run == NULL) {
    return 0;
  }
  uint32_t count = run->count < want ? (uint32_t)run->count : want;
  run->count -= count;
  memcpy(objects, run->objects + run->count, count * sizeof *objects);
  if (run->count == 0) {
    class->depot = run->next;
    run->next = class->idle;
    class->idle = run;
  }
  __atomic_store_n(&class->waiting, class->waiting - count, __ATOMIC_RELAXED);
  class->visited = 1;
  return count;
}

/* Objects that the depot may hold. */
static uint64_t depot_room(const struct shape *shape, const struct slab_class *class)
{
  uint64_t share = (class->total - class->free) / DEPOT_SHARE;
  uint64_t floor = DEPOT_FLOOR / shape->size;
  return share > floor ? share : floor;
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

/* Up to `want` objects that wait in a depot, of the own shard first. Returns how many. */
static uint32_t hand_over(struct slab *slab, uint32_t shard, uint32_t cls, void **objects, uint32_t want)
{
  uint32_t shards = shard_count(slab), count = 0;
  for (uint32_t i = 0; i < shards && count == 0; i++) {
    struct slab_class *class = &slab->shards[(shard + i) % shards][cls];
    if (depot_waits(class)) {
      hak_lock_acquire(slab->host, &class->lock);
      count = depot_pop(class, objects, want);
      hak_lock_release(slab->host, &class->lock);
    }
  }
  return count;
}

/* Up to `want` objects from spans of that shard, and from new ones if `add`. Returns how many. */
static uint32_t take_from(struct slab *slab, uint32_t shard, uint32_t cls, bool add, void **objects, uint32_t want)
{
  const struct shape *shape = &slab->shapes[cls];
  struct slab_class *class = &slab->shards[shard][cls];
  struct span *dense = NULL;
  uint32_t count = 0;
  hak_lock_acquire(slab->host, &class->lock);
  for (uint32_t visit = 0; count < want && visit < VISITS; visit++) {
    struct span *span = choose(class);
    if (span == NULL && (!add || (span = add_span(slab, shard, cls)) == NULL)) {
      break;
    }
    uint32_t taken = take(shape, span, objects + count, want - count);
    count += taken;
    dense = will_be_dense(slab, shape, class, span) ? span : dense;
    span->fresh = false;
    change_free(class, -(int64_t)taken);
    if (span->free != 0) {
      list(shape, class, span);
    }
  }
  hak_lock_release(slab->host, &class->lock);
  if (dense != NULL) { /* it stays, since some of its objects are ours */
    (void)populate(slab->host, dense->base, dense->length);
  }
  return count;
}

/* The own shard's spans first; what others have to spare comes before a new span. */
static int32_t slab_refill(void *self, void **slot, uint32_t cls, void **objects, uint32_t want)
{
  struct slab *slab = self;
  uint32_t own = shard_of(slab, slot), shards = shard_count(slab), count = hand_over(slab, own, cls, objects, want);
  if (count != 0) {
    hak_count(slab->host, SLAB_HANDOVERS, 1);
    return (int32_t)count;
  }
  count = take_from(slab, own, cls, shards == 1, objects, want);
  for (uint32_t i = 1; i < shards && count == 0; i++) {
    uint32_t other = (own + i) % shards;
    if (has_spare(&slab->shapes[cls], &slab->shards[other][cls])) {
      count = take_from(slab, other, cls, false, objects, want);
    }
  }
  if (count == 0 && shards > 1) {
    count = take_from(slab, own, cls, true, objects, want);
  }
  return count != 0 ? (int32_t)count : HAK_NO_MEMORY;
}

/*
 * Whether objects begin where objects do. The core knows that they lie in spans of the class, and one granule long these begin where a
 * granule does: what goes into the depot need not be looked up.
 */
static bool begin_right(const struct shape *shape, void *const *objects, uint32_t count)
{
  uint64_t astray = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t offset = (uintptr_t)objects[i] % HAK_GRANULE;
    astray |= offset - index_of(shape, offset) * shape->size;
  }
  return astray == 0;
}

/* Looks objects up, and sends them back to their spans. */
static void send_back(struct slab *slab, uint32_t cls, void *const *objects, uint32_t count, struct span **empty)
{
  void *tags[HAK_RUN_MAX];
  slab->host->span_tags(slab->host, cls, objects, count, tags); /* ends in misuse if need be */
  scatter(slab, cls, objects, tags, count, empty);
}

/* The objects of a run more than the depot has room for go back to their spans. Returns whether there may be others. */
static bool shrink_depot(struct slab *slab, uint32_t shard, uint32_t cls, uint64_t room, struct span **empty)
{
  struct slab_class *class = &slab->shards[shard][cls];
  void *objects[HAK_RUN_MAX];
  hak_lock_acquire(slab->host, &class->lock);
  uint32_t count = class->waiting > room ? depot_pop(class, objects, HAK_RUN_MAX) : 0;
  bool more = class->waiting > room;
  hak_lock_release(slab->host, &class->lock);
  if (count != 0) {
    send_back(slab, cls, objects, count, empty);
  }
  return more;
}

static void slab_flush(void *self, void **slot, uint32_t cls, void *const *objects, uint32_t count)
{
  struct slab *slab = self;
  const struct shape *shape = &slab->shapes[cls];
  uint32_t shard = shard_of(slab, slot);
  struct slab_class *class = &slab->shards[shard][cls];
  struct span *empty = NULL;
  void *tags[HAK_RUN_MAX];
  bool long_enough = count * shape->size >= SHORT;
  bool roomy = __atomic_load_n(&class->roomy, __ATOMIC_RELAXED) != 0;
  bool checked = long_enough && roomy && shape->granules == 1 && begin_right(shape, objects, count);
  if (!checked) {
    slab->host->span_tags(slab->host, cls, objects, count, tags); /* ends in misuse if need be */
  }
  hak_lock_acquire(slab->host, &class->lock);
  uint64_t room = depot_room(shape, class);
  bool waits = long_enough && class->waiting + count <= room && depot_push(slab, class, objects, count);
  bool surplus = class->waiting > room;
  __atomic_store_n(&class->roomy, class->waiting + HAK_RUN_MAX <= room, __ATOMIC_RELAXED);
  hak_lock_release(slab->host, &class->lock);
  if (!waits && checked) {
    slab->host->span_tags(slab->host, cls, objects, count, tags);
  }
  if (!waits) {
    scatter(slab, cls, objects, tags, count, &empty);
  }
  if (surplus) { /* room shrinks by less than a run with each run */
    (void)shrink_depot(slab, shard, cls, room, &empty);
  }
  if (empty != NULL) {
    span_pool_put(slab->pool, empty);
  }
}

/* Scatters what waits in the depot of a class; others get at it between any two runs. */
static void empty_depot(struct slab *slab, uint32_t shard, uint32_t cls)
{
  struct span *empty = NULL;
  while (shrink_depot(slab, shard, cls, 0, &empty)) {
  }
  if (empty != NULL) {
    span_pool_put(slab->pool, empty);
  }
}

/* What waits in depots that nobody went to since the last time goes back to its spans, and spans that were empty for long enough go. */
static bool slab_expire(void *self)
{
  struct slab *slab = self;
  bool more = false;
  for (uint32_t shard = 0; shard < shard_count(slab); shard++) {
    for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
      struct slab_class *class = &slab->shards[shard][cls];
      if (!depot_waits(class)) {
        continue;
      }
      hak_lock_acquire(slab->host, &class->lock);
      bool left = class->visited == 0;
      class->visited = 0;
      hak_lock_release(slab->host, &class->lock);
      if (left) {
        empty_depot(slab, shard, cls);
      }
      more = more || !left;
    }
  }
  return span_pool_expire(slab->pool) || more;
}

static size_t slab_trim(void *self)
{
  struct slab *slab = self;
  for (uint32_t shard = 0; shard < shard_count(slab); shard++) {
    for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
      if (depot_waits(&slab->shards[shard][cls])) {
        empty_depot(slab, shard, cls);
      }
    }
  }
  return span_pool_trim(slab->pool);
}

static void slab_thread_exit(void *self, void **slot)
{
  struct slab *slab = self;
  uintptr_t shard = __atomic_load_n((uintptr_t *)slot, __ATOMIC_RELAXED);
  if (shard != 0) {
    hak_lock_acquire(slab->host, &slab->lock);
    slab->threads[shard - 1] -= slab->threads[shard - 1] != 0;
    hak_lock_release(slab->host, &slab->lock);
  }
}

static void slab_fork_prepare(void *self)
{
  struct slab *slab = self;
  hak_lock_acquire(slab->host, &slab->lock);
  for (uint32_t shard = 0; shard < slab->count; shard++) {
    for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
      hak_lock_acquire(slab->host, &slab->shards[shard][cls].lock);
    }
  }
  span_pool_fork_prepare(slab->pool);
}

static void slab_fork_parent(void *self)
{
  struct slab *slab = self;
  span_pool_fork_parent(slab->pool);
  for (uint32_t shard = slab->count; shard-- > 0;) {
    for (uint32_t cls = slab->host->class_count; cls-- > 0;) {
      hak_lock_release(slab->host, &slab->shards[shard][cls].lock);
    }
  }
  hak_lock_release(slab->host, &slab->lock);
}

/* The only thread of the child may be in any shard. */
static void slab_fork_child(void *self)
{
  struct slab *slab = self;
  span_pool_fork_child(slab->pool);
  for (uint32_t shard = 0; shard < slab->count; shard++) {
    slab->threads[shard] = 0;
    for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
      slab->shards[shard][cls].lock.word = 0;
    }
  }
  slab->lock.word = 0;
}

static int32_t slab_set(void *self, uint32_t option, hak_value value)
{
  struct slab *slab = self;
  if (option == SLAB_KEEP) {
    span_pool_keep(slab->pool, value.size);
  } else {
    span_pool_age(slab->pool, (uint64_t)value.integer);
  }
  return HAK_OK;
}

/* The shortest span of which at most an eighth is no object. */
static struct shape shape_of(uint32_t size)
{
  size_t bytes = HAK_GRANULE;
  while (bytes < size || bytes % size > bytes / SPAN_WASTE) {
    bytes += HAK_GRANULE;
  }
  return (struct shape){.size = size,
                        .granules = (uint32_t)(bytes / HAK_GRANULE),
                        .capacity = (uint32_t)(bytes / size),
                        .reciprocal = (UINT64_C(1) << 32) / (size / 16) + 1};
}

/* For the processors that the process may run on. Threads that take turns on one of them are better off apart, too. */
static uint32_t usual_shards(void)
{
  cpu_set_t set;
  int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CROWD * CPU_COUNT(&set) : SHARDS;
  return count < SHARDS ? (uint32_t)count : SHARDS;
}

static int32_t slab_start(const hak_host *host, const hak_value *values, void **self)
{
  const struct span_setup setup = {.pages = {values[SLAB_PAGES].pages, values[SLAB_HUGE].pages},
                                   .first = values[SLAB_HUGE_FROM].size,
                                   .keep = values[SLAB_KEEP].size,
                                   .age = (uint64_t)values[SLAB_AGE].integer};
  struct slab *slab = host->meta_alloc(host, sizeof *slab + host->class_count * sizeof slab->shapes[0], _Alignof(struct slab));
  if (slab != NULL) {
    slab->host = host;
    slab->pool = span_pool_start(host, &setup);
    slab->most = values[SLAB_SHARDS].integer != 0 ? (uint32_t)values[SLAB_SHARDS].integer : usual_shards();
  }
  if (slab == NULL || slab->pool == NULL || !add_shard(slab)) {
    host->log(host, "no memory to start with");
    return HAK_NO_MEMORY;
  }
  for (uint32_t cls = 0; cls < host->class_count; cls++) {
    slab->shapes[cls] = shape_of(host->class_bytes[cls]);
  }
  *self = slab;
  return HAK_OK;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_backend_ops slab_ops = {
    .struct_size = sizeof(hak_backend_ops),
    .granularity = HAK_CLASS,
    .refill = slab_refill,
    .flush = slab_flush,
    .thread_exit = slab_thread_exit,
    .trim = slab_trim,
    .fork_prepare = slab_fork_prepare,
    .fork_parent = slab_fork_parent,
    .fork_child = slab_fork_child,
    .expire = slab_expire,
    .looks = 1,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_BACKEND,
    .name = "slab",
    .version = "0.1",
    .summary = "small objects in spans of one size class each",
    .options = slab_options,
    .option_count = SLAB_OPTIONS,
    .option_stride = sizeof(hak_option),
    .counters = slab_counters,
    .counter_count = SLAB_COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = slab_start,
    .set = slab_set,
    .ops = &slab_ops,
};
