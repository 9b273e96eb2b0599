/* SPDX-License-Identifier: MIT */
/* deep.c - a library to be loaded with RTLD_DEEPBIND, which binds its malloc and free to libc's. Owns nothing. */
#include <stddef.h>
#include <stdlib.h>

void *deep_make(size_t size)
{
  return malloc(size);
}

void deep_drop(void *block)
{
  free(block);
}
