/* SPDX-License-Identifier: MIT */
/* want.h - one request on its way through the slow path. */
#ifndef HKI_WANT_H
#define HKI_WANT_H

#include "base.h"

enum { HKI_ZEROED = 1 }; /* request: every byte is zero */

struct hki_want {
  size_t size, align;
  const void *site;
  uint32_t request;   /* HKI_ZEROED */
  uint32_t row;       /* of the policy's tables */
  uint32_t arm;       /* that the row has drawn */
  uint64_t number;    /* of the block at its site, while the policy learns */
  bool is_challenger; /* which of the row's two arms that was */
  bool hit;           /* the cache had a range for it */
  bool untouched;     /* no page of the block has been touched yet */
};

#endif
