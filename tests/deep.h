/* SPDX-License-Identifier: MIT */
/* deep.h - what deep.c exports. */
#ifndef HAKMEM_TESTS_DEEP_H
#define HAKMEM_TESTS_DEEP_H

#include <stddef.h>

struct deep_bound {
  void *(*malloc)(size_t);
  void (*free)(void *);
  void *(*calloc)(size_t, size_t);
  void *(*realloc)(void *, size_t);
  void *(*reallocarray)(void *, size_t, size_t);
  void *(*memalign)(size_t, size_t);
  void *(*aligned_alloc)(size_t, size_t);
  int (*posix_memalign)(void **, size_t, size_t);
  void *(*valloc)(size_t);
  void *(*pvalloc)(size_t);
  size_t (*malloc_usable_size)(void *);
};

extern const struct deep_bound deep_bound;
void *deep_make(size_t size);
void deep_drop(void *block);

#endif
