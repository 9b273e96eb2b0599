/* SPDX-License-Identifier: MIT */
/*
 * pairs.h - order statistics of measurements that were taken in pairs.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include <stddef.h>

/* Below this many pairs no two of their ratios enclose the true median with a confidence of 95 %. */
enum { PAIRS_LEAST = 6, PAIRS_MOST = 1000 };

/* A median, and what lies around it. */
struct middle {
  double low, median, high;
};

/* The median and the quartiles, by linear interpolation; count is from 1 to PAIRS_MOST. */
struct middle pairs_quartiles(const double *values, size_t count);

/*
 * The median of a[i] / b[i], and its 95 % confidence interval. The bounds are two of the ratios themselves: how many of them lie
 * below the true median is a matter of coin tosses, whatever their distribution. b is positive; count is from PAIRS_LEAST to
 * PAIRS_MOST.
 */
struct middle pairs_ratio(const double *a, const double *b, size_t count);

#endif
