/* SPDX-License-Identifier: MIT */
/* front.c - the slow half of the magazines. Owns nothing: a magazine belongs to its thread. */
#include "front.h"

#include <string.h>

#include "backend.h"
#include "meta.h"
#include "misuse.h"
#include "quarantine.h"
#include "range.h"
#include "route.h"
#include "settings.h"
#include "span.h"
#include "starts.h"
#include "thread.h"

enum {
  RUN_BYTES = 64 * 1024,   /* a run has at most so much, or one object, and at most as many objects as the backend can do */
  FIRST_BYTES = 2 * 1024,  /* the same at first */
  DEEP_BYTES = 256 * 1024, /* the places of a magazine are for at most so much, or two runs */
  DRAWN_MAX = 8,           /* refills counted */
  LINE = 64,               /* bytes of a cache line */
  WHOLE = 8                /* so many objects of any class end where a pair of lines does: the smallest has 16 bytes */
};

/* The operations of the class backend: called directly in a build that measures what a plugin's table costs. */
#ifdef HKI_BOUND
#define CLASS_OPS(backend) ((const struct hak_backend_ops *)hki_bound.ops)
#else
#define CLASS_OPS(backend) (&(backend)->ops)
#endif

/* Bytes that magazines have places for, but for the few that each magazine of small objects begins with. */
#define HELD_MAX ((uint64_t)8 << 20)     /* of a thread, at most; */
#define HELD_LEAST ((uint64_t)256 << 10) /* of a thread, whatever others have; */
#define HELD_ALL ((uint64_t)64 << 20)    /* of all threads, beyond that */

static uint64_t held; /* of all threads; atomic */

uint64_t hki_class_inverse[HKI_CLASSES];

static uint32_t least(uint32_t a, uint32_t b)
{
  return a < b ? a : b;
}

/* Objects of a run. Runs that are next to each other share no line, as they often go to different threads. */
static uint32_t run_length(uint32_t cls, uint32_t bytes)
{
  uint32_t fit = bytes / hakmem_root.class_bytes[cls];
  fit -= fit > WHOLE ? fit % WHOLE : 0;
  return fit == 0 ? 1 : least(fit, hki_route.small->ops.run);
}

static uint32_t places_of(const struct hki_magazine *magazine)
{
  return (uint32_t)(magazine->end - magazine->base);
}

/* The most places of a magazine that is only emptied, or only filled. */
static uint32_t one_way(uint32_t cls)
{
  return 2 * least(run_length(cls, RUN_BYTES), HAK_RUN_MAX);
}

/* The most places that a magazine may have. */
static uint32_t deepest(uint32_t cls)
{
  uint32_t runs = one_way(cls), deep = least(DEEP_BYTES / hakmem_root.class_bytes[cls], HKI_PLACES);
  return deep > runs ? deep : runs;
}

/* Gives the magazine so many places, two runs at least. False when there is no memory for them: it is as it was. */
static bool resize(struct hki_thread *thread, uint32_t cls, uint32_t places)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  struct hki_supply *supply = &thread->supply[cls];
  if (places > supply->room) { /* grown twice at most, since the old places are lost */
    uint32_t room = supply->room == 0 ? places : places <= one_way(cls) ? one_way(cls) : deepest(cls);
    void **fresh = cls >= HKI_PAIRED && room == 2 ? thread->pair[cls - HKI_PAIRED] : hki_meta_alloc(room * sizeof *fresh, 64);
    if (fresh == NULL) {
      return false;
    }
    size_t count = (size_t)(magazine->top - magazine->base);
    if (count != 0) {
      memcpy(fresh, magazine->base, count * sizeof *fresh);
    }
    HKI_STORE(&magazine->top, fresh + count);
    HKI_STORE(&magazine->base, fresh);
    supply->room = room;
  }
  supply->run = least(places / 2, run_length(cls, RUN_BYTES));
  magazine->end = magazine->base + places;
  return true;
}

static void give(struct hki_thread *thread, uint32_t cls, void *const *objects, uint32_t count)
{
  struct hki_backend *small = hki_route.small;
  if (hki_settings.hardening == HKI_BASIC && small->ops.looks == 0) {
    void *tags[HAK_RUN_LONGEST];
    hki_span_tags(small->index, cls, objects, count, tags); /* ends in misuse if need be */
  }
  HKI_BUMP(&thread->supply[cls].flushed, (uint64_t)count);
  hki_enter(small);
  CLASS_OPS(small)->flush(small->self, &thread->seat[small->index].slot, cls, objects, count);
  hki_leave(thread);
  hki_range_watch(); /* the backend may keep what has become empty */
}

/* Gives the oldest objects back, all but `keep`. */
static void flush(struct hki_thread *thread, uint32_t cls, uint32_t keep)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  uint32_t count = (uint32_t)(magazine->top - magazine->base), done = 0;
  while (count - done > keep) {
    uint32_t run = least(count - done - keep, hki_route.small->ops.run);
    give(thread, cls, magazine->base + done, run);
    done += run;
  }
  if (done != 0) {
    memmove(magazine->base, magazine->base + done, (count - done) * sizeof *magazine->base);
    HKI_STORE(&magazine->top, magazine->top - done);
  }
}

static void hold(struct hki_thread *thread, uint64_t bytes)
{
  thread->front_bytes += bytes;
  HKI_ADD(&held, bytes);
}

/* Places that a magazine begins with. */
static uint32_t first_places(uint32_t cls)
{
  return 2 * run_length(cls, FIRST_BYTES);
}

/* Those of objects so large that even one of them counts. */
static bool is_large(uint32_t cls)
{
  return hakmem_root.class_bytes[cls] > FIRST_BYTES;
}

/* Back to the first places; or, when it has no more and they count, to none. */
static void shorten(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  uint32_t places = places_of(magazine), first = first_places(cls);
  if (thread->supply[cls].run == 0 || (places == first && !is_large(cls))) {
    return;
  }
  uint32_t left = places > first ? first : 0;
  hold(thread, -(uint64_t)(places - left) * hakmem_root.class_bytes[cls]);
  flush(thread, cls, left);
  if (left == 0) {
    magazine->end = magazine->base;
    thread->supply[cls].run = 0;
  } else {
    (void)resize(thread, cls, left);
  }
}

static bool may_hold(const struct hki_thread *thread, uint64_t more)
{
  uint64_t own = thread->front_bytes + more;
  return own <= HELD_LEAST || (own <= HELD_MAX && HKI_LOAD(&held) + more <= HELD_ALL);
}

/*
 * Room for so many bytes more in the magazines of a thread. When they then could hold too much, those that have not been to the backend
 * since this was last looked at are shortened: the CLOCK of F. Corbato (1968).
 */
static bool make_room(struct hki_thread *thread, uint32_t cls, uint64_t bytes)
{
  for (uint32_t looks = 2 * HKI_CLASSES; !may_hold(thread, bytes) && looks > 0; looks--) {
    uint32_t other = thread->front_hand;
    thread->front_hand = (other + 1) % HKI_CLASSES;
    if (other != cls && thread->supply[other].used == 0) {
      shorten(thread, other);
    }
    thread->supply[other].used = 0;
  }
  return may_hold(thread, bytes);
}

/*
 * The magazine had to go to the backend: it gets twice as many places. Beyond two of the longest runs only when it gives back what it
 * had got before: a thread that only allocates, or only frees, needs no more.
 */
static void lengthen(struct hki_thread *thread, uint32_t cls, bool swings)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  uint32_t places = places_of(magazine), most = swings ? deepest(cls) : one_way(cls);
  thread->supply[cls].used = 1;
  if (places >= most) {
    return;
  }
  uint32_t more = places < most - places ? places : most - places;
  uint64_t bytes = (uint64_t)more * hakmem_root.class_bytes[cls];
  if (make_room(thread, cls, bytes) && resize(thread, cls, places + more)) {
    hold(thread, bytes);
  }
}

static bool open_first(struct hki_thread *thread, uint32_t cls)
{
  uint32_t places = first_places(cls);
  uint64_t bytes = is_large(cls) ? (uint64_t)places * hakmem_root.class_bytes[cls] : 0;
  thread->supply[cls].used = 1;
  if (!make_room(thread, cls, bytes) || !resize(thread, cls, places)) {
    return false;
  }
  if (bytes != 0) { /* small objects touch no line that all threads share */
    hold(thread, bytes);
  }
  return true;
}

/* Whether the magazine can be used; makes it. */
static bool opened(struct hki_thread *thread, uint32_t cls)
{
  return HKI_LIKELY(thread->supply[cls].run != 0) || open_first(thread, cls);
}

/*
 * Whether an object must be others': it shares a cache line with its neighbours, and the thread has not had any of the class yet. Handed
 * out again here, it would make this thread and theirs write to one line in turn: so they go back, unless there are many.
 */
static bool is_others(struct hki_supply *supply, uint32_t cls)
{
  return supply->run == 0 && hakmem_root.class_bytes[cls] % LINE != 0 && supply->others++ < run_length(cls, FIRST_BYTES);
}

/* Objects from the backend. Returns how many. */
static uint32_t get(struct hki_thread *thread, uint32_t cls, void **objects, uint32_t want)
{
  struct hki_backend *small = hki_route.small;
  hki_enter(small);
  int32_t got = CLASS_OPS(small)->refill(small->self, &thread->seat[small->index].slot, cls, objects, want);
  hki_leave(thread);
  uint32_t count = got > 0 ? (uint32_t)got : 0;
  HKI_BUMP(&thread->supply[cls].refilled, (uint64_t)count);
  if (hki_settings.hardening == HKI_FULL) {
    hki_quarantine_shuffle(thread, objects, count);
  }
  return count;
}

static void *refill(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  void *object = NULL;
  if (opened(thread, cls)) {
    struct hki_supply *supply = &thread->supply[cls];
    uint32_t want = least(supply->run, (uint32_t)HAK_RUN_MAX << supply->drawn);
    HKI_STORE(&magazine->top, magazine->base + get(thread, cls, magazine->base, want));
    lengthen(thread, cls, false);
    supply->drawn = (uint8_t)least(supply->drawn + 1U, DRAWN_MAX);
    (void)hki_magazine_pop(magazine, &object);
  } else if (get(thread, cls, &object, 1) != 0) {
    HKI_BUMP(&magazine->allocs, UINT64_C(1));
  }
  return object;
}

HKI_SLOW void *hki_front_alloc(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  void *object;
  if (!hki_magazine_pop(magazine, &object)) {
    object = refill(thread, cls);
  }
  if (object != NULL && hki_settings.hardening == HKI_FULL) {
    hki_entry entry = hki_pagemap_get((uintptr_t)object);
    struct hki_span *span = hki_entry_record(entry);
    uintptr_t at = (uintptr_t)object;
    if (hki_entry_kind(entry) != HKI_CLASS_FULL ||
        !hki_starts_set(&hki_span_starts(span)[(at - hki_span_base(span)) / HAK_GRANULE], at)) {
      hki_broken(hki_route.small->name, object);
    }
  }
  return object;
}

HKI_SLOW void hki_front_free(struct hki_thread *thread, void *block, hki_entry entry, const char *func)
{
  uint32_t cls = hki_entry_class(entry);
  if (hki_entry_kind(entry) == HKI_CLASS_FULL) {
    struct hki_span *span = hki_entry_record(entry);
    uintptr_t at = (uintptr_t)block;
    if (at % HKI_ALIGN != 0 || !hki_starts_clear(&hki_span_starts(span)[(at - hki_span_base(span)) / HAK_GRANULE], at)) {
      hki_misuse(func, block, entry);
    }
    block = hki_quarantine_enter(thread, block, &cls);
    if (block == NULL) {
      return;
    }
  }
  struct hki_magazine *magazine = &thread->magazine[cls];
  if (hki_magazine_push(magazine, block)) {
    return;
  }
  if (is_others(&thread->supply[cls], cls) || !opened(thread, cls)) {
    give(thread, cls, &block, 1);
    return;
  }
  if (magazine->top == magazine->end) {
    flush(thread, cls, places_of(magazine) / 2);
    lengthen(thread, cls, thread->supply[cls].drawn != 0);
    thread->supply[cls].drawn = 0;
  }
  (void)hki_magazine_push(magazine, block);
}

void hki_front_drain(struct hki_thread *thread)
{
  uint32_t from;
  for (void *object; (object = hki_quarantine_leave(thread, &from)) != NULL;) {
    give(thread, from, &object, 1);
  }
  for (uint32_t cls = 0; cls < HKI_CLASSES; cls++) {
    flush(thread, cls, 0);
  }
}

void hki_front_close(struct hki_thread *thread)
{
  hki_front_drain(thread);
  for (uint32_t cls = 0; cls < HKI_CLASSES; cls++) {
    struct hki_supply *supply = &thread->supply[cls];
    thread->magazine[cls].end = thread->magazine[cls].base;
    supply->run = 0;
    supply->used = supply->drawn = 0;
    supply->others = 0;
  }
  hold(thread, -thread->front_bytes);
}

void hki_front_fork_child(const struct hki_thread *survivor)
{
  held = survivor->front_bytes;
}

void hki_front_start(void)
{
  for (uint32_t cls = 0; cls < HKI_CLASSES; cls++) {
    uint32_t bytes = cls == 0 ? HKI_ALIGN : cls * HKI_ALIGN;
    if (cls > 16) {
      uint32_t step = cls - 17;
      bytes = (256U << (step / 8)) + (step % 8 + 1) * (32U << (step / 8));
    }
    hakmem_root.class_bytes[cls] = bytes;
    hki_class_inverse[cls] = UINT64_MAX / bytes + 1;
  }
}
