/* SPDX-License-Identifier: MIT */
/* spelling.h - how much two names differ, for what was meant by one that nobody knows. Owns nothing. */
#ifndef HKI_SPELLING_H
#define HKI_SPELLING_H

#include <stdint.h>
#include <string.h>

enum { HKI_NEAR = 3 }; /* letters by which a name differs at most from the one that was meant */

/* Levenshtein distance, by two rows; some number above `within` as soon as it is. */
static inline uint32_t hki_distance(const char *a, const char *b, uint32_t within)
{
  uint32_t row[64];
  uint32_t length = (uint32_t)strlen(b);
  size_t other = strlen(a);
  if (length >= 64 || other > length + within || length > other + within) {
    return within + 1;
  }
  for (uint32_t j = 0; j <= length; j++) {
    row[j] = j;
  }
  for (; *a != 0; a++) {
    uint32_t diagonal = row[0]++, least = row[0];
    for (uint32_t j = 1; j <= length; j++) {
      uint32_t change = diagonal + (*a != b[j - 1]);
      diagonal = row[j];
      uint32_t step = (row[j - 1] < row[j] ? row[j - 1] : row[j]) + 1;
      row[j] = change < step ? change : step;
      least = row[j] < least ? row[j] : least;
    }
    if (least > within) { /* it can only rise */
      return least;
    }
  }
  return row[length];
}

#endif
