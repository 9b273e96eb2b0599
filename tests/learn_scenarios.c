/* SPDX-License-Identifier: MIT */
/* learn_scenarios.c - what the learning policies are put through, and how well they do. Owns nothing. */
#include "learn_sim.h"

#include <stdio.h>
#include <stdlib.h>

void some_good(struct sim *sim, uint64_t seed, uint32_t good)
{
  uint32_t left = good;
  for (uint64_t i = 0; left > 0; i++) {
    uint32_t arm = 1 + (uint32_t)(mix(seed * 1000 + i) % (sim->arms - 1));
    if (sim->cost[arm] > 0.5) {
      sim->cost[arm] = 0.5;
      left--;
    }
  }
}

static struct outcome outcome(const struct sim *sim, uint64_t blocks)
{
  return (struct outcome){.regret = (sim->paid - sim->best) / sim->paid,
                          .blocks = blocks,
                          .changes = sim->changes,
                          .games = counters[LEARN_GAMES],
                          .loss = (double)counters[LEARN_USED] / 1e6};
}

struct outcome best_start(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  for (uint32_t i = 1; i < ARMS; i++) {
    sim->cost[i] = i < ARMS / 2 ? 1 : 2;
  }
  start(sim);
  return outcome(sim, run(sim, 20000));
}

struct outcome all_worse(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  for (uint32_t i = 1; i < ARMS; i++) {
    sim->cost[i] = 1 + 0.1 * i;
  }
  start(sim);
  return outcome(sim, run(sim, 20000));
}

struct outcome dear_arm(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  for (uint32_t i = 1; i < ARMS; i++) {
    sim->cost[i] = 1.5;
  }
  sim->cost[1 + seed % (ARMS - 1)] = 20;
  start(sim);
  return outcome(sim, run(sim, 20000));
}

struct outcome bad_start(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  some_good(sim, seed, ARMS / 2);
  start(sim);
  return outcome(sim, run(sim, 20000));
}

struct outcome one_good(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  some_good(sim, seed, 1);
  start(sim);
  return outcome(sim, run(sim, 40000));
}

/* Good becomes bad and bad becomes good. */
struct outcome swap(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  some_good(sim, seed, ARMS / 2);
  start(sim);
  run(sim, 20000);
  for (uint32_t i = 0; i < ARMS; i++) {
    sim->cost[i] = 1.5 - sim->cost[i];
  }
  return outcome(sim, run(sim, 20000));
}

/* The champion stays what it is, but half of those that were worse are better now. */
struct outcome losers_win(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  for (uint32_t i = 1; i < ARMS; i++) {
    sim->cost[i] = 2;
  }
  start(sim);
  run(sim, 20000);
  some_good(sim, seed, ARMS / 2);
  return outcome(sim, run(sim, 20000));
}

/* The champion becomes bad after all that could be spent was spent on others; half of those are good now. */
struct outcome swap_when_spent(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  for (uint32_t i = 1; i < ARMS; i++) {
    sim->cost[i] = 2;
  }
  start(sim);
  run(sim, 20000);
  for (uint32_t i = 0; i < ARMS; i++) {
    sim->cost[i] = 3;
  }
  some_good(sim, seed, ARMS / 2);
  for (uint32_t i = 0; i < ARMS; i++) {
    sim->cost[i] = sim->cost[i] < 1 ? 1.5 : 3;
  }
  return outcome(sim, run(sim, 20000));
}

struct outcome identical(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  start(sim);
  return outcome(sim, run(sim, 100000));
}

struct outcome much_noise(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  sim->sigma = 1.2;
  start(sim);
  return outcome(sim, run(sim, 100000));
}

/* One arm is cheap nine times in ten and a thousand times as dear the tenth time. */
struct outcome rarely_dear(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  sim->arms = 3;
  sim->cost[1] = 0.1;
  sim->rare_arm = 1;
  sim->rare = 0.1;
  start(sim);
  return outcome(sim, run(sim, 100000));
}

/* One block of a thousand, of any arm, costs a thousand times as much: its thread was interrupted. */
struct outcome interrupted(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  sim->rare = 0.001;
  sim->rare_arm = LEARN_NOBODY;
  start(sim);
  return outcome(sim, run(sim, 100000));
}

struct outcome interrupted_start(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  sim->rare = 0.001;
  sim->rare_arm = LEARN_NOBODY;
  some_good(sim, seed, ARMS / 2);
  start(sim);
  return outcome(sim, run(sim, 100000));
}

/* One arm is an eighth better, beside noise that is nearly as large as the costs. */
struct outcome small_gain(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  sim->sigma = 0.8;
  sim->cost[1 + seed % (ARMS - 1)] = 0.875;
  start(sim);
  return outcome(sim, run(sim, 100000));
}

struct outcome few_measured(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  sim->measured = 0.1;
  some_good(sim, seed, ARMS / 2);
  start(sim);
  return outcome(sim, run(sim, 100000));
}

struct outcome long_lives(uint32_t policy, uint64_t seed)
{
  struct sim *sim = new_sim(policy, seed);
  sim->life = 2000;
  some_good(sim, seed, ARMS / 2);
  sim->cost[1 + (seed % (ARMS - 1))] = 20;
  start(sim);
  return outcome(sim, run(sim, 200000));
}

struct scenario {
  const char *name;
  struct outcome (*run)(uint32_t policy, uint64_t seed);
};

static const struct scenario scenarios[] = {{"champion is best, 6 of 11 cost twice as much", best_start},
                                            {"champion is best, others cost 1.1 to 2.1", all_worse},
                                            {"one arm 20 times dearer", dear_arm},
                                            {"bad start, half of the arms good", bad_start},
                                            {"bad start, one good arm of eleven", one_good},
                                            {"good and bad swapped", swap},
                                            {"good and bad swapped, credit spent", swap_when_spent},
                                            {"old losers win", losers_win},
                                            {"identical arms, 100000 blocks", identical},
                                            {"identical arms, noise 1.2", much_noise},
                                            {"one arm cheap, but 1 in 10 costs 1000 times", rarely_dear},
                                            {"identical arms, interruptions", interrupted},
                                            {"bad start, interruptions", interrupted_start},
                                            {"one arm an eighth better, noise 0.8", small_gain},
                                            {"one block of 10 measured", few_measured},
                                            {"blocks live 2000 blocks, one dear", long_lives}};

enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static int by_value(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static struct summary summarise(double *values)
{
  qsort(values, SEEDS, sizeof *values, by_value);
  return (struct summary){(values[SEEDS / 2 - 1] + values[SEEDS / 2]) / 2, values[SEEDS - 1]};
}

struct figures figures_of(struct outcome (*scenario)(uint32_t, uint64_t), int policy)
{
  double regret[SEEDS], blocks[SEEDS], changes[SEEDS], games[SEEDS], loss[SEEDS];
  for (uint32_t i = 0; i < SEEDS; i++) {
    struct outcome one = scenario((uint32_t)policy, i + 1);
    regret[i] = one.regret;
    blocks[i] = (double)one.blocks;
    changes[i] = (double)one.changes;
    games[i] = (double)one.games;
    loss[i] = one.loss;
  }
  return (struct figures){summarise(regret), summarise(blocks), summarise(changes), summarise(games), summarise(loss)};
}

void print_table(void)
{
  printf("%-46s %-8s %15s %15s %9s %13s %13s\n", "median and worst of 20 seeds", "policy", "regret %", "blocks to settle",
         "changes", "games", "loss %");
  for (uint32_t i = 0; i < SCENARIOS; i++) {
    for (uint32_t policy = 0; policy < POLICIES; policy++) {
      struct figures f = figures_of(scenarios[i].run, (int)policy);
      printf("%-46s %-8s %7.2f %7.2f %7.0f %8.0f %4.0f %4.0f %6.0f %6.0f %6.2f %6.2f\n", scenarios[i].name,
             policy == ELO ? "elo" : "epsilon", f.regret.median * 100, f.regret.worst * 100, f.blocks.median, f.blocks.worst,
             f.changes.median, f.changes.worst, f.games.median, f.games.worst, f.loss.median * 100, f.loss.worst * 100);
    }
  }
}
