/* SPDX-License-Identifier: MIT */
/*
 * class.c - a class backend: a chain of free objects for each class, spans from the page backend that its option names, and a tag
 * for each span, that flush asks for. A later one takes runs of 200 objects. Owns the chains; one lock.
 */
#include "variant.h"

#ifdef LATER
enum { RUN = 200 };
#define MEMBER_RUN .run = RUN,
#else
enum { RUN = HAK_RUN_MAX };
#define MEMBER_RUN
#endif

enum { SPANS, REFILLS, FLUSHES, TAGGED, WRONG_TAGS, LONG, TOO_LONG, COUNTERS };
static const hak_counter counters[COUNTERS] = {
    [SPANS] = COUNTER_ROW("spans"),      [REFILLS] = COUNTER_ROW("refills"),       [FLUSHES] = COUNTER_ROW("flushes"),
    [TAGGED] = COUNTER_ROW("tagged"),    [WRONG_TAGS] = COUNTER_ROW("wrong_tags"), [LONG] = COUNTER_ROW("long"),
    [TOO_LONG] = COUNTER_ROW("too_long")};
static const hak_option options[] = {
    OPTION_ROWS, {.key = "pages", .type = HAK_PAGES, .fallback = "mmap", .help = "page backend that spans come from", FUTURE}};

static const hak_pages *pages;
static void **free_objects; /* by class */

static bool grow(uint32_t cls)
{
  size_t size = host->class_bytes[cls], bytes = (8 * size + HAK_GRANULE - 1) / HAK_GRANULE * HAK_GRANULE;
  hak_block span = pages->alloc(pages, bytes, HAK_GRANULE);
  if (span.base == NULL) {
    return false;
  }
  if (host->span_register(host, span.base, bytes, cls, span.base) != HAK_OK) {
    pages->free(pages, span.base, hak_block_capacity(span));
    return false;
  }
  for (size_t i = bytes / size; i > 0; i--) {
    void **object = (void **)(void *)((char *)span.base + (i - 1) * size);
    *object = free_objects[cls];
    free_objects[cls] = object;
  }
  COUNT(SPANS);
  return true;
}

static void judge(uint32_t count)
{
  if (count > HAK_RUN_MAX) {
    COUNT(count > RUN ? TOO_LONG : LONG);
  }
}

static int32_t class_refill(void *self, void **slot, uint32_t cls, void **objects, uint32_t want)
{
  (void)slot;
  uint32_t count = 0;
  hak_lock_acquire(host, self);
  COUNT(REFILLS);
  judge(want);
  if (free_objects[cls] != NULL || grow(cls)) {
    for (void **object; count < want && (object = free_objects[cls]) != NULL; count++) {
      free_objects[cls] = *object;
      objects[count] = (void *)object;
    }
  }
  hak_lock_release(host, self);
  return count != 0 ? (int32_t)count : HAK_NO_MEMORY;
}

static void class_flush(void *self, void **slot, uint32_t cls, void *const *objects, uint32_t count)
{
  void *tags[RUN];
  (void)slot;
  host->span_tags(host, cls, objects, count, tags);
  hak_lock_acquire(host, self);
  COUNT(FLUSHES);
  judge(count);
  for (uint32_t i = 0; i < count; i++) {
    bool below = (uintptr_t)tags[i] <= (uintptr_t)objects[i];
    COUNT(below && (uintptr_t)objects[i] - (uintptr_t)tags[i] < 9 * HAK_CLASS_MAX ? TAGGED : WRONG_TAGS);
    *(void **)objects[i] = free_objects[cls];
    free_objects[cls] = objects[i];
  }
  hak_lock_release(host, self);
}

static int32_t class_start(const hak_host *core, const hak_value *values, void **self)
{
  pages = values[2].pages;
  free_objects = core->meta_alloc(core, core->class_count * sizeof *free_objects, sizeof *free_objects);
  return free_objects != NULL ? begin(core, values, self) : HAK_NO_MEMORY;
}

static const hak_backend_ops ops = {.struct_size = OPS_SIZE,
                                    .granularity = HAK_CLASS,
                                    .refill = class_refill,
                                    .flush = class_flush,
                                    .fork_prepare = fork_prepare,
                                    .fork_parent = fork_parent,
                                    .fork_child = fork_child,
                                    .looks = 1,
                                    MEMBER_RUN FUTURE};

DESCRIBE(HAK_BACKEND, class_start);
