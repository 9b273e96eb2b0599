/* SPDX-License-Identifier: MIT */
/* policy.c - a policy that turns the strategies of all rows after every epoch and reads all of its sample. Stateless. */
#include "variant.h"

enum { TRIALS, CELLS, WRONG, STANDINGS, COUNTERS };
static const hak_counter counters[COUNTERS] = {[TRIALS] = COUNTER_ROW("trials"),
                                               [CELLS] = COUNTER_ROW("cells"),
                                               [WRONG] = COUNTER_ROW("wrong"),
                                               [STANDINGS] = COUNTER_ROW("standings")};
static const hak_option options[] = {OPTION_ROWS};

static int32_t policy_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  for (uint32_t i = 0; i < sample->trial_count; i++) {
    const hak_trial *trial = hak_sample_trial(sample, i);
    bool right = trial->row < choice->row_count && trial->arm < sample->arm_count && trial->hit <= 1 && trial->reserved == 0 &&
                 trial->bytes > HAK_CLASS_MAX && trial->bytes >> (trial->row / HAK_SITES) == 1;
    COUNT(right ? TRIALS : WRONG);
  }
  for (uint32_t i = 0; i < sample->cell_count; i++) {
    const hak_cell *cell = hak_sample_cell(sample, i);
    bool right = cell->row < choice->row_count && cell->arm < sample->arm_count && cell->reserved == 0 &&
                 cell->bytes >> (cell->row / HAK_SITES) >= cell->blocks && cell->hits <= cell->blocks;
    COUNT(right ? CELLS : WRONG);
  }
  for (uint32_t row = 0; row < choice->row_count; row++) {
    choice->champion[row] = (uint8_t)((row + sample->epoch) % sample->arm_count);
    choice->challenger[row] = (uint8_t)((row + sample->epoch + 1) % sample->arm_count);
    choice->share[row] = 32768;
    choice->reason[row] = HAK_REASON_BETTER;
    if (choice->purse[row] != row || choice->most[row] != UINT16_MAX) {
      COUNT(WRONG);
    }
  }
  for (uint32_t arm = 0; arm < sample->arm_count; arm++) {
    choice->standing[arm].games++;
    COUNT(STANDINGS);
  }
  choice->trials = 64;
  return HAK_OK;
}

static void policy_finish(void *self)
{
  (void)self;
  host->log(host, "has finished");
}

static void policy_fork_child(void *self)
{
  fork_child(self);
}

static const hak_policy_ops ops = {
    .struct_size = OPS_SIZE, .choose = policy_choose, .finish = policy_finish, .fork_child = policy_fork_child, FUTURE};

DESCRIBE(HAK_POLICY, begin);
