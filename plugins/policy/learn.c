/* SPDX-License-Identifier: MIT */
/*
 * learn.c - the callbacks of a learning policy: start, from sample to choice, end. Owns the learner; only `choose` changes it,
 * which runs on one thread at a time, so there are no locks. learn.h says which words are atomic.
 */
#include "learn.h"

#include <errno.h>
#include <fenv.h>
#include <string.h>
#include <unistd.h>

enum {
  RECENT = 8,        /* samples that the time of a block is taken from, or so; */
  STRANGE = 3,       /* so many in a row that are strange to it, and it is taken anew from there, */
  TIMES_STRANGE = 4, /* that is, so many times longer or shorter */
  SAVE_SECONDS = 10, /* from one write of the state file to the next, at least */
  TRIALS_FEW = 8,    /* trials from one decision to the next while a challenger is new ... */
  TRIALS_MANY = 16,  /* ... and later */
  NEW = 8,           /* a challenger with fewer trials in its match is new */
  EASE = 2           /* when all is calm, measuring takes one part in so many of its time */
};

#define SECOND UINT64_C(1000000000)
#define MOST 4e9 /* of the numbers in a standing, which have 32 bits */

const char *const learn_scopes[] = {"global", "bin", "site", NULL};

/* The mixing of splitmix64: consecutive states give unrelated values. */
uint32_t learn_random(struct learn *learn, uint32_t limit)
{
  learn->random += UINT64_C(0x9e3779b97f4a7c15);
  uint64_t x = learn->random;
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  x ^= x >> 31;
  return (uint32_t)(((x >> 32) * limit) >> 32);
}

/* ---- samples --------------------------------------------------------------------------------------------------------- */

/* The row of large blocks, counted from LEARN_FIRST_BIN; LEARN_ROWS for all others. */
static uint32_t large_row(uint32_t row)
{
  uint32_t first = LEARN_FIRST_BIN * HAK_SITES;
  return row >= first && row < HAK_ROWS ? row - first : LEARN_ROWS;
}

static void take_trial(struct learn *learn, const hak_trial *trial)
{
  uint32_t row = large_row(trial->row);
  if (row == LEARN_ROWS || trial->arm >= learn->arm_count || trial->bytes == 0 || trial->cpu_ns == 0) {
    hak_count(learn->host, LEARN_DROPPED, 1); /* no block costs no time: a clock stood still, and nothing follows from that */
    return;
  }
  struct learn_contest *contest = &learn->contest[learn_contest_of(learn->scope, row)];
  double cost;
  hak_count(learn->host, LEARN_TRIALS, 1);
  contest->arm[trial->arm].trials++;
  if (learn_cost(learn, row, trial, trial->arm == contest->champion, &cost)) {
    double own = learn_cost_time(learn, trial), least = learn_cost_least(learn);
    /* Its faults are in the cost already. */
    double life = trial->life_ns > trial->fault_ns ? (double)(trial->life_ns - trial->fault_ns) : 0;
    learn_contest_trial(learn, contest, trial->arm, cost, (struct learn_times){life, own, own > least ? own : least});
  }
}

static void take_cell(struct learn *learn, const hak_cell *cell, bool frozen)
{
  uint32_t row = large_row(cell->row);
  if (row == LEARN_ROWS || cell->arm >= learn->arm_count) {
    return;
  }
  learn->fresh_bytes += (double)cell->bytes;
  learn_cost_release(learn, row, cell);
  learn_contest_cell(&learn->contest[learn_contest_of(learn->scope, row)], cell, frozen);
}

/* A program that begins to do something else takes another time for its blocks at once; the mean would follow slowly. */
static void note_strange(struct learn *learn, double each)
{
  double usual = learn_time_of_block(learn, 0);
  int32_t way = each > TIMES_STRANGE * usual ? 1 : each * TIMES_STRANGE < usual ? -1 : 0;
  learn->strange = way == 0 ? 0 : way * learn->strange > 0 ? learn->strange + way : way;
  if (usual > 0 && (learn->strange >= STRANGE || learn->strange <= -STRANGE)) {
    learn->recent_cpu = learn->recent_blocks = learn->recent_bytes = 0;
    learn->strange = 0;
  }
}

/* What the program takes for each large block, processor time. An older core does not tell; in the child of a fork it begins anew. */
static void take_time(struct learn *learn, const hak_sample *sample)
{
  uint64_t cpu = sample->struct_size >= sizeof *sample ? sample->cpu_ns : 0;
  bool known = learn->sample_cpu != 0 && cpu >= learn->sample_cpu;
  bool more = cpu > learn->sample_cpu && sample->blocks > learn->sample_blocks;
  if (known && more) {
    note_strange(learn, (double)(cpu - learn->sample_cpu) / (double)(sample->blocks - learn->sample_blocks));
    learn->recent_cpu += (double)(cpu - learn->sample_cpu) - learn->recent_cpu / RECENT;
    learn->recent_blocks += (double)(sample->blocks - learn->sample_blocks) - learn->recent_blocks / RECENT;
    learn->recent_bytes += learn->fresh_bytes - learn->recent_bytes / RECENT;
  }
  if (!known || more) {
    learn->sample_cpu = cpu;
    learn->sample_blocks = sample->blocks;
    learn->fresh_bytes = 0;
  }
}

double learn_time_of_block(const struct learn *learn, double bytes)
{
  double each = learn->recent_blocks > 0 ? learn->recent_cpu / learn->recent_blocks : 0;
  bool large = learn->recent_bytes > 0 && bytes * learn->recent_blocks > learn->recent_bytes;
  return large ? learn->recent_cpu * bytes / learn->recent_bytes : each;
}

static void take_sample(struct learn *learn, const hak_sample *sample, bool frozen)
{
  for (uint32_t i = 0; i < sample->cell_count; i++) {
    take_cell(learn, hak_sample_cell(sample, i), frozen);
  }
  take_time(learn, sample);
  for (uint32_t i = 0; i < learn->contest_count; i++) {
    learn_contest_blocks(learn, &learn->contest[i]);
  }
  for (uint32_t i = 0; i < sample->trial_count; i++) {
    hak_trial trial = {.life_ns = 0}; /* an older core does not tell */
    memcpy(&trial, hak_sample_trial(sample, i), sample->trial_stride < sizeof trial ? sample->trial_stride : sizeof trial);
    take_trial(learn, &trial);
  }
}

/* Sends every contest back to the baseline when the process has more page faults than it may, measured over a second. */
static void watch_faults(struct learn *learn, const hak_sample *sample)
{
  if (learn->fault_limit == 0 || sample->faults == 0) {
    return;
  }
  uint64_t time = sample->now - learn->window_time;
  if (learn->window_time != 0 && time < SECOND) {
    return;
  }
  double rate = (double)(sample->faults - learn->window_faults) * (double)SECOND / (double)time;
  bool over = learn->window_time != 0 && rate > (double)learn->fault_limit;
  learn->window_time = sample->now;
  learn->window_faults = sample->faults;
  for (uint32_t i = 0; i < learn->contest_count && over; i++) {
    learn_contest_revert(learn, &learn->contest[i]);
  }
}

/* ---- answers --------------------------------------------------------------------------------------------------------- */

/* Rounded, and 0 or `most` when it is beyond. */
static uint64_t rounded(double value, double most)
{
  return value > 0 ? (uint64_t)((value < most ? value : most) + 0.5) : 0;
}

static void report_arm(const struct learn *learn, uint32_t arm, hak_standing *standing)
{
  double scores = 0, spreads = 0, ratings = 0, weight = 0, rated = 0;
  uint32_t in = 0;
  memset(standing, 0, sizeof *standing);
  for (uint32_t i = 0; i < learn->contest_count; i++) {
    const struct learn_contest *contest = &learn->contest[i];
    const struct learn_arm *own = &contest->arm[arm];
    if (own->trials == 0) {
      continue;
    }
    uint32_t spread, score = learn_score(learn, contest, arm, &spread);
    double trials = score > 0 ? (double)own->trials : 0;
    standing->games += own->games;
    standing->wins += own->wins;
    standing->losses += own->losses;
    standing->draws += own->draws;
    standing->trials += own->trials;
    scores += trials * score;
    spreads += trials * spread;
    weight += trials;
    ratings += (double)own->trials * own->rating;
    rated += (double)own->trials;
    in += !own->out && !own->barred;
  }
  if (rated > 0) {
    standing->state = in > 0 ? HAK_ARM_ACTIVE : HAK_ARM_OUT;
    standing->rating = (uint32_t)rounded(ratings / rated * 1000, MOST);
  }
  if (weight > 0) {
    standing->score = (uint32_t)rounded(scores / weight, MOST);
    standing->spread = (uint32_t)rounded(spreads / weight, MOST);
  }
}

static void report(struct learn *learn, hak_choice *choice)
{
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    report_arm(learn, i, &choice->standing[i]);
  }
  hak_gauge(learn->host, LEARN_LOSS, rounded(learn->loss * 1000, 1e18));
  hak_gauge(learn->host, LEARN_USED, learn->whole > 0 ? rounded(learn->loss * 1e6 / learn->whole, 1e18) : 0);
}

static void publish(struct learn *learn, hak_choice *choice, bool learning)
{
  for (uint32_t i = 0; i < choice->row_count; i++) {
    uint32_t row = large_row(i);
    choice->champion[i] = choice->challenger[i] = (uint8_t)learn->baseline;
    choice->share[i] = 0;
    choice->reason[i] = HAK_REASON_SET;
    if (row < LEARN_ROWS) {
      const struct learn_contest *contest = &learn->contest[learn_contest_of(learn->scope, row)];
      choice->champion[i] = choice->challenger[i] = contest->champion;
      choice->reason[i] = contest->reason;
    }
  }
  choice->trials = learning ? TRIALS_MANY : 0;
  choice->tries = 0;
  choice->seed = learn->seed;
  bool calm = true;
  for (uint32_t i = 0; i < learn->contest_count && learning; i++) {
    const struct learn_contest *contest = &learn->contest[i];
    uint32_t blocks = learn_blocks(learn, contest);
    uint16_t share = (uint16_t)(learn_share(learn, contest) * 65536);
    calm = calm && (contest->blocks == 0 || learn_is_calm(contest));
    uint32_t first = LEARN_FIRST_BIN * HAK_SITES + learn_first_row(learn->scope, i);
    uint32_t end = first + learn_row_count(learn->scope);
    if (blocks > 0 && contest->arm[contest->challenger].match.n < NEW) {
      choice->trials = TRIALS_FEW;
    }
    if (blocks > 0 && blocks < TRIALS_FEW && (choice->tries == 0 || blocks < choice->tries)) {
      choice->tries = blocks;
    }
    for (uint32_t row = first; row < end && row < choice->row_count && blocks > 0; row++) {
      choice->challenger[row] = contest->challenger;
      choice->share[row] = share;
      choice->purse[row] = (uint16_t)first;
      choice->most[row] = (uint16_t)blocks;
    }
  }
  choice->ease = calm ? EASE : 1;
}

/* The child of a fork leaves the file to its parent, until that is gone, as when a daemon begins. */
static bool may_save(const struct learn *learn)
{
  return learn->path != NULL && (learn->parent == 0 || getppid() != learn->parent);
}

static void save(struct learn *learn, uint64_t now)
{
  size_t size = learn_state_write(learn, learn->text);
  bool failed = learn->host->os->write_file(learn->path, learn->text, size) < 0;
  if (failed && !learn->write_failed) {
    learn->host->log(learn->host, "the state file cannot be written; what is learned ends with the process");
  }
  learn->write_failed = failed;
  learn->unsaved = false;
  learn->saved = now;
}

static void answer(struct learn *learn, const hak_sample *sample, hak_choice *choice)
{
  bool frozen = __atomic_load_n(&learn->freeze, __ATOMIC_RELAXED) != 0;
  take_sample(learn, sample, frozen);
  if (!frozen) {
    for (uint32_t i = 0; i < learn->contest_count; i++) {
      if (learn->contest[i].blocks > 0) {
        learn_decide(learn, &learn->contest[i]);
      }
    }
    watch_faults(learn, sample);
  }
  publish(learn, choice, !frozen && learn->contested);
  report(learn, choice);
  if (learn->unsaved && (learn->saved == 0 || sample->now - learn->saved >= SAVE_SECONDS * SECOND) && may_save(learn)) {
    save(learn, sample->now);
  }
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

/* The program may run with trapping floating-point exceptions, or round upwards; here the defaults hold. */
int32_t learn_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  struct learn *learn = self;
  fenv_t program;
  if (sample->arm_count != learn->arm_count) {
    return HAK_INVALID;
  }
  __atomic_exchange_n(&learn->busy, 1U, __ATOMIC_ACQUIRE);
  fegetenv(&program);
  fesetenv(FE_DFL_ENV);
  answer(learn, sample, choice);
  fesetenv(&program);
  __atomic_store_n(&learn->busy, 0U, __ATOMIC_RELEASE);
  return HAK_OK;
}

/*
 * While another thread decides, or did when this process was forked, the tables are half changed: the file stays as it is. It
 * also does when this process had no blocks to learn from.
 */
void learn_finish(void *self)
{
  struct learn *learn = self;
  fenv_t program;
  if (!may_save(learn) || learn->blocks == learn->inherited || __atomic_exchange_n(&learn->busy, 1U, __ATOMIC_ACQUIRE) != 0) {
    return;
  }
  fegetenv(&program);
  fesetenv(FE_DFL_ENV);
  save(learn, learn->saved);
  fesetenv(&program);
  __atomic_store_n(&learn->busy, 0U, __ATOMIC_RELEASE);
}

void learn_fork_child(void *self)
{
  struct learn *learn = self;
  learn->parent = learn->process;
  learn->process = getpid();
  learn->inherited = learn->blocks;
}

int32_t learn_set(void *self, uint32_t option, hak_value value)
{
  struct learn *learn = self;
  if (option != LEARN_FREEZE) {
    return HAK_INVALID;
  }
  __atomic_store_n(&learn->freeze, value.flag ? 1U : 0U, __ATOMIC_RELAXED);
  return HAK_OK;
}

static bool enable(struct learn *learn, const char *name)
{
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    if (strcmp(learn->host->arm_name[i], name) == 0) {
      learn->enabled[i] = true;
      return true;
    }
  }
  return false;
}

/* NULL, or what is wrong. */
static const char *read_options(struct learn *learn, const hak_value *values)
{
  const char *const *list = values[LEARN_LIST].list;
  double weights = 0;
  learn->baseline = values[LEARN_BASELINE].arm;
  learn->scope = (enum learn_scope)values[LEARN_SCOPE].choice;
  learn->epsilon = values[LEARN_EPSILON].number;
  learn->budget = values[LEARN_BUDGET].number;
  learn->freeze = values[LEARN_FREEZE].flag;
  learn->seed = (uint32_t)values[LEARN_SEED].integer;
  learn->random = learn->seed;
  learn->fault_limit = (uint64_t)values[LEARN_FAULT_LIMIT].integer;
  learn->match = (double)values[LEARN_MATCH].integer;
  learn->path = values[LEARN_STATE_FILE].string[0] != 0 ? values[LEARN_STATE_FILE].string : NULL;
  if (learn->arm_count > LEARN_ARMS || learn->baseline >= learn->arm_count) {
    return "found no baseline, expected between 1 and 32 strategies";
  }
  for (uint32_t i = 0; i < LEARN_TERMS; i++) {
    learn->weight[i] = values[LEARN_CPU + i].number;
    weights += learn->weight[i];
  }
  if (weights <= 0) {
    return "found weights that are all 0, expected at least one that is not";
  }
  for (uint32_t i = 0; i < LEARN_TERMS; i++) {
    learn->weight[i] /= weights;
  }
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    learn->enabled[i] = i == learn->baseline || list == NULL || list[0] == NULL;
  }
  for (; list != NULL && *list != NULL; list++) {
    if (!enable(learn, *list)) {
      return "found a name in `arms` that is no strategy, expected those of [strategy.NAME] sections";
    }
  }
  return NULL;
}

/* Whether two arms do the same with all sizes of a contest. `same` has the first arm that does what an arm does, for each bin. */
static bool alike(const struct learn *learn, uint8_t (*same)[LEARN_ARMS], uint32_t contest, uint32_t a, uint32_t b)
{
  uint32_t first = learn_first_row(learn->scope, contest), end = first + learn_row_count(learn->scope);
  for (uint32_t bin = first / HAK_SITES; bin * HAK_SITES < end; bin++) {
    if (same[bin][a] != same[bin][b]) {
      return false;
    }
  }
  return true;
}

/* Of arms that do the same the baseline plays, or the first. */
static void find_spare(struct learn *learn)
{
  uint8_t same[LEARN_BINS][LEARN_ARMS];
  for (uint32_t bin = 0; bin < LEARN_BINS; bin++) {
    for (uint32_t arm = 0; arm < learn->arm_count; arm++) {
      same[bin][arm] = (uint8_t)learn->host->arm_alike(learn->host, LEARN_FIRST_BIN + bin, arm);
    }
  }
  for (uint32_t contest = 0; contest < learn->contest_count; contest++) {
    bool *spare = &learn->spare[contest * learn->arm_count];
    uint32_t play = 0;
    for (uint32_t i = 0; i < learn->arm_count; i++) {
      for (uint32_t j = 0; j < learn->arm_count && !spare[i] && i != learn->baseline; j++) {
        bool before = learn->enabled[j] && (j < i || j == learn->baseline);
        spare[i] = before && j != i && alike(learn, same, contest, i, j);
      }
      play += learn->enabled[i] && !spare[i];
    }
    learn->contested |= play > 1;
  }
}

static bool make_tables(struct learn *learn)
{
  const hak_host *host = learn->host;
  learn->contest_count = learn_contest_count(learn->scope);
  learn->contest = host->meta_alloc(host, learn->contest_count * sizeof *learn->contest, 64);
  struct learn_arm *arms = host->meta_alloc(host, learn->contest_count * learn->arm_count * sizeof *arms, 64);
  learn->spare = host->meta_alloc(host, learn->contest_count * learn->arm_count * sizeof *learn->spare, 64);
  learn->row = host->meta_alloc(host, LEARN_ROWS * sizeof *learn->row, 64);
  learn->release = host->meta_alloc(host, LEARN_ROWS * learn->arm_count * sizeof *learn->release, 64);
  if (learn->contest == NULL || arms == NULL || learn->spare == NULL || learn->row == NULL || learn->release == NULL) {
    return false;
  }
  for (uint32_t i = 0; i < learn->contest_count; i++) {
    learn->contest[i].arm = &arms[i * learn->arm_count];
  }
  find_spare(learn);
  learn_reset(learn);
  if (learn->path != NULL) {
    learn->text_size = learn_state_size(learn);
    learn->text = host->meta_alloc(host, learn->text_size, 64);
  }
  return learn->path == NULL || learn->text != NULL;
}

void learn_reset(struct learn *learn)
{
  memset(learn->row, 0, LEARN_ROWS * sizeof *learn->row);
  for (uint32_t i = 0; i < learn->contest_count; i++) {
    learn_contest_reset(learn, &learn->contest[i]);
  }
}

static const char *unreadable(long error)
{
  return error == -EISDIR   ? "state_file: found a directory" LEARN_STAYS
         : error == -EACCES ? "state_file: found that it may not be read" LEARN_STAYS
                            : "state_file: found that it cannot be read" LEARN_STAYS;
}

/* A file that is not there, or is empty, is a first start. One that cannot be used is told, and never written over. */
static void restore(struct learn *learn)
{
  long size = learn->host->os->read_file(learn->path, learn->text, learn->text_size);
  const char *why = NULL;
  if (hak_os_failed(size)) {
    why = size != -ENOENT ? unreadable(size) : NULL;
  } else if (size > 0) {
    why = learn_state_read(learn, learn->text, (size_t)size);
  }
  if (why != NULL) {
    learn->host->log(learn->host, why);
    learn->path = NULL;
  }
}

static struct learn *start(const hak_host *host, const hak_value *values, const struct learn_rules *rules)
{
  struct learn *learn = host->meta_alloc(host, sizeof *learn, 64);
  const char *why = "no memory to start with";
  if (learn != NULL) {
    learn->host = host;
    learn->rules = rules;
    learn->arm_count = host->arm_count;
    learn->process = getpid();
    const char *wrong = read_options(learn, values);
    if (wrong == NULL && make_tables(learn)) {
      if (learn->path != NULL) {
        restore(learn);
      }
      return learn;
    }
    why = wrong != NULL ? wrong : why;
  }
  host->log(host, why);
  return NULL;
}

struct learn *learn_start(const hak_host *host, const hak_value *values, const struct learn_rules *rules)
{
  fenv_t program;
  fegetenv(&program);
  fesetenv(FE_DFL_ENV);
  struct learn *learn = start(host, values, rules);
  fesetenv(&program);
  return learn;
}
