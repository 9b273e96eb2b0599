/* SPDX-License-Identifier: MIT */
/*
 * route.h - which backend serves a request: the strategies of the INI, the one in force for each size bin, and the limits below
 * which a request needs neither.
 *
 * Strategies (arms) are made while loading and never change. What a policy publishes is one byte for each bin.
 */
#ifndef HKI_ROUTE_H
#define HKI_ROUTE_H

#include "base.h"

enum { HKI_RANGES = 8 }; /* size ranges of a strategy */

struct hki_arm {
  uint32_t count; /* ranges, at least 1 */
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

/* The arm in force for a size, and the backend it names. [any] */
HKI_INLINE struct hki_backend *hki_route_find(size_t size, uint32_t *arm)
{
  uint32_t bin = hki_log2(size);
  *arm = HKI_LOAD(&hakmem_root.bin_arm[bin < HAK_BINS ? bin : HAK_BINS - 1]);
  const struct hki_arm *row = &hki_route.arm[*arm];
  uint32_t i = row->count - 1;
  while (row->range[i].from > size) { /* range 0 starts at 0 */
    i--;
  }
  return row->range[i].backend;
}

/* Puts new arms in force for all bins and closes the gates. One thread at a time. */
void hki_route_publish(const uint8_t arm[HAK_BINS]);

#endif
