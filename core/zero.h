/* SPDX-License-Identifier: MIT */
/* zero.h - memory that reads as zero. */
#ifndef HKI_ZERO_H
#define HKI_ZERO_H

#include "base.h"

/*
 * Makes a block of a page backend read as zero, up to the end of a page at least. Pages that are not there stay away, so that a large
 * calloc costs what its program touches. [any]
 */
void hki_zero(void *block, size_t size);

#endif
