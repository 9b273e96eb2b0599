/* SPDX-License-Identifier: MIT */
/* pagemap.c - owns the radix tree. Roots and entries are words changed atomically; there is no lock. */
#define _GNU_SOURCE
#include "pagemap.h"

#include <sys/mman.h>

#include "os.h"
#include "span.h"

struct hki_leaf *hki_pagemap[1U << HKI_ROOT_BITS];

static struct hki_leaf *reserve; /* atomic */

/* For the two windows that every program uses, around its heap and around its mappings: no system call at start. */
static struct hki_leaf first_leaf[2];
static uint32_t first_used; /* atomic; may run on */

/* Two megabytes of address space, of which a page appears for every 32 MiB that are entered. */
static struct hki_leaf *map_leaf(void)
{
  uint32_t index = __atomic_fetch_add(&first_used, 1U, __ATOMIC_RELAXED);
  if (index < 2) {
    return &first_leaf[index];
  }
  long r =
      hki_os.mmap(NULL, sizeof(struct hki_leaf), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return hak_os_failed(r) ? NULL : (struct hki_leaf *)r;
}

/* Of two threads that came at once, one is too late with its leaf. */
static HKI_COLD void drop_leaf(struct hki_leaf *leaf)
{
  if (leaf != &first_leaf[0] && leaf != &first_leaf[1]) {
    (void)hki_os.munmap(leaf, sizeof *leaf);
  }
}

HKI_SLOW bool hki_pagemap_reserve(void)
{
  if (HKI_LIKELY(HKI_LOAD(&reserve) != NULL)) {
    return true;
  }
  struct hki_leaf *none = NULL;
  struct hki_leaf *leaf = map_leaf();
  if (leaf != NULL && !__atomic_compare_exchange_n(&reserve, &none, leaf, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
    drop_leaf(leaf);
  }
  return leaf != NULL;
}

/* The leaf of an address, made when missing, from the reserve when the system refuses and `reserved` says so. */
static struct hki_leaf *leaf_at(uintptr_t address, bool reserved)
{
  struct hki_leaf **root = &hki_pagemap[address >> HKI_WINDOW_SHIFT];
  struct hki_leaf *leaf = __atomic_load_n(root, __ATOMIC_ACQUIRE);
  if (leaf == NULL) {
    struct hki_leaf *fresh = map_leaf();
    if (fresh == NULL && reserved) {
      fresh = __atomic_exchange_n(&reserve, NULL, __ATOMIC_ACQ_REL);
    }
    if (fresh == NULL) {
      return __atomic_load_n(root, __ATOMIC_ACQUIRE); /* another thread may have had more luck */
    }
    if (__atomic_compare_exchange_n(root, &leaf, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      leaf = fresh;
    } else {
      drop_leaf(fresh);
    }
  }
  return leaf;
}

static hki_entry *slot_at(uintptr_t address, bool reserved)
{
  struct hki_leaf *leaf = address >> HKI_ADDRESS_BITS == 0 ? leaf_at(address, reserved) : NULL;
  return leaf != NULL ? &leaf->entry[hki_leaf_index(address)] : NULL;
}

HKI_SLOW hki_entry *hki_pagemap_slot(uintptr_t address)
{
  return slot_at(address, false);
}

HKI_COLD hki_entry *hki_pagemap_slot_reserved(uintptr_t address)
{
  return slot_at(address, true);
}

HKI_COLD struct hki_span *hki_pagemap_enclosing(uintptr_t address)
{
  if (address >> HKI_ADDRESS_BITS != 0) {
    return NULL;
  }
  uintptr_t granule = address >> HKI_GRANULE_SHIFT;
  for (;;) {
    struct hki_leaf *leaf = hki_pagemap[granule >> HKI_LEAF_BITS];
    if (leaf == NULL) {
      granule &= ~((UINT64_C(1) << HKI_LEAF_BITS) - 1);
    } else {
      hki_entry e = __atomic_load_n(&leaf->entry[hki_leaf_index(granule << HKI_GRANULE_SHIFT)], __ATOMIC_ACQUIRE);
      if (hki_entry_kind(e) == HKI_PAGE_BLOCK) {
        struct hki_span *span = hki_entry_record(e);
        uint32_t state = __atomic_load_n(&span->state, __ATOMIC_ACQUIRE);
        bool live = state == HKI_SPAN_LIVE || state == HKI_SPAN_MOVING;
        return live && hki_span_base(span) + span->range.capacity > address ? span : NULL;
      }
    }
    if (granule == 0) {
      return NULL;
    }
    granule--;
  }
}
