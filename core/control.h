/* SPDX-License-Identifier: MIT */
/*
 * control.h - the control plane's lock, and what is done under it: statistics, live options, trim.
 *
 * The lock serialises everything that changes settings, options, or what is published. It is never taken on the way to memory,
 * except by a thread that finds it free at the end of an epoch.
 */
#ifndef HKI_CONTROL_H
#define HKI_CONTROL_H

#include "base.h"

extern hak_lock hki_control_lock; /* taken around a fork */

bool hki_control_try(void);
void hki_control_take(void);
void hki_control_release(void);

/* hak_set and the mailbox. An errno code; `why` gets one line. */
int hki_control_set(const char *name, const char *value, const char *who, char *why, size_t why_size);

/* malloc_trim: gives back what can be given back at once; returns the bytes. */
size_t hki_control_trim(void);

/* The report at the end of the process, where settings ask for one. */
void hki_control_exit_report(void);

#endif
