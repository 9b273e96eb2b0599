/* SPDX-License-Identifier: MIT */
/*
 * slow.c - a page backend for tests and benchmarks: pages of another one, and time spent for each block.
 *
 * It owns nothing. Its options are constant after start, so there is no lock.
 */
#include <hakmem/plugin.h>

/* ---- options --------------------------------------------------------------------------------------------------------- */

enum { PAGES, NS, FREE_NS, OPTIONS };

static const hak_option options[OPTIONS] = {
    [PAGES] = {.key = "pages", .type = HAK_PAGES, .fallback = "mmap", .help = "where its pages come from"},
    [NS] = {.key = "ns",
            .type = HAK_INT,
            .fallback = "100000",
            .min = "0",
            .max = "1000000000",
            .help = "nanoseconds spent for each block"},
    [FREE_NS] =
        {.key = "free_ns", .type = HAK_INT, .fallback = "0", .min = "0", .max = "1000000000", .help = "and on giving it back"},
};

/* ---- state ----------------------------------------------------------------------------------------------------------- */

static struct {
  const hak_host *host;
  const hak_pages *pages;
  uint64_t ns, free_ns;
} slow;

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static int32_t slow_start(const hak_host *host, const hak_value *values, void **self)
{
  slow.host = host;
  slow.pages = values[PAGES].pages;
  slow.ns = (uint64_t)values[NS].integer;
  slow.free_ns = (uint64_t)values[FREE_NS].integer;
  *self = &slow;
  return HAK_OK;
}

static void spend(uint64_t ns)
{
  for (uint64_t end = slow.host->os->now() + ns; slow.host->os->now() < end;) {
  }
}

static hak_block slow_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)self;
  (void)slot;
  spend(slow.ns);
  return slow.pages->alloc(slow.pages, size, align);
}

static void slow_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self;
  (void)slot;
  spend(slow.free_ns);
  slow.pages->free(slow.pages, base, capacity);
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_backend_ops ops = {.struct_size = sizeof ops, .granularity = HAK_PAGE, .alloc = slow_alloc, .free = slow_free};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_BACKEND,
    .name = "slow",
    .version = "1",
    .summary = "takes its time",
    .options = options,
    .option_count = OPTIONS,
    .option_stride = sizeof(hak_option),
    .start = slow_start,
    .ops = &ops,
};
