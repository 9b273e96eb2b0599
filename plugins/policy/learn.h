/* SPDX-License-Identifier: MIT */
/*
 * learn.h - what the learning policies share. A policy of this kind is a set of rules: who plays next, and what follows from
 * a result. Everything else is here: costs, contests, the loss budget, the way back to the baseline, the state file.
 *
 * learn.c has the callbacks, learn_contest.c the decisions, learn_watch.c notices changes, learn_cost.c turns a trial into one number,
 * learn_state.c reads and writes the state file. Words: a contest is one choice between arms, for all rows, a size bin or one row. A match is the comparison of its
 * champion with a challenger. A turn is the time a challenger has blocks; a match can take several.
 *
 * All of this changes inside `choose` only, on one thread at a time; what is atomic says so.
 */
#ifndef LEARN_H
#define LEARN_H

#include "hakmem/plugin.h"

#include "learn_moments.h"

enum {
  LEARN_ARMS = 32,      /* most strategies that there can be */
  LEARN_FIRST_BIN = 18, /* the smallest bin with large blocks */
  LEARN_BINS = HAK_BINS - LEARN_FIRST_BIN,
  LEARN_ROWS = LEARN_BINS * HAK_SITES,
  LEARN_NOBODY = 0xff /* no arm */
};

_Static_assert(((size_t)1 << LEARN_FIRST_BIN) == HAK_CLASS_MAX, "blocks above HAK_CLASS_MAX begin in the first bin");
_Static_assert(LEARN_ARMS <= LEARN_NOBODY, "no arm has the number that means none");

/* ---- options and counters of every learning policy ------------------------------------------------------------------- */

enum learn_option {
  LEARN_BASELINE,
  LEARN_LIST,
  LEARN_SCOPE,
  LEARN_EPSILON,
  LEARN_BUDGET,
  LEARN_CPU,
  LEARN_FAULTS,
  LEARN_MEMORY,
  LEARN_FREEZE,
  LEARN_SEED,
  LEARN_STATE_FILE,
  LEARN_FAULT_LIMIT,
  LEARN_MATCH,
  LEARN_OPTIONS
};

enum learn_scope { LEARN_GLOBAL, LEARN_BIN, LEARN_SITE };

/* The table of a policy starts with these. */
extern const char *const learn_scopes[] __attribute__((visibility("hidden")));

#define LEARN_OPTION_ROWS                                                                                                      \
  [LEARN_BASELINE] = {.key = "baseline",                                                                                       \
                      .type = HAK_ARM,                                                                                         \
                      .fallback = "default",                                                                                   \
                      .help = "strategy to begin with, to compare costs with, and to go back to"},                             \
  [LEARN_LIST] = {.key = "arms",                                                                                               \
                  .type = HAK_LIST,                                                                                            \
                  .fallback = "",                                                                                              \
                  .help = "strategies to choose from, besides the baseline; empty: all"},                                      \
  [LEARN_SCOPE] = {.key = "scope",                                                                                             \
                   .type = HAK_ENUM,                                                                                           \
                   .fallback = "bin",                                                                                          \
                   .choices = learn_scopes,                                                                                    \
                   .help = "one choice for everything, for each size bin, or for each bin and kind of call site"},             \
  [LEARN_EPSILON] = {.key = "epsilon",                                                                                         \
                     .type = HAK_FLOAT,                                                                                        \
                     .fallback = "0.25",                                                                                       \
                     .min = "0",                                                                                               \
                     .max = "0.5",                                                                                             \
                     .help = "largest part of the blocks for a challenger; twice that, up to 0.5, if it looks no dearer"},     \
  [LEARN_BUDGET] = {.key = "budget",                                                                                           \
                    .type = HAK_FLOAT,                                                                                         \
                    .fallback = "0.01",                                                                                        \
                    .min = "0",                                                                                                \
                    .max = "0.5",                                                                                              \
                    .help = "what challengers may cost more than the champion, as a part of the program's time"},              \
  [LEARN_CPU] = {.key = "weight_cpu",                                                                                          \
                 .type = HAK_FLOAT,                                                                                            \
                 .fallback = "0.4",                                                                                            \
                 .min = "0",                                                                                                   \
                 .max = "1000",                                                                                                \
                 .help = "weight of the time in malloc, free and the release of pages"},                                       \
  [LEARN_FAULTS] = {.key = "weight_faults",                                                                                    \
                    .type = HAK_FLOAT,                                                                                         \
                    .fallback = "0.3",                                                                                         \
                    .min = "0",                                                                                                \
                    .max = "1000",                                                                                             \
                    .help = "weight of the time in page faults"},                                                              \
  [LEARN_MEMORY] = {.key = "weight_memory",                                                                                    \
                    .type = HAK_FLOAT,                                                                                         \
                    .fallback = "0.3",                                                                                         \
                    .min = "0",                                                                                                \
                    .max = "1000",                                                                                             \
                    .help = "weight of resident memory, while a block lives and after"},                                       \
  [LEARN_FREEZE] = {.key = "freeze",                                                                                           \
                    .type = HAK_BOOL,                                                                                          \
                    .flags = HAK_LIVE,                                                                                         \
                    .fallback = "off",                                                                                         \
                    .help = "stop learning: the champions stay, nothing is tried or measured"},                                \
  [LEARN_SEED] = {.key = "seed",                                                                                               \
                  .type = HAK_INT,                                                                                             \
                  .fallback = "1",                                                                                             \
                  .min = "0",                                                                                                  \
                  .max = "4294967295",                                                                                         \
                  .help = "of all draws: the same seed and samples give the same decisions"},                                  \
  [LEARN_STATE_FILE] = {.key = "state_file",                                                                                   \
                        .type = HAK_STRING,                                                                                    \
                        .flags = HAK_ABSOLUTE,                                                                                 \
                        .fallback = "",                                                                                        \
                        .help = "file to keep what was learned in; empty: none"},                                              \
  [LEARN_FAULT_LIMIT] = {.key = "fault_limit",                                                                                 \
                         .type = HAK_INT,                                                                                      \
                         .fallback = "0",                                                                                      \
                         .min = "0",                                                                                           \
                         .max = "1000000000",                                                                                  \
                         .help = "page faults a second above which the baseline takes over; 0: no limit"},                     \
  [LEARN_MATCH] = {.key = "match",                                                                                             \
                   .type = HAK_INT,                                                                                            \
                   .fallback = "50",                                                                                           \
                   .min = "8",                                                                                                 \
                   .max = "10000",                                                                                             \
                   .help = "measured blocks of a challenger before a close match may be called a draw"}

enum learn_counter {
  LEARN_GAMES,
  LEARN_WINS,
  LEARN_LOSSES,
  LEARN_DRAWS,
  LEARN_CHANGES,
  LEARN_REVERTS,
  LEARN_PHASES,
  LEARN_TRIALS,
  LEARN_DROPPED,
  LEARN_LOSS,
  LEARN_USED,
  LEARN_COUNTERS
};

#define LEARN_COUNTER_ROWS                                                                                                     \
  [LEARN_GAMES] = {"games", HAK_COUNTER, HAK_SUM_NONE, "", "decided matches"},                                                 \
  [LEARN_WINS] = {"wins", HAK_COUNTER, HAK_SUM_NONE, "", "matches that the challenger won"},                                   \
  [LEARN_LOSSES] = {"losses", HAK_COUNTER, HAK_SUM_NONE, "", "matches that the challenger lost"},                              \
  [LEARN_DRAWS] = {"draws", HAK_COUNTER, HAK_SUM_NONE, "", "matches within the noise"},                                        \
  [LEARN_CHANGES] = {"changes", HAK_COUNTER, HAK_SUM_NONE, "", "changes of a champion"},                                       \
  [LEARN_REVERTS] = {"reverts", HAK_COUNTER, HAK_SUM_NONE, "", "of them, back to the baseline"},                               \
  [LEARN_PHASES] = {"phases", HAK_COUNTER, HAK_SUM_NONE, "", "times that the program changed what it does"},                   \
  [LEARN_TRIALS] = {"trials", HAK_COUNTER, HAK_SUM_NONE, "", "measured blocks that taught something"},                         \
  [LEARN_DROPPED] = {"dropped", HAK_COUNTER, HAK_SUM_NONE, "", "measured blocks that made no sense"},                          \
  [LEARN_LOSS] = {"loss", HAK_GAUGE, HAK_SUM_NONE, "",                                                                         \
                  "what challengers cost beyond the champion, in thousandths of its blocks"},                                  \
  [LEARN_USED] = {"budget_used", HAK_GAUGE, HAK_SUM_NONE, "", "the same, in millionths of the program's whole cost"}

/* ---- state ----------------------------------------------------------------------------------------------------------- */

/* Whether the program does something else: logarithms of one figure of the champion's trials, since it or the phase began. */
struct learn_watch {
  struct learn_moments level;
  double window;         /* sum of the last ones, not yet a full window */
  uint32_t window_count; /* how many */
  int32_t alarm;         /* the last full window was above (1) or below (-1) the level */
  double wide;           /* sum of the full windows since several were last looked at together */
  uint32_t wide_count;   /* how many */
};

/* One arm in one contest. Its costs are multiples of the champion's. */
struct learn_arm {
  struct learn_moments all;   /* of all its trials, the old ones forgotten */
  struct learn_moments match; /* of those in the match that is on; it may take several turns */
  struct learn_moments drawn; /* of those in matches with this champion that were drawn, since the last that was not */
  double beside;              /* trials of the champion in the turns of all these matches */
  uint32_t warming;           /* so many of its next trials are the first of a match, and not compared */
  uint32_t turn;              /* trials in this turn */
  double live;                /* blocks out that it got as a challenger */
  double unpaid;              /* such blocks that were freed and not yet charged */
  double due;                 /* in this sample: sum of the extra costs of its trials, cold memory included */
  double chill;               /* what cold memory has cost for each of its blocks beyond the champion's, old ones forgotten */
  uint32_t due_trials;        /* in this sample */
  uint64_t last;              /* blocks of the contest when its last turn ended */
  uint64_t trials;            /* measured blocks */
  uint64_t games, wins, losses, draws;
  double rating; /* ELO */
  bool open;     /* its match is on, or between two turns */
  bool guessed;  /* `all` is such trials and nothing else */
  bool tried;    /* has had a turn since the phase began */
  bool lost;     /* has lost a match since the phase began */
  bool barred;   /* caused too many faults, or was worse as champion than it promised; until the phase ends */
  bool out;      /* eliminated; the rules' */
  bool played;   /* in this round; the rules' */
};

struct learn_contest {
  struct learn_arm *arm;       /* [arm_count] */
  uint64_t blocks;             /* since the start */
  uint64_t fresh_blocks;       /* in this sample */
  double live, live_peak;      /* blocks of all arms; how many there were at the last peak, which is forgotten slowly */
  struct learn_moments cost;   /* of the champion's trials; 1 is what the reference cost when the row was calibrated */
  struct learn_moments reign;  /* of them, all since it became champion or the phase began */
  struct learn_moments before; /* what the former champion cost when it was that */
  struct learn_moments since;  /* and what it costs as challenger now */
  struct learn_moments life;   /* ns for which its blocks lived */
  struct learn_moments time;   /* ns that they took in malloc, free, page faults and one pass through their pages */
  struct learn_moments chill;  /* what interruptions of its blocks' lives look like: cold memory; in champion's blocks */
  struct learn_watch costs;    /* of the champion's costs */
  struct learn_watch units;    /* and of the unit that its blocks would give */
  double credit;               /* what exploring may still lose, in champion's blocks */
  double loan;                 /* of it, what is to be paid back */
  double left;                 /* of it for the next challenger */
  bool saving;                 /* it is needed for an arm that has waited long */
  uint64_t calm;               /* `blocks` when all arms had had a turn since the champion or phase began; 0: they have not */
  double decided;              /* games since then; those of few trials count as parts */
  uint64_t turn_blocks;        /* `blocks` when the turn began */
  uint32_t turns;              /* since the phase began */
  uint8_t champion;
  uint8_t challenger; /* or LEARN_NOBODY */
  uint8_t former;     /* champion before, as long as this one is on probation; or LEARN_NOBODY */
  uint8_t reason;     /* enum hak_reason of the champion */
  bool phase;         /* the trials of this sample showed that a new phase began */
  double jump;        /* and this is the logarithm of how much dearer the champion became */
};

/* What a block of the reference cost in one row, and what follows from it. learn_cost.c explains. */
enum learn_term {
  LEARN_TERM_CPU,
  LEARN_TERM_FAULTS,
  LEARN_TERM_MEMORY,
  LEARN_TERMS,
  LEARN_RESIDENT = LEARN_TERMS, /* bytes resident and requested: no terms, but of the unit */
  LEARN_BYTES,
  LEARN_MEASURED
};

struct learn_row {
  bool priced;               /* ref, unit and price are valid */
  double ref[LEARN_TERMS];   /* ns, ns, bytes resident for each byte requested */
  double unit;               /* ns */
  double price[LEARN_TERMS]; /* what one unit of each term adds to the cost */
  struct learn_calibration {
    uint32_t count; /* trials */
    double sum[LEARN_MEASURED], dearest[LEARN_MEASURED];
  } of[2]; /* while not priced: of the baseline, of another champion */
};

/* Release of pages, by row and arm. */
struct learn_release {
  double frees, ns; /* old ones forgotten */
};

enum learn_result { LEARN_OPEN, LEARN_WIN, LEARN_LOST, LEARN_DRAW, LEARN_OVER };

struct learn;

/* What distinguishes the policies. */
struct learn_rules {
  const char *policy;  /* its name, for the state file */
  uint32_t turn;       /* measured blocks after which an open match is interrupted; 0: matches are played to their end */
  double first_rating; /* 0: no ratings */
  /* The next challenger, or LEARN_NOBODY. */
  uint8_t (*next)(struct learn *learn, struct learn_contest *contest);
  /* Optional. A match ended; before the champion changes. */
  void (*ended)(struct learn *learn, struct learn_contest *contest, struct learn_arm *challenger, enum learn_result result);
  /* Optional. A new phase began. */
  void (*forget)(struct learn *learn, struct learn_contest *contest);
};

struct learn {
  const hak_host *host;
  const struct learn_rules *rules;
  uint32_t arm_count;
  uint32_t contest_count;
  enum learn_scope scope;
  struct learn_contest *contest; /* [contest_count] */
  struct learn_row *row;         /* [LEARN_ROWS] */
  struct learn_release *release; /* [LEARN_ROWS * arm_count] */
  bool enabled[LEARN_ARMS];      /* may be chosen */
  bool *spare;                   /* [contest_count * arm_count] does the same as another one there, which plays for both */
  bool contested;                /* some contest has more than one arm to choose from */
  uint32_t baseline;
  double epsilon, budget;
  double weight[LEARN_TERMS]; /* their sum is 1 */
  double match;               /* measured blocks */
  uint64_t fault_limit;       /* a second; 0: none */
  uint32_t seed;
  uint32_t freeze;                     /* atomic */
  uint32_t busy;                       /* atomic; 1 while `choose` runs */
  uint64_t random;                     /* state of learn_random */
  uint64_t window_faults, window_time; /* where the measurement of the fault rate began; time 0: it has not */
  double loss;                         /* of all contests, in champion's blocks */
  double whole;                        /* what the program took, in the same */
  uint64_t blocks;                     /* of all contests */
  uint64_t sample_cpu, sample_blocks;  /* in the last sample: processor time, and large blocks of all sizes */
  double fresh_bytes;                  /* of the cells since then */
  double recent_cpu, recent_blocks;    /* of the last samples, the old ones forgotten */
  double recent_bytes;                 /* of these blocks */
  int32_t strange;                     /* samples in a row whose blocks took much longer (or, negative, less) than these */
  const char *path;                    /* of the state file; NULL: none, or not to be written */
  char *text;                          /* [text_size] to write and read it */
  size_t text_size;
  int process, parent; /* this one; the one that forked it, or 0 */
  uint64_t inherited;  /* of `blocks`, those of the parent */
  uint64_t saved;      /* when it was last written; 0: never */
  bool unsaved;        /* a champion has changed since */
  bool write_failed;   /* and that was logged */
};

#pragma GCC visibility push(hidden)

/* ---- learn.c --------------------------------------------------------------------------------------------------------- */

/* [load] A learner with these rules. NULL after logging one line. */
struct learn *learn_start(const hak_host *host, const hak_value *values, const struct learn_rules *rules);

/* Processor time that the program takes for a large block, ns; 0: unknown. One of more bytes than the mean has takes more. */
double learn_time_of_block(const struct learn *learn, double bytes);

/* As if nothing had been learned. */
void learn_reset(struct learn *learn);

/* As in hak_plugin and hak_policy_ops; self is the learner. */
int32_t learn_set(void *self, uint32_t option, hak_value value);
int32_t learn_choose(void *self, const hak_sample *sample, hak_choice *choice);
void learn_finish(void *self);
void learn_fork_child(void *self);

/* An even draw below `limit`. */
uint32_t learn_random(struct learn *learn, uint32_t limit);

/* ---- learn_contest.c: rows count from LEARN_FIRST_BIN ----------------------------------------------------------------- */

/* How many contests there are, and how many rows one has; the contest that decides for a row, and the first row of one. */
uint32_t learn_contest_count(enum learn_scope scope);
uint32_t learn_row_count(enum learn_scope scope);
uint32_t learn_contest_of(enum learn_scope scope, uint32_t row);
uint32_t learn_first_row(enum learn_scope scope, uint32_t contest);

/* As if nothing had been learned. */
void learn_contest_reset(const struct learn *learn, struct learn_contest *contest);

/* What is known of a measured block besides its cost, ns. */
struct learn_times {
  double life; /* from malloc to free, without page faults */
  double own;  /* in both, in page faults, and in one pass through its pages */
  double unit; /* the same, but at least what times count as */
};

/*
 * From a sample: what was allocated and freed, in a cell of the contest; then, once, that these were all; then the trials. Blocks that
 * were allocated while nobody learned (`frozen`) are missing from the frees.
 */
void learn_contest_cell(struct learn_contest *contest, const hak_cell *cell, bool frozen);
void learn_contest_blocks(struct learn *learn, struct learn_contest *contest);
void learn_contest_trial(const struct learn *learn, struct learn_contest *contest, uint32_t arm, double cost,
                         struct learn_times times);

/* Ends and begins what the sample gives reason to. */
void learn_decide(struct learn *learn, struct learn_contest *contest);

/* The baseline becomes champion because of too many faults; the champion that was must wait for a new phase. */
void learn_contest_revert(struct learn *learn, struct learn_contest *contest);

/* How many blocks the challenger may get until the next decision. */
uint32_t learn_blocks(const struct learn *learn, const struct learn_contest *contest);

/* The part of the blocks that draw the challenger; 0 when there is none. */
double learn_share(const struct learn *learn, const struct learn_contest *contest);

/* Whether the arm plays in the contest: it may be chosen, and no other one stands for it. */
bool learn_plays(const struct learn *learn, const struct learn_contest *contest, uint32_t arm);

/* Whether all arms have had a turn and nothing has changed for some time. */
bool learn_is_calm(const struct learn_contest *contest);

/* Whether the arm may be made challenger. */
bool learn_candidate(const struct learn *learn, const struct learn_contest *contest, uint32_t arm);

/* Whether it is one, and the budget allows for a block of it now. */
bool learn_ready(const struct learn *learn, const struct learn_contest *contest, uint32_t arm);

/* What one of its blocks costs more than the champion's, in champion's blocks, or 0. An unknown arm gets a guess. */
double learn_extra(const struct learn_arm *arm);

/* Mean cost of an arm in a contest, and its standard deviation, in thousandths of the baseline's mean; 0 while unknown. */
uint32_t learn_score(const struct learn *learn, const struct learn_contest *contest, uint32_t arm, uint32_t *spread);

/* ---- learn_watch.c --------------------------------------------------------------------------------------------------- */

/* Adds a figure, above 0. Returns by how much they have moved, in logarithms, or 0: less than `least`, or than their noise. */
double learn_watch_add(struct learn_watch *watch, double figure, double least);

/* The same by the few figures since the last full window. */
double learn_watch_early(const struct learn_watch *watch, double least);

/* ---- learn_cost.c ---------------------------------------------------------------------------------------------------- */

/* Takes note of what was released. `row` counts from LEARN_FIRST_BIN. */
void learn_cost_release(struct learn *learn, uint32_t row, const hak_cell *cell);

/* What the arm released in the row so far counts little from now on. */
void learn_cost_release_anew(struct learn *learn, uint32_t row, uint32_t arm);

/* The time that the block of a trial took by itself, ns; see learn_cost.c. */
double learn_cost_time(const struct learn *learn, const hak_trial *trial);

/* What times count as at least, ns. */
double learn_cost_least(const struct learn *learn);

/* The cost of a trial of an arm in that row. False while the row is being calibrated, to which the trial then contributes. */
bool learn_cost(struct learn *learn, uint32_t row, const hak_trial *trial, bool champion, double *cost);

/* The row is calibrated from now on: what a block of the reference cost, and the unit of its times, ns and positive. */
void learn_cost_set(struct learn *learn, uint32_t row, const double ref[LEARN_TERMS], double unit);

/* The row is calibrated anew. */
void learn_cost_forget(struct learn *learn, uint32_t row);

/* ---- learn_state.c --------------------------------------------------------------------------------------------------- */

/* Bytes that the text of this learner has at most. */
size_t learn_state_size(const struct learn *learn);

/* Writes the text; the bytes. */
size_t learn_state_write(const struct learn *learn, char *text);

/* What follows from a state file that is not used, behind what was found. */
#define LEARN_STAYS "; the file stays as it is, and what is learned ends with the process"

/* Takes over what a text says. NULL, or what is wrong with it; the learner is then as if the text had never been there. */
const char *learn_state_read(struct learn *learn, const char *text, size_t size);

#pragma GCC visibility pop

#endif
