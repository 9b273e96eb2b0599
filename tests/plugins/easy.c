/* SPDX-License-Identifier: MIT */
/* easy.c - a policy for tests: leaves the strategy as it is, has blocks measured, says how eagerly, thinks for long, and counts what is live. */
#include <hakmem/plugin.h>

static const hak_option options[] = {
    {.key = "ease", .type = HAK_INT, .fallback = "1", .min = "0", .max = "1000", .help = "what it asks for"},
    {.key = "think",
     .type = HAK_INT,
     .fallback = "0",
     .min = "0",
     .max = "1000",
     .help = "milliseconds that a decision takes"}};

static const hak_counter counters[] = {
    {"trials", HAK_COUNTER, HAK_SUM_NONE, "", "measured blocks seen"},
    {"thoughtful", HAK_COUNTER, HAK_SUM_NONE, "", "of them, those that took as long in malloc and free as a decision"},
    {"astray", HAK_GAUGE, HAK_SUM_NONE, "", "blocks live in a row, or freed where none was, as cells say"}};

static struct {
  const hak_host *host;
  uint32_t ease;
  uint64_t think; /* ns */
  int64_t live[HAK_ROWS];
} easy;

static void count_live(const hak_sample *sample)
{
  uint64_t astray = 0;
  for (uint32_t i = 0; i < sample->cell_count; i++) {
    const hak_cell *cell = hak_sample_cell(sample, i);
    easy.live[cell->row] += (int64_t)cell->blocks - (int64_t)cell->frees;
  }
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    astray += (uint64_t)(easy.live[row] < 0 ? -easy.live[row] : easy.live[row]);
  }
  hak_gauge(easy.host, 2, astray);
}

static void think(void)
{
  uint64_t until = easy.host->os->now() + easy.think;
  while (easy.host->os->now() < until) {
  }
}

static int32_t easy_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  count_live(sample);
  hak_count(easy.host, 0, sample->trial_count);
  for (uint32_t i = 0; i < sample->trial_count; i++) {
    hak_count(easy.host, 1, easy.think != 0 && hak_sample_trial(sample, i)->cpu_ns >= easy.think);
  }
  think();
  choice->trials = 64;
  choice->ease = easy.ease;
  return HAK_OK;
}

static int32_t easy_start(const hak_host *host, const hak_value *values, void **self)
{
  easy.host = host;
  easy.ease = (uint32_t)values[0].integer;
  easy.think = (uint64_t)values[1].integer * UINT64_C(1000000);
  *self = &easy;
  return HAK_OK;
}

static const hak_policy_ops ops = {.struct_size = sizeof ops, .choose = easy_choose};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_POLICY,
    .name = "easy",
    .version = "0.1",
    .summary = "measures as often as it is told to",
    .options = options,
    .option_count = 2,
    .option_stride = sizeof(hak_option),
    .counters = counters,
    .counter_count = 3,
    .counter_stride = sizeof(hak_counter),
    .start = easy_start,
    .ops = &ops,
};
