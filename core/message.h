/* SPDX-License-Identifier: MIT */
/*
 * message.h - text without stdio: a bounded buffer, and lines on standard error.
 *
 * The formatter knows %s (NULL prints as (null)), %c, %u (unsigned), %lu (unsigned long), %ld, %d, %p and %%. Text that does
 * not fit is cut. Nothing allocates, nothing locks, errno is kept.
 */
#ifndef HKI_MESSAGE_H
#define HKI_MESSAGE_H

#include <stdarg.h>

#include "base.h"

struct hki_text {
  char *at;    /* next character */
  char *limit; /* last character, kept for the NUL */
};

/* Starts a text in a buffer of `size` > 0 bytes; it is NUL-terminated at every moment. */
struct hki_text hki_text(char *buffer, size_t size);
void hki_vappend(struct hki_text *text, const char *format, va_list args);
void hki_append(struct hki_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One line "hakmem: ..." to standard error, in one write. */
void hki_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, then SIGABRT. For misuse of the interface by the program: there is no way to go on. */
_Noreturn void hki_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes all of it, through interruptions and short writes. 0, or the errno code with which the descriptor refuses. */
int hki_write(int fd, const char *data, size_t size);

#endif
