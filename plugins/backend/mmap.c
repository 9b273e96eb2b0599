/* SPDX-License-Identifier: MIT */
/*
 * mmap.c - page backend: blocks come straight from the kernel and go straight back. This is the plugin to read first.
 *
 * It owns one pool of address space. extent.c does the work and holds the locks, because the hugepage backend shares it;
 * what is left here is what every plugin consists of: options, counters, state, callbacks, and the two tables that make
 * them known to the core.
 */
#include "hakmem/plugin.h"

#include <sys/mman.h>

#include "extent.h"

/* ---- options and counters -------------------------------------------------------------------------------------------- */

/* The order of the options is that of the values which start gets. */
enum { MMAP_ARENA, MMAP_KEEP, MMAP_OPTIONS };

static const hak_option mmap_options[MMAP_OPTIONS] = {
    [MMAP_ARENA] = {.key = "arena",
                    .type = HAK_SIZE,
                    .fallback = "1G",
                    .min = "4M",
                    .max = "64G",
                    .help = "address space reserved at a time; larger blocks than a quarter get a mapping of their own"},
    [MMAP_KEEP] = {.key = "keep",
                   .type = HAK_INT,
                   .fallback = "1000",
                   .min = "0",
                   .max = "86400000",
                   .help = "milliseconds that pages which reclaim releases stay for new blocks, below the peak; 0: none do"},
};

static const hak_counter mmap_counters[EXTENT_COUNTERS] = {EXTENT_COUNTER_ROWS};

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

/* The state, `self`, is the pool. Start runs once; what it stores is passed to every other callback. */
static int32_t mmap_start(const hak_host *host, const hak_value *values, void **self)
{
  const struct extent_setup setup = {.arena = values[MMAP_ARENA].size,
                                     .unit = HAK_GRANULE,
                                     .advice = MADV_NORMAL,
                                     .keep = (uint64_t)values[MMAP_KEEP].integer * EXTENT_MILLISECOND};
  *self = extent_start(host, &setup);
  if (*self == NULL) {
    return HAK_NO_MEMORY;
  }
  extent_warm(*self);
  return HAK_OK;
}

static hak_block mmap_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)slot; /* nothing is kept per thread */
  return extent_alloc(self, size, align);
}

static void mmap_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)slot;
  extent_free(self, base, capacity);
}

static hak_block mmap_resize(void *self, void **slot, void *base, size_t capacity, size_t size)
{
  (void)slot;
  return extent_resize(self, base, capacity, size, HAK_GRANULE);
}

static size_t mmap_trim(void *self)
{
  return extent_trim(self);
}

static bool mmap_expire(void *self)
{
  return extent_expire(self);
}

static void mmap_fork_prepare(void *self)
{
  extent_fork_prepare(self);
}

static void mmap_fork_parent(void *self)
{
  extent_fork_parent(self);
}

static void mmap_fork_child(void *self)
{
  extent_fork_child(self);
}

static void mmap_free_many(void *self, void **slot, const hak_range *chain, const hak_purger *purger)
{
  (void)slot;
  extent_free_many(self, chain, purger);
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_backend_ops mmap_ops = {
    .struct_size = sizeof(hak_backend_ops),
    .granularity = HAK_PAGE,
    .alloc = mmap_alloc,
    .free = mmap_free,
    .resize = mmap_resize,
    .trim = mmap_trim,
    .fork_prepare = mmap_fork_prepare,
    .fork_parent = mmap_fork_parent,
    .fork_child = mmap_fork_child,
    .free_many = mmap_free_many,
    .expire = mmap_expire,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_BACKEND,
    .name = "mmap",
    .version = "0.1",
    .summary = "mapped pages, returned to the system when freed",
    .options = mmap_options,
    .option_count = MMAP_OPTIONS,
    .option_stride = sizeof(hak_option),
    .counters = mmap_counters,
    .counter_count = EXTENT_COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = mmap_start,
    .ops = &mmap_ops,
};
