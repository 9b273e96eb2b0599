/* SPDX-License-Identifier: MIT */
/* starts.c - owns the idle bitmaps, under hki_starts_lock, which is taken about once per granule ever used. */
#include "starts.h"

#include <string.h>

#include "lock.h"
#include "meta.h"
#include "span.h"

enum {
  BELOW = 4096, /* granules searched for the start of a block: 256 MiB */
  LISTS = 64    /* of idle bitmaps; the last one is for all that are longer */
};

/* What the first of some idle bitmaps says, in its first words; all others are zero. */
struct __attribute__((may_alias)) idle {
  struct idle *next;
  size_t count; /* bitmaps, one behind the other */
};

hak_lock hki_starts_lock;
static struct idle *idle[LISTS]; /* by their count, under hki_starts_lock */

static struct idle **list_of(size_t count)
{
  return &idle[count < LISTS ? count - 1 : LISTS - 1];
}

struct hki_starts *hki_starts_get(size_t count)
{
  hki_leaf_lock(&hki_starts_lock);
  struct idle **at = list_of(count), *found;
  while ((found = *at) != NULL && found->count != count) {
    at = &found->next;
  }
  if (found != NULL) {
    *at = found->next;
    *found = (struct idle){NULL, 0};
  }
  hki_leaf_unlock(&hki_starts_lock);
  return found != NULL ? (struct hki_starts *)(void *)found
                       : hki_meta_alloc(count * sizeof(struct hki_starts), _Alignof(struct hki_starts));
}

void hki_starts_put(struct hki_starts *starts, size_t count)
{
  struct idle *own = (struct idle *)(void *)starts, **list = list_of(count);
  memset(starts, 0, count * sizeof *starts);
  hki_leaf_lock(&hki_starts_lock);
  *own = (struct idle){*list, count};
  *list = own;
  hki_leaf_unlock(&hki_starts_lock);
}

bool hki_starts_reserve(struct hki_starts **spare)
{
  if (HKI_UNLIKELY(*spare == NULL)) {
    *spare = hki_starts_get(1);
  }
  return *spare != NULL && hki_pagemap_reserve();
}

HKI_SLOW struct hki_starts *hki_starts_at(uintptr_t address, struct hki_starts **spare)
{
  hki_entry *slot = spare != NULL ? hki_pagemap_slot_reserved(address) : hki_pagemap_slot(address);
  if (slot == NULL) {
    return NULL;
  }
  hki_entry e = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
  struct hki_starts *fresh = NULL;
  while (hki_entry_kind(e) != HKI_STARTS) {
    /* A wrapped allocator got this granule after a page block had been there; live page blocks cannot be in the way. */
    if (fresh == NULL && spare != NULL) {
      fresh = *spare;
      *spare = NULL;
    } else if (fresh == NULL && (fresh = hki_starts_get(1)) == NULL) {
      return NULL;
    }
    hki_entry made = hki_entry_make(HKI_STARTS, fresh, 0);
    if (__atomic_compare_exchange_n(slot, &e, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      return fresh;
    }
  }
  if (fresh != NULL) {
    hki_starts_put(fresh, 1);
  }
  return hki_entry_record(e);
}

HKI_COLD uintptr_t hki_starts_below(uintptr_t address)
{
  uintptr_t granule = address & ~(uintptr_t)(HAK_GRANULE - 1);
  for (int i = 0; i < BELOW && granule != 0; i++, granule -= HAK_GRANULE) {
    hki_entry e = hki_pagemap_get(granule);
    if (hki_entry_kind(e) == HKI_STARTS) {
      struct hki_starts *starts = hki_entry_record(e);
      uintptr_t top = i == 0 ? address & ~(uintptr_t)(HKI_ALIGN - 1) : granule + HAK_GRANULE - HKI_ALIGN;
      for (uintptr_t a = top;; a -= HKI_ALIGN) {
        if (hki_starts_test(starts, a)) {
          return a;
        }
        if (a == granule) {
          break;
        }
      }
    }
  }
  return 0;
}
