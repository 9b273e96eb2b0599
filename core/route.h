/* SPDX-License-Identifier: MIT */
/*
 * route.h - which backend serves a request: the strategies of the INI, the one in force for each size bin, and the limits below
 * which a request needs neither.
 *
 * Strategies (arms) are made while loading and never change. What a policy publishes is two arms and a share for each row. A row is
 * a size bin and a kind of call site; up to HAK_CLASS_MAX the site makes no difference.
 */
#ifndef HKI_ROUTE_H
#define HKI_ROUTE_H

#include "base.h"
#include "want.h"

enum { HKI_RANGES = 8 }; /* size ranges of a strategy */

struct hki_arm {
  uint32_t count; /* ranges, at least 1 */
  bool cache;     /* its freed page blocks are offered to the cache, and its requests look there first */
  bool reclaim;   /* its freed page blocks wait in the reclaim plugin */
  struct {
    size_t from;                 /* first size; 0 for the first range, rising */
    struct hki_backend *backend; /* byte or page */
  } range[HKI_RANGES];
};

struct hki_route {
  uint32_t generation;        /* raised by every change of what follows, atomic */
  struct hki_backend *direct; /* byte backend of the smallest sizes, or NULL */
  uint64_t direct_end;        /* requests below it go to `direct` whatever the policy; at most HAK_CLASS_MAX + 1 */
  uint64_t front_end;         /* requests below it are served from the magazines; 0: none */
  struct hki_backend *small;  /* [core] small, or NULL */
  uint64_t small_end;         /* requests below it go to `small` */
  struct hki_arm arm[HKI_ARMS];
};

extern HKI_HIDDEN struct hki_route hki_route;

/* The row of a size, for a site of which nothing is known. */
HKI_INLINE uint32_t hki_route_row(size_t size)
{
  uint32_t bin = hki_log2(size | 1);
  return (bin < HAK_BINS ? bin : HAK_BINS - 1) * HAK_SITES;
}

/* The backend that an arm names for a size. */
HKI_INLINE struct hki_backend *hki_route_backend(uint32_t arm, size_t size)
{
  const struct hki_arm *row = &hki_route.arm[arm];
  uint32_t i = row->count - 1;
  while (row->range[i].from > size) { /* range 0 starts at 0 */
    i--;
  }
  return row->range[i].backend;
}

/* The first arm that does the same as `arm` with all sizes of a bin. [any] */
uint32_t hki_route_alike(uint32_t bin, uint32_t arm);

/* Chooses row and arm for a request. [any] */
void hki_route_choose(struct hki_want *want);

/* Whether a request of that size from that site may draw the arm now. [any] */
bool hki_route_in_force(uint32_t arm, size_t size, const void *site);

/* What a policy publishes. */
struct hki_tables {
  uint8_t champion[HAK_ROWS];
  uint8_t challenger[HAK_ROWS];
  uint16_t share[HAK_ROWS];
  uint8_t reason[HAK_ROWS];
  uint16_t purse[HAK_ROWS];
  uint16_t most[HAK_ROWS];
  uint32_t seed;
};

/* Puts new tables in force; closes the gates when that changes the direct path. One thread at a time. */
void hki_route_publish(const struct hki_tables *tables);

#endif
