/* SPDX-License-Identifier: MIT */
/* front.c - the slow half of the magazines. Owns nothing: a magazine belongs to its thread. */
#include "front.h"

#include "backend.h"
#include "misuse.h"
#include "route.h"
#include "settings.h"
#include "span.h"
#include "starts.h"
#include "thread.h"

enum {
  RUN_BYTES = 64 * 1024,  /* a run holds at most so much, */
  RUN_OBJECTS = 64,       /* and so many objects, but at least one */
  FIRST_BYTES = 2 * 1024, /* a magazine begins with runs of so much */
  RING = 4 * RUN_OBJECTS  /* objects that no chain has */
};

#define HELD_MAX ((uint64_t)2 << 20) /* bytes in the magazines of a thread, beyond the shortest ones */

uint64_t hki_class_inverse[HKI_CLASSES];

static uint32_t run_length(uint32_t cls, uint32_t bytes)
{
  uint32_t fit = bytes / hakmem_root.class_bytes[cls];
  return fit == 0 ? 1 : fit < RUN_OBJECTS ? fit : RUN_OBJECTS;
}

/* Sets when the run in use will be full, if nothing is taken from it. */
static void measure(struct hki_magazine *magazine)
{
  uint64_t count = hki_magazine_count(magazine);
  uint64_t room = count < magazine->limit ? magazine->limit - count : 0;
  magazine->full_at = magazine->frees + room;
}

/* An object that was freed twice has made a ring of a chain. It is the one at which the way from the head enters the ring. */
static HKI_COLD _Noreturn void ring(void **head, void **inside)
{
  void **ahead = head;
  void **at = inside;
  do { /* ahead by once around the ring */
    ahead = *ahead;
    at = *at;
  } while (at != inside);
  while (head != ahead) {
    head = *head;
    ahead = *ahead;
  }
  hki_misuse("free", head, hki_pagemap_get((uintptr_t)head));
}

/* Whether a chain holds objects of the class, each once. */
static void check(uint32_t cls, void *head)
{
  uint32_t count = 0;
  for (void *object = head; object != NULL; object = *(void **)object) {
    hki_entry entry = hki_pagemap_get((uintptr_t)object);
    const struct hki_span *span = hki_entry_record(entry);
    if ((entry & HKI_CLASS) == 0 || hki_entry_class(entry) != cls ||
        !hki_class_starts(cls, (uintptr_t)object - hki_span_base(span))) {
      hki_misuse("free", object, entry);
    }
    if (++count == RING) {
      ring(head, object);
    }
  }
}

static void flush(struct hki_thread *thread, uint32_t cls, void *head, uint32_t count)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  struct hki_backend *small = hki_route.small;
  if (hki_settings.hardening == HKI_BASIC) {
    check(cls, head);
  }
  HKI_BUMP(&magazine->flushed, (uint64_t)count);
  hki_enter(small);
  small->ops.flush(small->self, &thread->seat[small->index].slot, cls, (hak_run){head, count});
  hki_leave(thread);
}

static void flush_head(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  uint32_t count = (uint32_t)hki_magazine_count(magazine);
  void *head = magazine->head;
  if (head != NULL) {
    magazine->head = NULL;
    flush(thread, cls, head, count);
  }
}

static void flush_spare(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  uint32_t count = magazine->spares;
  void *spare = magazine->spare;
  if (spare != NULL) {
    magazine->spare = NULL;
    magazine->spares = 0;
    flush(thread, cls, spare, count);
  }
}

/* Sends back what the magazine holds beyond the shortest runs. */
static void shorten(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  uint32_t least = run_length(cls, FIRST_BYTES);
  thread->front_bytes -= (uint64_t)(magazine->limit - least) * 2 * hakmem_root.class_bytes[cls];
  magazine->limit = (uint16_t)least;
  flush_spare(thread, cls);
  if (hki_magazine_count(magazine) > least) {
    flush_head(thread, cls);
  }
  measure(magazine);
}

/*
 * The magazine had to go to the backend: its runs get twice as long, up to the longest. When the thread's magazines then could hold
 * too much, those that have not been to the backend since this was last looked at are shortened: the CLOCK of F. Corbato (1968).
 */
static void lengthen(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  uint32_t most = run_length(cls, RUN_BYTES);
  uint32_t limit = magazine->limit * 2U < most ? magazine->limit * 2U : most;
  uint64_t more = (uint64_t)(limit - magazine->limit) * 2 * hakmem_root.class_bytes[cls];
  magazine->used = 1;
  if (magazine->limit == 0 || more == 0) {
    return;
  }
  for (uint32_t looks = 2 * HKI_CLASSES; thread->front_bytes + more > HELD_MAX && looks > 0; looks--) {
    uint32_t other = thread->front_hand;
    thread->front_hand = (other + 1) % HKI_CLASSES;
    if (other != cls && thread->magazine[other].used == 0 && thread->magazine[other].limit > run_length(other, FIRST_BYTES)) {
      shorten(thread, other);
    }
    thread->magazine[other].used = 0;
  }
  if (thread->front_bytes + more <= HELD_MAX) {
    thread->front_bytes += more;
    magazine->limit = (uint16_t)limit;
  }
}

static bool refill(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  struct hki_backend *small = hki_route.small;
  if (magazine->spare != NULL) {
    magazine->head = magazine->spare;
    magazine->spare = NULL;
    magazine->spares = 0;
    measure(magazine);
    return true;
  }
  uint32_t want = magazine->limit != 0 ? magazine->limit : 1; /* none is kept by a record that is closed */
  hak_run run = {NULL, 0};
  hki_enter(small);
  int32_t result = small->ops.refill(small->self, &thread->seat[small->index].slot, cls, want, &run);
  hki_leave(thread);
  if (result != HAK_OK || run.head == NULL) {
    return false;
  }
  magazine->head = run.head;
  HKI_BUMP(&magazine->refilled, (uint64_t)run.count);
  lengthen(thread, cls);
  measure(magazine);
  return true;
}

HKI_SLOW void *hki_front_alloc(struct hki_thread *thread, uint32_t cls)
{
  struct hki_magazine *magazine = &thread->magazine[cls];
  void *object = hki_magazine_pop(magazine);
  if (object == NULL && refill(thread, cls)) {
    object = hki_magazine_pop(magazine);
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

uint32_t hki_front_class(size_t size, size_t align)
{
  uint32_t cls = hki_class_of(size > align ? size : align);
  if (align > HKI_ALIGN) {
    /* Objects lie at multiples of their size from a granule boundary: the power of two above both is aligned, up to a granule. */
    if (align > HAK_GRANULE) {
      return HKI_CLASSES;
    }
    while (cls < HKI_CLASSES && hakmem_root.class_bytes[cls] % align != 0) {
      cls++;
    }
  }
  return cls;
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
  }
  struct hki_magazine *magazine = &thread->magazine[cls];
  if (hki_magazine_push(magazine, block)) {
    return;
  }
  measure(magazine);
  if (magazine->frees == magazine->full_at) {
    if (magazine->spare != NULL) {
      flush_spare(thread, cls);
      lengthen(thread, cls);
    }
    magazine->spares = (uint32_t)hki_magazine_count(magazine);
    magazine->spare = magazine->head;
    magazine->head = NULL;
    measure(magazine);
  }
  (void)hki_magazine_push(magazine, block);
}

void hki_front_open(struct hki_thread *thread)
{
  if (hki_route.small != NULL && hki_route.small->granularity == HAK_CLASS) {
    for (uint32_t cls = 0; cls < HKI_CLASSES; cls++) {
      thread->magazine[cls].limit = (uint16_t)run_length(cls, FIRST_BYTES);
      measure(&thread->magazine[cls]);
    }
  }
}

void hki_front_drain(struct hki_thread *thread)
{
  for (uint32_t cls = 0; cls < HKI_CLASSES; cls++) {
    flush_head(thread, cls);
    flush_spare(thread, cls);
    measure(&thread->magazine[cls]);
  }
}

void hki_front_close(struct hki_thread *thread)
{
  hki_front_drain(thread);
  for (uint32_t cls = 0; cls < HKI_CLASSES; cls++) {
    thread->magazine[cls].limit = 0;
    thread->magazine[cls].full_at = 0;
  }
  thread->front_bytes = 0;
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
