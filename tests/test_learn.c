/* SPDX-License-Identifier: MIT */
/*
 * test_learn.c - the learning policies, driven through the plugin interface by a simulated core (learn_sim.h).
 *
 * `test_learn table` prints how well the policies do instead of testing them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "learn_sim.h"

#include <errno.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"

/* The median of few seeds may be twice as much, or that of three more when it should be nothing. */
#define MEDIAN_AT_MOST(median, most) ck_assert_double_le(median, SEEDS < 20 ? 2 * (most) + 3 : (most))

/* A simulation with two arms: the baseline, which costs 1, and one of that cost. */
static struct sim *duel(uint32_t policy, uint64_t seed, double cost)
{
  struct sim *sim = new_sim(policy, seed);
  sim->arms = 2;
  sim->cost[1] = cost;
  return sim;
}

/* ---- how well they learn --------------------------------------------------------------------------------------------- */

START_TEST(champion_that_is_best)
{
  struct outcome (*const runs[])(uint32_t, uint64_t) = {best_start, all_worse, dear_arm};
  for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
    struct figures f = figures_of(runs[i], _i);
    ck_assert_double_le(f.regret.worst, 0.009); /* less than the budget: the more is known, the less is spent */
    ck_assert_double_le(f.loss.worst, 0.015);
    ck_assert_double_gt(f.games.median, 20);
  }
}
END_TEST

START_TEST(bad_starts)
{
  struct figures half = figures_of(bad_start, _i), one = figures_of(one_good, _i);
  MEDIAN_AT_MOST(half.blocks.median, 1000);
  ck_assert_double_le(half.blocks.worst, 5000);
  ck_assert_double_le(one.blocks.worst, 10000);
}
END_TEST

START_TEST(new_phases)
{
  struct figures swapped = figures_of(swap, _i), silent = figures_of(losers_win, _i);
  MEDIAN_AT_MOST(swapped.blocks.median, 1000);
  ck_assert_double_le(swapped.blocks.worst, 5000);
  MEDIAN_AT_MOST(silent.blocks.median, 1000);
  ck_assert_double_le(silent.blocks.worst, 5000);
  struct figures spent = figures_of(swap_when_spent, _i);
  MEDIAN_AT_MOST(spent.blocks.median, 400); /* part of the credit was kept for this */
  ck_assert_double_le(spent.blocks.worst, 5000);
}
END_TEST

START_TEST(noise_decides_nothing)
{
  struct figures equal = figures_of(identical, _i), noisy = figures_of(much_noise, _i);
  ck_assert_double_le(equal.changes.worst, 2);
  ck_assert_double_le(noisy.changes.worst, 2);
  MEDIAN_AT_MOST(equal.changes.median, 0);
  MEDIAN_AT_MOST(noisy.changes.median, 0);
  ck_assert_double_gt(equal.games.median, 100);
}
END_TEST

START_TEST(few_trials_and_late_ones)
{
  struct figures few = figures_of(few_measured, _i), late = figures_of(long_lives, _i);
  ck_assert_double_lt(few.blocks.worst, 50000);
  ck_assert_double_lt(late.blocks.worst, 50000);
  ck_assert_double_le(late.loss.worst, 0.015);
}
END_TEST

/* What the counter calls loss is what challengers have cost. */
START_TEST(loss_is_what_it_cost)
{
  double counted = 0, over = 0;
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = new_sim((uint32_t)_i, seed);
    for (uint32_t i = 1; i < ARMS; i++) {
      sim->cost[i] = 1 + 0.3 * i;
    }
    sim->cost[5] = 20;
    start(sim);
    run(sim, 20000);
    counted += (double)counters[LEARN_LOSS] / 1000;
    over += sim->over;
    ck_assert_double_le(sim->over, 0.013 * 20000);
    ck_assert_uint_gt(sim->tries, 20);
  }
  ck_assert_double_eq_tol(counted, over, 0.1 * over);
  ck_assert_double_le(over, 0.01 * 20000 * SEEDS);
}
END_TEST

START_TEST(no_budget_no_tries)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_BUDGET].number = 0;
  some_good(sim, 1, 6);
  start(sim);
  run(sim, 20000);
  ck_assert_uint_eq(sim->tries, 0);
  sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_EPSILON].number = 0;
  start(sim);
  run(sim, 20000);
  ck_assert_uint_eq(sim->tries, 0);
}
END_TEST

/* A challenger gets its part of any blocks in a row, and of every second, third and so on. */
START_TEST(draws_are_even)
{
  const uint32_t shares[] = {655, 13107, 16384, 32768};
  for (uint32_t i = 0; i < 4 * 8; i++) {
    uint32_t share = shares[i % 4], every = 1 + i / 4;
    double drawn = 0;
    for (uint32_t n = 0; n < 200000; n++) {
      drawn += hki_draw((uint32_t)_i, ROW, n * every, share);
      ck_assert_double_eq_tol(drawn, (n + 1.0) * share / 65536, every == 1 ? 4 : 10);
    }
  }
}
END_TEST

/* The largest part of the blocks that a challenger of that cost gets. */
static uint32_t most_share(uint32_t policy, double cost, double epsilon)
{
  struct sim *sim = duel(policy, 1, cost);
  uint32_t most = 0;
  sim->values[LEARN_EPSILON].number = epsilon;
  start(sim);
  for (uint32_t i = 0; i < 5000; i++) {
    one_block(sim);
    most = sim->share[ROW] > most ? sim->share[ROW] : most;
  }
  return most;
}

/* While it looks no dearer than the champion it costs nothing to know it sooner. */
START_TEST(good_challengers_get_more)
{
  ck_assert_uint_eq(most_share((uint32_t)_i, 1.5, 0.1), 6553);
  ck_assert_uint_eq(most_share((uint32_t)_i, 0.95, 0.1), 13107);
  ck_assert_uint_eq(most_share((uint32_t)_i, 0.95, 0.4), 32768);
}
END_TEST

/* A match that is long because the challenger is a little better is no draw. */
START_TEST(long_matches_are_won)
{
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = duel((uint32_t)_i, seed, 0.87);
    start(sim);
    run(sim, 6000);
    ck_assert_uint_eq(sim->champion[ROW], 1);
  }
}
END_TEST

/* A difference that no single match could show beside the noise shows in many of them. */
START_TEST(small_gains_add_up)
{
  struct figures f = figures_of(small_gain, _i);
  MEDIAN_AT_MOST(f.blocks.median, 30000);
  ck_assert_double_le(f.blocks.worst, 90000);
  ck_assert_double_le(f.changes.worst, 3);
}
END_TEST

/* But what many drawn matches have shown does not keep an arm back that becomes better. */
START_TEST(equals_may_become_better)
{
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = duel((uint32_t)_i, seed, 1);
    start(sim);
    run(sim, 30000);
    uint8_t champion = sim->champion[ROW];
    sim->cost[1 - champion] = 0.5;
    run(sim, 500);
    ck_assert_uint_eq(sim->champion[ROW], 1 - champion);
  }
}
END_TEST

/* Blocks of an arm whose cost nobody knows yet are few, however long they live. */
START_TEST(unknown_arms_have_few_blocks_out)
{
  struct sim *sim = new_sim((uint32_t)_i, 3);
  sim->life = 8000;
  start(sim);
  run(sim, 7900);
  ck_assert_uint_eq(sim->tries, 0); /* no trial has come back, not even of the champion */
  uint64_t before = counters[LEARN_TRIALS];
  sim->life = 1;
  run(sim, 400);
  sim->life = 8000;
  ck_assert_uint_gt(counters[LEARN_TRIALS], before);
  uint64_t tries = sim->tries;
  run(sim, 7500);
  ck_assert_uint_le(sim->tries - tries, 200);
}
END_TEST

/* It looks good for as long as the tenth time is missing, but it does not stay, and hardly ever comes again. */
START_TEST(rare_costs_count)
{
  struct figures f = figures_of(rarely_dear, _i);
  ck_assert_double_le(f.changes.worst, 6);
  MEDIAN_AT_MOST(f.changes.median, 1);
  MEDIAN_AT_MOST(f.regret.median, 0.02);
}
END_TEST

START_TEST(interruptions_decide_nothing)
{
  struct figures equal = figures_of(interrupted, _i), half = figures_of(interrupted_start, _i);
  ck_assert_double_le(equal.changes.worst, 2);
  MEDIAN_AT_MOST(equal.changes.median, 0);
  MEDIAN_AT_MOST(half.blocks.median, 1000);
  ck_assert_double_ge(equal.games.median, 100); /* they do not make the comparison deaf for long */
}
END_TEST

/* All arms become dearer alike. */
START_TEST(phases_are_noticed)
{
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = new_sim((uint32_t)_i, seed);
    for (uint32_t i = 1; i < ARMS; i++) {
      sim->cost[i] = 1.3;
    }
    start(sim);
    run(sim, 100);
    ck_assert_uint_eq(sim->choice.ease, 1);
    run(sim, 20000);
    ck_assert_uint_eq(counters[LEARN_PHASES], 0);
    ck_assert_uint_eq(sim->choice.ease, 2); /* all is known, so fewer blocks are measured ... */
    for (uint32_t i = 0; i < ARMS; i++) {
      sim->cost[i] *= 3;
    }
    while (counters[LEARN_PHASES] == 0) {
      run(sim, 100);
    }
    ck_assert_uint_eq(sim->choice.ease, 1); /* ... until something changes */
    run(sim, 5000);
    ck_assert_uint_eq(counters[LEARN_PHASES], 1);
    ck_assert_uint_eq(sim->changes, 0);
  }
}
END_TEST

START_TEST(release_is_part_of_the_cost)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->arms = 3;
  sim->cost[1] = 0.7;
  sim->release_ns[1] = 20000;
  sim->cost[2] = 0.8;
  start(sim);
  run(sim, 20000);
  ck_assert_uint_eq(sim->champion[ROW], 2);
}
END_TEST

/* What was released before a match is soon forgotten. */
START_TEST(release_of_other_times)
{
  struct sim *sim = duel((uint32_t)_i, 1, 0.5);
  sim->release_ns[1] = 30000;
  start(sim);
  run(sim, 20000);
  ck_assert_uint_eq(sim->champion[ROW], 0);
  sim->release_ns[1] = 0;
  run(sim, 10000);
  ck_assert_uint_eq(sim->champion[ROW], 1);
}
END_TEST

/* What exploring may cost is a part of the program's time, not of its blocks'; but not for ever. */
START_TEST(programs_that_do_much_else)
{
  uint64_t games[2], later;
  for (uint64_t busy = 0; busy < 2; busy++) {
    struct sim *sim = new_sim((uint32_t)_i, 1);
    for (uint32_t i = 1; i < sim->arms; i++) {
      sim->cost[i] = 3;
    }
    sim->work = busy * 190000; /* a block takes 10000 */
    start(sim);
    run(sim, 4000);
    games[busy] = counters[LEARN_GAMES];
    ck_assert_uint_le(counters[LEARN_USED], 15000);
    run(sim, 40000);
    later = counters[LEARN_GAMES];
    run(sim, 4000);
    later = counters[LEARN_GAMES] - later;
    ck_assert_uint_le(counters[LEARN_USED], 10000);
  }
  ck_assert_uint_ge(games[1], 3 * games[0]);
  ck_assert_uint_lt(2 * later, games[1]);
}
END_TEST

/* The child of a fork has had no processor time. */
START_TEST(processor_time_begins_anew)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  for (uint32_t i = 1; i < sim->arms; i++) {
    sim->cost[i] = 3;
  }
  start(sim);
  run(sim, 20000);
  uint64_t used = counters[LEARN_USED];
  sim->cpu_ns = 0;
  sim->work = 190000;
  run(sim, 2000); /* which are a part of twice as much as all before */
  ck_assert_uint_lt(counters[LEARN_USED], used * 7 / 10);
}
END_TEST

/* A challenger's memory is cold: that is charged, but not held against it. Lives of blocks beside others tell nothing. */
START_TEST(cold_memory_is_paid_for)
{
  const struct {
    uint64_t chill_ns, life_ns;
    double cost;
  } kinds[] = {{0, 1000, 1}, {100000, 1000, 1}, {100000, 1000000, 1}, {100000, 1000, 0.4}};
  uint64_t tries[4];
  for (uint32_t kind = 0; kind < 4; kind++) {
    struct sim *sim = duel((uint32_t)_i, 1, kinds[kind].cost);
    sim->chill_ns = kinds[kind].chill_ns;
    sim->life_ns = kinds[kind].life_ns;
    start(sim);
    run(sim, 20000);
    tries[kind] = sim->tries;
    ck_assert_uint_eq(sim->champion[ROW], kind == 3 ? 1 : 0);
  }
  ck_assert_uint_gt(tries[0], 10 * tries[1]);
  ck_assert_uint_gt(tries[1], 10);
  ck_assert_uint_gt(tries[2], 5 * tries[1]);
}
END_TEST

/* Lives that are interrupted are nobody's: they cost a challenger no more than a champion. */
START_TEST(interruptions_are_not_charged)
{
  uint64_t tries[2];
  for (uint32_t some = 0; some < 2; some++) {
    struct sim *sim = duel((uint32_t)_i, 1, 1);
    sim->life_ns = 1000;
    sim->interrupted = some * 0.2;
    start(sim);
    run(sim, 20000);
    tries[some] = sim->tries;
  }
  ck_assert_uint_gt(40 * tries[1], tries[0]);
}
END_TEST

/* What blocks cost is the same, but the program takes a hundredth of the time for each: it does something else. */
START_TEST(time_tells_a_phase)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->work = 2000000;
  start(sim);
  run(sim, 5000);
  ck_assert_uint_eq(counters[LEARN_PHASES], 0);
  sim->work = 10000;
  run(sim, 500);
  ck_assert_uint_eq(counters[LEARN_PHASES], 1);
  run(sim, 20000);
  ck_assert_uint_eq(counters[LEARN_PHASES], 1);
}
END_TEST

/* A program that takes less time for a block than one pass through its resident pages takes has not used them. */
START_TEST(pages_that_nothing_passes)
{
  const hak_trial trial = {.bytes = 4 * 2097152, .cpu_ns = 500, .fault_ns = 300, .used_bytes = 8 << 20};
  for (uint64_t busy = 0; busy < 2; busy++) {
    struct sim *sim = new_sim((uint32_t)_i, 1);
    start(sim);
    ck_assert_double_eq(learn_cost_time(sim->self, &trial), 800 + (1 << 17)); /* how long it takes is not known yet */
    sim->work = busy * 10000;                                                 /* a block of 2 MiB takes 10000 more */
    run(sim, 2000);
    ck_assert_double_eq(learn_cost_time(sim->self, &trial), busy ? 800 + (1 << 17) : 800);
  }
}
END_TEST

/* An arm that costs twice as much is no loss that matters where the program takes a hundred times as long for each block. */
START_TEST(what_a_program_cannot_notice)
{
  for (uint64_t busy = 0; busy < 2; busy++) {
    struct sim *sim = duel((uint32_t)_i, 1, 1);
    sim->cost[0] = 2;
    sim->sigma = 0.01;
    sim->work = busy * 2000000; /* a block takes 10000 and 20000 */
    start(sim);
    run(sim, 20000);
    ck_assert_uint_eq(sim->champion[ROW], 1);
    uint32_t good = sim->standing[1].score, bad = sim->standing[0].score;
    ck_assert(busy ? good > bad * 9 / 10 : good < bad * 6 / 10);
  }
}
END_TEST

/* All costs rise by a few percent after a change, so the champion costs more than the one before did: no reason to go back. */
START_TEST(drift_is_no_broken_promise)
{
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = duel((uint32_t)_i, seed, 0.95);
    sim->sigma = 0.01;
    start(sim);
    while (sim->changes == 0) {
      run(sim, 8);
    }
    sim->cost[0] = 1.08;
    sim->cost[1] = 1.03;
    run(sim, 3000);
    ck_assert_uint_eq(sim->champion[ROW], 1);
    ck_assert_uint_eq(sim->changes, 1);
    ck_assert_uint_eq(counters[LEARN_PHASES], 0);
  }
}
END_TEST

/* An arm is cheap for the few blocks of a challenger, but not for all. */
START_TEST(promises_are_kept)
{
  for (uint64_t seed = 1; seed <= 3 * SEEDS; seed++) {
    struct sim *sim = new_sim((uint32_t)_i, seed);
    for (uint32_t i = 1; i < ARMS; i++) {
      sim->cost[i] = 1.3;
    }
    sim->cost[3] = 0.5;
    sim->reigning[3] = 4;
    start(sim);
    run(sim, 20000);
    ck_assert_uint_eq(sim->champion[ROW], 0);
    ck_assert_uint_eq(sim->changes, 2);
    ck_assert_int_eq(sim->reason[ROW], HAK_REASON_REVERT);
  }
}
END_TEST

/* The first block that an arm has after a while is dear: of the good one as well. */
START_TEST(first_blocks_decide_nothing)
{
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = new_sim((uint32_t)_i, seed);
    sim->cold = 4;
    some_good(sim, seed, 6);
    start(sim);
    ck_assert_uint_lt(run(sim, 20000), 10000);
  }
}
END_TEST

/* A block that makes an arm's heap grow is dear. That says nothing about the arm. */
START_TEST(growth_decides_nothing)
{
  for (uint64_t seed = 1; seed <= 3 * SEEDS; seed++) {
    struct sim *sim = duel((uint32_t)_i, seed, 0.5);
    sim->life = 32;
    sim->growth = 4;
    start(sim);
    ck_assert_uint_le(run(sim, 5000), 2000);
  }
}
END_TEST

/* Two arms that the budget cannot pay for do not keep the others waiting. */
START_TEST(the_dearest_wait)
{
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = new_sim((uint32_t)_i, seed);
    some_good(sim, seed, 6);
    for (uint32_t i = 1, dear = 0; i < ARMS && dear < 2; i++) {
      dear += sim->cost[i] >= 1;
      sim->cost[i] *= sim->cost[i] >= 1 ? 25 : 1;
    }
    start(sim);
    ck_assert_uint_le(run(sim, 20000), 12000);
    ck_assert_double_le(sim->over, 0.015 * 20000);
  }
}
END_TEST

/* An arm of which one block is more than half of what can be saved comes again when the whole run can pay for it, and not before. */
START_TEST(the_dearest_stay_within_the_budget)
{
  for (uint64_t seed = 1; seed <= SEEDS; seed++) {
    struct sim *sim = duel((uint32_t)_i, seed, 60);
    sim->sigma = 0.05;
    start(sim);
    run(sim, 8000); /* the first block has been earned back */
    for (uint32_t i = 0; i < 500; i++) {
      ck_assert_uint_le(counters[LEARN_USED], 10500); /* a block may be a little dearer than expected */
      run(sim, 100);
    }
    ck_assert_uint_gt(sim->tries, 3);
  }
}
END_TEST

/* ---- what the program sees ------------------------------------------------------------------------------------------- */

static uint64_t decisions(int policy, uint64_t seed, uint64_t noise_seed)
{
  struct sim *sim = new_sim((uint32_t)policy, seed);
  sim->random = noise_seed;
  some_good(sim, 1, 6);
  start(sim);
  run(sim, 5000);
  return sim->decisions_hash;
}

START_TEST(same_seed_same_decisions)
{
  ck_assert_uint_eq(decisions(_i, 7, 1), decisions(_i, 7, 1));
  ck_assert_uint_ne(decisions(_i, 7, 1), decisions(_i, 8, 1));
}
END_TEST

START_TEST(no_trials_no_games)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  some_good(sim, 1, 6);
  sim->measured = 0;
  start(sim);
  run(sim, 20000);
  ck_assert_uint_eq(counters[LEARN_GAMES] + counters[LEARN_TRIALS], 0);
  ck_assert_uint_eq(sim->changes, 0);
}
END_TEST

START_TEST(a_clock_that_stands_proves_nothing)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->clock_stands = true;
  start(sim);
  run(sim, 20000);
  ck_assert_uint_eq(counters[LEARN_GAMES] + counters[LEARN_TRIALS], 0);
  ck_assert_uint_gt(counters[LEARN_DROPPED], 1000);
  ck_assert_uint_eq(sim->changes, 0);
}
END_TEST

START_TEST(standings_add_up)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  some_good(sim, 1, 6);
  start(sim);
  run(sim, 20000);
  uint64_t games = 0, wins = 0, losses = 0, draws = 0, trials = 0;
  for (uint32_t i = 0; i < ARMS; i++) {
    const hak_standing *standing = &sim->standing[i];
    ck_assert_uint_eq(standing->games, standing->wins + standing->losses + standing->draws);
    games += standing->games;
    wins += standing->wins;
    losses += standing->losses;
    draws += standing->draws;
    trials += standing->trials;
    ck_assert_uint_eq(standing->rating != 0, _i == ELO && standing->trials > 0);
  }
  ck_assert_uint_eq(games, 2 * counters[LEARN_GAMES]);
  ck_assert_uint_eq(wins, losses);
  ck_assert_uint_eq(wins, counters[LEARN_WINS] + counters[LEARN_LOSSES]);
  ck_assert_uint_eq(draws, 2 * counters[LEARN_DRAWS]);
  ck_assert_uint_eq(trials, counters[LEARN_TRIALS]);
  ck_assert_uint_eq(sim->standing[0].score, 1000);
  ck_assert_uint_lt(sim->standing[sim->champion[ROW]].score, 700);
  ck_assert_int_eq(sim->standing[sim->champion[ROW]].state, HAK_ARM_ACTIVE);
}
END_TEST

START_TEST(listed_arms_only)
{
  static const char *const list[] = {"t2", "t3", NULL}, *const wrong[] = {"t2", "nobody", NULL};
  struct sim *sim = new_sim((uint32_t)_i, 1);
  some_good(sim, 1, 11);
  sim->values[LEARN_LIST].list = list;
  start(sim);
  run(sim, 5000);
  ck_assert(sim->champion[ROW] == 2 || sim->champion[ROW] == 3);
  ck_assert_uint_eq(sim->standing[1].trials, 0);
  ck_assert_int_eq(sim->standing[1].state, HAK_ARM_IDLE);
  sim->values[LEARN_LIST].list = wrong;
  ck_assert_int_ne(try_start(sim), HAK_OK);
  ck_assert_uint_eq(lines, 1);
  sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_CPU].number = sim->values[LEARN_FAULTS].number = 0;
  ck_assert_int_ne(try_start(sim), HAK_OK);
  ck_assert_uint_eq(lines, 1);
}
END_TEST

/* Of arms that do the same with a size only one plays for it, the baseline before others. */
START_TEST(alike_arms_play_once)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_BASELINE].arm = 4;
  alike[3] = alike[5] = 2;
  alike[4] = alike[6] = 1;
  for (uint32_t i = 0; i < ARMS; i++) {
    sim->cost[i] = alike[i] == 2 ? 0.5 : 1;
  }
  start(sim);
  run(sim, 20000);
  ck_assert_uint_eq(sim->champion[ROW], 2);
  ck_assert_uint_gt(sim->standing[0].games, 0);
  ck_assert_uint_gt(sim->standing[4].games, 0);
  ck_assert_uint_eq(sim->standing[1].trials + sim->standing[3].trials + sim->standing[5].trials + sim->standing[6].trials, 0);
  sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_SCOPE].choice = LEARN_GLOBAL; /* where other bins make a difference */
  alike[2] = 1;
  start(sim);
  run(sim, 20000);
  ck_assert_uint_gt(sim->standing[1].games, 0);
  ck_assert_uint_gt(sim->standing[2].games, 0);
}
END_TEST

START_TEST(scopes)
{
  static const uint16_t rows[] = {20 * HAK_SITES, 20 * HAK_SITES + 1, 23 * HAK_SITES};
  for (uint32_t scope = LEARN_GLOBAL; scope <= LEARN_SITE; scope++) {
    struct sim *sim = new_sim((uint32_t)_i, 1);
    memcpy(sim->rows, rows, sizeof rows);
    sim->row_count = 1;
    sim->values[LEARN_SCOPE].choice = scope;
    some_good(sim, 1, 11);
    start(sim);
    run(sim, 3000);
    uint8_t champion = sim->champion[rows[0]];
    ck_assert_uint_ne(champion, 0);
    ck_assert_uint_eq(sim->champion[rows[1]], scope == LEARN_SITE ? 0 : champion);
    ck_assert_uint_eq(sim->champion[rows[2]], scope == LEARN_GLOBAL ? champion : 0);
    ck_assert_uint_eq(sim->champion[10 * HAK_SITES], 0); /* small blocks: nobody learns anything about them */
    ck_assert_uint_eq(sim->reason[rows[0]], HAK_REASON_BETTER);
  }
}
END_TEST

START_TEST(freeze)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  some_good(sim, 1, 6);
  start(sim);
  run(sim, 100);
  ck_assert_uint_gt(sim->choice.trials, 0);
  ck_assert_int_eq(sim->plugin->set(sim->self, LEARN_FREEZE, (hak_value){.flag = true}), HAK_OK);
  ask(sim);
  uint64_t tries = sim->tries, games = counters[LEARN_GAMES], trials = counters[LEARN_TRIALS];
  run(sim, 5000);
  ck_assert_uint_eq(sim->choice.trials, 0);
  ck_assert_uint_eq(sim->tries, tries);
  ck_assert_uint_eq(counters[LEARN_GAMES], games);
  ck_assert_uint_eq(sim->changes, 0);
  ck_assert_uint_ge(counters[LEARN_TRIALS], trials);
  ck_assert_int_eq(sim->plugin->set(sim->self, LEARN_FREEZE, (hak_value){.flag = false}), HAK_OK);
  ask(sim);
  run(sim, 5000);
  ck_assert_uint_ge(sim->changes, 1);
  ck_assert_int_ne(sim->plugin->set(sim->self, LEARN_SEED, (hak_value){.integer = 1}), HAK_OK);
}
END_TEST

START_TEST(back_to_the_baseline)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->arms = 3;
  sim->cost[1] = 0.5;
  sim->cost[2] = 3;
  start(sim);
  run(sim, 2000);
  ck_assert_uint_eq(sim->champion[ROW], 1);
  sim->cost[1] = 1.3; /* the program has changed: the baseline is better again */
  run(sim, 20000);
  ck_assert_uint_eq(sim->champion[ROW], 0);
  ck_assert_uint_eq(sim->reason[ROW], HAK_REASON_REVERT);
  ck_assert_uint_eq(counters[LEARN_REVERTS], 1);
}
END_TEST

START_TEST(too_many_faults)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->arms = 3;
  sim->cost[1] = 0.5;
  sim->cost[2] = 3;
  sim->fault_rate = 1000000;
  sim->values[LEARN_FAULT_LIMIT].integer = 500000;
  start(sim);
  run(sim, 20000);
  uint64_t changes = sim->changes;
  ck_assert_uint_eq(changes, 2); /* there and back */
  run(sim, 40000);
  ck_assert_uint_eq(sim->changes, changes);
  ck_assert_uint_eq(sim->champion[ROW], 0);
  ck_assert_uint_eq(sim->reason[ROW], HAK_REASON_FAULTS);
  ck_assert_uint_eq(counters[LEARN_REVERTS], 1);
}
END_TEST

/* A program with trapping exceptions that rounds upwards notices nothing. */
START_TEST(floating_point_of_the_program)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  some_good(sim, 1, 6);
  start(sim);
  fenv_t before;
  ck_assert_int_eq(fegetenv(&before), 0);
  for (uint32_t i = 0; i < 3000; i++) {
    one_block(sim);
    if (sim->trial_count == 7) {
      errno = 77;
      feclearexcept(FE_ALL_EXCEPT);
      feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT);
      fesetround(FE_UPWARD);
      ask(sim);
      ck_assert_int_eq(fegetround(), FE_UPWARD);
      ck_assert_int_eq(fetestexcept(FE_ALL_EXCEPT), 0);
      ck_assert_int_eq(fegetexcept(), FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT);
      fesetenv(&before);
      ck_assert_int_eq(errno, 77);
    }
  }
  ck_assert_uint_gt(counters[LEARN_GAMES], 0);
}
END_TEST

/* Values that make no sense change nothing, or at least break nothing. */
START_TEST(senseless_samples)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  start(sim);
  for (uint32_t i = 0; i < 2000; i++) {
    for (uint32_t j = 0; j < 16; j++) {
      hak_trial *trial = &sim->trials[j];
      for (size_t k = 0; k < sizeof *trial; k++) {
        ((unsigned char *)trial)[k] = (unsigned char)(uniform(sim) * 256);
      }
      trial->row = (uint16_t)(uniform(sim) * 300);
      trial->arm = (uint8_t)(uniform(sim) * 16);
      sim->cells[trial->row % HAK_ROWS][trial->arm % ARMS] =
          (hak_cell){.blocks = trial->bytes, .frees = trial->cpu_ns, .release_ns = trial->fault_ns};
    }
    sim->trial_count = 16;
    ask(sim);
  }
  ck_assert_uint_gt(counters[LEARN_DROPPED], 0);
}
END_TEST

/* ---- costs ----------------------------------------------------------------------------------------------------------- */

static struct learn *pricing(struct sim *sim, uint64_t cpu, uint64_t faults, double memory)
{
  const hak_trial trial = {.bytes = 1048576, .cpu_ns = cpu, .fault_ns = faults, .held_bytes = (uint64_t)(memory * 1048576)};
  double cost;
  sim->values[LEARN_MEMORY].number = 0.3;
  start(sim);
  while (!learn_cost(sim->self, 0, &trial, true, &cost)) {
  }
  return sim->self;
}

static double price(struct learn *learn, uint64_t cpu, uint64_t faults, uint64_t used, uint64_t held)
{
  const hak_trial trial = {.bytes = 1048576, .cpu_ns = cpu, .fault_ns = faults, .used_bytes = used, .held_bytes = held};
  double cost = 0;
  ck_assert(learn_cost(learn, 0, &trial, true, &cost));
  return cost;
}

START_TEST(costs_are_weighted_ratios)
{
  struct learn *learn = pricing(new_sim((uint32_t)_i, 1), 1000, 1000, 1);
  ck_assert_double_eq_tol(price(learn, 1000, 1000, 0, 1048576), 1, 1e-9);
  ck_assert_double_eq_tol(price(learn, 2000, 1000, 0, 1048576), 1.4, 1e-9);
  ck_assert_double_eq_tol(price(learn, 1000, 2000, 0, 1048576), 1.3, 1e-9);
  ck_assert_double_eq_tol(price(learn, 2000, 2000, 0, 2097152), 2, 1e-9);
  learn = pricing(new_sim((uint32_t)_i, 1), 1000, 3000, 1);
  ck_assert_double_eq_tol(price(learn, 2000, 6000, 0, 1048576), 1.7, 1e-9); /* in whatever proportion the times are */
}
END_TEST

START_TEST(small_terms_do_not_matter)
{
  struct learn *learn = pricing(new_sim((uint32_t)_i, 1), 20000, 0, 1);
  ck_assert_double_le(price(learn, 20000, 500, 0, 1048576), 1.05); /* one fault where there was none */
  ck_assert_double_ge(price(learn, 20000, 128000, 0, 1048576), 4); /* 512 faults */
  learn = pricing(new_sim((uint32_t)_i, 1), 1000, 100000, 1);
  ck_assert_double_le(price(learn, 2000, 100000, 0, 1048576), 1.05); /* twice the time in malloc, a hundredth of the whole */
  ck_assert_double_le(price(learn, 2000, 80000, 0, 1048576), 1);     /* which faults make good */
  learn = pricing(new_sim((uint32_t)_i, 1), 40, 0, 1);
  ck_assert_double_le(price(learn, 80, 0, 0, 1048576), 1.2); /* what the clock cannot tell from nothing */
  learn = pricing(new_sim((uint32_t)_i, 1), 1000, 1000, 0.004);
  ck_assert_double_le(price(learn, 1000, 872, 8192, 0), 1.02);  /* a block that is hardly touched */
  ck_assert_double_ge(price(learn, 1000, 1000, 0, 1048576), 2); /* all of it resident because of huge pages */
}
END_TEST

/* A block that is used takes the program some time, whoever allocates it. */
START_TEST(use_takes_time)
{
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_MEMORY].number = 0.3;
  start(sim);
  struct learn *learn = sim->self;
  const hak_trial trial = {.bytes = 1048576, .cpu_ns = 500, .used_bytes = 1048576};
  double cost;
  for (int i = 0; i < 16; i++) {
    ck_assert(!learn_cost(learn, 0, &trial, true, &cost));
  }
  ck_assert_double_eq_tol(price(learn, 500, 0, 1048576, 0), 1, 1e-9);
  ck_assert_double_le(price(learn, 1000, 0, 1048576, 0), 1.05);
  ck_assert_double_ge(price(learn, 500, 179000, 1048576, 0), 5); /* 256 faults */
  ck_assert_double_le(price(learn, 500, 179000, 1048576, 0), 20);
}
END_TEST

/* ---- the state file -------------------------------------------------------------------------------------------------- */

static struct sim *learned(int policy, uint32_t scope)
{
  struct sim *sim = new_sim((uint32_t)policy, 1);
  sim->values[LEARN_STATE_FILE].string = "state";
  sim->values[LEARN_SCOPE].choice = scope;
  some_good(sim, 1, 6);
  file_size = -ENOENT;
  start(sim);
  ck_assert_uint_eq(lines, 0);
  run(sim, 5000);
  sim->ops->finish(sim->self);
  ck_assert_int_gt(file_size, 0);
  return sim;
}

static struct sim *again(int policy, uint32_t scope)
{
  struct sim *sim = new_sim((uint32_t)policy, 2);
  sim->values[LEARN_STATE_FILE].string = "state";
  sim->values[LEARN_SCOPE].choice = scope;
  some_good(sim, 1, 6);
  start(sim);
  return sim;
}

START_TEST(restart_is_settled)
{
  for (uint32_t scope = LEARN_GLOBAL; scope <= LEARN_SITE; scope++) {
    uint8_t champion = learned(_i, scope)->champion[ROW];
    struct sim *sim = again(_i, scope);
    ck_assert_uint_eq(lines, 0);
    ck_assert_uint_ne(champion, 0);
    ck_assert_uint_eq(sim->champion[ROW], champion);
    ck_assert_uint_eq(sim->reason[ROW], HAK_REASON_SET);
    ck_assert_uint_gt(sim->standing[champion].games, 0);
    static char text[sizeof file], copy[sizeof file];
    size_t size = learn_state_write(sim->self, text); /* scores may differ in the last digit from the first text's */
    learn_reset(sim->self);
    ck_assert_ptr_null(learn_state_read(sim->self, text, size));
    ck_assert_uint_eq(learn_state_write(sim->self, copy), size);
    ck_assert_int_eq(memcmp(text, copy, size), 0);
    ck_assert_uint_eq(run(sim, 5000), 0);
  }
}
END_TEST

START_TEST(state_is_written_now_and_then)
{
  struct sim *sim = learned(_i, LEARN_BIN);
  ck_assert_uint_eq(writes, sim->changes + 1); /* at once, and at the end */
  uint32_t changes = 0;
  sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_STATE_FILE].string = "state";
  file_size = -ENOENT;
  start(sim);
  sim->ops->finish(sim->self);
  ck_assert_uint_eq(writes, 0); /* nothing was learned */
  for (uint32_t i = 0; i < 20000; i++) {
    uint8_t champion = sim->champion[ROW];
    sim->cost[champion] = 2; /* whoever wins becomes bad, so there are many changes */
    sim->cost[(champion + 1) % ARMS] = 0.5;
    one_block(sim);
    changes += sim->champion[ROW] != champion;
  }
  ck_assert_uint_ge(changes, 4);
  ck_assert_uint_le(writes, 1); /* in two seconds */
}
END_TEST

/* One line, and whatever is learned then, the file stays as it is. */
static void refused(struct sim *sim)
{
  static char before[sizeof file];
  long size = file_size;
  ck_assert_uint_eq(lines, 1);
  memcpy(before, file, sizeof file);
  run(sim, 5000);
  sim->ops->finish(sim->self);
  ck_assert_uint_eq(writes, 0);
  ck_assert_int_eq(file_size, size);
  ck_assert_int_eq(memcmp(file, before, sizeof file), 0);
  ck_assert_uint_eq(lines, 1);
}

static void refused_with(struct sim *sim, const char *found)
{
  static char line[sizeof last_line];
  snprintf(line, sizeof line, "state_file: found %s; the file stays as it is, and what is learned ends with the process",
           found);
  refused(sim);
  ck_assert_str_eq(last_line, line);
}

START_TEST(other_states_are_refused)
{
  learned(_i, LEARN_BIN);
  refused_with(again(_i, LEARN_SITE), "another policy or scope");
  refused_with(again(1 - _i, LEARN_BIN), "another policy or scope");
  struct sim *sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_STATE_FILE].string = "state";
  sim->values[LEARN_BASELINE].arm = 1;
  start(sim);
  refused_with(sim, "other strategies or another baseline");
  sim = new_sim((uint32_t)_i, 1);
  sim->values[LEARN_STATE_FILE].string = "state";
  sim->arms = ARMS - 1;
  start(sim);
  refused_with(sim, "other strategies or another baseline");
  file_size -= 4;
  refused_with(again(_i, LEARN_BIN), "a text that is damaged or ends early");
  file[strlen("hakmem-learn ")] = '1';
  refused_with(again(_i, LEARN_BIN), "another format or version, expected hakmem-learn 3");
  file_size = (long)(stpcpy(file, "Milk, bread, eggs\n") - file);
  refused_with(again(_i, LEARN_BIN), "another format or version, expected hakmem-learn 3");
}
END_TEST

START_TEST(states_that_cannot_be_read)
{
  file_size = -EACCES;
  refused_with(again(_i, LEARN_BIN), "that it may not be read");
  file_size = -EISDIR;
  refused_with(again(_i, LEARN_BIN), "a directory");
  file_size = -EIO;
  refused_with(again(_i, LEARN_BIN), "that it cannot be read");
  file_size = 0; /* nothing to lose */
  struct sim *sim = again(_i, LEARN_BIN);
  run(sim, 5000);
  sim->ops->finish(sim->self);
  ck_assert_uint_eq(lines, 0);
  ck_assert_int_gt(file_size, 0);
}
END_TEST

/* A shorter text is no text, and what was read of it leaves no trace. */
START_TEST(truncated_states_are_refused)
{
  learned(_i, LEARN_BIN);
  struct sim *sim = again(_i, LEARN_BIN);
  static char empty[4096], text[4096];
  learn_reset(sim->self);
  size_t size = learn_state_write(sim->self, empty);
  for (long i = 0; i < file_size; i++) {
    char *exact = malloc((size_t)i + 1); /* so that a sanitizer sees a read behind its end */
    memcpy(exact, file, (size_t)i);
    ck_assert_ptr_nonnull(learn_state_read(sim->self, exact, (size_t)i));
    free(exact);
    ck_assert_uint_eq(learn_state_write(sim->self, text), size);
    ck_assert_int_eq(memcmp(text, empty, size), 0);
  }
  ck_assert_ptr_null(learn_state_read(sim->self, file, (size_t)file_size));
}
END_TEST

/* Whatever a text says, the learner can go on with it. */
START_TEST(forged_states)
{
  learned(_i, LEARN_BIN);
  static char text[sizeof file];
  struct sim *sim = again(_i, LEARN_BIN);
  uint32_t taken = 0;
  for (uint32_t i = 0; i < 20000; i++) {
    memcpy(text, file, (size_t)file_size);
    for (uint32_t j = 0; j < 1 + i % 3; j++) {
      text[(size_t)(uniform(sim) * (double)file_size)] = "0123456789 \n-crsetawz"[(size_t)(uniform(sim) * 21)];
    }
    learn_reset(sim->self);
    taken += learn_state_read(sim->self, text, (size_t)file_size) == NULL;
    if (i % 50 == 0) {
      run(sim, 50);
    }
  }
  ck_assert_uint_gt(taken, 100);
}
END_TEST

int main(int argc, char **argv)
{
  const TTest *const tests[] = {champion_that_is_best,
                                bad_starts,
                                new_phases,
                                noise_decides_nothing,
                                few_trials_and_late_ones,
                                loss_is_what_it_cost,
                                no_budget_no_tries,
                                draws_are_even,
                                good_challengers_get_more,
                                long_matches_are_won,
                                small_gains_add_up,
                                equals_may_become_better,
                                unknown_arms_have_few_blocks_out,
                                rare_costs_count,
                                interruptions_decide_nothing,
                                phases_are_noticed,
                                release_is_part_of_the_cost,
                                release_of_other_times,
                                programs_that_do_much_else,
                                processor_time_begins_anew,
                                cold_memory_is_paid_for,
                                interruptions_are_not_charged,
                                time_tells_a_phase,
                                pages_that_nothing_passes,
                                what_a_program_cannot_notice,
                                drift_is_no_broken_promise,
                                promises_are_kept,
                                first_blocks_decide_nothing,
                                growth_decides_nothing,
                                the_dearest_wait,
                                the_dearest_stay_within_the_budget,
                                same_seed_same_decisions,
                                no_trials_no_games,
                                a_clock_that_stands_proves_nothing,
                                standings_add_up,
                                listed_arms_only,
                                alike_arms_play_once,
                                scopes,
                                freeze,
                                back_to_the_baseline,
                                too_many_faults,
                                floating_point_of_the_program,
                                senseless_samples,
                                costs_are_weighted_ratios,
                                small_terms_do_not_matter,
                                use_takes_time,
                                restart_is_settled,
                                state_is_written_now_and_then,
                                other_states_are_refused,
                                states_that_cannot_be_read,
                                truncated_states_are_refused,
                                forged_states};
  if (argc > 1 && strcmp(argv[1], "table") == 0) {
    print_table();
    return EXIT_SUCCESS;
  }
  Suite *suite = suite_create("learn");
  TCase *cases = tcase_create("learn");
  tcase_set_timeout(cases, 120);
  for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
    tcase_add_loop_test(cases, tests[i], 0, POLICIES);
  }
  suite_add_tcase(suite, cases);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_ENV);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
