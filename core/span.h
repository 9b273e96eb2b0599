/* SPDX-License-Identifier: MIT */
/*
 * span.h - the records of page blocks and of class spans. Their memory is type-stable: a record may be reused for another
 * span, but is never anything else, so that a free with a stale pointer meets a record and can be told.
 */
#ifndef HKI_SPAN_H
#define HKI_SPAN_H

#include "base.h"

/* Who owns a page block's range. Changed by compare-and-swap; exactly one party may act on the range. */
enum hki_span_state {
  HKI_SPAN_IDLE = 0, /* record not in use */
  HKI_SPAN_LIVE,     /* the program's */
  HKI_SPAN_MOVING,   /* being resized, or being freed: the calling thread's */
  HKI_SPAN_CACHED,   /* kept for reuse */
  HKI_SPAN_PENDING,  /* waiting to be given back */
  HKI_SPAN_CLASS     /* holds objects of a class backend */
};

struct hki_starts;

struct __attribute__((aligned(64))) hki_span {
  /*
   * First: a freed page block is known to plugins by it. `next` also links idle records, under the pool's lock. Of class spans
   * `stamp` is the address of start bitmaps, one for each granule, under hardening = full, else 0; and `site` is the backend's tag.
   */
  hak_range range;
  uint32_t state; /* enum hki_span_state, atomic */
  union {
    uint32_t trial; /* page blocks: the measurement that this block is part of; 0: none */
    uint32_t cls;   /* class spans: the class */
  };
};

_Static_assert(sizeof(struct hki_span) == 64, "a record is one cache line, and its address leaves room in a page map entry");

/* An idle record, or NULL when there is no memory. [any] */
struct hki_span *hki_span_get(void);
/* Returns a record. [any] */
void hki_span_put(struct hki_span *span);

/* The record of a range that a plugin holds. */
HKI_INLINE struct hki_span *hki_span_of(hak_range *range)
{
  return (struct hki_span *)(void *)range;
}

/* The start bitmaps of a class span; NULL but under hardening = full. */
HKI_INLINE struct hki_starts *hki_span_starts(const struct hki_span *span)
{
  return (struct hki_starts *)(uintptr_t)span->range.stamp;
}

/* The row in which the block was counted, as long as somebody learns from rows; 0: in none. A realloc does not change it. */
HKI_INLINE uint32_t hki_range_row(const hak_range *range)
{
  return range->reserved;
}

HKI_INLINE void hki_range_counted(hak_range *range, uint32_t row)
{
  _Static_assert(HAK_ROWS <= UINT8_MAX + 1, "a row fits");
  range->reserved = (uint8_t)row;
}

HKI_INLINE uintptr_t hki_span_base(const struct hki_span *span)
{
  return (uintptr_t)span->range.base;
}

/* True when this caller moved the state from `from` to `to`. */
HKI_INLINE bool hki_span_move(struct hki_span *span, enum hki_span_state from, enum hki_span_state to)
{
  uint32_t expected = (uint32_t)from;
  return __atomic_compare_exchange_n(&span->state, &expected, (uint32_t)to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* For a class span: does an object start there, and under full hardening, is it live? */
bool hki_span_holds(const struct hki_span *span, uintptr_t address);

/* Enters and removes a class span; see hak_host.span_register. [any] */
int32_t hki_span_register(uint32_t backend, void *base, size_t bytes, uint32_t cls, void *tag);
void hki_span_unregister(void *base);

/* Implements hak_host.span_tags. */
void hki_span_tags(uint32_t backend, uint32_t cls, void *const *objects, uint32_t count, void **tags);

extern hak_lock hki_span_lock; /* taken around a fork */

#endif
