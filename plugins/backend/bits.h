/* SPDX-License-Identifier: MIT */
/*
 * bits.h - ranges of bits in maps. Owns nothing; the caller holds the lock of the maps.
 *
 * Maps that are used together lie together: word w of a map is at map[w * MAPS], and the next map begins one word further.
 */
#ifndef BITS_H
#define BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
  WORD = 64, /* bits in a word */
  MAPS = 4   /* maps that share an array */
};

/* The bits of word `w` that lie in [first, end). */
static inline uint64_t word_mask(size_t w, size_t first, size_t end)
{
  uint64_t mask = UINT64_MAX;
  if (first > w * WORD) {
    mask &= UINT64_MAX << (first - w * WORD);
  }
  if (end < (w + 1) * WORD) {
    mask &= UINT64_MAX >> ((w + 1) * WORD - end);
  }
  return mask;
}

static inline void bits_set(uint64_t *map, size_t first, size_t end)
{
  for (size_t w = first / WORD; w * WORD < end; w++) {
    map[w * MAPS] |= word_mask(w, first, end);
  }
}

/* Clears [first, end) and returns how many bits were set. */
static inline size_t bits_clear(uint64_t *map, size_t first, size_t end)
{
  size_t count = 0;
  for (size_t w = first / WORD; w * WORD < end; w++) {
    uint64_t mask = word_mask(w, first, end);
    count += (size_t)__builtin_popcountll(map[w * MAPS] & mask);
    map[w * MAPS] &= ~mask;
  }
  return count;
}

/* The first bit in [from, limit) with that value, or limit. */
static inline size_t bits_next(const uint64_t *map, size_t from, size_t limit, bool value)
{
  if (from >= limit) {
    return limit;
  }
  uint64_t flip = value ? 0 : UINT64_MAX;
  size_t w = from / WORD;
  uint64_t word = (map[w * MAPS] ^ flip) & (UINT64_MAX << from % WORD);
  while (word == 0) {
    w++;
    if (w * WORD >= limit) {
      return limit;
    }
    word = map[w * MAPS] ^ flip;
  }
  size_t bit = w * WORD + (size_t)__builtin_ctzll(word);
  return bit < limit ? bit : limit;
}

/* Where the first `count` bits in a row that are clear begin, all of them in [from, limit); or limit. */
static inline size_t bits_clear_run(const uint64_t *map, size_t from, size_t limit, size_t count)
{
  size_t begin = from, w = from / WORD;
  uint64_t set = begin + count <= limit ? map[w * MAPS] & (UINT64_MAX << from % WORD) : 0; /* of the word, not yet passed */
  while (begin + count <= limit) {
    size_t end = set != 0 ? w * WORD + (size_t)__builtin_ctzll(set) : (w + 1) * WORD; /* all in [begin, end) are clear */
    if (end >= begin + count) {
      return begin;
    }
    if (set == 0) {
      set = map[++w * MAPS];
    } else {
      uint64_t carried = set + (set & -set); /* where its lowest bits in a row end; 0 when they end with the word */
      begin = w * WORD + (carried != 0 ? (size_t)__builtin_ctzll(carried) : WORD);
      set &= carried;
    }
  }
  return limit;
}

/* The end of the last set bit in [limit, end), or limit. */
static inline size_t bits_back(const uint64_t *map, size_t limit, size_t end)
{
  for (size_t w = (end + WORD - 1) / WORD; w-- > limit / WORD;) {
    uint64_t word = map[w * MAPS] & word_mask(w, limit, end);
    if (word != 0) {
      return (w + 1) * WORD - (size_t)__builtin_clzll(word);
    }
  }
  return limit;
}

#endif
