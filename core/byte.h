/* SPDX-License-Identifier: MIT */
/* byte.h - blocks of byte backends: the way from and to the backend. */
#ifndef HKI_BYTE_H
#define HKI_BYTE_H

#include <string.h>

#include "backend.h"
#include "base.h"
#include "header.h"
#include "starts.h"
#include "want.h"

/* A block of `size` bytes at a multiple of `align` >= 16. NULL when the backend has none. Counts it. */
void *hki_byte_alloc(struct hki_thread *thread, struct hki_backend *backend, size_t size, size_t align, uint32_t arm,
                     uint32_t request);

/* The same from boot, for a detached thread. */
void *hki_boot_alloc(size_t size, size_t align, uint32_t request);

/* Enters a block of a granule not seen before. False when there is no memory for its bitmap, `spare` (or NULL) included. */
bool hki_byte_enter(uintptr_t block, const struct hki_backend *backend, struct hki_starts **spare);

/* Resizes a live block through its backend. NULL when it refuses: the block is as it was. Counts it. */
void *hki_byte_resize(struct hki_thread *thread, void *block, size_t size);

/* Notes the row in which a new block was counted; 0: in none. */
HKI_INLINE void hki_byte_counted(void *block, uint32_t row)
{
  hki_header(block)->offset |= (uint64_t)row << HKI_ROW_SHIFT;
}

/* Marks the block live. False when there is no memory for that, `spare` (or NULL) included. */
HKI_INLINE bool hki_byte_mark(uintptr_t block, const struct hki_backend *backend, struct hki_starts **spare)
{
  hki_entry entry = hki_pagemap_get_valid(block);
  if (HKI_UNLIKELY((entry & HKI_STARTS) == 0) || HKI_UNLIKELY(!hki_starts_set(hki_entry_starts(entry), block))) {
    return hki_byte_enter(block, backend, spare);
  }
  return true;
}

/* The same as hki_byte_release for a block that is counted or measured. */
void hki_byte_release_counted(struct hki_thread *thread, void *block);

/* hot: gives a block back whose start bit the caller has cleared. */
HKI_INLINE void hki_byte_release(struct hki_thread *thread, void *block)
{
  const struct hki_header *header = hki_header(block);
  struct hki_backend *backend = hki_header_backend(header);
  struct hki_seat *seat = &thread->seat[header->tag & (HKI_BACKENDS - 1)];
  size_t size = hki_header_size(header);
  uint64_t offset = header->offset;
  if (HKI_UNLIKELY(offset >> HKI_OFFSET_BITS != 0)) {
    hki_byte_release_counted(thread, block);
    return;
  }
  HKI_BUMP(&seat->tally.frees, UINT64_C(1));
  HKI_BUMP(&seat->tally.free_bytes, size);
  hki_enter(backend);
  backend->ops.free(backend->self, &seat->slot, (char *)block - offset, size + offset);
  hki_leave(thread);
}

#endif
