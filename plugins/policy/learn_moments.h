/* SPDX-License-Identifier: MIT */
/*
 * learn_moments.h - mean and variance of a stream of figures, the old ones forgotten. Owns nothing.
 *
 * One pass, without sums of squares, which cancel: B. P. Welford, "Note on a method for calculating corrected sums of squares and
 * products" (1962); two streams put together: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm
 * for computing sample variances" (1979).
 */
#ifndef LEARN_MOMENTS_H
#define LEARN_MOMENTS_H

/* n falls behind the number of figures when old ones are forgotten. */
struct learn_moments {
  double n, mean;
  double m2; /* sum of squared distances from the mean */
};

/* All that there is counts as at most so many figures from now on. */
static inline void learn_fade(struct learn_moments *moments, double most)
{
  if (moments->n > most) {
    moments->m2 *= most / moments->n;
    moments->n = most;
  }
}

/* Adds a figure; no more than the last `most`, or so, count. */
static inline void learn_add(struct learn_moments *moments, double figure, double most)
{
  learn_fade(moments, most - 1);
  double distance = figure - moments->mean;
  moments->n += 1;
  moments->mean += distance / moments->n;
  moments->m2 += distance * (figure - moments->mean);
}

/* As if the figures of both had come in one stream. */
static inline struct learn_moments learn_join(const struct learn_moments *a, const struct learn_moments *b)
{
  struct learn_moments both = {a->n + b->n, 0, 0};
  if (both.n > 0) {
    double distance = b->mean - a->mean;
    both.mean = a->mean + distance * b->n / both.n;
    both.m2 = a->m2 + b->m2 + distance * distance * a->n * b->n / both.n;
  }
  return both;
}

/* As if each figure had been so many times as large. */
static inline void learn_rescale(struct learn_moments *moments, double factor)
{
  moments->mean *= factor;
  moments->m2 *= factor * factor;
}

static inline double learn_variance(const struct learn_moments *moments)
{
  return moments->n > 0 ? moments->m2 / moments->n : 0;
}

#endif
