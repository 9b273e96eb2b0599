/* SPDX-License-Identifier: MIT */
/*
 * learned.h - what a learning policy has found out, read from a running process or from its state file. Both come in one form: who
 * is champion of which rows, and how the strategies did there.
 */
#ifndef LEARNED_H
#define LEARNED_H

#include "tool.h"

#include "../core/root.h"

enum {
  LEARNED_BIN = 18, /* the smallest with large blocks */
  LEARNED_FIRST = LEARNED_BIN * HAK_SITES,
  LEARNED_CONTESTS = HAK_ROWS - LEARNED_FIRST
};

/* How a strategy did. */
struct learned_stand {
  uint64_t blocks; /* that it served; 0 in a state file, which does not say */
  uint64_t trials; /* measured blocks */
  uint64_t games, wins, losses, draws;
  uint64_t score, spread; /* thousandths of `learned.unit`; 0: unknown */
};

/* One choice, for rows one after the other. */
struct learned_contest {
  uint32_t first, rows;
  uint32_t champion; /* index */
  uint64_t weight;   /* blocks, or trials where these are unknown */
  uint64_t score;    /* of the champion, in thousandths of the baseline's cost; 0: unknown */
  struct learned_stand stand[HKI_ARMS];
};

struct learned {
  char *source; /* what it was read from */
  char policy[HKI_NAME];
  uint32_t arm_count, baseline;
  char arm[HKI_ARMS][HKI_NAME];
  struct learned_stand whole[HKI_ARMS]; /* of all contests; scores in thousandths of the baseline's cost */
  uint32_t contest_count;
  struct learned_contest contest[LEARNED_CONTESTS]; /* rows rise; only those in which something happened */
  bool apart; /* contests have stands of their own, with scores in thousandths of their champion's cost */
};

/* Each false after one line that says why not. */
bool learned_from_process(struct learned *learned, pid_t pid);
bool learned_from_file(struct learned *learned, const char *path);

#endif
