/* SPDX-License-Identifier: MIT */
/* resize.h - realloc. */
#ifndef HKI_RESIZE_H
#define HKI_RESIZE_H

#include "base.h"

/* realloc without its corner cases: block != NULL, size != 0. NULL: errno is ENOMEM and the block is as it was. */
void *hki_resize(void *block, size_t size, const void *site) __attribute__((nonnull(1)));

#endif
