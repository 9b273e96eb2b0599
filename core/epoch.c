/* SPDX-License-Identifier: MIT */
/*
 * epoch.c - owns the cells in which large blocks are counted (atomic), and the policy in force (under the control lock).
 */
#include "epoch.h"

#include <errno.h>
#include <string.h>

#include "lock.h"
#include "message.h"
#include "meta.h"
#include "route.h"
#include "settings.h"
#include "thread.h"

static struct hak_cell cells[HKI_ARMS][HAK_BINS]; /* since the last decision */
static uint64_t blocks;                           /* since the last decision */

static struct {
  struct hak_policy_ops ops;
  void *self;
  const char *name;
  struct hki_thread *inside; /* NULL: no policy */
} policy;
static struct hak_cell sample_cells[HKI_ARMS][HAK_BINS]; /* what the policy sees, at rest */
static uint64_t epoch;

struct hki_thread *hki_policy_inside(void)
{
  return policy.inside;
}

/* Asks and publishes. NULL, or why the policy is of no use. */
static const char *choose(void)
{
  uint8_t arm[HAK_BINS];
  for (uint32_t bin = 0; bin < HAK_BINS; bin++) {
    arm[bin] = hakmem_root.bin_arm[bin];
  }
  struct hak_sample sample = {.struct_size = sizeof sample,
                              .cell_stride = sizeof(struct hak_cell),
                              .epoch = epoch,
                              .arm_count = HKI_ARMS,
                              .bin_count = HAK_BINS,
                              .cells = &sample_cells[0][0]};
  struct hak_choice choice = {.struct_size = sizeof choice, .bin_count = HAK_BINS, .arm = arm};
  sample.arm_count = hakmem_root.arm_count;
  struct hki_thread *caller = hki_self;
  hki_self = policy.inside;
  int32_t result = policy.ops.choose(policy.self, &sample, &choice);
  hki_self = caller;
  if (result != HAK_OK) {
    return "an error from choose";
  }
  for (uint32_t bin = 0; bin < HAK_BINS; bin++) {
    if (arm[bin] >= hakmem_root.arm_count) {
      return "the choice of a strategy that does not exist";
    }
  }
  hki_route_publish(arm);
  return NULL;
}

static HKI_COLD void retire(const char *why)
{
  static const uint8_t first[HAK_BINS];
  hki_say("policy %s is retired: found %s, expected a choice; strategy %s serves from here on", policy.name, why,
          hakmem_root.arm[0]);
  policy.inside = NULL;
  hakmem_root.policy[0] = 0;
  hki_route_publish(first);
}

static HKI_SLOW void end_epoch(void)
{
  int saved = errno;
  if (!hki_try_lock(&hki_control_lock)) {
    return; /* another thread decides, or an option changes: this epoch is a little longer */
  }
  if (policy.inside != NULL && HKI_LOAD(&blocks) >= hki_settings.epoch) {
    HKI_STORE(&blocks, UINT64_C(0));
    for (uint32_t arm = 0; arm < hakmem_root.arm_count; arm++) {
      for (uint32_t bin = 0; bin < HAK_BINS; bin++) {
        sample_cells[arm][bin].blocks = __atomic_exchange_n(&cells[arm][bin].blocks, UINT64_C(0), __ATOMIC_RELAXED);
        sample_cells[arm][bin].bytes = __atomic_exchange_n(&cells[arm][bin].bytes, UINT64_C(0), __ATOMIC_RELAXED);
      }
    }
    epoch++;
    HKI_STORE(&hakmem_root.epochs, epoch);
    const char *why = choose();
    if (why != NULL) {
      retire(why);
    }
  }
  hki_unlock(&hki_control_lock);
  errno = saved;
}

void hki_epoch_count(size_t size, uint32_t arm)
{
  uint32_t bin = hki_log2(size);
  struct hak_cell *cell = &cells[arm][bin < HAK_BINS ? bin : HAK_BINS - 1];
  HKI_ADD(&cell->blocks, UINT64_C(1));
  HKI_ADD(&cell->bytes, size);
  HKI_ADD(&hakmem_root.arm_blocks[arm], UINT64_C(1));
  HKI_ADD(&hakmem_root.arm_bytes[arm], size);
  if (__atomic_add_fetch(&blocks, 1U, __ATOMIC_RELAXED) >= HKI_LOAD(&hki_settings.epoch)) {
    end_epoch();
  }
}

const char *hki_epoch_start(const char *name, const struct hak_policy_ops *ops, void *self)
{
  static struct hki_thread inside;
  size_t known = ops->struct_size < sizeof policy.ops ? ops->struct_size : sizeof policy.ops;
  memcpy(&policy.ops, ops, known);
  if (policy.ops.choose == NULL) {
    return "no choose";
  }
  policy.self = self;
  policy.name = hki_meta_string(name);
  inside.inside = policy.name != NULL ? policy.name : "policy";
  policy.inside = &inside;
  const char *why = choose();
  if (why != NULL) {
    policy.inside = NULL;
    return why;
  }
  struct hki_text text = hki_text(hakmem_root.policy, HKI_NAME);
  hki_append(&text, "%s", name);
  return NULL;
}

void hki_epoch_again(void)
{
  const char *why = policy.inside != NULL ? choose() : NULL;
  if (why != NULL) {
    retire(why);
  }
}
