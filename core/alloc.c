/* SPDX-License-Identifier: MIT */
/* alloc.c - owns no state: it finds the backend for a request that the fast paths did not serve. */
#define _GNU_SOURCE
#include "alloc.h"

#include <errno.h>

#include "background.h"
#include "epoch.h"
#include "free.h"
#include "mailbox.h"
#include "message.h"
#include "os.h"
#include "page.h"
#include "range.h"
#include "route.h"
#include "trial.h"

static void *dress(struct hki_thread *thread, uintptr_t block, size_t size)
{
  hki_header((void *)block)->tag = size << 16 | thread->direct->index;
  hki_header((void *)block)->offset = HKI_ALIGN;
  HKI_BUMP(&thread->direct_seat->tally.allocs, UINT64_C(1));
  HKI_BUMP(&thread->direct_seat->tally.alloc_bytes, size);
  return (void *)block;
}

/* The backend had nothing, or its block lies in a granule that is not entered yet. */
static HKI_COLD void *dress_first(struct hki_thread *thread, uintptr_t block, size_t size)
{
  if (block != HKI_ALIGN) {
    if (hki_byte_enter(block, thread->direct, NULL)) {
      return dress(thread, block, size);
    }
    hki_enter(thread->direct);
    thread->direct->ops.free(thread->direct->self, &thread->direct_seat->slot, (void *)(block - HKI_ALIGN), size + HKI_ALIGN);
    hki_leave(thread);
  }
  return hki_alloc_slow(size, HKI_ALIGN, 0, NULL);
}

HKI_SLOW void *hki_alloc_direct(size_t size, struct hki_thread *thread)
{
  hki_enter(thread->direct);
  hak_block got = thread->direct->ops.alloc(thread->direct->self, &thread->direct_seat->slot, size + HKI_ALIGN, HKI_ALIGN);
  hki_leave(thread);
  uintptr_t block = (uintptr_t)got.base + HKI_ALIGN;
  hki_entry entry = hki_pagemap_get_valid(block); /* none when the backend had nothing: nobody enters the first granule */
  if (HKI_LIKELY((entry & HKI_STARTS) != 0) && HKI_LIKELY(hki_starts_set(hki_entry_starts(entry), block))) {
    return dress(thread, block, size);
  }
  return dress_first(thread, block, size);
}

/* A plugin called malloc where it must not. Served, counted, told once for each plugin. */
static HKI_COLD void told_off(struct hki_thread *inside)
{
  for (uint32_t i = HKI_BOOT + 1; i < hakmem_root.backend_count; i++) {
    if (hki_backends[i].inside == inside) {
      HKI_ADD(&hakmem_root.backend[i].callbacks, 1U);
    }
  }
  if (inside->live == HKI_INSIDE && __atomic_fetch_add(&inside->seat[HKI_BOOT].tally.allocs, 1U, __ATOMIC_RELAXED) == 0) {
#ifdef HKI_DEBUG
    hki_die("plugin %s allocates inside a callback", inside->inside);
#else
    hki_say("plugin %s allocates inside a callback; served by boot (said once)", inside->inside);
#endif
  }
}

HKI_SLOW void hki_slow_event(struct hki_thread *thread)
{
  if (HKI_UNLIKELY(HKI_LOAD(&thread->direct_end) != HKI_LOAD(&hki_route.direct_end) ||
                   HKI_LOAD(&thread->front_end) != HKI_LOAD(&hki_route.front_end))) {
    hki_gates_open(thread);
  }
  if (HKI_UNLIKELY(hki_free_waits())) {
    hki_free_deferred();
  }
  if (HKI_UNLIKELY(HKI_LOAD(&hakmem_root.mailbox.state) == HKI_MAIL_REQUEST)) {
    hki_mailbox_serve();
  }
  if (HKI_UNLIKELY(HKI_LOAD(&hki_background_wanted) != 0)) {
    hki_background_start();
  }
  hki_range_tick(thread);
}

static void *from(struct hki_thread *thread, struct hki_backend *backend, struct hki_want *want)
{
  return backend->granularity == HAK_BYTE ? hki_byte_alloc(thread, backend, want->size, want->align, want->arm, want->request)
                                          : hki_page_alloc(thread, backend, want);
}

/* Address space, mappings or memory are short: freed blocks go back; and a wrapped malloc may hold memory that was freed to it. */
static HKI_COLD void *from_elsewhere(struct hki_thread *thread, struct hki_backend *backend, struct hki_want *want)
{
  struct hki_backend *last = hki_route.arm[want->arm].range[0].backend;
  hki_range_drain_now(thread);
  void *block = from(thread, backend, want);
  return block == NULL && backend != last ? from(thread, last, want) : block;
}

/* A block for a request of which row and arm are known. */
static void *routed(struct hki_thread *thread, struct hki_want *want, bool measured)
{
  struct hki_backend *backend = hki_route_backend(want->arm, want->size);
  bool large = want->size > HAK_CLASS_MAX;
  struct hki_trial_begin begin = {0};
  if (HKI_UNLIKELY(measured)) {
    begin = (struct hki_trial_begin){.ns = hki_os.now(), .release = thread->release_ns};
  }
  void *block = from(thread, backend, want);
  if (HKI_UNLIKELY(block == NULL)) {
    block = from_elsewhere(thread, backend, want);
  }
  if (large && block != NULL) {
    uint32_t row = hki_epoch_row(want);
    if (row != 0 && hki_entry_kind(hki_pagemap_get((uintptr_t)block)) == HKI_STARTS) {
      hki_byte_counted(block, row);
    }
    if (HKI_UNLIKELY(measured)) {
      hki_trial_start(want, block, &begin, thread);
    }
    hki_epoch_count(want); /* last: what a decision takes is not the block's */
  }
  return block;
}

static void *small(struct hki_thread *thread, size_t size, size_t align, uint32_t request)
{
  struct hki_backend *backend = hki_route.small;
  if (backend->granularity == HAK_BYTE) {
    return hki_byte_alloc(thread, backend, size, align, 0, request);
  }
  size_t rounded = align > HKI_ALIGN ? hki_front_size(size, align) : size;
  void *block = rounded <= HAK_CLASS_MAX ? hki_front_alloc(thread, hki_class_of(rounded)) : NULL;
  if (block != NULL && (request & HKI_ZEROED)) {
    memset(block, 0, size);
  }
  return block;
}

/* Whether there can be such a block. An alignment may be one bit more than any size. */
static bool possible(size_t size, size_t align)
{
  return align <= HKI_SIZE_MAX && size <= HKI_SIZE_MAX - align;
}

HKI_SLOW void *hki_alloc_long(size_t size, size_t align, uint32_t request, const void *site)
{
  void *block = NULL;
  int saved = errno;
  struct hki_thread *thread = hki_thread_attach();
  if (hki_detached(thread)) {
    if (thread != &hki_thread_load) {
      told_off(thread);
    }
    block = hki_boot_alloc(size, align, request);
  } else if (possible(size, align)) {
    hki_slow_event(thread);
    if (size < hki_route.small_end) {
      block = small(thread, size, align, request);
    }
    if (block == NULL) {
      struct hki_want want = {.size = size, .align = align, .request = request, .site = site};
      hki_route_choose(&want);
      block = routed(thread, &want, size > HAK_CLASS_MAX && hki_epoch_learns() && hki_trial_due(&want));
    }
  }
  errno = block != NULL ? saved : ENOMEM;
  return block;
}

HKI_SLOW void *hki_alloc_routed(struct hki_thread *thread, struct hki_want *want, bool measured)
{
  int saved = errno;
  hki_slow_event(thread);
  void *block = possible(want->size, want->align) ? routed(thread, want, measured) : NULL;
  errno = block != NULL ? saved : ENOMEM;
  return block;
}

/* hot for a block that is requested again as soon as it is free: no stack frame until then. */
HKI_SLOW void *hki_alloc_slow(size_t size, size_t align, uint32_t request, const void *site)
{
  return size > HAK_CLASS_MAX && HKI_LOAD(&hki_self->last) != NULL ? hki_page_again(size, align, request, site)
                                                                   : hki_alloc_long(size, align, request, site);
}
