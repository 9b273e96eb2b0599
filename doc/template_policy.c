/* SPDX-License-Identifier: MIT */
/*
 * template_policy.c - a complete policy to start from. A policy decides which strategy of the INI (its "arm") serves each
 * power-of-two size bin. It never sees a single malloc: the core calls `choose` once before the first block and then after
 * every epoch, with what happened in it, and publishes the table that comes back. Build it:
 *
 *     cc -O2 -shared -fPIC -fvisibility=hidden $(pkg-config --cflags hakmem) -o template_policy.so template_policy.c
 *
 * put it into $(pkg-config --variable=plugindir hakmem), and write into hakmem.ini, beside a [strategy.mapped]:
 *
 *     [core]
 *     policy = template_policy
 *     [policy.template_policy]
 *     above = mapped
 *     from  = 1M
 */
#include <hakmem/plugin.h>

enum { BELOW, ABOVE, FROM, OPTIONS }; /* indices into the table */

static const hak_option options[OPTIONS] = {
    [BELOW] = {"below", HAK_ARM, HAK_LIVE, "default", NULL, NULL, NULL, "strategy for the smaller sizes"},
    [ABOVE] = {"above", HAK_ARM, HAK_LIVE, "default", NULL, NULL, NULL, "strategy for the larger sizes"},
    [FROM] = {"from", HAK_SIZE, HAK_LIVE, "1M", "64K", "1G", NULL, "where the larger sizes begin"}};

enum { BLOCKS, BYTES, COUNTERS };

static const hak_counter counters[COUNTERS] = {
    [BLOCKS] = {"blocks", HAK_COUNTER, HAK_SUM_NONE, "", "blocks in the epochs seen"},
    [BYTES] = {"bytes", HAK_COUNTER, HAK_SUM_NONE, "bytes", "requested for them"}};

static struct {
  const hak_host *host;
  hak_value value[OPTIONS];
} policy;

/*
 * Here a policy that learns would weigh the sample's trials and set challengers with a share of the blocks. This one counts and
 * answers by size alone, so that the same question always gets the same answer and no row ever changes to and fro.
 */
static int32_t template_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  for (uint32_t i = 0; i < sample->cell_count; i++) {
    hak_count(policy.host, BLOCKS, hak_sample_cell(sample, i)->blocks);
    hak_count(policy.host, BYTES, hak_sample_cell(sample, i)->bytes);
  }
  for (uint32_t row = 0; row < choice->row_count; row++) { /* a bin holds the sizes from 2^bin up to 2^(bin + 1) - 1 */
    bool large = (uint64_t)1 << row / HAK_SITES >= policy.value[FROM].size;
    choice->champion[row] = (uint8_t)policy.value[large ? ABOVE : BELOW].arm;
  }
  choice->trials = 0; /* nothing need be measured */
  return HAK_OK;
}

static int32_t template_start(const hak_host *host, const hak_value *values, void **self)
{
  policy.host = host;
  *self = &policy;
  for (uint32_t i = 0; i < OPTIONS; i++) {
    policy.value[i] = values[i];
  }
  return HAK_OK;
}

/* The core has checked type and range, and asks again after this. */
static int32_t template_set(void *self, uint32_t option, hak_value value)
{
  (void)self;
  policy.value[option] = value;
  return HAK_OK;
}

static const hak_policy_ops ops = {.struct_size = sizeof ops, .choose = template_choose};

/* clang-format off */
HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
  .struct_size = sizeof hakmem_plugin, .abi_major = HAK_ABI_MAJOR, .abi_minor = HAK_ABI_MINOR, .kind = HAK_POLICY,
  .name = "template_policy", .version = "1.0", .summary = "one strategy below a size, another from it on",
  .options = options, .option_count = OPTIONS, .option_stride = sizeof *options,
  .counters = counters, .counter_count = COUNTERS, .counter_stride = sizeof *counters,
  .start = template_start, .set = template_set, .ops = &ops,
};
