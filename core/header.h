/* SPDX-License-Identifier: MIT */
/*
 * header.h - the 16 bytes in front of a block of a byte backend.
 *
 *     base             block - 16              block
 *     | alignment gap  | size, arm, backend | offset | the program's bytes ...
 */
#ifndef HKI_HEADER_H
#define HKI_HEADER_H

#include "backend.h"
#include "base.h"

enum {
  HKI_OFFSET_BITS = 40,
  HKI_ROW_SHIFT = HKI_OFFSET_BITS, /* row in which the block was counted, see hki_range_row; 0: in none */
  HKI_TRIAL_SHIFT = 48
};
_Static_assert(HAK_ROWS <= 1 << (HKI_TRIAL_SHIFT - HKI_ROW_SHIFT), "a row fits");

struct hki_header {
  uint64_t tag;    /* requested bytes << 16 | arm << 8 | backend index */
  uint64_t offset; /* of the block from its base: 16, or more when over-aligned; above HKI_OFFSET_BITS see there */
};
_Static_assert(sizeof(struct hki_header) == HKI_ALIGN, "the block behind the header keeps the alignment of the base");

HKI_INLINE struct hki_header *hki_header(const void *block)
{
  return (struct hki_header *)((uintptr_t)block - sizeof(struct hki_header));
}

HKI_INLINE size_t hki_header_size(const struct hki_header *header)
{
  return header->tag >> 16;
}

HKI_INLINE size_t hki_header_offset(const struct hki_header *header)
{
  return header->offset & ((UINT64_C(1) << HKI_OFFSET_BITS) - 1);
}

HKI_INLINE uint32_t hki_header_row(const struct hki_header *header)
{
  return (uint32_t)(header->offset >> HKI_ROW_SHIFT) & ((1U << (HKI_TRIAL_SHIFT - HKI_ROW_SHIFT)) - 1);
}

HKI_INLINE uint32_t hki_header_arm(const struct hki_header *header)
{
  return header->tag >> 8 & (HKI_ARMS - 1);
}

/* The header may have been overwritten by the program; an index that is out of use leads to operations that say so and abort. */
HKI_INLINE struct hki_backend *hki_header_backend(const struct hki_header *header)
{
  return &hki_backends[header->tag & (HKI_BACKENDS - 1)];
}

#endif
