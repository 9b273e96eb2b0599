/* SPDX-License-Identifier: MIT */
/*
 * malloc.c - byte backend: wraps another malloc, that of libc or of any library that has one.
 *
 * It owns the addresses of the wrapped functions, written once by start; it has no locks. The callbacks read them from static
 * storage rather than through `self`: for small requests every instruction here counts.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hakmem/plugin.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <string.h>

/* ---- options --------------------------------------------------------------------------------------------------------- */

enum { MALLOC_LIBRARY, MALLOC_OPTIONS };

static const hak_option malloc_options[MALLOC_OPTIONS] = {
    [MALLOC_LIBRARY] = {.key = "library",
                        .type = HAK_STRING,
                        .fallback = "",
                        .help = "whose malloc to wrap, such as libmimalloc.so.2; empty: the next one in link order"},
};

/* ---- state ----------------------------------------------------------------------------------------------------------- */

static struct {
  void *(*malloc)(size_t size);
  void (*free)(void *block);
  void *(*calloc)(size_t count, size_t size);
  void *(*realloc)(void *block, size_t size);
  int (*trim)(size_t pad); /* NULL: the library has none */
  size_t page_size;
  bool keeps_errno; /* its free does, as glibc's since 2.33 */
} wrapped;

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

/*
 * On failure errno is what the wrapped function made it, ENOMEM: keeping the old value would cost every success as much as
 * the call itself, and the core answers a failure with ENOMEM anyway.
 */
static hak_block malloc_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)self;
  (void)slot;
  (void)align; /* 16, the alignment of every malloc for requests of 16 bytes or more */
  return hak_block_make(wrapped.malloc(size), size, 0);
}

static hak_block malloc_alloc_zeroed(void *self, void **slot, size_t size, size_t align)
{
  (void)self;
  (void)slot;
  (void)align;
  return hak_block_make(wrapped.calloc(1, size), size, HAK_ZEROED);
}

static void malloc_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self;
  (void)slot;
  (void)capacity;
  if (wrapped.keeps_errno) {
    wrapped.free(base);
    return;
  }
  int saved = errno;
  wrapped.free(base);
  errno = saved;
}

static hak_block malloc_resize(void *self, void **slot, void *base, size_t capacity, size_t size)
{
  (void)self;
  (void)slot;
  (void)capacity;
  int saved = errno;
  void *moved = wrapped.realloc(base, size);
  errno = saved;
  return hak_block_make(moved, size, 0);
}

static size_t malloc_trim(void *self)
{
  (void)self;
  int saved = errno;
  bool trimmed = wrapped.trim != NULL && wrapped.trim(0) != 0;
  errno = saved;
  return trimmed ? wrapped.page_size : 0; /* it does not say how much; a page it was at least */
}

/* Stores the address of a function in a pointer to one; ISO C has no cast between the two kinds of pointer. */
static bool find(const hak_host *host, const char *library, const char *name, void *function)
{
  void *address = host->symbol(host, library, name);
  memcpy(function, &address, sizeof address);
  return address != NULL;
}

static int32_t malloc_start(const hak_host *host, const hak_value *values, void **self)
{
  const char *library = values[MALLOC_LIBRARY].string;
  if (*library == '\0') {
    library = NULL;
    (void)find(host, library, "malloc_trim", &wrapped.trim); /* libc's; other libraries seldom have one */
  }
  wrapped.keeps_errno = library == NULL && strverscmp(gnu_get_libc_version(), "2.33") >= 0;
  wrapped.page_size = host->page_size;
  *self = &wrapped;
  bool found = find(host, library, "malloc", &wrapped.malloc) && find(host, library, "free", &wrapped.free) &&
               find(host, library, "calloc", &wrapped.calloc) && find(host, library, "realloc", &wrapped.realloc);
  return found ? HAK_OK : HAK_FAILED;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_backend_ops malloc_ops = {
    .struct_size = sizeof(hak_backend_ops),
    .granularity = HAK_BYTE,
    .alloc = malloc_alloc,
    .alloc_zeroed = malloc_alloc_zeroed,
    .free = malloc_free,
    .resize = malloc_resize,
    .trim = malloc_trim,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_BACKEND,
    .name = "malloc",
    .version = "0.1",
    .summary = "another malloc: the next one in link order, or that of a library",
    .options = malloc_options,
    .option_count = MALLOC_OPTIONS,
    .option_stride = sizeof(hak_option),
    .start = malloc_start,
    .ops = &malloc_ops,
};
