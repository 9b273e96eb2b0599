/* SPDX-License-Identifier: MIT */
/* os.h - system calls and the clock, behind one structure so that tests can make them fail. */
#ifndef HKI_OS_H
#define HKI_OS_H

#include "base.h"

/* Read-only where libhakmem serves a real program: a table of function pointers is worth protecting. */
#ifdef HKI_INTERPOSE
#define HKI_OS_CONST const
#else
#define HKI_OS_CONST
#endif

extern HKI_OS_CONST struct hak_os hki_os;

/*
 * Puts a file of that content in place of `path` at once, with the owner and mode of the one that was there. Where that cannot be, as
 * with a device, a pipe, or a directory that is not ours to change, it is written as it is. A symbolic link is not followed. 0, or
 * the errno code.
 */
int hki_write_report(const char *path, const char *content, size_t size);

/* Sleeps until the word is no longer `seen`, something wakes us, or `ns` are over; 0: no bound. [any] */
void hki_futex_wait(uint32_t *word, uint32_t seen, uint64_t ns);
/* Wakes one sleeper. [any] */
void hki_futex_wake(uint32_t *word);

#endif
