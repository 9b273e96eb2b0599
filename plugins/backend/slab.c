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
 * Each class keeps what a thread gave back, and the spans that it took from last, in the thread's lane, and looks there first: so
 * objects, bitmaps and lists stay in the caches of one processor. What its own lane lacks, a thread takes from the others: there is
 * no new span while any of them has a free object.
 *
 * Each class has a lock, which guards its depots, its lists and the records of its spans.
 */
#include "hakmem/plugin.h"

#include <string.h>

#include "populate.h"
#include "span_pool.h"

enum {
  LEVELS = 8,     /* lists of spans, by how much of them is free */
  RUN_ROOM = 64,  /* objects that a record of a run has room for; longer runs have several */
  RUNS = 8,       /* records made at a time */
  VISITS = 8,     /* spans that one refill takes from at most */
  LANES = 32,     /* most that there can be: the bits of a word */
  LINE = 64,      /* bytes of a cache line */
  DEPOT_SHARE = 8 /* the depot holds so large a part of the objects in use, */
};

#define DEPOT_FLOOR ((size_t)256 << 10) /* or so many bytes of them */
#define SHORT 1024                      /* bytes; shorter runs are not worth handing over */
#define SPAN_WASTE 8                    /* a span is so long that at most this part of it is no object */

/* ---- options and counters -------------------------------------------------------------------------------------------- */

enum { SLAB_PAGES, SLAB_HUGE, SLAB_HUGE_FROM, SLAB_KEEP, SLAB_AGE, SLAB_OPTIONS };

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
  void *objects[RUN_ROOM];
};

/* A class in one lane, under the lock of the class. */
struct lane {
  struct run *depot;            /* the last one to come is the first */
  struct run *idle;             /* records without objects */
  struct span *partial[LEVELS]; /* spans with free objects, not all of them, by how many; 0 is the fullest */
  uint32_t levels;              /* bit i: partial[i] is not empty */
};

struct __attribute__((aligned(64))) slab_class {
  hak_lock lock;
  uint32_t size;       /* bytes of an object; constant, as are the next three */
  uint32_t granules;   /* of a span */
  uint32_t capacity;   /* objects of a span */
  uint64_t reciprocal; /* 2^32 / (size / 16), rounded up: what is divided by the size is multiplied by it; constant */
  uint32_t depots;     /* bit i: runs wait in the depot of lane i */
  uint32_t partials;   /* bit i: spans are listed in lane i */
  uint32_t visited;    /* a depot was used since slab_expire looked last */
  uint32_t roomy;      /* the last flush left room in the depots; atomic for readers without the lock, as a hint */
  uint64_t waiting;    /* objects in all depots */
  uint64_t total;      /* objects of all spans of the class */
  uint64_t free;       /* of them, in no run: their bits are set */
};

struct slab {
  const hak_host *host;
  struct span_pool *pool;
  hak_lock lock; /* for lane_count and threads; taken before those of classes */
  uint32_t lane_count;
  uint32_t threads[LANES];     /* in each lane */
  struct lane *lanes[LANES];   /* [class_count] each; a lane that has come stays */
  struct slab_class classes[]; /* host->class_count */
};

/* ---- lanes ----------------------------------------------------------------------------------------------------------- */

/* One more lane, if that may be and there is memory. Under the slab's lock, or before there are threads. */
static bool add_lane(struct slab *slab)
{
  struct lane *lane = NULL;
  if (slab->lane_count < LANES) {
    lane = slab->host->meta_alloc(slab->host, slab->host->class_count * sizeof *lane, LINE);
  }
  if (lane != NULL) {
    slab->lanes[slab->lane_count++] = lane;
  }
  return lane != NULL;
}

/* Gives a lane to a thread: one with the fewest threads, a new one before two have to share. */
static uint32_t settle_down(struct slab *slab, void **slot)
{
  uint32_t best = 0;
  hak_lock_acquire(slab->host, &slab->lock);
  for (uint32_t i = 1; i < slab->lane_count; i++) {
    best = slab->threads[i] < slab->threads[best] ? i : best;
  }
  if (slab->threads[best] != 0 && add_lane(slab)) {
    best = slab->lane_count - 1;
  }
  slab->threads[best]++;
  hak_lock_release(slab->host, &slab->lock);
  __atomic_store_n((uintptr_t *)slot, (uintptr_t)best + 1, __ATOMIC_RELAXED);
  return best;
}

/* The lane of the calling thread, whose slot has its number, from 1 on. */
static uint32_t lane_of(struct slab *slab, void **slot)
{
  uintptr_t lane = __atomic_load_n((uintptr_t *)slot, __ATOMIC_RELAXED);
  return lane != 0 ? (uint32_t)lane - 1 : settle_down(slab, slot);
}

static uint32_t number_of(const struct slab *slab, const struct slab_class *class)
{
  return (uint32_t)(class - slab->classes);
}

static struct lane *lane_at(const struct slab *slab, uint32_t lane, const struct slab_class *class)
{
  return &slab->lanes[lane][number_of(slab, class)];
}

static bool has(uint32_t set, uint32_t lane)
{
  return (set >> lane & 1) != 0;
}

/* That lane, if it is in the set, which is not empty; else the next one. */
static uint32_t nearest(uint32_t set, uint32_t lane)
{
  uint32_t from = set & ~0U << lane;
  return (uint32_t)__builtin_ctz(from != 0 ? from : set);
}

/* ---- spans of a class, under its lock -------------------------------------------------------------------------------- */

/* Eight levels, each an eighth of the span. */
static uint32_t level_of(const struct slab_class *class, const struct span *span)
{
  uint32_t level = (uint32_t)((uint64_t)span->free * LEVELS / class->capacity);
  return level < LEVELS ? level : LEVELS - 1;
}

static void list(const struct slab *slab, struct slab_class *class, struct span *span)
{
  struct lane *lane = lane_at(slab, span->lane, class);
  uint32_t level = level_of(class, span);
  struct span *first = lane->partial[level];
  span->level = (uint8_t)level;
  span->listed = true;
  span->prev = NULL;
  span->next = first;
  if (first != NULL) {
    first->prev = span;
  }
  lane->partial[level] = span;
  lane->levels |= 1U << level;
  class->partials |= 1U << span->lane;
}

static void unlist(const struct slab *slab, struct slab_class *class, struct span *span)
{
  if (span->prev != NULL) {
    span->prev->next = span->next;
  } else {
    struct lane *lane = lane_at(slab, span->lane, class);
    lane->partial[span->level] = span->next;
    lane->levels &= span->next == NULL ? ~(1U << span->level) : ~0U;
    class->partials &= lane->levels == 0 ? ~(1U << span->lane) : ~0U;
  }
  if (span->next != NULL) {
    span->next->prev = span->prev;
  }
  span->listed = false;
}

/* The fullest span of a lane, but one that is full up to an eighth last, since it would be visited for a few objects. */
static struct span *fullest(const struct slab *slab, struct slab_class *class, uint32_t lane)
{
  const struct lane *from = lane_at(slab, lane, class);
  uint32_t levels = (from->levels & ~1U) != 0 ? from->levels & ~1U : from->levels;
  struct span *span = from->partial[__builtin_ctz(levels)];
  unlist(slab, class, span);
  return span;
}

/* A span from the pool, all its objects free: an empty one of the lane, or `any`. NULL when there is none. */
static struct span *add(struct slab *slab, struct slab_class *class, uint32_t lane, bool any)
{
  const struct span_order order = {.cls = number_of(slab, class),
                                   .granules = class->granules,
                                   .capacity = class->capacity,
                                   .lane = lane,
                                   .large = class->total / 2 >= class->capacity,
                                   .any = any};
  struct span *span = span_pool_get(slab->pool, &order);
  if (span != NULL) {
    class->total += class->capacity;
    class->free += class->capacity;
  }
  return span;
}

/* The span to take from: one of the lane, or, if it has none and `any` may be, one of another lane, or a new one. NULL: there is none. */
static struct span *choose(struct slab *slab, struct slab_class *class, uint32_t lane, bool any)
{
  bool listed = has(class->partials, lane) || (any && class->partials != 0);
  struct span *span = listed ? fullest(slab, class, nearest(class->partials, lane)) : add(slab, class, lane, any);
  if (span != NULL) {
    span->lane = (uint8_t)lane;
  }
  return span;
}

/*
 * Whether all pages of a new span will be touched soon: they have several objects each, and the class has filled two spans before. So
 * at most a third of what the class has is resident in vain.
 */
static bool will_be_dense(const struct slab *slab, const struct slab_class *class, const struct span *span)
{
  return span->fresh && class->total / 2 > class->capacity && class->size <= slab->host->page_size / 2;
}

/* Takes up to `want` free objects in the order of their addresses. Returns how many. */
static uint32_t take(const struct slab_class *class, struct span *span, void **objects, uint32_t want)
{
  uint32_t size = class->size, taken = 0, word = span->cursor, words = (class->capacity + 63) / 64;
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
static uint64_t index_of(const struct slab_class *class, uint64_t offset)
{
  return (offset / 16 * class->reciprocal) >> 32;
}

/* Marks objects of the span free: objects[i], and those behind it whose bits are in the same word. Returns the first that is not. */
static uint32_t put(const struct slab *slab, const struct slab_class *class, struct span *span, void *const *objects,
                    void *const *tags, uint32_t i, uint32_t count)
{
  uint64_t index = index_of(class, (uint64_t)((const char *)objects[i] - span->base));
  uint32_t word = (uint32_t)(index / 64);
  uint64_t bits = span->bits[word];
  do {
    uint64_t bit = UINT64_C(1) << (index & 63);
    if ((bits & bit) != 0) {
      slab->host->misuse(slab->host, objects[i]); /* it was free already */
    }
    bits |= bit;
    i++;
    index = i < count && tags[i] == span ? index_of(class, (uint64_t)((const char *)objects[i] - span->base)) : UINT64_MAX;
  } while (index / 64 == word);
  span->bits[word] = bits;
  span->cursor = word < span->cursor ? word : span->cursor;
  return i;
}

/* The span has got free objects: it moves to the list where it belongs, or, when it is empty, to the chain *empty. */
static void settle(const struct slab *slab, struct slab_class *class, struct span *span, struct span **empty)
{
  if (span->listed && (span->free == class->capacity || level_of(class, span) != span->level)) {
    unlist(slab, class, span);
  }
  if (span->free == class->capacity) {
    class->total -= class->capacity;
    class->free -= class->capacity;
    span->next = *empty;
    *empty = span;
  } else if (!span->listed) {
    list(slab, class, span);
  }
}

/* Gives objects back to their spans, which are their tags. Spans that become empty are chained to *empty. */
static void scatter(struct slab *slab, struct slab_class *class, void *const *objects, void *const *tags, uint32_t count,
                    struct span **empty)
{
  for (uint32_t i = 0; i < count;) {
    struct span *span = tags[i];
    uint32_t first = i;
    while (i < count && tags[i] == span) {
      i = put(slab, class, span, objects, tags, i, count);
    }
    span->free += i - first;
    settle(slab, class, span, empty);
  }
  class->free += count;
  hak_count(slab->host, SLAB_SCATTERED, count);
}

/* ---- the depot of a class, under its lock ---------------------------------------------------------------------------- */

/* A record to write objects down. NULL when there is no memory. */
static struct run *depot_record(struct slab *slab, struct lane *lane)
{
  if (lane->idle == NULL) {
    struct run *fresh = slab->host->meta_alloc(slab->host, RUNS * sizeof *fresh, _Alignof(struct run));
    for (int i = RUNS; fresh != NULL && i-- > 0;) {
      fresh[i].next = lane->idle;
      lane->idle = &fresh[i];
    }
  }
  struct run *run = lane->idle;
  if (run != NULL) {
    lane->idle = run->next;
  }
  return run;
}

/* Takes objects in. Returns how many: fewer than `count` when there is no memory to write them down. */
static uint32_t depot_push(struct slab *slab, struct slab_class *class, uint32_t lane, void *const *objects, uint32_t count)
{
  struct lane *own = lane_at(slab, lane, class);
  uint32_t done = 0;
  for (struct run *run; done < count && (run = depot_record(slab, own)) != NULL; done += (uint32_t)run->count) {
    run->count = count - done < RUN_ROOM ? count - done : RUN_ROOM;
    memcpy(run->objects, objects + done, run->count * sizeof *objects);
    run->next = own->depot;
    own->depot = run;
  }
  class->depots |= own->depot != NULL ? 1U << lane : 0;
  class->waiting += done;
  class->visited = 1;
  return done;
}

/* Up to `want` objects of the lane, the last to come at the end. Returns how many. */
static uint32_t depot_pop(const struct slab *slab, struct slab_class *class, uint32_t lane, void **objects, uint32_t want)
{
  struct lane *from = lane_at(slab, lane, class);
  uint32_t count = 0;
  for (struct run *run; count < want && (run = from->depot) != NULL;) {
    uint32_t taken = run->count < want - count ? (uint32_t)run->count : want - count;
    run->count -= taken;
    count += taken;
    memcpy(objects + want - count, run->objects + run->count, taken * sizeof *objects);
    if (run->count == 0) {
      from->depot = run->next;
      run->next = from->idle;
      from->idle = run;
    }
  }
  if (count != 0) {
    memmove(objects, objects + want - count, count * sizeof *objects);
    class->depots &= from->depot == NULL ? ~(1U << lane) : ~0U;
    class->waiting -= count;
    class->visited = 1;
  }
  return count;
}

/* Sends objects back to their spans: those of one record. */
static void depot_scatter(struct slab *slab, struct slab_class *class, uint32_t lane, struct span **empty)
{
  void *objects[RUN_ROOM], *tags[RUN_ROOM];
  uint32_t count = depot_pop(slab, class, nearest(class->depots, lane), objects, RUN_ROOM);
  slab->host->span_tags(slab->host, number_of(slab, class), objects, count, tags);
  scatter(slab, class, objects, tags, count, empty);
}

/* Objects that the depot may hold. */
static uint64_t depot_room(const struct slab_class *class)
{
  uint64_t share = (class->total - class->free) / DEPOT_SHARE;
  uint64_t floor = DEPOT_FLOOR / class->size;
  return share > floor ? share : floor;
}

/* ---- refill, under the lock of the class ------------------------------------------------------------------------------ */

/* Objects of spans, in the order of their addresses within each. *dense is one of the spans that will be dense. Returns how many. */
static uint32_t gather(struct slab *slab, struct slab_class *class, uint32_t lane, bool any, void **objects, uint32_t want,
                       struct span **dense)
{
  uint32_t count = 0;
  for (uint32_t visit = 0; count < want && visit < VISITS; visit++) {
    struct span *span = choose(slab, class, lane, any);
    if (span == NULL) {
      break;
    }
    uint32_t taken = take(class, span, objects + count, want - count);
    count += taken;
    *dense = will_be_dense(slab, class, span) ? span : *dense;
    span->fresh = false;
    class->free -= taken;
    if (span->free != 0) {
      list(slab, class, span);
    }
  }
  return count;
}

/*
 * The program gets the last object of a run first. Objects that lie side by side are turned round for it: a program that goes through
 * what it has allocated then goes upwards, as processors expect. Others are left alone: the first ones may share a cache line with
 * objects of other threads, and are best used last.
 */
static void ascend(const struct slab_class *class, void **objects, uint32_t count)
{
  uintptr_t first = (uintptr_t)objects[0], last = (uintptr_t)objects[count - 1];
  if (first % LINE == 0 && last - first == (uint64_t)(count - 1) * class->size) {
    for (uint32_t i = 0, j = count - 1; i < j; i++, j--) {
      void *object = objects[i];
      objects[i] = objects[j];
      objects[j] = object;
    }
  }
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static int32_t slab_refill(void *self, void **slot, uint32_t cls, void **objects, uint32_t want)
{
  struct slab *slab = self;
  uint32_t lane = lane_of(slab, slot);
  struct slab_class *class = &slab->classes[cls];
  hak_lock_acquire(slab->host, &class->lock);
  struct span *dense = NULL;
  uint32_t count = depot_pop(slab, class, lane, objects, want);
  bool handed_over = count != 0;
  if (count == 0) {
    count = gather(slab, class, lane, false, objects, want, &dense);
  }
  if (count == 0 && class->depots != 0) {
    count = depot_pop(slab, class, nearest(class->depots, lane), objects, want);
    handed_over = true;
  }
  if (count == 0) {
    count = gather(slab, class, lane, true, objects, want, &dense);
  }
  hak_lock_release(slab->host, &class->lock);
  if (handed_over) {
    hak_count(slab->host, SLAB_HANDOVERS, 1);
  } else if (count != 0) {
    ascend(class, objects, count);
  }
  if (dense != NULL) { /* it stays, since some of its objects are ours */
    (void)populate(slab->host, dense->base, dense->length);
  }
  return count != 0 ? (int32_t)count : HAK_NO_MEMORY;
}

/*
 * Whether objects begin where objects do. The core knows that they lie in spans of the class, and one granule long these begin where a
 * granule does: what goes into the depot need not be looked up.
 */
static bool begin_right(const struct slab_class *class, void *const *objects, uint32_t count)
{
  uint64_t astray = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint64_t offset = (uintptr_t)objects[i] % HAK_GRANULE;
    astray |= offset - index_of(class, offset) * class->size;
  }
  return astray == 0;
}

static void slab_flush(void *self, void **slot, uint32_t cls, void *const *objects, uint32_t count)
{
  struct slab *slab = self;
  uint32_t lane = lane_of(slab, slot);
  struct slab_class *class = &slab->classes[cls];
  struct span *empty = NULL;
  void *tags[HAK_RUN_LONGEST];
  bool long_enough = count * class->size >= SHORT;
  bool roomy = __atomic_load_n(&class->roomy, __ATOMIC_RELAXED) != 0;
  bool checked = long_enough && roomy && class->granules == 1 && begin_right(class, objects, count);
  if (!checked) {
    slab->host->span_tags(slab->host, cls, objects, count, tags); /* ends in misuse if need be */
  }
  hak_lock_acquire(slab->host, &class->lock);
  bool wait = long_enough && class->waiting + count <= depot_room(class);
  uint32_t kept = wait ? depot_push(slab, class, lane, objects, count) : 0;
  if (kept < count) {
    if (checked) {
      slab->host->span_tags(slab->host, cls, objects + kept, count - kept, tags + kept);
    }
    scatter(slab, class, objects + kept, tags + kept, count - kept, &empty);
  }
  while (class->waiting > depot_room(class)) {
    depot_scatter(slab, class, lane, &empty);
  }
  __atomic_store_n(&class->roomy, class->waiting + HAK_RUN_LONGEST <= depot_room(class), __ATOMIC_RELAXED);
  hak_lock_release(slab->host, &class->lock);
  if (empty != NULL) {
    span_pool_put(slab->pool, empty);
  }
}

/* Scatters what waits in the depot of a class; others get at it between any two runs. */
static void empty_depot(struct slab *slab, struct slab_class *class)
{
  struct span *empty = NULL;
  bool more = true;
  while (more) {
    hak_lock_acquire(slab->host, &class->lock);
    more = class->depots != 0;
    if (more) {
      depot_scatter(slab, class, 0, &empty);
    }
    hak_lock_release(slab->host, &class->lock);
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
  for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
    struct slab_class *class = &slab->classes[cls];
    hak_lock_acquire(slab->host, &class->lock);
    bool left = class->visited == 0 && class->waiting != 0;
    class->visited = 0;
    more = more || (class->waiting != 0 && !left);
    hak_lock_release(slab->host, &class->lock);
    if (left) {
      empty_depot(slab, class);
    }
  }
  return span_pool_expire(slab->pool) || more;
}

static size_t slab_trim(void *self)
{
  struct slab *slab = self;
  for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
    empty_depot(slab, &slab->classes[cls]);
  }
  return span_pool_trim(slab->pool);
}

static void slab_thread_exit(void *self, void **slot)
{
  struct slab *slab = self;
  uintptr_t lane = __atomic_load_n((uintptr_t *)slot, __ATOMIC_RELAXED);
  if (lane != 0) {
    hak_lock_acquire(slab->host, &slab->lock);
    slab->threads[lane - 1] -= slab->threads[lane - 1] != 0;
    hak_lock_release(slab->host, &slab->lock);
  }
}

static void slab_fork_prepare(void *self)
{
  struct slab *slab = self;
  hak_lock_acquire(slab->host, &slab->lock);
  for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
    hak_lock_acquire(slab->host, &slab->classes[cls].lock);
  }
  span_pool_fork_prepare(slab->pool);
}

static void slab_fork_parent(void *self)
{
  struct slab *slab = self;
  span_pool_fork_parent(slab->pool);
  for (uint32_t cls = slab->host->class_count; cls-- > 0;) {
    hak_lock_release(slab->host, &slab->classes[cls].lock);
  }
  hak_lock_release(slab->host, &slab->lock);
}

/* The only thread of the child may be in any lane. */
static void slab_fork_child(void *self)
{
  struct slab *slab = self;
  span_pool_fork_child(slab->pool);
  memset(slab->threads, 0, sizeof slab->threads);
  slab->lock.word = 0;
  for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
    slab->classes[cls].lock.word = 0;
  }
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
static void shape(struct slab_class *class)
{
  size_t bytes = HAK_GRANULE, size = class->size;
  while (bytes < size || bytes % size > bytes / SPAN_WASTE) {
    bytes += HAK_GRANULE;
  }
  class->granules = (uint32_t)(bytes / HAK_GRANULE);
  class->capacity = (uint32_t)(bytes / size);
  class->reciprocal = (UINT64_C(1) << 32) / (size / 16) + 1;
}

static int32_t slab_start(const hak_host *host, const hak_value *values, void **self)
{
  const struct span_setup setup = {.pages = {values[SLAB_PAGES].pages, values[SLAB_HUGE].pages},
                                   .first = values[SLAB_HUGE_FROM].size,
                                   .keep = values[SLAB_KEEP].size,
                                   .age = (uint64_t)values[SLAB_AGE].integer};
  struct slab *slab = host->meta_alloc(host, sizeof *slab + host->class_count * sizeof slab->classes[0], _Alignof(struct slab));
  if (slab != NULL) {
    slab->host = host;
    slab->pool = span_pool_start(host, &setup);
  }
  if (slab == NULL || slab->pool == NULL || !add_lane(slab)) {
    host->log(host, "no memory to start with");
    return HAK_NO_MEMORY;
  }
  for (uint32_t cls = 0; cls < host->class_count; cls++) {
    slab->classes[cls].size = host->class_bytes[cls];
    shape(&slab->classes[cls]);
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
    .run = HAK_RUN_LONGEST,
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
