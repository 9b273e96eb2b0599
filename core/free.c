/* SPDX-License-Identifier: MIT */
/* free.c - the slow path of free, and the size of a block. Owns the frees that wait. */
#define _GNU_SOURCE
#include "free.h"

#include <errno.h>

#include "boot.h"
#include "foreign.h"
#include "misuse.h"
#include "page.h"
#include "settings.h"
#include "span.h"

HKI_SLOW void hki_free_byte(void *block, hki_entry entry, struct hki_thread *thread, const char *func)
{
  if (HKI_LIKELY((uintptr_t)block % HKI_ALIGN == 0) &&
      HKI_LIKELY(hki_starts_clear(hki_entry_starts(entry), (uintptr_t)block))) {
    hki_byte_release(thread, block);
    return;
  }
  hki_free_slow(block, entry, func);
}

HKI_SLOW void hki_free_far(void *block, const char *func)
{
  struct hki_thread *thread = hki_self;
  uintptr_t address = (uintptr_t)block;
  hki_entry entry = hki_pagemap_get(address);
  if (entry != HKI_NONE && !hki_detached(thread)) {
    thread->window = address >> HKI_WINDOW_SHIFT;
    thread->entries = (uintptr_t)__atomic_load_n(&hki_pagemap[thread->window], __ATOMIC_RELAXED) -
                      (thread->window << HKI_LEAF_BITS) * sizeof(hki_entry);
  }
  hki_free_entered(thread, block, entry, func);
}

/* The frees that wait: a lock-free stack of nodes from libc. Whoever takes it takes all of it. */
struct node {
  struct node *next;
  void *block;
};

static struct node *waiting;

static HKI_COLD void defer(void *block)
{
  struct node *node = __libc_malloc(sizeof *node);
  if (node == NULL) {
    return; /* the block is lost, which is better than a deadlock */
  }
  node->block = block;
  node->next = __atomic_load_n(&waiting, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&waiting, &node->next, node, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
  hki_gates_close();
}

/*
 * True when no live block of ours is at or around the pointer and libc may have it: also in a granule of ours, since boot and the
 * malloc backend share libc's heap with libraries that are bound to libc. Otherwise it is misuse, and the call does not return.
 */
static HKI_COLD bool is_foreign(const char *func, const void *block, hki_entry entry)
{
  enum hki_kind kind = hki_entry_kind(entry);
  if ((kind == HKI_NONE || kind == HKI_STARTS) && !hki_in_live_block(block)) {
    if (hki_foreign_is_libc(func, block)) {
      return true;
    }
    if (kind == HKI_NONE) {
      hki_die("%s(%p): not memory of hakmem", func, block);
    }
  }
  hki_misuse(func, block, entry);
}

static bool is_boot_block(const void *block, hki_entry entry)
{
  return hki_entry_kind(entry) == HKI_STARTS && (uintptr_t)block % HKI_ALIGN == 0 &&
         hki_starts_test(hki_entry_record(entry), (uintptr_t)block) &&
         hki_header_backend(hki_header(block))->index == HKI_BOOT && (hki_header(block)->tag & 0xffU) == HKI_BOOT;
}

/* libc's allocator is behind boot, and can be called from anywhere. */
static void free_boot(void *block, hki_entry entry, const char *func)
{
  if (!hki_starts_clear(hki_entry_record(entry), (uintptr_t)block)) {
    hki_misuse(func, block, entry);
  }
  const struct hki_header *header = hki_header(block);
  HKI_ADD(&hakmem_root.boot.frees, UINT64_C(1));
  HKI_ADD(&hakmem_root.boot.free_bytes, hki_header_size(header));
  __libc_free((char *)block - hki_header_offset(header));
}

static void free_own(struct hki_thread *thread, void *block, hki_entry entry, const char *func)
{
  switch (hki_entry_kind(entry)) {
  case HKI_CLASS:
  case HKI_CLASS_FULL:
    hki_front_free(thread, block, entry, func);
    break;
  case HKI_STARTS:
    if ((uintptr_t)block % HKI_ALIGN == 0 && hki_starts_clear(hki_entry_record(entry), (uintptr_t)block)) {
      hki_byte_release(thread, block);
    } else if (is_foreign(func, block, entry)) {
      hki_foreign_free(block);
    }
    break;
  case HKI_PAGE_BLOCK:
    hki_page_free(thread, block, entry, func);
    break;
  default:
    if (is_foreign(func, block, entry)) {
      hki_foreign_free(block);
    }
    break;
  }
}

static HKI_SLOW void free_long(void *block, hki_entry entry, const char *func)
{
  if (block == NULL) {
    return;
  }
  int saved = errno;
  struct hki_thread *thread = hki_thread_attach();
  if (!hki_detached(thread)) {
    free_own(thread, block, entry, func);
  } else if (is_boot_block(block, entry)) {
    free_boot(block, entry, func);
  } else if (thread != &hki_thread_gone && thread != &hki_thread_none) {
    defer(block);
  } else {
    free_own(hki_thread_lend(), block, entry, func);
    hki_thread_unlend();
  }
  errno = saved;
}

/* hot for large blocks: no stack frame. */
HKI_SLOW void hki_free_slow(void *block, hki_entry entry, const char *func)
{
  struct hki_thread *thread = hki_self;
  if (HKI_LIKELY(hki_entry_kind(entry) == HKI_PAGE_BLOCK) && HKI_LIKELY(!hki_detached(thread))) {
    hki_page_free(thread, block, entry, func);
  } else {
    free_long(block, entry, func);
  }
}

bool hki_free_waits(void)
{
  return HKI_LOAD(&waiting) != NULL;
}

HKI_COLD void hki_free_deferred(void)
{
  struct node *node = __atomic_exchange_n(&waiting, NULL, __ATOMIC_ACQUIRE);
  while (node != NULL) {
    struct node *next = node->next;
    hki_free(node->block, "free");
    __libc_free(node);
    node = next;
  }
}

size_t hki_usable(const void *block, const char *func)
{
  hki_entry entry = hki_pagemap_get((uintptr_t)block);
  const struct hki_span *span;
  switch (hki_entry_kind(entry)) {
  case HKI_CLASS:
  case HKI_CLASS_FULL:
    if (hki_settings.hardening == HKI_OFF || hki_span_holds(hki_entry_record(entry), (uintptr_t)block)) {
      return hakmem_root.class_bytes[hki_entry_class(entry)];
    }
    break;
  case HKI_STARTS:
    if ((uintptr_t)block % HKI_ALIGN == 0 && hki_starts_test(hki_entry_record(entry), (uintptr_t)block)) {
      return hki_header_size(hki_header(block));
    }
    break;
  case HKI_PAGE_BLOCK:
    span = hki_page_live(block, entry);
    if (span != NULL) {
      return span->range.capacity;
    }
    break;
  default:
    break;
  }
  return is_foreign(func, block, entry) ? hki_foreign_size(block) : 0;
}
