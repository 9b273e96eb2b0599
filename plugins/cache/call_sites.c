/* SPDX-License-Identifier: MIT */
/* call_sites.c - the counts of call sites; call_sites.h says what they are. A site is looked for where its hash says, and behind. */
#include "call_sites.h"

#include <assert.h>
#include <stddef.h>

enum { PROBES = 4 }; /* places in which a site is looked for */

static_assert((CALL_SITES & (CALL_SITES - 1)) == 0, "a hash is cut by masking");
static_assert(CALL_SITES <= 64, "one bit each");

uint32_t call_site_hash(const void *address)
{
  return (uint32_t)(((uint64_t)(uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

bool call_sites_add(struct call_sites *sites, const void *address, enum call_site_count which, uint64_t times)
{
  uint32_t at = call_site_hash(address);
  for (uint32_t i = 0; i < PROBES && address != NULL; i++) {
    struct call_site *site = &sites->place[(at + i) & (CALL_SITES - 1)];
    const void *known = __atomic_load_n(&site->address, __ATOMIC_RELAXED);
    bool fresh = known == NULL &&
                 __atomic_compare_exchange_n(&site->address, &known, address, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    if (fresh || known == address) {
      uint64_t count = __atomic_load_n(&site->count[which], __ATOMIC_RELAXED);
      __atomic_store_n(&site->count[which], count + times, __ATOMIC_RELAXED);
      return fresh;
    }
  }
  return false;
}

uint64_t call_sites_get(const struct call_sites *sites, uint32_t place, enum call_site_count which)
{
  return __atomic_load_n(&sites->place[place].count[which], __ATOMIC_RELAXED);
}

uint32_t call_sites_top(const struct call_sites *sites, uint32_t place[CALL_SITES_TOP])
{
  uint64_t chosen = 0;
  for (uint32_t rank = 0; rank < CALL_SITES_TOP; rank++) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < CALL_SITES; i++) {
      uint64_t requests = call_sites_get(sites, i, SITE_HITS) + call_sites_get(sites, i, SITE_MISSES);
      if (requests > most && (chosen >> i & 1) == 0) {
        most = requests;
        place[rank] = i;
      }
    }
    if (most == 0) {
      return rank;
    }
    chosen |= UINT64_C(1) << place[rank];
  }
  return CALL_SITES_TOP;
}
