/* SPDX-License-Identifier: MIT */
/*
 * flip.c - a policy for tests: every row has another champion and another challenger after every epoch, half of the blocks draw
 * the challenger, and everything is measured; of every other bin at most FEW blocks. What follows from it must not depend on how wild a policy is.
 */
#include <hakmem/plugin.h>

enum { TRIALS, BAD_TRIALS, DEAR_TRIALS, HITS, FAULTS, RELEASED, FEW_TRIED, TOO_MANY, ALIKE18, ALIKE19, ALIKE20, COUNTERS };
enum { FEW = 1, THREADS = 2 /* so many blocks may have been drawn under the table before */ };

static const hak_counter counters[COUNTERS] = {
    [TRIALS] = {"trials", HAK_COUNTER, HAK_SUM_NONE, "", "measured blocks seen"},
    [BAD_TRIALS] = {"bad_trials", HAK_COUNTER, HAK_SUM_NONE, "", "of them, with numbers that cannot be"},
    [DEAR_TRIALS] = {"dear_trials", HAK_COUNTER, HAK_SUM_NONE, "", "of them, of blocks with 5 ms and more in malloc and free"},
    [HITS] = {"hits", HAK_COUNTER, HAK_SUM_NONE, "", "of them, from the cache"},
    [FAULTS] = {"faults", HAK_COUNTER, HAK_SUM_NONE, "ns", "their first touches"},
    [RELEASED] = {"released", HAK_COUNTER, HAK_SUM_NONE, "ns", "release of pages, of all blocks"},
    [FEW_TRIED] = {"few_tried", HAK_COUNTER, HAK_SUM_NONE, "", "blocks of challengers that may have few"},
    [TOO_MANY] = {"too_many", HAK_COUNTER, HAK_SUM_NONE, "", "times that one had more"},
    [ALIKE18] = {"alike18", HAK_GAUGE, HAK_SUM_NONE, "",
                 "digits: for each strategy the first that is alike from 256 to 512 KiB"},
    [ALIKE19] = {"alike19", HAK_GAUGE, HAK_SUM_NONE, "", "the same from 512 KiB to 1 MiB"},
    [ALIKE20] = {"alike20", HAK_GAUGE, HAK_SUM_NONE, "", "the same from 1 to 2 MiB"}};

static const hak_host *core;

static int32_t flip_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  for (uint32_t i = 0; i < sample->trial_count; i++) {
    const hak_trial *t = hak_sample_trial(sample, i);
    hak_count(core, TRIALS, 1);
    hak_count(core, DEAR_TRIALS, t->cpu_ns >= 5000000);
    hak_count(core, HITS, t->hit);
    hak_count(core, FAULTS, t->fault_ns);
    if (t->row >= choice->row_count || t->arm >= sample->arm_count || t->bytes <= HAK_CLASS_MAX || t->cpu_ns == 0 ||
        t->bytes >> (t->row / HAK_SITES) != 1) {
      hak_count(core, BAD_TRIALS, 1);
    }
  }
  for (uint32_t i = 0; i < sample->cell_count; i++) {
    const hak_cell *cell = hak_sample_cell(sample, i);
    hak_count(core, RELEASED, cell->release_ns);
    if (cell->row / HAK_SITES % 2 == 1 && cell->arm == (sample->epoch + cell->row) % sample->arm_count && sample->epoch > 1) {
      hak_count(core, FEW_TRIED, cell->blocks);
      hak_count(core, TOO_MANY, cell->blocks > FEW + THREADS);
    }
  }
  for (uint32_t row = 0; row < choice->row_count; row++) {
    choice->champion[row] = (uint8_t)((sample->epoch + row) % sample->arm_count);
    choice->challenger[row] = (uint8_t)((sample->epoch + row + 1) % sample->arm_count);
    choice->share[row] = 32768;
    choice->most[row] = row / HAK_SITES % 2 == 1 ? FEW : choice->most[row];
  }
  choice->trials = 8;
  return HAK_OK;
}

static int32_t flip_start(const hak_host *host, const hak_value *values, void **self)
{
  (void)values;
  core = host;
  for (uint32_t i = 0; i < 3; i++) {
    uint64_t digits = 0;
    for (uint32_t arm = 0; arm < host->arm_count; arm++) {
      digits = digits * 10 + host->arm_alike(host, 18 + i, arm);
    }
    hak_gauge(host, ALIKE18 + i, digits);
  }
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
