/* SPDX-License-Identifier: MIT */
/* easy.c - a policy for tests: leaves the strategy as it is, has blocks measured, and says how eagerly. Owns nothing. */
#include <hakmem/plugin.h>

static const hak_option options[] = {
    {.key = "ease", .type = HAK_INT, .fallback = "1", .min = "0", .max = "1000", .help = "what it asks for"}};

static const hak_counter counters[] = {{"trials", HAK_COUNTER, HAK_SUM_NONE, "", "measured blocks seen"}};

static struct {
  const hak_host *host;
  uint32_t ease;
} easy;

static int32_t easy_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  hak_count(easy.host, 0, sample->trial_count);
  choice->trials = 64;
  choice->ease = easy.ease;
  return HAK_OK;
}

static int32_t easy_start(const hak_host *host, const hak_value *values, void **self)
{
  easy.host = host;
  easy.ease = (uint32_t)values[0].integer;
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
    .option_count = 1,
    .option_stride = sizeof(hak_option),
    .counters = counters,
    .counter_count = 1,
    .counter_stride = sizeof(hak_counter),
    .start = easy_start,
    .ops = &ops,
};
