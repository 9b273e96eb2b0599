/* SPDX-License-Identifier: MIT */
/* byte.c - the slow half of byte blocks. Owns nothing. */
#include "byte.h"

#include "epoch.h"
#include "misuse.h"
#include "span.h"
#include "trial.h"

HKI_SLOW bool hki_byte_enter(uintptr_t block, const struct hki_backend *backend, struct hki_starts **spare)
{
  hki_entry entry = hki_pagemap_get(block);
  if (hki_entry_kind(entry) == HKI_STARTS && hki_starts_test(hki_entry_record(entry), block)) {
    hki_broken(backend->name, (void *)block);
  }
  struct hki_starts *starts = hki_starts_at(block, spare);
  return starts != NULL && hki_starts_set(starts, block);
}

/* The size to ask the backend for; 0 when it overflows, or the offset of the block would. */
static size_t gross(size_t size, size_t align)
{
  size_t extra = align > HKI_ALIGN ? align + HKI_ALIGN : HKI_ALIGN;
  return size > HKI_SIZE_MAX - extra || extra >> HKI_OFFSET_BITS != 0 ? 0 : size + extra;
}

/* Turns what the backend gave into a block. 0 when it gave nothing, or the page map has no memory: then it has it back. */
static uintptr_t dress(const struct hki_backend *backend, void **slot, hak_block got, size_t size, size_t align, uint32_t arm)
{
  if (got.base == NULL) {
    return 0;
  }
  HKI_ACQUIRE(backend->inside);
  uintptr_t base = (uintptr_t)got.base;
  uintptr_t block = hki_round_up(base + HKI_ALIGN, align);
  if (!hki_byte_mark(block, backend, NULL)) {
    backend->ops.free(backend->self, slot, got.base, gross(size, align));
    return 0;
  }
  hki_header((void *)block)->tag = size << 16 | arm << 8 | backend->index;
  hki_header((void *)block)->offset = block - base;
  return block;
}

static void *make(struct hki_backend *backend, void **slot, size_t size, size_t align, uint32_t arm, uint32_t request)
{
  size_t total = gross(size, align);
  if (total == 0) {
    return NULL;
  }
  hak_block got = HAK_NO_BLOCK;
  if (request & HKI_ZEROED) {
    got = backend->ops.alloc_zeroed(backend->self, slot, total, HKI_ALIGN);
  }
  bool zeroed = got.base != NULL;
  if (!zeroed) {
    got = backend->ops.alloc(backend->self, slot, total, HKI_ALIGN);
    zeroed = (hak_block_flags(got) & HAK_ZEROED) != 0;
  }
  uintptr_t block = dress(backend, slot, got, size, align, arm);
  if (block != 0 && (request & HKI_ZEROED) && !zeroed) {
    memset((void *)block, 0, size);
  }
  return (void *)block;
}

HKI_SLOW void *hki_byte_alloc(struct hki_thread *thread, struct hki_backend *backend, size_t size, size_t align, uint32_t arm,
                              uint32_t request)
{
  hki_enter(backend);
  void *block = make(backend, &thread->seat[backend->index].slot, size, align, arm, request);
  hki_leave(thread);
  if (block != NULL) {
    HKI_BUMP(&thread->seat[backend->index].tally.allocs, UINT64_C(1));
    HKI_BUMP(&thread->seat[backend->index].tally.alloc_bytes, size);
  }
  return block;
}

HKI_SLOW void hki_byte_release_counted(struct hki_thread *thread, void *block)
{
  struct hki_header *header = hki_header(block);
  uint32_t trial = (uint32_t)(header->offset >> HKI_TRIAL_SHIFT), row = hki_header_row(header);
  struct hki_trial_end end;
  header->offset = hki_header_offset(header);
  if (row != 0) {
    hki_epoch_freed(hki_header_arm(header), row);
  }
  if (trial != 0) {
    hki_trial_stop(&end, trial, block, hki_header_size(header), thread);
  }
  hki_byte_release(thread, block);
  if (trial != 0) {
    hki_trial_finish(&end, thread);
  }
}

HKI_SLOW void *hki_boot_alloc(size_t size, size_t align, uint32_t request)
{
  void *slot = NULL;
  void *block = make(&hki_backends[HKI_BOOT], &slot, size, align, 0, request);
  if (block != NULL) {
    HKI_ADD(&hakmem_root.boot.allocs, UINT64_C(1));
    HKI_ADD(&hakmem_root.boot.alloc_bytes, size);
  }
  return block;
}

HKI_SLOW void *hki_byte_resize(struct hki_thread *thread, void *block, size_t size)
{
  struct hki_header before = *hki_header(block);
  struct hki_backend *backend = hki_header_backend(&before);
  size_t old = hki_header_size(&before);
  if (hki_header_offset(&before) != HKI_ALIGN || size > HKI_SIZE_MAX - HKI_ALIGN ||
      !hki_starts_reserve(&thread->spare_starts)) {
    return NULL;
  }
  /* The backend may give the old place to another thread before it returns, so the bit goes first. */
  struct hki_starts *starts = hki_entry_record(hki_pagemap_get((uintptr_t)block));
  if (!hki_starts_clear(starts, (uintptr_t)block)) {
    hki_misuse("realloc", block, hki_pagemap_get((uintptr_t)block));
  }
  void **slot = &thread->seat[backend->index].slot;
  hki_enter(backend);
  hak_block got = backend->ops.resize(backend->self, slot, (char *)block - HKI_ALIGN, old + HKI_ALIGN, size + HKI_ALIGN);
  HKI_ACQUIRE(backend->inside);
  uintptr_t moved = (uintptr_t)got.base + HKI_ALIGN;
  if (got.base == NULL) {
    (void)hki_starts_set(starts, (uintptr_t)block);
    moved = 0;
  } else if (!hki_byte_mark(moved, backend, &thread->spare_starts)) {
    /* Several threads needed a new leaf of the page map at once, and the old place is gone. */
    hki_die("realloc(%p): no memory to record where backend %s moved it", block, backend->name);
  }
  hki_leave(thread);
  if (moved == 0) {
    return NULL;
  }
  hki_header((void *)moved)->tag = size << 16 | (before.tag & 0xffffU);
  /* What a trial would measure is no longer one block's life. */
  hki_header((void *)moved)->offset = before.offset & ((UINT64_C(1) << HKI_TRIAL_SHIFT) - 1);
  struct hki_tally *tally = &thread->seat[backend->index].tally;
  HKI_BUMP(&tally->resizes, UINT64_C(1));
  if (size > old) {
    HKI_BUMP(&tally->alloc_bytes, size - old);
  } else {
    HKI_BUMP(&tally->free_bytes, old - size);
  }
  return (void *)moved;
}
