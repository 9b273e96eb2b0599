/* SPDX-License-Identifier: MIT */
/*
 * flip.c - a policy for tests: every row has another champion and another challenger after every epoch, half of the blocks draw
 * the challenger, and everything is measured. What follows from it must not depend on how wild a policy is.
 */
#include <hakmem/plugin.h>

enum { TRIALS, BAD_TRIALS, HITS, FAULTS, RELEASED, COUNTERS };

static const hak_counter counters[COUNTERS] = {
    [TRIALS] = {"trials", HAK_COUNTER, HAK_SUM_NONE, "", "measured blocks seen"},
    [BAD_TRIALS] = {"bad_trials", HAK_COUNTER, HAK_SUM_NONE, "", "of them, with numbers that cannot be"},
    [HITS] = {"hits", HAK_COUNTER, HAK_SUM_NONE, "", "of them, from the cache"},
    [FAULTS] = {"faults", HAK_COUNTER, HAK_SUM_NONE, "ns", "their first touches"},
    [RELEASED] = {"released", HAK_COUNTER, HAK_SUM_NONE, "ns", "release of pages, of all blocks"}};

static const hak_host *core;

static int32_t flip_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  for (uint32_t i = 0; i < sample->trial_count; i++) {
    const hak_trial *t = hak_sample_trial(sample, i);
    hak_count(core, TRIALS, 1);
    hak_count(core, HITS, t->hit);
    hak_count(core, FAULTS, t->fault_ns);
    if (t->row >= choice->row_count || t->arm >= sample->arm_count || t->bytes <= HAK_CLASS_MAX || t->cpu_ns == 0 ||
        t->bytes >> (t->row / HAK_SITES) != 1) {
      hak_count(core, BAD_TRIALS, 1);
    }
  }
  for (uint32_t i = 0; i < sample->cell_count; i++) {
    hak_count(core, RELEASED, hak_sample_cell(sample, i)->release_ns);
  }
  for (uint32_t row = 0; row < choice->row_count; row++) {
    choice->champion[row] = (uint8_t)((sample->epoch + row) % sample->arm_count);
    choice->challenger[row] = (uint8_t)((sample->epoch + row + 1) % sample->arm_count);
    choice->share[row] = 32768;
  }
  choice->trials = 8;
  return HAK_OK;
}

static int32_t flip_start(const hak_host *host, const hak_value *values, void **self)
{
  (void)values;
  core = host;
  *self = (void *)(uintptr_t)host;
  return HAK_OK;
}

static const hak_policy_ops ops = {.struct_size = sizeof ops, .choose = flip_choose};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_POLICY,
    .name = "flip",
    .version = "1",
    .summary = "another strategy after every epoch",
    .counters = counters,
    .counter_count = COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = flip_start,
    .ops = &ops,
};
