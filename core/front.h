/* SPDX-License-Identifier: MIT */
/*
 * front.h - size classes, and the per-thread magazines in front of a class backend.
 *
 * A magazine is a stack of objects of one class. Objects move one by one between the program and the magazine, by runs between the
 * magazine and the backend. Model: J. Bonwick, J. Adams, "Magazines and Vmem" (2001).
 */
#ifndef HKI_FRONT_H
#define HKI_FRONT_H

#include "base.h"
#include "pagemap.h"

/*
 * The class of a request: steps of 16 bytes to 256, then eight classes to each doubling, so that above 128 bytes at most 1/9 of
 * an object is unused.
 */
HKI_INLINE uint32_t hki_class_of(size_t size)
{
  if (HKI_LIKELY(size <= 256)) {
    return (uint32_t)((size + 15) >> 4);
  }
  size_t last = size - 1;
  uint32_t doubling = hki_log2(last);
  return 17U + (doubling - 8U) * 8U - 8U + (uint32_t)(last >> (doubling - 3U)); /* the latter has 8 to 15 */
}

/* hot: the magazine of a request. Up to 256 bytes the class need not be computed: a magazine for each step of 16 bytes. */
HKI_INLINE struct hki_magazine *hki_magazine_of(struct hki_thread *thread, size_t size)
{
  _Static_assert(sizeof(struct hki_magazine) == 2 * HKI_ALIGN, "a magazine for each step of 16 bytes");
  if (HKI_LIKELY(size <= 256)) {
    return (struct hki_magazine *)(void *)((char *)thread->magazine + ((size + 15) & ~(size_t)15) * 2);
  }
  return &thread->magazine[hki_class_of(size)];
}

/* hot: the magazine of an object, by its page map entry of kind HKI_CLASS: its class times the size of a magazine, in one shift. */
HKI_INLINE struct hki_magazine *hki_magazine_entered(struct hki_thread *thread, hki_entry entry)
{
  _Static_assert(sizeof(struct hki_magazine) << HKI_CLASS_MAGAZINE == UINT64_C(1) << HKI_CLASS_SHIFT, "bits 55..48 are 0");
  return (struct hki_magazine *)(void *)((char *)thread->magazine + (entry >> HKI_CLASS_MAGAZINE));
}

extern HKI_HIDDEN uint64_t hki_class_inverse[HKI_CLASSES]; /* 2^64 / bytes of an object, rounded up */

/*
 * Whether an object of the class starts that many bytes, less than 2^32, behind the base of its span. Multiplied by the inverse, a
 * multiple of the size has next to nothing behind the point. Source: D. Lemire, O. Kaser, N. Kurz, "Faster remainder by direct
 * computation" (2019).
 */
HKI_INLINE bool hki_class_starts(uint32_t cls, uintptr_t offset)
{
  return offset * hki_class_inverse[cls] < hki_class_inverse[cls];
}

/* Fills hakmem_root.class_bytes and hki_class_inverse. Once. */
void hki_front_start(void);

/* An object of a class from an empty magazine, by refill; on every path of hardening = full. NULL when the backend has none. */
void *hki_front_alloc(struct hki_thread *thread, uint32_t cls);

/*
 * The size whose class has objects for `size` bytes at multiples of `align`, a power of two up to HAK_GRANULE. Objects lie at multiples
 * of their size from a granule boundary, and classes at multiples of a power of two: a multiple of a smaller power is a class
 * itself, and of a larger one every class is a multiple. SIZE_MAX when there is none.
 */
HKI_INLINE size_t hki_front_size(size_t size, size_t align)
{
  size_t rounded = hki_round_up(size + (size == 0), align);
  return HKI_LIKELY(align <= HAK_GRANULE) && HKI_LIKELY(rounded >= size) ? rounded : SIZE_MAX;
}

/* Takes back an object whose magazine is full or closed, or that must be checked first. `func` is for messages. */
void hki_front_free(struct hki_thread *thread, void *block, hki_entry entry, const char *func);

/* Gives back all that the magazines of a thread hold: on malloc_trim, and at its end. */
void hki_front_drain(struct hki_thread *thread);
void hki_front_close(struct hki_thread *thread);

/* In the child of a fork: what other threads' magazines held is lost with them. */
void hki_front_fork_child(const struct hki_thread *survivor);

/* False when it is empty. */
HKI_INLINE bool hki_magazine_pop(struct hki_magazine *magazine, void **object)
{
  void **top = magazine->top;
  if (HKI_UNLIKELY(top == magazine->base)) {
    return false;
  }
  *object = top[-1];
  HKI_STORE(&magazine->top, top - 1); /* statistics read it */
  HKI_BUMP(&magazine->allocs, UINT64_C(1));
  return true;
}

/* False when it is full. */
HKI_INLINE bool hki_magazine_push(struct hki_magazine *magazine, void *object)
{
  __asm__("" : "+r"(magazine)); /* computed once: gcc would do so for each of its members */
  void **top = magazine->top;
  if (HKI_UNLIKELY(top == magazine->end)) {
    return false;
  }
  *top = object;
  HKI_STORE(&magazine->top, top + 1);
  return true;
}

#endif
