/* SPDX-License-Identifier: MIT */
/*
 * learn_cost.c - turns a trial into one number. Owns learn->row and learn->release; no locks, see learn.h.
 *
 * A trial has three terms: time in malloc, free and the release of its pages; time in page faults and one pass through the pages
 * that are used; memory, that is bytes resident while the block lives and after its free, for each byte requested. The cost is
 *
 *     1 + T * (time - reference) / reference + M * (memory - reference) / scale
 *
 * where the reference is the mean of the baseline in the same size bin, so that the baseline costs 1. `time` is the sum of both
 * times, each with its weight; T is the sum of these weights and M that of memory, all three together 1. So a nanosecond counts
 * the same, but for its weight, wherever it is spent: a backend that touches pages in malloc moves time from one term to the other.
 *
 * The pass, PASS bytes in a nanosecond, is what a program spends at least on what it uses. Without it, an allocator that costs next
 * to nothing would have another one look hundreds of times dearer that no program could tell from it. Pages that are resident since
 * an earlier block may not be used at all: the pass takes PASS_LIVES lives of the block at most. For the same reason the times
 * together count as at least FLOOR_NS, below which the clock's own noise would decide, and NOTICED of the program's time, and the
 * scale of memory is the reference, but at least a quarter of the bytes requested: what a block holds that is hardly touched does
 * not matter, unless an arm makes it much more.
 *
 * References are calibrated once, by the first trials of the baseline in that bin, or of another champion when these come
 * first, and then stay until the program changes what it does: a unit that moved would look like a better arm. The dearest of
 * the calibrating trials is left out, as it may have been interrupted.
 *
 * Pages are often released long after the free, many at a time, so their time is known for arm and row only. What it comes to
 * for each freed block is added to the time of every trial. An arm that has only a few blocks now and then would remember it for too
 * long: what was before a match counts little.
 */
#include "learn.h"

#include <string.h>

enum {
  CALIBRATE = 16,      /* trials */
  FLOOR_NS = 400,      /* see above */
  RELEASE_FREES = 256, /* freed blocks after which the older half of what was released counts half */
  RELEASE_KEEP = 4     /* as so many counts what was released before a match or a phase */
};

#define PASS 64.0         /* see above */
#define PASS_LIVES 4.0    /* see above */
#define NOTICED 0.1       /* see above */
#define MEMORY_LEAST 0.25 /* see above */
#define COST_MIN 0.001    /* a cost is positive: logarithms of it are taken, and other costs divided by it */

/*
 * Kinds of site share a reference unless each has a contest of its own: a kind that a few trials have calibrated, all of blocks that
 * happened to be cheap, would make the others look dear.
 */
static uint32_t place(const struct learn *learn, uint32_t row)
{
  return learn->scope == LEARN_SITE ? row : row - row % HAK_SITES;
}

static void fade(struct learn_release *release, double most)
{
  if (release->frees > most) {
    release->ns *= most / release->frees;
    release->frees = most;
  }
}

void learn_cost_release(struct learn *learn, uint32_t row, const hak_cell *cell)
{
  struct learn_release *release = &learn->release[place(learn, row) * learn->arm_count + cell->arm];
  release->frees += (double)cell->frees;
  release->ns += (double)cell->release_ns;
  if (release->frees > 2 * RELEASE_FREES) {
    fade(release, RELEASE_FREES);
  }
}

void learn_cost_release_anew(struct learn *learn, uint32_t row, uint32_t arm)
{
  fade(&learn->release[place(learn, row) * learn->arm_count + arm], RELEASE_KEEP);
}

void learn_cost_forget(struct learn *learn, uint32_t row)
{
  memset(&learn->row[place(learn, row)], 0, sizeof *learn->row);
  for (uint32_t arm = 0; arm < learn->arm_count; arm++) {
    learn_cost_release_anew(learn, row, arm);
  }
}

static double at_least(double value, double least)
{
  return value > least ? value : least;
}

void learn_cost_set(struct learn *learn, uint32_t row, const double ref[LEARN_TERMS])
{
  struct learn_row *price = &learn->row[place(learn, row)];
  const double *weight = learn->weight;
  double times = weight[LEARN_TERM_CPU] + weight[LEARN_TERM_FAULTS];
  double time = weight[LEARN_TERM_CPU] * ref[LEARN_TERM_CPU] + weight[LEARN_TERM_FAULTS] * ref[LEARN_TERM_FAULTS];
  double least = at_least(FLOOR_NS, NOTICED * learn_time_of_block(learn)) * times / 2;
  double unit = times > 0 ? times / at_least(time, least) : 0;
  memcpy(price->ref, ref, sizeof price->ref);
  price->price[LEARN_TERM_CPU] = weight[LEARN_TERM_CPU] * unit;
  price->price[LEARN_TERM_FAULTS] = weight[LEARN_TERM_FAULTS] * unit;
  price->price[LEARN_TERM_MEMORY] = weight[LEARN_TERM_MEMORY] / at_least(ref[LEARN_TERM_MEMORY], MEMORY_LEAST);
  price->priced = true;
}

/* Adds a trial to the calibration of its row, and ends it with the last one. */
static void calibrate(struct learn *learn, uint32_t row, bool baseline, const double term[LEARN_TERMS])
{
  struct learn_row *price = &learn->row[place(learn, row)];
  uint32_t who = baseline ? 0 : 1;
  double time = term[LEARN_TERM_CPU] + term[LEARN_TERM_FAULTS];
  double *dearest = price->dearest[who];
  if (time >= dearest[LEARN_TERMS]) {
    memcpy(dearest, term, LEARN_TERMS * sizeof *dearest);
    dearest[LEARN_TERMS] = time;
  }
  for (uint32_t i = 0; i < LEARN_TERMS; i++) {
    price->sum[who][i] += term[i];
  }
  bool timed = learn->sample_cpu == 0 || learn_time_of_block(learn) > 0;
  if (++price->count[who] >= CALIBRATE && timed) {
    double ref[LEARN_TERMS];
    for (uint32_t i = 0; i < LEARN_TERMS; i++) {
      ref[i] = at_least(price->sum[who][i] - dearest[i], 0) / (price->count[who] - 1);
    }
    learn_cost_set(learn, row, ref);
  }
}

/* In page faults and the pass. */
static double in_pages(const hak_trial *trial)
{
  double pass = (double)trial->used_bytes / PASS, most = PASS_LIVES * (double)trial->life_ns;
  return (double)trial->fault_ns + (pass < most || trial->life_ns == 0 ? pass : most);
}

double learn_cost_time(const hak_trial *trial)
{
  return (double)trial->cpu_ns + in_pages(trial);
}

bool learn_cost(struct learn *learn, uint32_t row, const hak_trial *trial, bool champion, double *cost)
{
  const struct learn_release *release = &learn->release[place(learn, row) * learn->arm_count + trial->arm];
  double each = release->frees > 0 ? release->ns / release->frees : 0;
  const double term[LEARN_TERMS] = {(double)trial->cpu_ns + each, in_pages(trial),
                                    ((double)trial->used_bytes + (double)trial->held_bytes) / (double)trial->bytes};
  const struct learn_row *price = &learn->row[place(learn, row)];
  if (!price->priced) {
    if (champion || trial->arm == learn->baseline) {
      calibrate(learn, row, trial->arm == learn->baseline, term);
    }
    return false;
  }
  double sum = 1;
  for (uint32_t i = 0; i < LEARN_TERMS; i++) {
    sum += price->price[i] * (term[i] - price->ref[i]);
  }
  *cost = at_least(sum, COST_MIN);
  return true;
}
