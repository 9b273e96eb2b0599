/* SPDX-License-Identifier: MIT */
/* meta.h - memory for the core's and the plugins' bookkeeping: zeroed, permanent, apart from user memory. */
#ifndef HKI_META_H
#define HKI_META_H

#include "base.h"

/* Zeroed memory that is never freed, at a multiple of `align` (a power of two up to 4096). NULL when the system refuses. [any] */
void *hki_meta_alloc(size_t size, size_t align);

/* A permanent copy of a string. NULL when the system refuses. [any] */
const char *hki_meta_string(const char *s);

extern hak_lock hki_meta_lock; /* taken around a fork */

#endif
