/* SPDX-License-Identifier: MIT */
/*
 * conform.h - how the two halves of `hakmem plugins --check` print their verdicts. For one thread at a time.
 */
#ifndef CONFORM_H
#define CONFORM_H

#include <stdbool.h>

/*
 * Prints `ok   WHAT`, or `FAIL WHAT: ` with the formatted text, which says what was found and what expected. Returns `good`.
 */
bool verdict(bool good, const char *what, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* 1 when a verdict of this process was bad, else 0. */
int verdict_status(void);

#endif
