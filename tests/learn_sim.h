/* SPDX-License-Identifier: MIT */
/*
 * learn_sim.h - a simulated core for the learning policies, and scenarios to put them in.
 *
 * The simulation makes blocks, lets them draw champion or challenger as the core does, frees them later, and hands out the
 * trials. What a block costs comes from a table of arms and from log-normal noise of a fixed seed, so a run is the same every
 * time.
 */
#ifndef LEARN_SIM_H
#define LEARN_SIM_H

#include "learn.h"

#include <check.h>

/* For what the simulation calls very often, and outside of tests: only a failure is reported. */
#define MUST(condition) ((condition) ? (void)0 : ck_abort_msg("%s:%d: %s", __FILE__, __LINE__, #condition))

enum {
  EPSILON,
  ELO,
  POLICIES,
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  SEEDS = 4, /* less work for sanitizers, which look at the code */
#else
  SEEDS = 20,
#endif
  ARMS = 12,
  EPOCH = 1024,
  TRIALS_MOST = 256,
  LIVE_MOST = 8192,
  COLD = 100,
  ROW = 20 * HAK_SITES
};

/* ---- learn_sim.c ----------------------------------------------------------------------------------------------------- */

struct block {
  bool live, measured, tried;
  hak_trial trial;
};

struct sim {
  const hak_plugin *plugin;
  const hak_policy_ops *ops;
  void *self;
  hak_value values[LEARN_OPTIONS + 3];
  uint32_t arms;
  double cost[LEARN_ARMS]; /* mean of each arm, in some unit */
  double sigma;            /* of the noise's logarithm */
  double rare;             /* the part of an arm's blocks that cost a thousand times as much ... */
  uint32_t rare_arm;       /* ... of this arm, or with LEARN_NOBODY of all */
  double release_ns[LEARN_ARMS];
  double reigning[LEARN_ARMS]; /* an arm costs so many times as much while it is champion */
  double cold;                 /* and its first block after COLD of others so many times as much; 0: no more than others */
  uint64_t served[LEARN_ARMS]; /* when it last had one */
  double growth;               /* a block costs so many times as much when its arm never had so many live ones; 0: no more */
  uint32_t live[LEARN_ARMS], peak[LEARN_ARMS]; /* blocks now, and at most */
  uint32_t life;                               /* blocks from an allocation to its free */
  double measured;                             /* the part of the blocks that are trials */
  bool clock_stands;                           /* all times are 0 */
  uint16_t rows[8];                            /* blocks come from these in turn */
  uint32_t row_count;
  uint64_t fault_rate; /* per second, while a challenger or champion other than arm 0 is in force */
  uint64_t random;

  uint8_t champion[HAK_ROWS], challenger[HAK_ROWS], reason[HAK_ROWS];
  uint16_t share[HAK_ROWS], purse[HAK_ROWS], most[HAK_ROWS];
  hak_standing standing[LEARN_ARMS];
  hak_choice choice;
  hak_trial trials[TRIALS_MOST];
  uint32_t trial_count, try_count; /* finished; of them, of challengers */
  hak_cell cells[HAK_ROWS][LEARN_ARMS];
  struct block ring[LIVE_MOST];
  uint64_t work;              /* ns that the program does something else for, after each block */
  uint64_t life_ns, chill_ns; /* for which the program has a block; longer when it is a challenger's */
  double interrupted;         /* the part of the blocks that the program has for 100000 ns longer, whoever's they are */
  uint64_t epoch, blocks, asked, now, faults, cpu_ns;
  uint32_t number[HAK_ROWS];
  uint64_t tries;    /* blocks of challengers */
  uint64_t changes;  /* of the champion in the first row */
  double paid, best; /* sums of true means: of the arms drawn, of the best arm */
  double over;       /* what blocks of challengers cost beyond what the champion would have, in champion's blocks */
  uint64_t decisions_hash;
};

/* What the plugin has counted, written and said since it was started. */
extern uint64_t counters[LEARN_COUNTERS];
extern char file[1 << 20];
extern long file_size; /* or -ENOENT */
extern unsigned writes, lines;
extern char last_line[256];

/* Of each arm, the first one that does the same in the bin of ROW. */
extern uint32_t alike[LEARN_ARMS];

/* A simulation in which all arms cost 1. Fields and options may be changed before it starts. */
struct sim *new_sim(uint32_t policy, uint64_t seed);
int32_t try_start(struct sim *sim);
void start(struct sim *sim);

/* Ends the epoch. */
void ask(struct sim *sim);

void one_block(struct sim *sim);

/* Runs so many blocks; the number of those before the champion was settled for good, or all of them. */
uint64_t run(struct sim *sim, uint64_t blocks);

/* Pseudo-random numbers: a function of the argument; and the next of the simulation, above 0 and up to 1. */
uint64_t mix(uint64_t x);
double uniform(struct sim *sim);

/* ---- learn_scenarios.c ----------------------------------------------------------------------------------------------- */

struct outcome {
  double regret;    /* of the whole cost */
  uint64_t blocks;  /* until settled */
  uint64_t changes; /* of the champion */
  uint64_t games;
  double loss; /* of the whole cost, by the counter */
};

struct summary {
  double median, worst;
};

struct figures {
  struct summary regret, blocks, changes, games, loss;
};

/* Makes so many arms cost half, chosen by the seed; arm 0 is never one of them. */
void some_good(struct sim *sim, uint64_t seed, uint32_t good);

/* How a policy fares in a scenario. */
struct outcome best_start(uint32_t policy, uint64_t seed);
struct outcome all_worse(uint32_t policy, uint64_t seed);
struct outcome dear_arm(uint32_t policy, uint64_t seed);
struct outcome bad_start(uint32_t policy, uint64_t seed);
struct outcome one_good(uint32_t policy, uint64_t seed);
struct outcome swap(uint32_t policy, uint64_t seed);
struct outcome swap_when_spent(uint32_t policy, uint64_t seed);
struct outcome losers_win(uint32_t policy, uint64_t seed);
struct outcome identical(uint32_t policy, uint64_t seed);
struct outcome much_noise(uint32_t policy, uint64_t seed);
struct outcome rarely_dear(uint32_t policy, uint64_t seed);
struct outcome interrupted(uint32_t policy, uint64_t seed);
struct outcome interrupted_start(uint32_t policy, uint64_t seed);
struct outcome small_gain(uint32_t policy, uint64_t seed);
struct outcome few_measured(uint32_t policy, uint64_t seed);
struct outcome long_lives(uint32_t policy, uint64_t seed);

/* The same for all seeds. */
struct figures figures_of(struct outcome (*scenario)(uint32_t, uint64_t), int policy);

void print_table(void);

#endif
