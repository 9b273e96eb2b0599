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
 * Each class has a lock, which guards its depot, its lists and the records of its spans.
 */
#include "hakmem/plugin.h"

#include <string.h>

#include "populate.h"
#include "span_pool.h"

enum {
  LEVELS = 8,     /* lists of spans, by how much of them is free */
  RUNS = 8,       /* records of runs made at a time */
  VISITS = 8,     /* spans that one refill takes from at most */
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
  void *objects[HAK_RUN_MAX];
};

struct __attribute__((aligned(64))) slab_class {
  hak_lock lock;
  uint32_t size;                /* bytes of an object; constant, as are the next three */
  uint32_t granules;            /* of a span */
  uint32_t capacity;            /* objects of a span */
  uint64_t reciprocal;          /* 2^32 / (size / 16), rounded up: what is divided by the size is multiplied by it; constant */
  uint32_t levels;              /* bit i: partial[i] is not empty */
  uint32_t visited;             /* the depot was used since slab_expire looked last */
  uint32_t roomy;               /* the last flush left room in the depot; atomic for readers without the lock, as a hint */
  struct run *depot;            /* the last one to come is the first */
  struct run *idle;             /* records without objects */
  uint64_t waiting;             /* objects in the depot */
  uint64_t total;               /* objects of all spans of the class */
  uint64_t free;                /* of them, in no run: their bits are set */
  struct span *partial[LEVELS]; /* spans with free objects, not all of them, by how many; 0 is the fullest */
};

struct slab {
  const hak_host *host;
  struct span_pool *pool;
  struct slab_class classes[]; /* host->class_count */
};

/* ---- spans of a class, under its lock -------------------------------------------------------------------------------- */

/* Eight levels, each an eighth of the span. */
static uint32_t level_of(const struct slab_class *class, const struct span *span)
{
  uint32_t level = (uint32_t)((uint64_t)span->free * LEVELS / class->capacity);
  return level < LEVELS ? level : LEVELS - 1;
}

static void list(struct slab_class *class, struct span *span)
{
  uint32_t level = level_of(class, span);
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

/*
 * The span to take from: the fullest, but one that is full up to an eighth last, since it would be visited for a few objects. A new
 * one when there is none, with all its objects free. NULL when there is no memory.
 */
static struct span *choose(struct slab *slab, struct slab_class *class, uint32_t cls)
{
  uint32_t levels = (class->levels & ~1U) != 0 ? class->levels & ~1U : class->levels;
  if (levels != 0) {
    struct span *span = class->partial[__builtin_ctz(levels)];
    unlist(class, span);
    return span;
  }
  struct span *span = span_pool_get(slab->pool, cls, class->granules, class->capacity, class->total / 2 >= class->capacity);
  if (span != NULL) {
    class->total += class->capacity;
    class->free += class->capacity;
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

/* Marks an object of the span free. False when it was free already. */
static bool put(const struct slab_class *class, struct span *span, const void *object)
{
  uint64_t index = index_of(class, (uint64_t)((const char *)object - span->base));
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
static void settle(struct slab_class *class, struct span *span, struct span **empty)
{
  if (span->listed && (span->free == class->capacity || level_of(class, span) != span->level)) {
    unlist(class, span);
  }
  if (span->free == class->capacity) {
    class->total -= class->capacity;
    class->free -= class->capacity;
    span->next = *empty;
    *empty = span;
  } else if (!span->listed) {
    list(class, span);
  }
}

/* Gives objects back to their spans, which are their tags. Spans that become empty are chained to *empty. */
static void scatter(struct slab *slab, struct slab_class *class, void *const *objects, void *const *tags, uint32_t count,
                    struct span **empty)
{
  for (uint32_t i = 0; i < count;) {
    struct span *span = tags[i];
    uint32_t first = i;
    for (; i < count && tags[i] == span; i++) {
      if (!put(class, span, objects[i])) {
        slab->host->misuse(slab->host, objects[i]);
      }
    }
    span->free += i - first;
    settle(class, span, empty);
  }
  class->free += count;
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
  class->waiting += count;
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
  class->waiting -= count;
  class->visited = 1;
  return count;
}

/* Sends the objects of a run back to their spans. */
static void depot_scatter(struct slab *slab, struct slab_class *class, uint32_t cls, struct span **empty)
{
  void *objects[HAK_RUN_MAX], *tags[HAK_RUN_MAX];
  uint32_t count = depot_pop(class, objects, HAK_RUN_MAX);
  slab->host->span_tags(slab->host, cls, objects, count, tags);
  scatter(slab, class, objects, tags, count, empty);
}

/* Objects that the depot may hold. */
static uint64_t depot_room(const struct slab_class *class)
{
  uint64_t share = (class->total - class->free) / DEPOT_SHARE;
  uint64_t floor = DEPOT_FLOOR / class->size;
  return share > floor ? share : floor;
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static int32_t slab_refill(void *self, void **slot, uint32_t cls, void **objects, uint32_t want)
{
  (void)slot; /* nothing is kept per thread: the core's magazines are that */
  struct slab *slab = self;
  struct slab_class *class = &slab->classes[cls];
  hak_lock_acquire(slab->host, &class->lock);
  uint32_t count = depot_pop(class, objects, want);
  bool handed_over = count != 0;
  struct span *dense = NULL;
  for (uint32_t visit = 0; !handed_over && count < want && visit < VISITS; visit++) {
    struct span *span = choose(slab, class, cls);
    if (span == NULL) {
      break;
    }
    uint32_t taken = take(class, span, objects + count, want - count);
    count += taken;
    dense = will_be_dense(slab, class, span) ? span : dense;
    span->fresh = false;
    class->free -= taken;
    if (span->free != 0) {
      list(class, span);
    }
  }
  hak_lock_release(slab->host, &class->lock);
  if (handed_over) {
    hak_count(slab->host, SLAB_HANDOVERS, 1);
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
  (void)slot;
  struct slab *slab = self;
  struct slab_class *class = &slab->classes[cls];
  struct span *empty = NULL;
  void *tags[HAK_RUN_MAX];
  bool long_enough = count * class->size >= SHORT;
  bool roomy = __atomic_load_n(&class->roomy, __ATOMIC_RELAXED) != 0;
  bool checked = long_enough && roomy && class->granules == 1 && begin_right(class, objects, count);
  if (!checked) {
    slab->host->span_tags(slab->host, cls, objects, count, tags); /* ends in misuse if need be */
  }
  hak_lock_acquire(slab->host, &class->lock);
  bool wait = long_enough && class->waiting + count <= depot_room(class);
  if (!wait || !depot_push(slab, class, objects, count)) {
    if (checked) {
      slab->host->span_tags(slab->host, cls, objects, count, tags);
    }
    scatter(slab, class, objects, tags, count, &empty);
  }
  while (class->waiting > depot_room(class)) {
    depot_scatter(slab, class, cls, &empty);
  }
  __atomic_store_n(&class->roomy, class->waiting + HAK_RUN_MAX <= depot_room(class), __ATOMIC_RELAXED);
  hak_lock_release(slab->host, &class->lock);
  if (empty != NULL) {
    span_pool_put(slab->pool, empty);
  }
}

/* Scatters what waits in the depot of a class; others get at it between any two runs. */
static void empty_depot(struct slab *slab, uint32_t cls)
{
  struct slab_class *class = &slab->classes[cls];
  struct span *empty = NULL;
  bool more = true;
  while (more) {
    hak_lock_acquire(slab->host, &class->lock);
    more = class->depot != NULL;
    if (more) {
      depot_scatter(slab, class, cls, &empty);
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
      empty_depot(slab, cls);
    }
  }
  return span_pool_expire(slab->pool) || more;
}

static size_t slab_trim(void *self)
{
  struct slab *slab = self;
  for (uint32_t cls = 0; cls < slab->host->class_count; cls++) {
    empty_depot(slab, cls);
  }
  return span_pool_trim(slab->pool);
}

static void slab_fork_prepare(void *self)
{
  struct slab *slab = self;
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
}

static void slab_fork_child(void *self)
{
  struct slab *slab = self;
  span_pool_fork_child(slab->pool);
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
  if (slab == NULL || slab->pool == NULL) {
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
