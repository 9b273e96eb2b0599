/* SPDX-License-Identifier: MIT */
/* fork.h - keeping the heap whole across fork. */
#ifndef HKI_FORK_H
#define HKI_FORK_H

/* Registers the handlers. Once, before the state is READY, so that no fork is missed. */
void hki_fork_start(void);

#endif
