/* SPDX-License-Identifier: MIT */
/*
 * trial.h - measured blocks: for some of the large blocks, what they cost from malloc to free. Only while the policy learns.
 *
 * What is measured: time in malloc and free, pages that were touched first in between, and pages that stay resident afterwards.
 * First touches happen behind the allocator's back, and a measure without them would always favour giving memory back.
 */
#ifndef HKI_TRIAL_H
#define HKI_TRIAL_H

#include "base.h"
#include "want.h"

/* Whether a block that has drawn the challenger can be measured: only then it gets it. [any] */
bool hki_trial_turn(void);

/* True when this block is to be measured. Every block of a challenger is. [any] */
bool hki_trial_due(const struct hki_want *want);

/* What is noted before malloc gets a block that is to be measured. */
struct hki_trial_begin {
  uint64_t ns;
  uint64_t release; /* hki_thread.release_ns */
};

/* Begins the trial of the block that malloc has got since and is about to hand out. */
void hki_trial_start(const struct hki_want *want, void *block, const struct hki_trial_begin *begin,
                     const struct hki_thread *thread);

/* A trial between the beginning and the end of its block's free. */
struct hki_trial_end {
  const void *block;
  size_t capacity;
  uint64_t used;    /* resident before */
  uint64_t release; /* hki_thread.release_ns before */
  uint64_t began;   /* ns */
  uint64_t looking; /* ns spent to find that out */
  uint32_t trial;
};
void hki_trial_stop(struct hki_trial_end *end, uint32_t trial, const void *block, size_t capacity,
                    const struct hki_thread *thread);
void hki_trial_finish(const struct hki_trial_end *end, const struct hki_thread *thread);

/* Moves finished trials to `to`; returns how many. Under the control lock. */
uint32_t hki_trial_collect(struct hak_trial *to, uint32_t room);

/* Counts time that a decision took against the share of time that learning may take. */
void hki_trial_spent(uint64_t ns);

/* Measuring takes one part in so many, from 1 on, of the time that it may take, and saves the rest for later. [any] */
void hki_trial_ease(uint32_t parts);

/* Starts anew, in the child of a fork. */
void hki_trial_fork_child(void);

#endif
