/* SPDX-License-Identifier: MIT */
/*
 * elo.c - policy: strategies play matches against the champion, and ratings say who plays next and who is out.
 *
 * It owns its rules and their options; the learner (learn.c) has the state. A match is played to its end: a win, a loss, or a
 * draw within the noise. Arms play in rounds, the best rated first. After a round only the `survivors` best stay, and of the
 * others the one that has been out longest returns for the next round: programs change. A new phase brings all of them back.
 */
#include "learn.h"

#include <math.h>

/* ---- options and counters -------------------------------------------------------------------------------------------- */

enum { ELO_K = LEARN_OPTIONS, ELO_INITIAL, ELO_SURVIVORS, ELO_OPTIONS };

static const hak_option elo_options[ELO_OPTIONS] = {
    LEARN_OPTION_ROWS,
    [ELO_K] = {.key = "k",
               .type = HAK_INT,
               .fallback = "32",
               .min = "1",
               .max = "400",
               .help = "points of rating that a match is about"},
    [ELO_INITIAL] = {.key = "initial",
                     .type = HAK_INT,
                     .fallback = "1500",
                     .min = "100",
                     .max = "10000",
                     .help = "rating of a strategy that has not played"},
    [ELO_SURVIVORS] = {.key = "survivors",
                       .type = HAK_INT,
                       .fallback = "6",
                       .min = "2",
                       .max = "32",
                       .help = "strategies that stay after a round, the champion and the baseline included"},
};

static const hak_counter elo_counters[LEARN_COUNTERS] = {LEARN_COUNTER_ROWS};

#define SCALE 400.0 /* an arm with so much more rating is expected to win ten times as often as it loses */

/* ---- state ----------------------------------------------------------------------------------------------------------- */

static struct {
  double k;               /* constant after start */
  uint32_t survivors;     /* constant after start */
  struct learn_rules own; /* constant after start */
} elo;

/* ---- rules ----------------------------------------------------------------------------------------------------------- */

/* Whether `a` stands above `b`. Equal ratings are common: all who lost one match have the same. */
static bool above(const struct learn_arm *a, const struct learn_arm *b)
{
  if (a->rating > b->rating || a->rating < b->rating) {
    return a->rating > b->rating;
  }
  return a->all.n > 0 && b->all.n > 0 && a->all.mean < b->all.mean;
}

/* Leaves the best in the contest and lets one of the others return. */
static void end_round(struct learn *learn, struct learn_contest *contest)
{
  struct learn_arm *returning = NULL;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    struct learn_arm *arm = &contest->arm[i];
    uint32_t better = 0;
    arm->played = false;
    for (uint32_t j = 0; j < learn->arm_count; j++) {
      bool seeded = j == contest->champion || j == learn->baseline;
      better += j != i && learn_plays(learn, contest, j) && (seeded || above(&contest->arm[j], arm));
    }
    bool seeded = i == contest->champion || i == learn->baseline;
    arm->out = better >= elo.survivors && !seeded;
    if (arm->out && learn_candidate(learn, contest, i) && (returning == NULL || arm->last < returning->last)) {
      returning = arm;
    }
  }
  if (returning != NULL) {
    returning->out = false;
  }
}

/* The best rated of those that can play now, and have or have not done so in this round; equals by lot. */
static uint8_t best_left(struct learn *learn, struct learn_contest *contest, bool played)
{
  uint8_t best = LEARN_NOBODY;
  uint32_t equals = 0;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    const struct learn_arm *arm = &contest->arm[i];
    if (!learn_ready(learn, contest, i) || arm->out || arm->played != played) {
      continue;
    }
    if (best == LEARN_NOBODY || arm->rating > contest->arm[best].rating) {
      best = (uint8_t)i;
      equals = 1;
    } else if (arm->rating >= contest->arm[best].rating && learn_random(learn, ++equals) == 0) {
      best = (uint8_t)i;
    }
  }
  return best;
}

/* Nothing is safer than the baseline: in a new phase it plays first. */
static uint8_t elo_next(struct learn *learn, struct learn_contest *contest)
{
  uint8_t next = LEARN_NOBODY;
  if (contest->turns == 0 && learn_ready(learn, contest, learn->baseline)) {
    next = (uint8_t)learn->baseline;
  } else if ((next = best_left(learn, contest, false)) == LEARN_NOBODY && best_left(learn, contest, true) != LEARN_NOBODY) {
    end_round(learn, contest);
    next = best_left(learn, contest, false);
  }
  if (next != LEARN_NOBODY) {
    contest->arm[next].played = true;
  }
  return next;
}

static void elo_ended(struct learn *learn, struct learn_contest *contest, struct learn_arm *challenger,
                      enum learn_result result)
{
  (void)learn;
  struct learn_arm *champion = &contest->arm[contest->champion];
  double points = result == LEARN_WIN ? 1 : result == LEARN_DRAW ? 0.5 : 0;
  double expected = 1 / (1 + exp((champion->rating - challenger->rating) / SCALE * 2.302585092994046));
  challenger->rating += elo.k * (points - expected);
  champion->rating -= elo.k * (points - expected);
}

static void elo_forget(struct learn *learn, struct learn_contest *contest)
{
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    struct learn_arm *arm = &contest->arm[i];
    arm->out = arm->played = false;
    arm->rating = (arm->rating + learn->rules->first_rating) / 2;
  }
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

static int32_t elo_start(const hak_host *host, const hak_value *values, void **self)
{
  elo.k = (double)values[ELO_K].integer;
  elo.survivors = (uint32_t)values[ELO_SURVIVORS].integer;
  elo.own = (struct learn_rules){.policy = "elo",
                                 .first_rating = (double)values[ELO_INITIAL].integer,
                                 .next = elo_next,
                                 .ended = elo_ended,
                                 .forget = elo_forget};
  *self = learn_start(host, values, &elo.own);
  return *self != NULL ? HAK_OK : HAK_INVALID;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_policy_ops elo_ops = {
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
    .name = "elo",
    .version = "0.1",
    .summary = "strategies play matches against the champion; ratings say who plays and who is out",
    .options = elo_options,
    .option_count = ELO_OPTIONS,
    .option_stride = sizeof(hak_option),
    .counters = elo_counters,
    .counter_count = LEARN_COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = elo_start,
    .set = learn_set,
    .ops = &elo_ops,
};
