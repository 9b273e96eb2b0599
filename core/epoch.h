/* SPDX-License-Identifier: MIT */
/* epoch.h - what large blocks did, and when the policy is asked what to do next. */
#ifndef HKI_EPOCH_H
#define HKI_EPOCH_H

#include "base.h"

/* Counts one large block; at the end of an epoch asks the policy, on this thread. [slow path of an own record] */
void hki_epoch_count(size_t size, uint32_t arm);

/* Takes a policy into service: its first choice is made and published. NULL, or what is wrong with it. [load] */
const char *hki_epoch_start(const char *name, const struct hak_policy_ops *ops, void *self);

/* Asks the policy once more with the last sample, after one of its options changed. Under the control lock. */
void hki_epoch_again(void);

/* What a thread is while it runs the policy's callbacks; NULL when there is no policy. */
struct hki_thread *hki_policy_inside(void);

#endif
