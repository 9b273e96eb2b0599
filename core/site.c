/* SPDX-License-Identifier: MIT */
/*
 * site.c - owns the table of call sites: open addressing, entries are added and never removed. Counts are relaxed and may lose
 * some; kinds are written by the holder of the control lock. A site that finds no place is new for ever.
 */
#include "site.h"

enum {
  SITES = 1024,    /* a power of two */
  PROBES = 16,     /* places looked at for one site */
  ESTABLISHED = 8, /* blocks after which a site is no longer new */
  RARE = 64,       /* a site is rare with less than this part of an epoch's blocks */
  OVERLAP = 4,     /* a stream allocates more blocks than this during the life of one */
  WEIGHT = 8       /* of what was, against 1 for what is, in the mean overlap */
};

static struct site {
  const void *address; /* NULL: free place; set once */
  uint64_t blocks;     /* allocated */
  uint64_t settled;    /* of them, before the epoch that runs; under the control lock */
  uint32_t overlap;    /* mean of blocks allocated during a block's life, times WEIGHT */
  uint32_t kind;       /* enum hak_site */
} sites[SITES];

static uint32_t used[SITES]; /* places, in the order in which they were taken */
static uint32_t used_count;

static struct site *find(const void *address, bool add)
{
  uint64_t hash = (uint64_t)(uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15); /* 2^64 / golden ratio */
  for (uint32_t i = 0; i < PROBES; i++) {
    uint32_t place = (uint32_t)(hash >> 54) + i;
    struct site *site = &sites[place % SITES];
    const void *found = __atomic_load_n(&site->address, __ATOMIC_ACQUIRE);
    if (found == address) {
      return site;
    }
    if (found != NULL) {
      continue;
    }
    if (!add) {
      return NULL;
    }
    if (__atomic_compare_exchange_n(&site->address, &found, address, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      uint32_t number = __atomic_fetch_add(&used_count, 1U, __ATOMIC_RELAXED);
      __atomic_store_n(&used[number], place % SITES + 1, __ATOMIC_RELEASE);
      return site;
    }
    if (found == address) {
      return site;
    }
  }
  return NULL;
}

uint32_t hki_site_kind(const void *address)
{
  const struct site *site = find(address, false);
  return site != NULL ? HKI_LOAD(&site->kind) : HAK_SITE_NEW;
}

uint32_t hki_site_count(const void *address, uint64_t *number)
{
  struct site *site = address != NULL ? find(address, true) : NULL;
  if (site == NULL) {
    return HAK_SITE_NEW;
  }
  *number = HKI_LOAD(&site->blocks) + 1;
  HKI_STORE(&site->blocks, *number);
  return HKI_LOAD(&site->kind);
}

void hki_site_freed(const void *address, uint64_t born)
{
  struct site *site = find(address, false);
  if (site != NULL) {
    uint64_t since = HKI_LOAD(&site->blocks) - born;
    uint32_t mean = HKI_LOAD(&site->overlap);
    uint32_t now = since < 1024 ? (uint32_t)since : 1024;
    HKI_STORE(&site->overlap, mean - mean / WEIGHT + now); /* two threads at once: one value is lost, which does not matter */
  }
}

void hki_site_settle(uint64_t blocks)
{
  uint32_t count = HKI_LOAD(&used_count);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t place = __atomic_load_n(&used[i], __ATOMIC_ACQUIRE);
    if (place == 0) {
      continue; /* being entered */
    }
    struct site *site = &sites[place - 1];
    uint64_t all = HKI_LOAD(&site->blocks);
    uint64_t now = all - site->settled;
    site->settled = all;
    uint32_t kind = HAK_SITE_NEW;
    if (all >= ESTABLISHED) {
      bool stream = HKI_LOAD(&site->overlap) > OVERLAP * WEIGHT;
      kind = now < blocks / RARE ? HAK_SITE_RARE : stream ? HAK_SITE_STREAM : HAK_SITE_BUSY;
    }
    HKI_STORE(&site->kind, kind);
  }
}
