/* SPDX-License-Identifier: MIT */
/* background.h - a thread that does what is due while the program makes no requests: core.background = on. */
#ifndef HKI_BACKGROUND_H
#define HKI_BACKGROUND_H

#include "base.h"

extern HKI_HIDDEN uint32_t hki_background_wanted; /* 1: there is to be a thread, and is none yet; atomic */

/* Starts the thread if it is wanted. Says in one line when it cannot. [slow path of an own record] */
void hki_background_start(void);

/* From now on there is something to look at from time to time. [any] */
void hki_background_wake(void);

/* In the child of a fork, which has no such thread: it starts one of its own when it makes requests. */
void hki_background_fork_child(void);

#endif
