/* SPDX-License-Identifier: MIT */
/*
 * static.c - policy: one strategy for every size, the one that the INI names.
 *
 * It owns that choice, a single atomic word; it has no locks. It is the baseline that learning policies are measured by.
 */
#include "hakmem/plugin.h"

#include <string.h>

/* ---- options --------------------------------------------------------------------------------------------------------- */

enum { STATIC_STRATEGY, STATIC_OPTIONS };

static const hak_option static_options[STATIC_OPTIONS] = {
    [STATIC_STRATEGY] =
        {.key = "strategy", .type = HAK_ARM, .flags = HAK_LIVE, .fallback = "default", .help = "the strategy for every size"},
};

/* ---- state ----------------------------------------------------------------------------------------------------------- */

static struct {
  uint32_t arm;       /* in force; atomic: `set` and `choose` may run at once */
  uint32_t arm_count; /* constant after start */
} fixed;

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static int32_t static_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  (void)sample;
  memset(choice->champion, (int)__atomic_load_n(&fixed.arm, __ATOMIC_RELAXED), choice->row_count);
  choice->trials = 0;
  return HAK_OK;
}

static int32_t static_set(void *self, uint32_t option, hak_value value)
{
  (void)self;
  if (option != STATIC_STRATEGY || value.arm >= fixed.arm_count) {
    return HAK_INVALID;
  }
  __atomic_store_n(&fixed.arm, value.arm, __ATOMIC_RELAXED);
  return HAK_OK;
}

static int32_t static_start(const hak_host *host, const hak_value *values, void **self)
{
  fixed.arm_count = host->arm_count;
  *self = &fixed;
  int32_t result = static_set(*self, STATIC_STRATEGY, values[STATIC_STRATEGY]);
  if (result != HAK_OK) {
    host->log(host, "found no strategy to put in force, expected at least one [strategy.NAME]");
  }
  return result;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_policy_ops static_ops = {
    .struct_size = sizeof(hak_policy_ops),
    .choose = static_choose,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_POLICY,
    .name = "static",
    .version = "0.1",
    .summary = "one strategy for every size",
    .options = static_options,
    .option_count = STATIC_OPTIONS,
    .option_stride = sizeof(hak_option),
    .start = static_start,
    .set = static_set,
    .ops = &static_ops,
};
