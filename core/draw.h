/* SPDX-License-Identifier: MIT */
/* draw.h - which blocks of a row get the challenger. */
#ifndef HKI_DRAW_H
#define HKI_DRAW_H

#include <stdbool.h>
#include <stdint.h>

/* Mixes all bits of a number: the finaliser of Austin Appleby's MurmurHash3. */
static inline uint32_t hki_mix(uint32_t x)
{
  x = (x ^ x >> 16) * 0x85ebca6bU;
  x = (x ^ x >> 13) * 0xc2b2ae35U;
  return x ^ x >> 16;
}

/*
 * Whether block `number` of a row draws the challenger, which has `share` of 65536 blocks. The draws are a Weyl sequence of the golden
 * ratio: evenly spread, so that the challenger has its part of the live blocks all the time and its heap does not grow and shrink by
 * chance; also among every second block, every third, and so on, so that they do not fall into step with what the program does. The
 * answer is a function of its arguments: the same program gets the same draws.
 */
static inline bool hki_draw(uint32_t seed, uint32_t row, uint32_t number, uint32_t share)
{
  return (hki_mix(seed + row) + number * 0x9e3779b9U) >> 16 < share;
}

#endif
