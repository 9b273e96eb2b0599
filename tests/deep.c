/* SPDX-License-Identifier: MIT */
/* deep.c - a library to be loaded with RTLD_DEEPBIND, which looks for malloc and free in libc first. Owns nothing. */
#include "deep.h"

#include <malloc.h>
#include <stdlib.h>

/* Bound when the library is loaded; the calls below, when they are made first. */
const struct deep_bound deep_bound = {malloc,        free,           calloc, realloc, reallocarray,      memalign,
                                      aligned_alloc, posix_memalign, valloc, pvalloc, malloc_usable_size};

void *deep_make(size_t size)
{
  return malloc(size);
}

void deep_drop(void *block)
{
  free(block);
}
