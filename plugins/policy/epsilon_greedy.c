/* SPDX-License-Identifier: MIT */
/*
 * epsilon_greedy.c - policy: the strategy with the best mean serves, and others get a small part of the blocks, in turn.
 *
 * It owns its rules only; the learner (learn.c) has the state. Turns are short. What an arm shows in one is added to what it
 * has shown before, and the old is forgotten: so many arms are looked at often, and small differences become certain with
 * time.
 */
#include "learn.h"

/* ---- options and counters -------------------------------------------------------------------------------------------- */

static const hak_option epsilon_options[LEARN_OPTIONS] = {LEARN_OPTION_ROWS};

static const hak_counter epsilon_counters[LEARN_COUNTERS] = {LEARN_COUNTER_ROWS};

enum {
  TURN = 16,          /* measured blocks */
  BASELINE_TURNS = 8, /* the baseline comes at least once in so many turns */
  DEAR = 4            /* an arm that costs one champion's block more waits 1 + DEAR times as long for its turn */
};

/* ---- rules ----------------------------------------------------------------------------------------------------------- */

/* The arm that looks better than the champion, in its match or with those drawn before, although not yet beyond doubt; or LEARN_NOBODY. */
static uint8_t promising(struct learn *learn, const struct learn_contest *contest)
{
  uint8_t best = LEARN_NOBODY;
  double least = 1;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    const struct learn_arm *arm = &contest->arm[i];
    struct learn_moments whole = learn_join(&arm->match, &arm->drawn);
    double mean = arm->match.n >= TURN / 2 && arm->match.mean < whole.mean ? arm->match.mean : whole.mean;
    if (learn_ready(learn, contest, i) && whole.n >= TURN / 2 && mean < least) {
      least = mean;
      best = (uint8_t)i;
    }
  }
  return best;
}

/*
 * Half of the turns go to the arm that promises most, if one does. The others go to the arm that has waited longest, where
 * the wait counts the less the dearer the arm was; a random factor makes sure that no order of arms is a bad one for ever.
 */
static uint8_t epsilon_next(struct learn *learn, struct learn_contest *contest)
{
  uint8_t best = LEARN_NOBODY;
  if (contest->turns % BASELINE_TURNS == 0 && learn_ready(learn, contest, learn->baseline)) {
    return (uint8_t)learn->baseline;
  }
  if (contest->turns % 2 == 0 && (best = promising(learn, contest)) != LEARN_NOBODY) {
    return best;
  }
  double most = 0;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    const struct learn_arm *arm = &contest->arm[i];
    if (!learn_ready(learn, contest, i)) {
      continue;
    }
    double wait = (double)(contest->blocks - arm->last + 1) * (1024 + learn_random(learn, 1024));
    double extra = arm->all.n > 0 ? learn_extra(arm) : 0;
    double claim = wait / (1 + DEAR * extra) * (arm->tried ? 1 : 2);
    if (claim > most) {
      most = claim;
      best = (uint8_t)i;
    }
  }
  return best;
}

static const struct learn_rules epsilon_rules = {
    .policy = "epsilon-greedy",
    .turn = TURN,
    .next = epsilon_next,
};

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static int32_t epsilon_start(const hak_host *host, const hak_value *values, void **self)
{
  *self = learn_start(host, values, &epsilon_rules);
  return *self != NULL ? HAK_OK : HAK_INVALID;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_policy_ops epsilon_ops = {
    .struct_size = sizeof(hak_policy_ops),
    .choose = learn_choose,
    .finish = learn_finish,
    .fork_child = learn_fork_child,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_POLICY,
    .name = "epsilon-greedy",
    .version = "0.1",
    .summary = "the strategy with the best mean cost; a small part of the blocks tries others",
    .options = epsilon_options,
    .option_count = LEARN_OPTIONS,
    .option_stride = sizeof(hak_option),
    .counters = epsilon_counters,
    .counter_count = LEARN_COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = epsilon_start,
    .set = learn_set,
    .ops = &epsilon_ops,
};
