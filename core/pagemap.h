/* SPDX-License-Identifier: MIT */
/*
 * pagemap.h - from any address to what the core knows about its granule, without touching memory that the core does not own.
 *
 * A radix tree of two levels over address >> 16: 16384 windows of 16 GiB, each with a leaf of 262144 entries. Leaves appear on
 * demand and are never freed. An entry is one word:
 *
 *    63..56 size class | 47..6 pointer to a 64-byte aligned record | 4..0 kind
 *
 * so that a free of a small object reads nothing else. Page blocks are entered at their first granule only.
 */
#ifndef HKI_PAGEMAP_H
#define HKI_PAGEMAP_H

#include "base.h"

typedef uint64_t hki_entry;

/* One bit each, so that the hot paths test one bit. */
enum hki_kind {
  HKI_NONE = 0,        /* not ours */
  HKI_STARTS = 1,      /* may hold blocks of byte backends; the record is a start bitmap */
  HKI_CLASS = 2,       /* objects of a class backend; the record is its span */
  HKI_CLASS_FULL = 4,  /* the same under hardening = full: every call takes the checking path */
  HKI_PAGE_BLOCK = 8,  /* a page block starts here; the record is its span */
  HKI_PAGE_FREED = 16, /* the block that started here was freed; no record */
  HKI_KINDS = 31
};

enum {
  HKI_ROOT_BITS = 14,
  HKI_LEAF_BITS = 18,
  HKI_WINDOW_SHIFT = HKI_LEAF_BITS + HKI_GRANULE_SHIFT,
  HKI_ADDRESS_BITS = HKI_ROOT_BITS + HKI_WINDOW_SHIFT
};
_Static_assert(HKI_ADDRESS_BITS == 48,
               "user addresses of x86-64 lie below 2^47, those of arm64 below 2^48 unless asked for higher");

/* An entry shifted by so much is its class, or its class times the size of a magazine. */
enum { HKI_CLASS_SHIFT = 56, HKI_CLASS_MAGAZINE = HKI_CLASS_SHIFT - 5 };

struct hki_leaf {
  hki_entry entry[1U << HKI_LEAF_BITS];
};

extern HKI_HIDDEN struct hki_leaf *hki_pagemap[1U << HKI_ROOT_BITS];

HKI_INLINE enum hki_kind hki_entry_kind(hki_entry e)
{
  return (enum hki_kind)(e & HKI_KINDS);
}

HKI_INLINE void *hki_entry_record(hki_entry e)
{
  return (void *)(uintptr_t)(e & UINT64_C(0x0000ffffffffffc0));
}

/* The record of an entry known to be HKI_STARTS: it has no class, so its kind is the only bit to take off. */
HKI_INLINE struct hki_starts *hki_entry_starts(hki_entry e)
{
  return (struct hki_starts *)(uintptr_t)(e - HKI_STARTS);
}

HKI_INLINE uint32_t hki_entry_class(hki_entry e)
{
  return (uint32_t)(e >> HKI_CLASS_SHIFT);
}

HKI_INLINE hki_entry hki_entry_make(enum hki_kind kind, const void *record, uint32_t cls)
{
  return (uint64_t)kind | (uint64_t)(uintptr_t)record | (uint64_t)cls << HKI_CLASS_SHIFT;
}

/* Where an address's entry is in its leaf. */
HKI_INLINE uintptr_t hki_leaf_index(uintptr_t address)
{
  return (address >> HKI_GRANULE_SHIFT) & ((UINT64_C(1) << HKI_LEAF_BITS) - 1);
}

/* What is known about the granule of an address that the caller knows to be a user address. */
HKI_INLINE hki_entry hki_pagemap_get_valid(uintptr_t address)
{
  struct hki_leaf *leaf = __atomic_load_n(&hki_pagemap[address >> HKI_WINDOW_SHIFT], __ATOMIC_CONSUME);
  return HKI_LIKELY(leaf != NULL) ? __atomic_load_n(&leaf->entry[hki_leaf_index(address)], __ATOMIC_ACQUIRE) : 0;
}

/* The same for any address; 0 (HKI_NONE) for any address nobody entered, NULL and wild ones included. */
HKI_INLINE hki_entry hki_pagemap_get(uintptr_t address)
{
  if (HKI_UNLIKELY(address >> HKI_ADDRESS_BITS != 0)) {
    return 0;
  }
  return hki_pagemap_get_valid(address);
}

/* The place of an address's entry, its leaf made when missing. NULL when there is no memory for it, or the address is not one. */
hki_entry *hki_pagemap_slot(uintptr_t address);

/*
 * Keeps one leaf in reserve, for when the system refuses the next: before a backend may move a block, since afterwards there is no
 * way back. False when it refuses this one. [any]
 */
bool hki_pagemap_reserve(void);
/* The same as hki_pagemap_slot, from the reserve when need be: for a block that a backend has moved. [any] */
hki_entry *hki_pagemap_slot_reserved(uintptr_t address);

/*
 * The live page block that contains the address, by walking back to the nearest entry: for messages about misuse only.
 * NULL when there is none.
 */
struct hki_span *hki_pagemap_enclosing(uintptr_t address);

#endif
