/* SPDX-License-Identifier: MIT */
/*
 * control.h - what is done under the control lock, and for the process as a whole: statistics, live options, trim.
 */
#ifndef HKI_CONTROL_H
#define HKI_CONTROL_H

#include "base.h"

/* hak_set and the mailbox. An errno code; `why` gets one line. */
int hki_control_set(const char *name, const char *value, const char *who, char *why, size_t why_size);

/* malloc_trim: gives back what can be given back at once; returns the bytes. */
size_t hki_control_trim(void);

/* The report at the end of the process, where settings ask for one. */
void hki_control_exit_report(void);

#endif
