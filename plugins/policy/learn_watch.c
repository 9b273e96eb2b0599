/* SPDX-License-Identifier: MIT */
/*
 * learn_watch.c - whether a figure has moved, beyond its noise. Owns nothing; the caller's lock, or thread, guards a watch.
 *
 * The mean of WINDOW logarithms is compared with that of the last LEVEL_MEMORY. Logarithms, since one figure that is extreme must not look
 * like a move. Where they vary much, a move that is half as large shows in WINDOWS windows together: level and window overlap.
 */
#include "learn.h"

#include <math.h>

enum {
  LEVEL_MEMORY = 256, /* figures that the level remembers */
  WINDOW = 16,        /* figures */
  WINDOWS = 4,        /* together they are a wide one */
  EARLY = 4           /* figures in a window that is not full, for a look at it */
};

#define NOISE 3.0      /* standard errors between the mean of a window and the level */
#define WIDE_NOISE 4.0 /* the same for a wide one */

/* By how much a mean of so many is off the level; 0 when that may be noise, or is less than `least`. */
static double off(const struct learn_watch *watch, double mean, double n, double noise, double least)
{
  double moved = mean - watch->level.mean;
  double error = sqrt(learn_variance(&watch->level) * (1 / n + 1 / watch->level.n));
  return watch->level.n >= 2 * n && fabs(moved) > fmax(noise * error, least) ? moved : 0;
}

double learn_watch_add(struct learn_watch *watch, double figure, double least)
{
  double moved = 0;
  watch->window += log(figure);
  learn_add(&watch->level, log(figure), LEVEL_MEMORY);
  if (++watch->window_count < WINDOW) {
    return 0;
  }
  double narrow = off(watch, watch->window / WINDOW, WINDOW, NOISE, least);
  int32_t alarm = narrow > 0 ? 1 : narrow < 0 ? -1 : 0;
  if (alarm == watch->alarm) {
    moved = narrow;
  }
  watch->alarm = alarm;
  watch->wide += watch->window;
  watch->window = 0;
  watch->window_count = 0;
  if (++watch->wide_count == WINDOWS) {
    double wide = off(watch, watch->wide / (WINDOW * WINDOWS), WINDOW * WINDOWS, WIDE_NOISE, least / 2);
    moved = wide != 0 ? wide : moved;
    watch->wide = 0;
    watch->wide_count = 0;
  }
  return moved;
}

double learn_watch_early(const struct learn_watch *watch, double least)
{
  double n = watch->window_count;
  bool known = n >= EARLY && watch->level.n >= 2 * WINDOW;
  return known ? off(watch, watch->window / n, n, NOISE, least) : 0;
}
