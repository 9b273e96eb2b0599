/* SPDX-License-Identifier: MIT */
/*
 * range.c - owns the cache and the reclaim plugin in force, hakmem_root.held_bytes (atomic, at most core.cap), and the states CACHED and
 * PENDING of a span: a plugin holds a range exactly while its span is in the plugin's state. Nothing here has a lock; the plugins have theirs.
 *
 * The page map entry of a block stays while it is held, so that reuse does not touch the map; the state tells a freed block from a
 * live one.
 */
#include "range.h"

#include <errno.h>
#include <string.h>

#include "background.h"
#include "epoch.h"
#include "lock.h"
#include "message.h"
#include "os.h"
#include "page.h"
#include "route.h"
#include "settings.h"

enum { GRAIN = 4096 }; /* shares of a time are computed in these, to stay within 64 bits */

enum { ROUTINE = 64 }; /* of so many requests that get the block freed last, one takes the long way, past clock and mailbox */

#define PERIOD UINT64_C(50000000) /* ns between two looks at the age of what is held */

static struct {
  struct hak_cache_ops ops;
  void *self;
  struct hki_thread *inside; /* NULL: no cache */
} cache;

static struct {
  struct hak_reclaim_ops ops;
  void *self;
  struct hki_thread *inside; /* NULL: no reclaim plugin */
} reclaim;

static uint64_t due; /* when to look at the age of what is held; 0: nothing is held or kept; atomic */

/* ---- what plugins hold ----------------------------------------------------------------------------------------------- */

/* Something is held from here on, or kept by a backend. */
void hki_range_watch(void)
{
  if (HKI_UNLIKELY(HKI_LOAD(&due) == 0)) {
    HKI_STORE(&due, hki_os.coarse() + PERIOD);
    hki_background_wake();
  }
}

uint64_t hki_range_due(void)
{
  return HKI_LOAD(&due);
}

/* Puts a range into a plugin's hands. False when core.cap forbids it. */
HKI_INLINE bool hold(hak_range *range, enum hki_span_state state)
{
  uint64_t before = HKI_LOAD(&hakmem_root.held_bytes);
  do {
    if (range->capacity + before > HKI_LOAD(&hki_settings.cap)) {
      return false;
    }
  } while (!__atomic_compare_exchange_n(&hakmem_root.held_bytes, &before, before + range->capacity, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
  hki_range_watch();
  __atomic_store_n(&hki_span_of(range)->state, (uint32_t)state, __ATOMIC_RELEASE);
  return true;
}

/* Takes a range from a plugin. */
static void unhold(hak_range *range, enum hki_span_state state, const struct hki_thread *inside)
{
  if (!hki_span_move(hki_span_of(range), state, HKI_SPAN_MOVING)) {
    hki_die("plugin %s returned a range that it does not hold", inside->inside);
  }
  __atomic_fetch_sub(&hakmem_root.held_bytes, range->capacity, __ATOMIC_RELAXED);
}

/* ---- the way back ---------------------------------------------------------------------------------------------------- */

/* Charges what the release of ranges took to the arms that had allocated them, by their bytes. */
static void charge(const hak_range *chain, size_t bytes, uint64_t began, struct hki_thread *thread)
{
  uint64_t spent = hki_os.now() - began;
  if (thread != NULL) {
    thread->release_ns += spent;
  }
  for (const hak_range *r = chain; r != NULL; r = r->next) {
    hki_epoch_released(r, spent * (r->capacity / GRAIN) / (bytes / GRAIN));
  }
}

/* Returns a chain of one backend's ranges to it. */
static void give_back(struct hki_thread *caller, hak_range *chain, size_t bytes, const hak_purger *purger)
{
  struct hki_backend *backend = &hki_backends[chain->backend];
  void *none = NULL;
  void **slot = hki_home != NULL ? &hki_home->seat[backend->index].slot : &none;
  uint64_t began = hki_epoch_learns() ? hki_os.now() : 0;
  for (hak_range *r = chain; r != NULL; r = r->next) {
    hki_page_leave(hki_span_of(r)); /* before the backend lets go: the next owner may be there at once */
  }
  hki_enter(backend);
  if (purger != NULL && backend->ops.free_many != NULL) {
    backend->ops.free_many(backend->self, slot, chain, purger);
  } else {
    for (hak_range *r = chain; r != NULL; r = r->next) {
      backend->ops.free(backend->self, slot, r->base, r->capacity);
    }
  }
  hki_leave(caller);
  if (began != 0) {
    charge(chain, bytes, began, hki_home);
  }
  while (chain != NULL) {
    hak_range *next = chain->next;
    hki_span_put(hki_span_of(chain));
    chain = next;
  }
}

size_t hki_range_release(const struct hak_host *host, hak_range *chain, const hak_purger *purger)
{
  (void)host;
  size_t all = 0;
  while (chain != NULL) {
    hak_range *first = chain, *last = chain;
    size_t bytes = 0;
    for (;; last = last->next) {
      unhold(last, HKI_SPAN_PENDING, reclaim.inside);
      bytes += last->capacity;
      if (last->next == NULL || last->next->backend != first->backend) {
        break;
      }
    }
    chain = last->next;
    last->next = NULL;
    give_back(hki_self, first, bytes, purger);
    all += bytes;
  }
  hki_range_watch();
  return all;
}

/* Sends ranges that nobody holds to the reclaim plugin, or straight back. */
static void let_go(struct hki_thread *thread, hak_range *chain)
{
  hak_range *pending = NULL;
  while (chain != NULL) {
    hak_range *range = chain;
    chain = range->next;
    bool wait = reclaim.inside != NULL && hki_route.arm[range->arm].reclaim && !(range->flags & HAK_PINNED);
    if (wait && hold(range, HKI_SPAN_PENDING)) {
      range->next = pending;
      pending = range;
    } else {
      range->next = NULL;
      give_back(thread, range, range->capacity, NULL);
    }
  }
  if (pending != NULL) {
    hki_self = reclaim.inside;
    reclaim.ops.put(reclaim.self, pending);
    hki_self = thread;
  }
}

static void let_go_of_cached(struct hki_thread *thread, hak_range *chain)
{
  for (hak_range *r = chain; r != NULL; r = r->next) {
    unhold(r, HKI_SPAN_CACHED, cache.inside);
  }
  let_go(thread, chain);
}

/* ---- the way to the cache -------------------------------------------------------------------------------------------- */

/* Offers a range to the cache that is in state CACHED. */
static HKI_SLOW void shelve(struct hki_thread *thread, hak_range *range)
{
  int saved = errno;
  range->next = NULL;
  hki_self = cache.inside;
  if (range->stamp != 0 && cache.ops.reused != NULL) {
    cache.ops.reused(cache.self, range, range->stamp);
  }
  hak_range *rest = cache.ops.put(cache.self, range);
  hki_self = thread;
  let_go_of_cached(thread, rest);
  errno = saved;
}

/* Moves on the block that `owner` freed last. */
static void move_on(struct hki_thread *thread, struct hki_thread *owner)
{
  struct hki_span *last = HKI_LOAD(&owner->last) != NULL ? __atomic_exchange_n(&owner->last, NULL, __ATOMIC_ACQ_REL) : NULL;
  if (last != NULL) {
    shelve(thread, &last->range);
  }
}

HKI_SLOW void hki_range_move_on(struct hki_thread *thread)
{
  for (struct hki_thread *t = __atomic_load_n(&hakmem_root.threads, __ATOMIC_ACQUIRE); t != NULL; t = t->next) {
    move_on(thread, t);
  }
}

void hki_range_leave(struct hki_thread *thread)
{
  move_on(thread, thread);
}

void hki_range_retire(struct hki_thread *thread, struct hki_span *span)
{
  hak_range *range = &span->range;
  if (HKI_UNLIKELY(cache.inside == NULL) || HKI_UNLIKELY(!hki_route.arm[range->arm].cache) ||
      HKI_UNLIKELY(!hold(range, HKI_SPAN_CACHED))) {
    int saved = errno;
    range->next = NULL;
    let_go(thread, range);
    errno = saved;
  } else if (HKI_UNLIKELY(range->requested <= HAK_CLASS_MAX)) {
    shelve(thread, range);
  } else {
    struct hki_span *before = __atomic_exchange_n(&thread->last, span, __ATOMIC_ACQ_REL);
    if (before != NULL) {
      shelve(thread, &before->range);
    }
  }
}

HKI_SLOW bool hki_range_retire_pages(const struct hki_backend *backend, void *base, size_t capacity)
{
  struct hki_span *span = reclaim.inside != NULL ? hki_span_get() : NULL;
  if (span == NULL) {
    return false;
  }
  span->range = (hak_range){.base = base, .capacity = capacity, .requested = capacity, .backend = (uint8_t)backend->index};
  __atomic_store_n(&span->state, (uint32_t)HKI_SPAN_MOVING, __ATOMIC_RELAXED);
  let_go(hki_self, &span->range);
  return true;
}

struct hki_span *hki_range_again(struct hki_thread *thread, const struct hki_want *want)
{
  struct hki_span *span = __atomic_exchange_n(&thread->last, NULL, __ATOMIC_ACQ_REL);
  if (HKI_UNLIKELY(span == NULL)) {
    return NULL; /* another thread has moved it on */
  }
  hak_range *range = &span->range;
  if (HKI_UNLIKELY(range->requested != want->size) || HKI_UNLIKELY(range->arm != want->arm) ||
      HKI_UNLIKELY(range->backend != hki_route_backend(want->arm, want->size)->index) ||
      HKI_UNLIKELY((uintptr_t)range->base % want->align != 0) || HKI_UNLIKELY(range->stamp % ROUTINE == ROUTINE - 1)) {
    shelve(thread, range);
    return NULL;
  }
  range->stamp++;
  HKI_ADD(&hakmem_root.held_bytes, -range->capacity);
  return span;
}

HKI_SLOW struct hki_span *hki_range_take(struct hki_thread *thread, const struct hki_backend *backend,
                                         const struct hki_want *want)
{
  if (cache.inside == NULL) {
    return NULL;
  }
  struct hki_span *span = HKI_LOAD(&thread->last) != NULL ? hki_range_again(thread, want) : NULL;
  if (span != NULL) {
    return span;
  }
  const hak_need need = {.size = want->size,
                         .align = want->align < HAK_GRANULE ? HAK_GRANULE : want->align,
                         .site = want->site,
                         .backend = backend->index,
                         .arm = want->arm,
                         .flags = want->is_challenger ? HAK_TRIED : 0};
  hak_range *victims = NULL;
  hki_self = cache.inside;
  hak_range *range = cache.ops.take(cache.self, &need, &victims);
  hki_self = thread;
  if (HKI_UNLIKELY(victims != NULL)) {
    let_go_of_cached(thread, victims);
  }
  if (range == NULL) {
    return NULL;
  }
  unhold(range, HKI_SPAN_CACHED, cache.inside);
  if (range->backend != need.backend || range->capacity < need.size || (uintptr_t)range->base % need.align != 0) {
    hki_die("plugin %s returned a range that does not suit the request", cache.inside->inside);
  }
  range->stamp = 0;
  return hki_span_of(range);
}

/* ---- now and then ---------------------------------------------------------------------------------------------------- */

static HKI_SLOW void expire(struct hki_thread *thread)
{
  if (!hki_try_lock(&hki_control_lock)) {
    return; /* somebody else is at it, or the next slow event will be */
  }
  HKI_STORE(&due, UINT64_C(0));
  hki_range_move_on(thread);
  if (cache.inside != NULL && cache.ops.expire != NULL) {
    hki_self = cache.inside;
    hak_range *old = cache.ops.expire(cache.self);
    hki_self = thread;
    let_go_of_cached(thread, old);
  }
  if (reclaim.inside != NULL && reclaim.ops.expire != NULL) {
    hki_self = reclaim.inside;
    reclaim.ops.expire(reclaim.self);
    hki_self = thread;
  }
  bool more = HKI_LOAD(&hakmem_root.held_bytes) != 0;
  for (uint32_t i = HKI_BOOT + 1; i < hakmem_root.backend_count; i++) {
    struct hki_backend *backend = &hki_backends[i];
    hki_enter(backend);
    more = backend->ops.expire(backend->self) || more;
    hki_leave(thread);
  }
  if (more) {
    hki_range_watch();
  }
  hki_unlock(&hki_control_lock);
}

void hki_range_tick(struct hki_thread *thread)
{
  uint64_t when = HKI_LOAD(&due);
  if (HKI_UNLIKELY(when != 0) && HKI_UNLIKELY(hki_os.coarse() >= when)) {
    expire(thread);
  }
}

/* What the backends give back that hand out classes, or the others. */
static size_t trim(struct hki_thread *thread, bool classes)
{
  size_t given = 0;
  for (uint32_t i = HKI_BOOT + 1; i < hakmem_root.backend_count; i++) {
    struct hki_backend *backend = &hki_backends[i];
    if ((backend->granularity == HAK_CLASS) == classes) {
      hki_enter(backend);
      given += backend->ops.trim(backend->self);
      hki_leave(thread);
    }
  }
  return given;
}

/* In the order in which pages move: from class backends and the cache to reclaim, from there to page backends. */
HKI_COLD size_t hki_range_drain(struct hki_thread *thread)
{
  size_t before = HKI_LOAD(&hakmem_root.held_bytes);
  size_t given = trim(thread, true);
  hki_range_move_on(thread);
  if (cache.inside != NULL) {
    hki_self = cache.inside;
    hak_range *all = cache.ops.drain(cache.self);
    hki_self = thread;
    let_go_of_cached(thread, all);
  }
  if (reclaim.inside != NULL) {
    hki_self = reclaim.inside;
    (void)reclaim.ops.drain(reclaim.self);
    hki_self = thread;
  }
  size_t after = HKI_LOAD(&hakmem_root.held_bytes);
  return given + (before > after ? before - after : 0) + trim(thread, false);
}

HKI_COLD void hki_range_drain_now(struct hki_thread *thread)
{
  if (hki_try_lock(&hki_control_lock)) {
    (void)hki_range_drain(thread);
    hki_unlock(&hki_control_lock);
  }
}

/* ---- taking plugins into service, and around a fork ------------------------------------------------------------------ */

static const char *fork_member(void (*prepare)(void *), void (*parent)(void *), void (*child)(void *))
{
  return prepare == NULL ? "fork_prepare" : parent == NULL ? "fork_parent" : child == NULL ? "fork_child" : NULL;
}

const char *hki_range_cache(const struct hak_cache_ops *ops, void *self, struct hki_thread *inside)
{
  memcpy(&cache.ops, ops, ops->struct_size < sizeof cache.ops ? ops->struct_size : sizeof cache.ops);
  cache.self = self;
  if (cache.ops.take == NULL || cache.ops.put == NULL || cache.ops.drain == NULL) {
    return cache.ops.take == NULL ? "take" : cache.ops.put == NULL ? "put" : "drain";
  }
  const char *lacking = fork_member(cache.ops.fork_prepare, cache.ops.fork_parent, cache.ops.fork_child);
  cache.inside = lacking == NULL ? inside : NULL;
  return lacking;
}

const char *hki_range_reclaim(const struct hak_reclaim_ops *ops, void *self, struct hki_thread *inside)
{
  memcpy(&reclaim.ops, ops, ops->struct_size < sizeof reclaim.ops ? ops->struct_size : sizeof reclaim.ops);
  reclaim.self = self;
  if (reclaim.ops.put == NULL || reclaim.ops.drain == NULL) {
    return reclaim.ops.put == NULL ? "put" : "drain";
  }
  const char *lacking = fork_member(reclaim.ops.fork_prepare, reclaim.ops.fork_parent, reclaim.ops.fork_child);
  reclaim.inside = lacking == NULL ? inside : NULL;
  return lacking;
}

/* The hooks run with hki_self at the plugin, as all callbacks do; fork.c puts it back. */
#define EACH(hook)                                                                                                             \
  if (cache.inside != NULL) {                                                                                                  \
    hki_self = cache.inside;                                                                                                   \
    cache.ops.hook(cache.self);                                                                                                \
  }                                                                                                                            \
  if (reclaim.inside != NULL) {                                                                                                \
    hki_self = reclaim.inside;                                                                                                 \
    reclaim.ops.hook(reclaim.self);                                                                                            \
  }

void hki_range_fork_prepare(void)
{
  EACH(fork_prepare)
}

void hki_range_fork_parent(void)
{
  EACH(fork_parent)
}

void hki_range_fork_child(void)
{
  EACH(fork_child)
}
