/* SPDX-License-Identifier: MIT */
/*
 * pairs.c - order statistics of measurements that were taken in pairs. Keeps nothing.
 */
#include "pairs.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* What may be wrong on each side of the interval. */
#define TAIL 0.025

static int by_value(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double quantile(const double *sorted, size_t count, double fraction)
{
  double position = fraction * (double)(count - 1);
  size_t below = (size_t)position, above = below + 1 < count ? below + 1 : below;
  return sorted[below] + (sorted[above] - sorted[below]) * (position - (double)below);
}

struct middle pairs_quartiles(const double *values, size_t count)
{
  double sorted[PAIRS_MOST];
  memcpy(sorted, values, count * sizeof *values);
  qsort(sorted, count, sizeof *sorted, by_value);
  return (struct middle){quantile(sorted, count, 0.25), quantile(sorted, count, 0.5), quantile(sorted, count, 0.75)};
}

/*
 * How many of the lowest ratios, and of the highest, are outside of the interval: the most for which so few heads in `count` tosses
 * have a probability of at most TAIL.
 */
static size_t outside(size_t count)
{
  static_assert(PAIRS_LEAST == 6, "one head in so many tosses must be rarer than TAIL: 2^-6 is, 2^-5 is not");
  static_assert(PAIRS_MOST <= 1022, "2^-count is a normal number");
  double probability = 1; /* of exactly `heads` heads; 2^-count for none */
  for (size_t i = 0; i < count; i++) {
    probability /= 2;
  }
  size_t heads = 0;
  for (double sum = probability; sum <= TAIL; sum += probability) {
    heads++;
    probability *= (double)(count - heads + 1) / (double)heads;
  }
  return heads - 1;
}

struct middle pairs_ratio(const double *a, const double *b, size_t count)
{
  double sorted[PAIRS_MOST];
  for (size_t i = 0; i < count; i++) {
    sorted[i] = a[i] / b[i];
  }
  qsort(sorted, count, sizeof *sorted, by_value);
  size_t out = outside(count);
  return (struct middle){sorted[out], quantile(sorted, count, 0.5), sorted[count - 1 - out]};
}
