/* SPDX-License-Identifier: MIT */
/*
 * starts.h - the start bitmap: one bit for each 16 bytes of a granule, set while a live block starts there.
 *
 * It alone says whether a pointer may be freed. Nothing in the block could: wrapped allocators overwrite freed memory, and a
 * foreign pointer must not be read at all.
 */
#ifndef HKI_STARTS_H
#define HKI_STARTS_H

#include "base.h"
#include "pagemap.h"

struct __attribute__((aligned(64))) hki_starts {
  uint64_t bits[HAK_GRANULE / HKI_ALIGN / 64];
};

_Static_assert(sizeof(struct hki_starts) == 512, "less than one percent of the memory it describes");

HKI_INLINE uint64_t *hki_starts_word(struct hki_starts *starts, uintptr_t address)
{
  return &starts->bits[(address >> 10) & 63U];
}

HKI_INLINE uint64_t hki_starts_mask(uintptr_t address)
{
  return UINT64_C(1) << ((address >> 4) & 63U);
}

#if defined(__x86_64__) && !defined(HKI_TSAN)
/* The instruction takes a bit offset of any size from its memory operand, which saves finding the word. */
#define HKI_STARTS_CHANGE(instruction, starts, address, changed)                                                               \
  __asm__("lock " instruction " %2, %0"                                                                                        \
          : "+m"(*(starts)), "=@ccc"(changed)                                                                                  \
          : "r"((uint64_t)((address) >> 4) & 4095U)                                                                            \
          : "memory")
#endif

/* Sets the bit. False when it was set already. */
HKI_INLINE bool hki_starts_set(struct hki_starts *starts, uintptr_t address)
{
#ifdef HKI_STARTS_CHANGE
  bool was;
  HKI_STARTS_CHANGE("btsq", starts, address, was);
  return !was;
#else
  uint64_t mask = hki_starts_mask(address);
  return (__atomic_fetch_or(hki_starts_word(starts, address), mask, __ATOMIC_RELAXED) & mask) == 0;
#endif
}

/* Clears the bit. False when it was not set: there is no live block at that address. */
HKI_INLINE bool hki_starts_clear(struct hki_starts *starts, uintptr_t address)
{
#ifdef HKI_STARTS_CHANGE
  bool was;
  HKI_STARTS_CHANGE("btrq", starts, address, was);
  return was;
#else
  uint64_t mask = hki_starts_mask(address);
  return (__atomic_fetch_and(hki_starts_word(starts, address), ~mask, __ATOMIC_RELAXED) & mask) != 0;
#endif
}

HKI_INLINE bool hki_starts_test(struct hki_starts *starts, uintptr_t address)
{
  return (HKI_LOAD(hki_starts_word(starts, address)) & hki_starts_mask(address)) != 0;
}

/*
 * The bitmap of an address's granule, entered in the page map when missing. NULL when there is no memory. After
 * hki_starts_reserve with the same `spare` there is always memory. [any; `spare` is the caller's own]
 */
struct hki_starts *hki_starts_at(uintptr_t address, struct hki_starts **spare);

/* `count` empty bitmaps in a row, for a class span. NULL when there is no memory. [any] */
struct hki_starts *hki_starts_get(size_t count);
/* Returns bitmaps. One may be returned while a mistaken free still looks at it. [any] */
void hki_starts_put(struct hki_starts *starts, size_t count);

/*
 * Sets memory aside in `spare` for the next hki_starts_at, whatever the system refuses and other threads use up until then: before
 * a backend may move a block, since afterwards there is no way back. What is not needed stays there. False when there is no memory
 * to set aside. [any; `spare` is the caller's own]
 */
bool hki_starts_reserve(struct hki_starts **spare);

/*
 * The nearest set bit at or below `address`, searched through the bitmaps of this granule and of those just below it: the start
 * of the block that may contain the address. 0 when there is none. For messages about misuse only.
 */
uintptr_t hki_starts_below(uintptr_t address);

extern hak_lock hki_starts_lock; /* taken around a fork */

#endif
