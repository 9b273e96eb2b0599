/* SPDX-License-Identifier: MIT */
/* cache.c - a cache that keeps the few ranges that were freed last, whatever they are. Owns the chain of them; one lock. */
#include "variant.h"

enum { TAKES, HITS, PUTS, VICTIMS, REUSED, EXPIRES, COUNTERS };
static const hak_counter counters[COUNTERS] = {
    [TAKES] = COUNTER_ROW("takes"),     [HITS] = COUNTER_ROW("hits"),     [PUTS] = COUNTER_ROW("puts"),
    [VICTIMS] = COUNTER_ROW("victims"), [REUSED] = COUNTER_ROW("reused"), [EXPIRES] = COUNTER_ROW("expires")};
static const hak_option options[] = {OPTION_ROWS};

static hak_range *kept; /* the newest first */
static int64_t kept_count;

static hak_range *cache_take(void *self, const hak_need *need, hak_range **victims)
{
  hak_range *found = NULL;
  (void)victims;
  hak_lock_acquire(host, self);
  COUNT(TAKES);
  for (hak_range **at = &kept; *at != NULL; at = &(*at)->next) {
    hak_range *range = *at;
    if (range->backend == need->backend && range->capacity >= need->size && range->capacity / 2 <= need->size &&
        (uintptr_t)range->base % need->align == 0) {
      *at = range->next;
      kept_count--;
      found = range;
      COUNT(HITS);
      break;
    }
  }
  hak_lock_release(host, self);
  return found;
}

static hak_range *cache_put(void *self, hak_range *range)
{
  hak_range *victim = NULL;
  hak_lock_acquire(host, self);
  COUNT(PUTS);
  range->next = kept;
  range->stamp = host->os->coarse();
  kept = range;
  if (++kept_count > __atomic_load_n(&limit, __ATOMIC_RELAXED)) {
    hak_range **last = &kept;
    while ((*last)->next != NULL) {
      last = &(*last)->next;
    }
    victim = *last;
    *last = NULL;
    kept_count--;
    COUNT(VICTIMS);
  }
  hak_lock_release(host, self);
  return victim;
}

static hak_range *cache_drain(void *self)
{
  hak_lock_acquire(host, self);
  hak_range *chain = kept;
  kept = NULL;
  kept_count = 0;
  hak_lock_release(host, self);
  return chain;
}

static hak_range *cache_expire(void *self)
{
  enum { AGE = 100 * 1000 * 1000 };
  hak_range *old = NULL;
  uint64_t now = host->os->coarse();
  hak_lock_acquire(host, self);
  COUNT(EXPIRES);
  hak_range **at = &kept;
  while (*at != NULL && now - (*at)->stamp < AGE) {
    at = &(*at)->next;
  }
  old = *at;
  *at = NULL;
  for (hak_range *range = old; range != NULL; range = range->next) {
    kept_count--;
  }
  hak_lock_release(host, self);
  return old;
}

static void cache_reused(void *self, const hak_range *range, uint64_t times)
{
  (void)self;
  (void)range;
  hak_count(host, REUSED, times);
}

static const hak_cache_ops ops = {.struct_size = OPS_SIZE,
                                  .take = cache_take,
                                  .put = cache_put,
                                  .expire = cache_expire,
                                  .drain = cache_drain,
                                  .fork_prepare = fork_prepare,
                                  .fork_parent = fork_parent,
                                  .fork_child = fork_child,
                                  .reused = cache_reused,
                                  FUTURE};

DESCRIBE(HAK_CACHE, begin);
