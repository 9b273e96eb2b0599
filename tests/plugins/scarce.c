/* SPDX-License-Identifier: MIT */
/*
 * scarce.c - a page backend for tests: pages of another one, of which it refuses some requests in a row after some that it serves.
 *
 * It owns a count of requests, which is atomic. Its options are constant after start.
 */
#include <hakmem/plugin.h>

/* ---- options --------------------------------------------------------------------------------------------------------- */

enum { PAGES, SERVED, REFUSED, OPTIONS };

static const hak_option options[OPTIONS] = {
    [PAGES] = {.key = "pages", .type = HAK_PAGES, .fallback = "mmap", .help = "where its pages come from"},
    [SERVED] = {.key = "served",
                .type = HAK_INT,
                .fallback = "30",
                .min = "1",
                .max = "1000000",
                .help = "so many requests in a row are served"},
    [REFUSED] =
        {.key = "refused", .type = HAK_INT, .fallback = "6", .min = "1", .max = "1000000", .help = "and then so many refused"},
};

/* ---- state ----------------------------------------------------------------------------------------------------------- */

static struct {
  const hak_pages *pages;
  uint64_t served, refused, requests;
} scarce;

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static int32_t scarce_start(const hak_host *host, const hak_value *values, void **self)
{
  (void)host;
  scarce.pages = values[PAGES].pages;
  scarce.served = (uint64_t)values[SERVED].integer;
  scarce.refused = (uint64_t)values[REFUSED].integer;
  *self = &scarce;
  return HAK_OK;
}

static hak_block scarce_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)self;
  (void)slot;
  uint64_t request = __atomic_fetch_add(&scarce.requests, 1, __ATOMIC_RELAXED);
  return request % (scarce.served + scarce.refused) < scarce.served ? scarce.pages->alloc(scarce.pages, size, align)
                                                                    : HAK_NO_BLOCK;
}

static void scarce_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self;
  (void)slot;
  scarce.pages->free(scarce.pages, base, capacity);
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_backend_ops ops = {
    .struct_size = sizeof ops, .granularity = HAK_PAGE, .alloc = scarce_alloc, .free = scarce_free};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_BACKEND,
    .name = "scarce",
    .version = "1",
    .summary = "refuses now and then",
    .options = options,
    .option_count = OPTIONS,
    .option_stride = sizeof(hak_option),
    .start = scarce_start,
    .ops = &ops,
};
