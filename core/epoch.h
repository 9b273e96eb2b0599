/* SPDX-License-Identifier: MIT */
/* epoch.h - what large blocks did, and when the policy is asked what to do next. */
#ifndef HKI_EPOCH_H
#define HKI_EPOCH_H

#include "base.h"
#include "want.h"

/* Counts one large block; at the end of an epoch asks the policy, on this thread. [slow path of an own record] */
void hki_epoch_count(struct hki_want *want);

/* Counts the free of a block in the row that its allocation was counted in, whatever its size and its site are now. [any] */
void hki_epoch_freed(uint32_t arm, uint32_t row);

/* Charges the release of a range to the arm and row that it came from, if there is one. Only while the policy learns. [any] */
void hki_epoch_released(const hak_range *range, uint64_t ns);

/* Asks the policy early, once it has as many trials as it wanted. [slow path of an own record] */
void hki_epoch_trials(uint32_t done, uint32_t tries);

/* Whether the policy in force wants trials. [any] */
HKI_INLINE bool hki_epoch_learns(void)
{
  return HKI_LOAD(&hakmem_root.trials_wanted) != 0;
}

/* The row to note for a block's free; 0: none, it is not counted. [any] */
HKI_INLINE uint32_t hki_epoch_row(const struct hki_want *want)
{
  return want->size > HAK_CLASS_MAX && hki_epoch_learns() ? want->row : 0;
}

/* Takes a policy into service: its first choice is made and published. NULL, or what is wrong with it. [load] */
const char *hki_epoch_start(const struct hak_policy_ops *ops, void *self, struct hki_thread *inside);

/* Asks the policy once more with an empty sample, after one of its options changed. Under the control lock. */
void hki_epoch_again(void);

/* Lets the policy save what it learned. At exit. */
void hki_epoch_finish(void);

/* In the child of a fork. */
void hki_epoch_fork_child(void);

/* Whether there is a policy. */
bool hki_epoch_has_policy(void);

#endif
