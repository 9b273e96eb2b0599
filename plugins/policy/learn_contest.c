/* SPDX-License-Identifier: MIT */
/*
 * learn_contest.c - contests between strategies: who is champion, who challenges, what that may cost. Owns the contests of a
 * learner; only `choose` changes them, on one thread at a time, so there are no locks.
 *
 * A contest has a champion and, now and then, a challenger that gets a small part of the blocks. Both meet the same work at
 * the same time, so only costs of that time are compared: the champion's mean follows its last CHAMPION_MEMORY trials, and
 * each trial of another arm is taken as a multiple of that mean. Costs are heavy-tailed, and rare ones that are very high may
 * be what matters most, so means are compared, and no medians or logarithms. But a single block counts as at most CLIP times
 * the champion's mean: one that was interrupted shall make the comparison deaf for a while, not for ever.
 *
 * The budget is kept as a credit in blocks of the champion. Every block of the contest adds `budget` to it, times what the
 * program takes for each, and less when much is known. A challenger's block takes away what it cost more, once it is freed; until
 * then it is held against the credit at what is known of its arm. Of an arm of which nothing is known only a few blocks are out at a time. An arm may overdraw
 * the credit by what its blocks turn out to cost, and nothing is tried again before that is earned back, so the budget holds
 * whatever an arm costs. A part of the credit is kept for a new phase.
 *
 * A win must be beyond doubt, but less so in the first matches of a phase: then nothing speaks for the champion but that it is there.
 * Matches that were drawn add up, so that small differences are found with time.
 *
 * A phase ends when the champion's costs move, in two windows one after the other, or the unit that they are in, or when an arm wins
 * that had lost. Then what is known of the other arms only says where to look first.
 */
#include "learn.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
  WARM = 16,             /* trials of the champion before anything is compared with it */
  CHAMPION_MEMORY = 256, /* trials that its mean remembers */
  ARM_MEMORY = 256,      /* the same for other arms */
  TIME_MEMORY = 64,      /* and for the times of the champion's blocks; */
  CHILL_MEMORY = 8,      /* and what cold memory costs an arm */
  KEEP = 32,             /* as so many trials counts, at most, what earlier matches and champions have shown */
  CLIP = 64,             /* champion's means; see above */
  PRIOR = 16,            /* the champion's variance counts as that of so many trials of an arm */
  KNOWN = 1,             /* trial from which on an arm's cost is known; what is left from before a phase is less */
  WIN_TRIALS = 8,        /* least number for a win ... */
  LOSS_TRIALS = 2,       /* ... and for a loss, which can be made good later */
  LONG_MATCH = 4,        /* after so many times `match` trials a match is a draw whatever it looks like */
  OUT_MIN = 1,           /* blocks that an unknown arm may have out */
  OUT_EACH = 4,          /* and so many more for each of its trials */
  PROBATION_LEAST = 24,  /* trials of a new champion before it is compared with the one before */
  PROBATION = 256,       /* and after which it no longer is */
  BLOCKS_MOST = 1024,    /* blocks that a challenger gets from one decision to the next */
  LONG_WAIT = 2048,      /* blocks after which an arm's turn is overdue */
  CALM = 1024,           /* blocks after which nothing new is expected soon */
  FEW_BLOCKS = 256,      /* a program with fewer blocks has nothing to win: nobody challenges before */
  WARMING_MOST = 16,     /* trials of a match that are not compared, at most */
  PEAK_MEMORY = 256,     /* blocks in which a peak of live ones is forgotten */
  DRAWN_MEMORY = 2048,   /* trials of drawn matches that are remembered */
  PATIENCE = 16384       /* blocks after which a turn without a decision ends */
};

#define WIN_NOISE 4.5     /* standard errors that a challenger must be better: there are hundreds of matches, looked at often */
#define FRESH_NOISE 3.0   /* the same until all arms have had a turn in this phase: so far nothing speaks for the champion */
#define FEW 4.0           /* the noise itself is badly known from few trials: with this number of them, twice as many errors */
#define BACK_NOISE 3.5    /* the same for the baseline */
#define LOSS_NOISE 2.5    /* standard errors that it must be worse */
#define DRAW_NOISE 1.5    /* within so many it is a draw */
#define MARGIN 0.02       /* smaller differences do not matter */
#define NOISE_MIN 0.005   /* no mean is known better than this */
#define PHASE_LEAST 0.2   /* logarithms by which the champion's costs move at least when a phase ends */
#define UNIT_LEAST 1.1    /* the same for the unit */
#define PHASE_MOST 2.0    /* and at most such a multiple of the champion's cost */
#define PHASE_WEIGHT 0.25 /* as so many trials counts what was found out before the phase began */
#define UNKNOWN_EXTRA 1.0 /* what a block of an unknown arm is thought to cost more than the champion's */

#define WHOLE_LEAST 0.25    /* what the program takes for each large block, in champion's blocks, at least, */
#define WHOLE_MOST 32.0     /* and at most */
#define EXPLORED 0.25       /* of the budget for what the blocks themselves cost so much is left, at least */
#define LONGER 2.0          /* a champion's time counts as at most so many times the usual one */
#define ALONE 1.5           /* a block lives alone if it lives for less than so many times what the program takes for each */
#define LIFE_NOISE 2.0      /* standard deviations that it must live longer than the champion's do to count as cold */
#define CHILL_MOST 16.0     /* champion's blocks that this costs at most */
#define PROBATION_NOISE 3.5 /* standard errors that a new champion must be worse than the one before was */
#define BREACH 0.25         /* a part by which it must be worse before the one before has been heard again */
#define SHARE_MOST 0.5      /* of the blocks for a challenger that looks no dearer than the champion */
#define AIM 0.9             /* of the budget is used: what blocks have cost is an estimate */
#define LOANS 3             /* so many at a time */
#define PAY_BACK 0.25       /* of what the budget gives goes to a loan */
#define JUMP_MOST 12.0      /* logarithms by which a new phase is dearer or cheaper, at most */

/* Credit, in blocks of which the budget is a part: lent for a new phase; at most; kept for a new phase. */
#define CREDIT_LENT 3200
#define CREDIT_MOST 6400
#define CREDIT_KEPT 1600

#define SCORE_MOST 4e9 /* thousandths; fits 32 bits */

/* ---- arithmetic ------------------------------------------------------------------------------------------------------ */

static double smaller(double a, double b)
{
  return a < b ? a : b;
}

static double larger(double a, double b)
{
  return a > b ? a : b;
}

/* ---- contests -------------------------------------------------------------------------------------------------------- */

uint32_t learn_contest_count(enum learn_scope scope)
{
  return LEARN_ROWS / learn_row_count(scope);
}

uint32_t learn_row_count(enum learn_scope scope)
{
  static const uint32_t rows[] = {[LEARN_GLOBAL] = LEARN_ROWS, [LEARN_BIN] = HAK_SITES, [LEARN_SITE] = 1};
  return rows[scope];
}

uint32_t learn_contest_of(enum learn_scope scope, uint32_t row)
{
  return row / learn_row_count(scope);
}

uint32_t learn_first_row(enum learn_scope scope, uint32_t contest)
{
  return contest * learn_row_count(scope);
}

bool learn_plays(const struct learn *learn, const struct learn_contest *contest, uint32_t arm)
{
  return learn->enabled[arm] && !learn->spare[(uint32_t)(contest - learn->contest) * learn->arm_count + arm];
}

bool learn_candidate(const struct learn *learn, const struct learn_contest *contest, uint32_t arm)
{
  return learn_plays(learn, contest, arm) && arm != contest->champion && !contest->arm[arm].barred;
}

/* What one of its blocks costs more than the champion's, in champion's blocks. What the match shows is newer than all else. */
static double extra_cost(const struct learn_arm *arm)
{
  if (arm->match.n >= LOSS_TRIALS) {
    return arm->match.mean - 1;
  }
  return arm->all.n >= KNOWN ? arm->all.mean - 1 : UNKNOWN_EXTRA;
}

double learn_extra(const struct learn_arm *arm)
{
  return larger(extra_cost(arm) + arm->chill, 0);
}

static void charge(struct learn *learn, struct learn_contest *contest, double blocks)
{
  contest->credit = smaller(contest->credit - blocks, learn->budget * CREDIT_MOST);
  learn->loss += blocks;
}

/* Charges the blocks of which no trial will come. */
static void charge_unmeasured(struct learn *learn, struct learn_contest *contest, struct learn_arm *arm)
{
  charge(learn, contest, arm->unpaid * (extra_cost(arm) + arm->chill));
  arm->unpaid = 0;
}

/* The champion is measured from the beginning. */
static void measure_again(struct learn_contest *contest)
{
  memset(&contest->costs, 0, sizeof contest->costs);
  memset(&contest->units, 0, sizeof contest->units);
  memset(&contest->life, 0, sizeof contest->life);
  memset(&contest->time, 0, sizeof contest->time);
  memset(&contest->chill, 0, sizeof contest->chill);
}

/* The match is over, and what it has shown, and those drawn before it, is settled. */
static void close_match(struct learn_arm *arm)
{
  arm->match = arm->drawn = (struct learn_moments){0, 0, 0};
  arm->beside = 0;
  arm->open = false;
}

/* The match is drawn: what it has shown is kept for the next one. */
static void draw_match(struct learn_arm *arm)
{
  struct learn_moments drawn = learn_join(&arm->drawn, &arm->match);
  double beside = arm->beside * smaller(DRAWN_MEMORY / drawn.n, 1);
  learn_fade(&drawn, DRAWN_MEMORY);
  close_match(arm);
  arm->drawn = drawn;
  arm->beside = beside;
}

/* What is known of the other arms counts little from now on. */
static void forget(struct learn *learn, struct learn_contest *contest)
{
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    struct learn_arm *arm = &contest->arm[i];
    learn_fade(&arm->all, PHASE_WEIGHT);
    arm->all.mean = smaller(arm->all.mean, PHASE_MOST);
    close_match(arm);
    arm->chill = 0;
    arm->tried = arm->lost = arm->barred = false;
  }
  contest->turns = 0;
  contest->calm = 0;
  contest->decided = 0;
  hak_count(learn->host, LEARN_PHASES, 1);
  if (learn->rules->forget != NULL) {
    learn->rules->forget(learn, contest);
  }
}

/* The champion's costs have moved: costs get a new unit, too. A debt from cheaper times weighs less now. */
static void begin_phase(struct learn *learn, struct learn_contest *contest)
{
  uint32_t first = learn_first_row(learn->scope, (uint32_t)(contest - learn->contest));
  for (uint32_t i = 0; i < learn_row_count(learn->scope); i++) {
    learn_cost_forget(learn, first + i);
  }
  double unit = exp(smaller(larger(contest->jump, -JUMP_MOST), JUMP_MOST)), most = LOANS * CREDIT_LENT * learn->budget;
  contest->loan /= unit;
  double loan = smaller(CREDIT_LENT * learn->budget, larger(most - contest->loan, 0));
  double credit = contest->credit / unit;
  if (credit < 0) { /* the debt of another phase must not keep this one from learning: it is paid back with the loan */
    contest->loan -= credit;
    credit = 0;
  }
  contest->credit = smaller(credit + loan, learn->budget * CREDIT_MOST);
  contest->loan += loan;
  contest->phase = false;
  contest->former = LEARN_NOBODY;
  contest->challenger = LEARN_NOBODY;
  contest->cost = contest->reign = (struct learn_moments){0, 0, 0};
  measure_again(contest);
  forget(learn, contest);
}

/*
 * All that is known in multiples of the champion's cost is known in multiples of the new one's afterwards. `shown` is what the
 * new one has shown against the old; NULL: nothing.
 */
static void promote(struct learn *learn, struct learn_contest *contest, uint32_t arm, const struct learn_moments *shown,
                    enum hak_reason reason)
{
  struct learn_arm *next = &contest->arm[arm], *last = &contest->arm[contest->champion];
  struct learn_moments cost = shown != NULL ? *shown : (struct learn_moments){0, 0, 0};
  contest->former = shown != NULL ? contest->champion : LEARN_NOBODY;
  contest->before = contest->cost;
  contest->reign = contest->since = (struct learn_moments){0, 0, 0};
  double mean = contest->cost.mean;
  double ratio = shown != NULL ? shown->mean : 1;
  last->all = contest->cost;
  learn_rescale(&last->all, mean > 0 ? 1 / mean : 0);
  last->live = last->unpaid = next->live = next->unpaid = 0;
  last->last = contest->blocks;
  last->tried = true;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    struct learn_arm *other = &contest->arm[i];
    learn_rescale(&other->all, 1 / ratio);
    learn_fade(&other->all, KEEP);
    close_match(other);
  }
  learn_rescale(&cost, mean);
  contest->cost = cost;
  contest->credit = smaller(contest->credit / ratio, learn->budget * CREDIT_MOST);
  measure_again(contest);
  contest->champion = (uint8_t)arm;
  contest->challenger = LEARN_NOBODY;
  contest->calm = 0;
  contest->decided = 0;
  contest->reason = (uint8_t)reason;
  learn->unsaved = true;
  hak_count(learn->host, LEARN_CHANGES, 1);
  hak_count(learn->host, LEARN_REVERTS, reason == HAK_REASON_REVERT || reason == HAK_REASON_FAULTS);
}

/* ---- the budget ------------------------------------------------------------------------------------------------------ */

/*
 * What the program takes for each large block, in champion's blocks: of that the budget is a part. A program that does much else
 * would not notice what its allocator costs, nor what it costs to find a better one.
 */
static double whole_cost(const struct learn *learn, const struct learn_contest *contest)
{
  double own = contest->time.mean, each = learn_time_of_block(learn, 0);
  return contest->time.n < WARM || own <= 0 || each <= 0 ? 1 : smaller(larger(each / own, WHOLE_LEAST), WHOLE_MOST);
}

/*
 * How much there is to be found out: 1 until all arms have had a turn; then rounds of games, as many as there are arms, leave a half, a
 * third, a quarter, and so on.
 */
static double unknown_part(const struct learn *learn, const struct learn_contest *contest)
{
  double arms = 0;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    arms += learn_candidate(learn, contest, i);
  }
  return arms > 0 ? 1 / (1 + contest->decided / arms) : 1;
}

/* The same for the budget, which falls with what is to be found out: what is beyond the blocks' own cost by its square. */
static double explored_cost(const struct learn *learn, const struct learn_contest *contest)
{
  double whole = whole_cost(learn, contest), own = smaller(whole, 1), left = unknown_part(learn, contest);
  return own * larger(left, EXPLORED) + (whole - own) * left * left;
}

bool learn_is_calm(const struct learn_contest *contest)
{
  return contest->calm != 0 && contest->blocks - contest->calm > CALM;
}

/* What is left of the credit for an arm, beside what others have out and what is kept for a new phase. */
static double credit_left(const struct learn *learn, const struct learn_contest *contest)
{
  double left = contest->credit - CREDIT_KEPT * learn->budget * (1 - unknown_part(learn, contest));
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    const struct learn_arm *other = &contest->arm[i];
    left -= (other->live + other->unpaid) * learn_extra(other);
  }
  return left;
}

/*
 * An arm that is dearer gets a block only when the credit has enough for it. The dearest would never come again: one whose block costs
 * more than half of what can be saved may overdraw, as long as all challengers together stay within the budget of the whole run.
 */
static bool affordable(const struct learn *learn, const struct learn_arm *arm, double left)
{
  double extra = learn_extra(arm);
  if (extra <= 0 && arm->all.n >= LOSS_TRIALS) {
    return true;
  }
  bool earned = left >= CREDIT_MOST / 2 * learn->budget && learn->loss + extra <= learn->budget * learn->whole;
  return left > 0 && (left >= extra || earned);
}

bool learn_ready(const struct learn *learn, const struct learn_contest *contest, uint32_t arm)
{
  const struct learn_arm *own = &contest->arm[arm];
  bool free = learn_extra(own) <= 0 || contest->blocks - own->last > LONG_WAIT;
  return learn_candidate(learn, contest, arm) && affordable(learn, own, contest->left) && (free || !contest->saving);
}

/* What a challenger may cost. While an arm that is dearer has waited long, others that cost something must not take it away. */
static void save_up(const struct learn *learn, struct learn_contest *contest)
{
  contest->left = credit_left(learn, contest);
  contest->saving = false;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    const struct learn_arm *arm = &contest->arm[i];
    bool waits = learn_candidate(learn, contest, i) && contest->blocks - arm->last > LONG_WAIT;
    contest->saving |= waits && !affordable(learn, arm, contest->left);
  }
}

uint32_t learn_blocks(const struct learn *learn, const struct learn_contest *contest)
{
  if (contest->challenger == LEARN_NOBODY) {
    return 0;
  }
  const struct learn_arm *arm = &contest->arm[contest->challenger];
  double extra = learn_extra(arm), left = credit_left(learn, contest);
  double blocks = OUT_MIN + OUT_EACH * arm->all.n - arm->live;
  if (!affordable(learn, arm, left)) {
    return 0;
  }
  if (extra > 0) {
    blocks = smaller(blocks, larger(left / extra, 1));
  }
  return blocks >= 1 ? (uint32_t)smaller(blocks, BLOCKS_MOST) : 0;
}

double learn_share(const struct learn *learn, const struct learn_contest *contest)
{
  if (contest->challenger == LEARN_NOBODY) {
    return 0;
  }
  const struct learn_arm *arm = &contest->arm[contest->challenger];
  bool free = arm->match.n >= WIN_TRIALS && learn_extra(arm) <= 0;
  return free ? smaller(2 * learn->epsilon, SHARE_MOST) : learn->epsilon;
}

/* ---- matches --------------------------------------------------------------------------------------------------------- */

/* Standard errors that the challenger must be better. */
static double win_noise(const struct learn *learn, const struct learn_contest *contest)
{
  if (contest->calm == 0) {
    return FRESH_NOISE;
  }
  return contest->challenger == learn->baseline ? BACK_NOISE : WIN_NOISE;
}

/* Variance of a mean block, as a multiple of its cost. */
static double noise_of(const struct learn_moments *cost)
{
  return cost->mean > 0 ? learn_variance(cost) / (cost->mean * cost->mean) : 0;
}

/*
 * By how many standard errors an arm that has shown this is better than the champion, or, negative, worse; 0 when the difference does not
 * matter. The champion has the noise, and had so many trials meanwhile. Its noise stands in for the arm's while that has few trials, in
 * which a dear one may be missing.
 */
static double lead(const struct learn_moments *shown, double noise, double trials)
{
  double variance = (shown->m2 + PRIOR * noise) / (shown->n + PRIOR);
  double error = larger(sqrt(variance / shown->n + noise / trials), NOISE_MIN), gain = 1 - shown->mean;
  return fabs(gain) > MARGIN ? gain / error : 0;
}

/* The same for the match that is on. */
static double match_lead(const struct learn_contest *contest, const struct learn_arm *arm)
{
  return lead(&arm->match, noise_of(&contest->cost), contest->cost.n);
}

/*
 * The same for all matches with this champion since the last that was not drawn: a small difference shows in many of them. The noise may
 * be that of the whole reign, since a dear block in a thousand is missing from most of the last CHAMPION_MEMORY.
 */
static double whole_lead(const struct learn_contest *contest, const struct learn_arm *arm)
{
  struct learn_moments shown = learn_join(&arm->match, &arm->drawn);
  double noise = larger(noise_of(&contest->cost), noise_of(&contest->reign));
  return lead(&shown, noise, larger(arm->beside, contest->cost.n));
}

/*
 * The better of both for the challenger. As long as something may still be new, that of the match: a small difference that wins then has
 * all others begin again, and large ones are found later.
 */
static double best_lead(const struct learn_contest *contest, const struct learn_arm *arm)
{
  double now = match_lead(contest, arm);
  return learn_is_calm(contest) ? larger(now, whole_lead(contest, arm)) : now;
}

/*
 * Costs are compared by their means, not by their logarithms: of a block that costs nothing nine times in ten and a thousand
 * times as much the tenth time, the logarithm says that it is cheap. What earlier matches have shown must not say the opposite of a win.
 */
static enum learn_result judge(const struct learn *learn, const struct learn_contest *contest)
{
  const struct learn_arm *arm = &contest->arm[contest->challenger];
  double trials = arm->match.n;
  if (arm->guessed && learn_extra(arm) > CREDIT_MOST / 2 * learn->budget) {
    return LEARN_LOST; /* the budget will not allow another block for long */
  }
  if (trials > 0 && contest->cost.n >= WARM) {
    double now = match_lead(contest, arm), best = best_lead(contest, arm);
    double need = win_noise(learn, contest) * (1 + FEW / contest->cost.n);
    if (trials >= WIN_TRIALS && best > need && arm->all.mean < 1) {
      return LEARN_WIN;
    }
    if (trials >= LOSS_TRIALS && now < -LOSS_NOISE) {
      return LEARN_LOST;
    }
    bool level = fabs(now) < DRAW_NOISE;
    bool promising = best > LOSS_NOISE;
    if (trials >= learn->match && !promising && (level || trials >= LONG_MATCH * learn->match)) {
      return LEARN_DRAW;
    }
  }
  /* An arm that has become too dear lets others go first. */
  bool interrupted = (learn->rules->turn > 0 && arm->turn >= learn->rules->turn) ||
                     (arm->live + arm->unpaid <= 0 && !affordable(learn, arm, credit_left(learn, contest)));
  return interrupted || contest->blocks - contest->turn_blocks > PATIENCE ? LEARN_OVER : LEARN_OPEN;
}

static void end_turn(struct learn *learn, struct learn_contest *contest, enum learn_result result)
{
  uint32_t index = contest->challenger;
  struct learn_arm *arm = &contest->arm[index], *champion = &contest->arm[contest->champion];
  charge_unmeasured(learn, contest, arm);
  arm->tried = true;
  arm->last = contest->blocks;
  contest->challenger = LEARN_NOBODY;
  contest->turns++;
  if (result == LEARN_OVER) {
    arm->played &= learn->rules->turn > 0; /* a match that was to be played to its end goes on */
    return;
  }
  if (contest->calm != 0) { /* a few trials tell little */
    contest->decided += smaller(arm->match.n / WIN_TRIALS, 1);
  }
  arm->games++;
  champion->games++;
  arm->wins += result == LEARN_WIN;
  champion->losses += result == LEARN_WIN;
  arm->losses += result == LEARN_LOST;
  champion->wins += result == LEARN_LOST;
  arm->draws += result == LEARN_DRAW;
  champion->draws += result == LEARN_DRAW;
  hak_count(learn->host, LEARN_GAMES, 1);
  hak_count(learn->host, LEARN_WINS, result == LEARN_WIN);
  hak_count(learn->host, LEARN_LOSSES, result == LEARN_LOST);
  hak_count(learn->host, LEARN_DRAWS, result == LEARN_DRAW);
  if (learn->rules->ended != NULL) {
    learn->rules->ended(learn, contest, arm, result);
  }
  if (result == LEARN_WIN) {
    double moved = learn_watch_early(&contest->costs, PHASE_LEAST);
    bool lost = arm->lost;
    promote(learn, contest, index, &arm->match, index == learn->baseline ? HAK_REASON_REVERT : HAK_REASON_BETTER);
    if (moved != 0) { /* the program had begun to do something else: all is to be found out anew, in a new unit */
      contest->phase = true;
      contest->jump = moved;
    } else if (lost) {
      forget(learn, contest);
    }
  }
  arm->lost |= result == LEARN_LOST;
  if (result == LEARN_DRAW) {
    draw_match(arm);
  } else {
    close_match(arm);
  }
}

/*
 * Trials at the beginning of a match that are not compared: until the arm holds its part of the live blocks, its heap grows and its cache
 * fills, which comes but once.
 */
static uint32_t warm_up(const struct learn *learn, const struct learn_contest *contest)
{
  return (uint32_t)smaller(larger(learn->epsilon * contest->live_peak, 1), WARMING_MOST);
}

static void begin_turn(struct learn *learn, struct learn_contest *contest)
{
  uint8_t next = learn->rules->next(learn, contest);
  if (next != LEARN_NOBODY) {
    contest->arm[next].turn = 0;
    if (!contest->arm[next].open) {
      contest->arm[next].open = true;
      learn_fade(&contest->arm[next].all, KEEP);
      contest->arm[next].warming = warm_up(learn, contest);
      uint32_t first = learn_first_row(learn->scope, (uint32_t)(contest - learn->contest));
      for (uint32_t i = 0; i < learn_row_count(learn->scope); i++) {
        learn_cost_release_anew(learn, first + i, next);
      }
    }
    contest->challenger = next;
    contest->turn_blocks = contest->blocks;
  }
}

/*
 * As champion an arm meets other conditions than as challenger: a heap that found room for a few blocks may not for all. One that proves
 * worse than the champion before it was goes, and does not come back in this phase; unless that one is no better as challenger either,
 * since then the program has changed.
 */
static void judge_champion(struct learn *learn, struct learn_contest *contest)
{
  const struct learn_moments *now = &contest->reign, *then = &contest->before;
  if (contest->former == LEARN_NOBODY || now->n < PROBATION_LEAST) {
    return;
  }
  double error = sqrt(learn_variance(now) / now->n + learn_variance(then) / then->n);
  double worse = now->mean - then->mean;
  uint8_t failed = contest->champion, former = contest->former;
  bool heard = contest->since.n >= LOSS_TRIALS;
  bool sure = heard ? contest->since.mean < now->mean : worse > BREACH * then->mean;
  if (sure && worse > MARGIN * then->mean && worse > PROBATION_NOISE * error) {
    struct learn_moments shown = *then;
    learn_fade(&shown, WARM);
    learn_rescale(&shown, 1 / contest->cost.mean);
    promote(learn, contest, former, &shown, former == learn->baseline ? HAK_REASON_REVERT : HAK_REASON_BETTER);
    contest->arm[failed].barred = failed != learn->baseline;
    contest->former = LEARN_NOBODY;
  } else if (now->n >= PROBATION) {
    contest->former = LEARN_NOBODY;
  }
}

/* Notes that all arms have had a turn. */
static void calm_down(const struct learn *learn, struct learn_contest *contest)
{
  bool all = contest->calm == 0;
  for (uint32_t i = 0; i < learn->arm_count && all; i++) {
    all = !learn_candidate(learn, contest, i) || contest->arm[i].tried;
  }
  if (all) {
    contest->calm = contest->blocks;
  }
}

/* Charges what the sample's trials have shown. */
static void settle(struct learn *learn, struct learn_contest *contest)
{
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    struct learn_arm *arm = &contest->arm[i];
    if (arm->due_trials > 0) {
      charge(learn, contest, arm->unpaid * arm->due / arm->due_trials);
      arm->unpaid = 0;
    } else if (arm->unpaid > 0 && i != contest->challenger) {
      charge_unmeasured(learn, contest, arm);
    }
    arm->due = 0;
    arm->due_trials = 0;
  }
}

void learn_decide(struct learn *learn, struct learn_contest *contest)
{
  settle(learn, contest);
  if (contest->phase) {
    begin_phase(learn, contest);
  }
  judge_champion(learn, contest);
  if (contest->challenger != LEARN_NOBODY) {
    enum learn_result result = judge(learn, contest);
    if (result != LEARN_OPEN) {
      end_turn(learn, contest, result);
    }
  }
  if (contest->challenger == LEARN_NOBODY && contest->cost.n >= WARM && contest->blocks >= FEW_BLOCKS) {
    save_up(learn, contest);
    begin_turn(learn, contest);
  }
  calm_down(learn, contest);
}

/* ---- trials ---------------------------------------------------------------------------------------------------------- */

/* Adds a time; what was interrupted counts as a little longer than usual. */
static void add_time(struct learn_moments *moments, double ns)
{
  learn_add(moments, moments->n < WARM ? ns : smaller(ns, LONGER * moments->mean), TIME_MEMORY);
}

static void champion_trial(struct learn_contest *contest, double cost, struct learn_times times, double chill)
{
  learn_add(&contest->chill, chill, TIME_MEMORY);
  add_time(&contest->life, times.life);
  add_time(&contest->time, times.own);
  bool known = contest->cost.n >= WARM;
  double bounded = known ? smaller(cost, CLIP * contest->cost.mean) : cost;
  learn_add(&contest->cost, bounded, CHAMPION_MEMORY);
  learn_add(&contest->reign, bounded, DBL_MAX);
  if (contest->challenger != LEARN_NOBODY) {
    contest->arm[contest->challenger].beside++;
  }
  double dearer = learn_watch_add(&contest->costs, cost, PHASE_LEAST);
  double longer = learn_watch_add(&contest->units, times.unit, UNIT_LEAST);
  if (dearer != 0 || longer != 0) {
    contest->phase = true;
    contest->jump = longer != 0 ? longer : dearer;
  }
}

/*
 * The first blocks that an arm gets for a match are paid for but not compared, see warm_up. Of an arm of which nothing else is known they
 * say how dear the next one may be.
 */
static void other_trial(struct learn_contest *contest, struct learn_arm *arm, double cost, double chill)
{
  if (contest->cost.n < WARM) {
    return;
  }
  double multiple = smaller(cost / contest->cost.mean, CLIP);
  if (contest->former != LEARN_NOBODY && arm == &contest->arm[contest->former] && arm->warming == 0) {
    learn_add(&contest->since, multiple * contest->cost.mean, WARM);
  }
  double colder = chill - contest->chill.mean;
  arm->chill += (colder - arm->chill) / CHILL_MEMORY;
  arm->due += multiple - 1 + colder;
  arm->due_trials++;
  if (arm->warming > 0) {
    arm->warming--;
    if (arm->all.n < KNOWN) {
      arm->all = (struct learn_moments){0, 0, 0};
      arm->guessed = true;
    }
    if (arm->guessed) {
      learn_add(&arm->all, multiple, ARM_MEMORY);
    }
    return;
  }
  if (arm->guessed) {
    arm->all = (struct learn_moments){0, 0, 0};
    arm->guessed = false;
  }
  learn_add(&arm->all, multiple, ARM_MEMORY);
  learn_add(&arm->match, multiple, DBL_MAX);
  arm->turn++;
}

/*
 * What a block's life took longer than those of the champion's do, in champion's blocks, as far as it is beyond doubt: a program writes
 * slower to memory that no processor's cache holds. A champion has warm memory, so this is no part of the comparison, but the program
 * pays for it. Where blocks live beside others, their lives do not tell. Lives of all arms are interrupted alike, so what the champion's
 * come to by this measure is the zero of it.
 */
static double chill_of(const struct learn *learn, const struct learn_contest *contest, double life)
{
  const struct learn_moments *usual = &contest->life;
  double longer = life - usual->mean - LIFE_NOISE * sqrt(learn_variance(usual));
  bool alone = usual->n >= WARM && usual->mean < ALONE * learn_time_of_block(learn, 0);
  return alone && longer > 0 && contest->time.mean > 0 ? smaller(longer / contest->time.mean, CHILL_MOST) : 0;
}

void learn_contest_trial(const struct learn *learn, struct learn_contest *contest, uint32_t arm, double cost,
                         struct learn_times times)
{
  double chill = chill_of(learn, contest, times.life);
  if (arm == contest->champion) {
    champion_trial(contest, cost, times, chill);
  } else {
    other_trial(contest, &contest->arm[arm], cost, chill);
  }
}

void learn_contest_cell(struct learn_contest *contest, const hak_cell *cell, bool frozen)
{
  double blocks = frozen ? 0 : (double)cell->blocks;
  contest->fresh_blocks += cell->blocks;
  contest->live = larger(contest->live + blocks - (double)cell->frees, 0);
  contest->live_peak = larger(contest->live_peak, contest->live);
  if (cell->arm != contest->champion) {
    struct learn_arm *arm = &contest->arm[cell->arm];
    arm->live += (double)cell->blocks;
    double freed = smaller((double)cell->frees, arm->live); /* blocks that it got as champion are nobody's loss */
    arm->live -= freed;
    arm->unpaid += freed;
  }
}

void learn_contest_blocks(struct learn *learn, struct learn_contest *contest)
{
  double blocks = (double)contest->fresh_blocks;
  if (contest->fresh_blocks > 0) {
    double income = AIM * learn->budget * blocks * explored_cost(learn, contest);
    double paid = smaller(income * PAY_BACK, contest->loan);
    contest->blocks += contest->fresh_blocks;
    contest->live_peak -= (contest->live_peak - contest->live) * smaller(blocks / PEAK_MEMORY, 1);
    contest->loan -= paid;
    contest->credit = smaller(contest->credit + income - paid, CREDIT_MOST * learn->budget);
    learn->blocks += contest->fresh_blocks;
    learn->whole += blocks * whole_cost(learn, contest);
    contest->fresh_blocks = 0;
  }
}

void learn_contest_revert(struct learn *learn, struct learn_contest *contest)
{
  if (contest->champion != learn->baseline) {
    contest->arm[contest->champion].barred = true;
    promote(learn, contest, learn->baseline, NULL, HAK_REASON_FAULTS);
  }
}

void learn_contest_reset(const struct learn *learn, struct learn_contest *contest)
{
  struct learn_arm *arms = contest->arm;
  memset(arms, 0, learn->arm_count * sizeof *arms);
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    arms[i].rating = learn->rules->first_rating;
  }
  *contest = (struct learn_contest){
      .arm = arms, .champion = (uint8_t)learn->baseline, .challenger = LEARN_NOBODY, .former = LEARN_NOBODY};
}

/* ---- scores ---------------------------------------------------------------------------------------------------------- */

/* The baseline's cost in multiples of the champion's; 0 while it is unknown. */
static double baseline_cost(const struct learn *learn, const struct learn_contest *contest)
{
  return contest->champion == learn->baseline ? 1 : contest->arm[learn->baseline].all.mean;
}

uint32_t learn_score(const struct learn *learn, const struct learn_contest *contest, uint32_t arm, uint32_t *spread)
{
  double unit = baseline_cost(learn, contest), mean = contest->arm[arm].all.mean;
  double deviation = sqrt(learn_variance(&contest->arm[arm].all));
  if (arm == contest->champion) {
    mean = contest->cost.n > 0 || contest->arm[arm].trials > 0 ? 1 : 0;
    deviation = contest->cost.n > 0 ? sqrt(learn_variance(&contest->cost)) / contest->cost.mean : 0;
  }
  *spread = unit > 0 ? (uint32_t)smaller(deviation / unit * 1000 + 0.5, SCORE_MOST) : 0;
  return unit > 0 ? (uint32_t)smaller(mean / unit * 1000 + 0.5, SCORE_MOST) : 0;
}
