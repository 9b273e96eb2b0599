/* SPDX-License-Identifier: MIT */
/* message.c - text without stdio. Owns nothing. */
#define _GNU_SOURCE
#include "message.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE = 1024 }; /* longest line, with its newline */

struct hki_text hki_text(char *buffer, size_t size)
{
  struct hki_text text = {buffer, buffer + size - 1};
  *buffer = 0;
  return text;
}

static void put(struct hki_text *text, const char *s, size_t n)
{
  size_t room = (size_t)(text->limit - text->at);
  if (n > room) {
    n = room;
  }
  memcpy(text->at, s, n);
  text->at += n;
  *text->at = 0;
}

static void put_number(struct hki_text *text, unsigned long value, unsigned base)
{
  char digits[24];
  size_t n = sizeof digits;
  do {
    digits[--n] = "0123456789abcdef"[value % base];
    value /= base;
  } while (value != 0);
  put(text, digits + n, sizeof digits - n);
}

static void put_signed(struct hki_text *text, long value)
{
  if (value < 0) {
    put(text, "-", 1);
  }
  put_number(text, value < 0 ? 0UL - (unsigned long)value : (unsigned long)value, 10);
}

void hki_vappend(struct hki_text *text, const char *format, va_list args)
{
  for (const char *f = format; *f != 0; f++) {
    if (*f != '%') {
      put(text, f, 1);
      continue;
    }
    bool is_long = f[1] == 'l';
    f += is_long ? 2 : 1;
    switch (*f) {
    case 's': {
      const char *s = va_arg(args, const char *);
      s = s != NULL ? s : "(null)";
      put(text, s, strnlen(s, (size_t)(text->limit - text->at)));
      break;
    }
    case 'c': {
      char c = (char)va_arg(args, int);
      put(text, &c, 1);
      break;
    }
    case 'u':
      put_number(text, is_long ? va_arg(args, unsigned long) : va_arg(args, unsigned), 10);
      break;
    case 'd':
      put_signed(text, is_long ? va_arg(args, long) : va_arg(args, int));
      break;
    case 'p':
      put(text, "0x", 2);
      put_number(text, (uintptr_t)va_arg(args, void *), 16);
      break;
    default:
      put(text, "%", 1);
      break;
    }
  }
}

void hki_append(struct hki_text *text, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  hki_vappend(text, format, args);
  va_end(args);
}

int hki_write(int fd, const char *data, size_t size)
{
  int saved = errno;
  while (size > 0) {
    long n = syscall(SYS_write, fd, data, size);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      int code = n < 0 ? errno : EIO;
      errno = saved;
      return code;
    }
    data += n;
    size -= (size_t)n;
  }
  errno = saved;
  return 0;
}

static void say(const char *format, va_list args)
{
  char line[LINE];
  struct hki_text text = hki_text(line, sizeof line - 1); /* room for the newline when the text is cut */
  hki_append(&text, "hakmem: ");
  hki_vappend(&text, format, args);
  for (char *c = line; c < text.at; c++) { /* what a user wrote is quoted, a line break from the environment among it */
    *c = (unsigned char)*c < ' ' ? ' ' : *c;
  }
  *text.at++ = '\n';
  (void)hki_write(STDERR_FILENO, line, (size_t)(text.at - line));
}

void hki_say(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  say(format, args);
  va_end(args);
}

void hki_die(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  say(format, args);
  va_end(args);
  abort();
}
