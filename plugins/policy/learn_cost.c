/* SPDX-License-Identifier: MIT */
/*
 * learn_cost.c - turns a trial into one number. Owns learn->row and learn->release; no locks, see learn.h.
 *
 * A trial has three terms: time in malloc, free and the release of its pages; time in page faults; memory, that is bytes resident
 * while the block lives and after its free, for each byte requested. The cost is
 *
 *     1 + T * (time - reference) / unit + M * (memory - reference) / scale
 *
 * where the reference is the mean of the baseline in the same size bin, so that the baseline costs 1. `time` is the sum of both
 * times, each with its weight; T is the sum of these weights and M that of memory, all three together 1. So a nanosecond counts
 * the same, but for its weight, wherever it is spent: a backend that touches pages in malloc moves time from one term to the other.
 *
 * The unit is the time of the reference and one pass through its resident pages, PASS bytes in a nanosecond, which is what a program
 * spends at least on what it uses. Without it, an allocator that costs next to nothing would have another one look hundreds of times
 * dearer that no program could tell from it. A pass that would take longer than the program takes for such a block, even at FASTEST,
 * which is what caches deliver, has not been made: the pages are resident since an earlier block, and not used. For the same reason the unit is at least FLOOR_NS, below which the
 * clock's own noise would decide, and NOTICED of the program's time, and the scale of memory is the reference, but at least a
 * quarter of the bytes requested: what a block holds that is hardly touched does not matter, unless an arm makes it much more.
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
#define FASTEST 128.0     /* see above */
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

void learn_cost_set(struct learn *learn, uint32_t row, const double ref[LEARN_TERMS], double unit)
{
  struct learn_row *price = &learn->row[place(learn, row)];
  memcpy(price->ref, ref, sizeof price->ref);
  price->unit = unit;
  price->price[LEARN_TERM_CPU] = learn->weight[LEARN_TERM_CPU] / unit;
  price->price[LEARN_TERM_FAULTS] = learn->weight[LEARN_TERM_FAULTS] / unit;
  price->price[LEARN_TERM_MEMORY] = learn->weight[LEARN_TERM_MEMORY] / at_least(ref[LEARN_TERM_MEMORY], MEMORY_LEAST);
  price->priced = true;
}

/* One pass through so many resident bytes of a block, in ns; 0 when they cannot all be used. */
static double pass_through(const struct learn *learn, double resident, double bytes)
{
  double pass = resident / PASS, most = learn_time_of_block(learn, bytes);
  return most <= 0 || resident / FASTEST < most ? pass : 0;
}

double learn_cost_least(const struct learn *learn)
{
  return at_least(FLOOR_NS, NOTICED * learn_time_of_block(learn, 0)) / 2;
}

/* What the times of a block like the reference count as, each with its weight. */
static double unit_of(const struct learn *learn, const double ref[LEARN_MEASURED])
{
  const double *weight = learn->weight;
  double times = weight[LEARN_TERM_CPU] + weight[LEARN_TERM_FAULTS];
  double pass = pass_through(learn, ref[LEARN_RESIDENT], ref[LEARN_BYTES]);
  double time = weight[LEARN_TERM_CPU] * ref[LEARN_TERM_CPU] + weight[LEARN_TERM_FAULTS] * (ref[LEARN_TERM_FAULTS] + pass);
  return times > 0 ? at_least(time / times, learn_cost_least(learn)) : FLOOR_NS;
}

/* Adds a trial to the calibration of its row, and ends it with the last one. */
static void calibrate(struct learn *learn, uint32_t row, bool baseline, const double found[LEARN_MEASURED])
{
  struct learn_calibration *of = &learn->row[place(learn, row)].of[baseline ? 0 : 1];
  if (found[LEARN_TERM_CPU] + found[LEARN_TERM_FAULTS] >= of->dearest[LEARN_TERM_CPU] + of->dearest[LEARN_TERM_FAULTS]) {
    memcpy(of->dearest, found, sizeof of->dearest);
  }
  for (uint32_t i = 0; i < LEARN_MEASURED; i++) {
    of->sum[i] += found[i];
  }
  bool timed = learn->sample_cpu == 0 || learn_time_of_block(learn, 0) > 0;
  if (++of->count >= CALIBRATE && timed) {
    double ref[LEARN_MEASURED];
    for (uint32_t i = 0; i < LEARN_MEASURED; i++) {
      ref[i] = at_least(of->sum[i] - of->dearest[i], 0) / (of->count - 1);
    }
    learn_cost_set(learn, row, ref, unit_of(learn, ref));
  }
}

double learn_cost_time(const struct learn *learn, const hak_trial *trial)
{
  return (double)trial->cpu_ns + (double)trial->fault_ns + pass_through(learn, (double)trial->used_bytes, (double)trial->bytes);
}

bool learn_cost(struct learn *learn, uint32_t row, const hak_trial *trial, bool champion, double *cost)
{
  const struct learn_release *release = &learn->release[place(learn, row) * learn->arm_count + trial->arm];
  double each = release->frees > 0 ? release->ns / release->frees : 0;
  double memory = ((double)trial->used_bytes + (double)trial->held_bytes) / (double)trial->bytes;
  const double found[LEARN_MEASURED] = {[LEARN_TERM_CPU] = (double)trial->cpu_ns + each,
                                        [LEARN_TERM_FAULTS] = (double)trial->fault_ns,
                                        [LEARN_TERM_MEMORY] = memory,
                                        [LEARN_RESIDENT] = (double)trial->used_bytes,
                                        [LEARN_BYTES] = (double)trial->bytes};
  const struct learn_row *price = &learn->row[place(learn, row)];
  if (!price->priced) {
    if (champion || trial->arm == learn->baseline) {
      calibrate(learn, row, trial->arm == learn->baseline, found);
    }
    return false;
  }
  double sum = 1;
  for (uint32_t i = 0; i < LEARN_TERMS; i++) {
    sum += price->price[i] * (found[i] - price->ref[i]);
  }
  *cost = at_least(sum, COST_MIN);
  return true;
}
