/* SPDX-License-Identifier: MIT */
/*
 * deferred.h - frees that cannot be done where they arrive: inside a callback of a plugin that may hold its lock, or between
 * fork's handlers, where any lock may be held. They wait for the next slow event of any thread.
 */
#ifndef HKI_DEFERRED_H
#define HKI_DEFERRED_H

#include "base.h"

void hki_defer(void *block);

bool hki_deferred_waiting(void);
/* Frees what waits, through the calling thread. */
void hki_deferred_free(void);

#endif
