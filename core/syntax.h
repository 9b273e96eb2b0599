/* SPDX-License-Identifier: MIT */
/* syntax.h - what libhakmem and the command `hakmem` must read in an INI alike. Owns nothing. */
#ifndef HKI_SYNTAX_H
#define HKI_SYNTAX_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Within a line. */
static inline bool hki_is_blank(char c)
{
  return c == ' ' || (c >= '\t' && c <= '\r' && c != '\n');
}

/* Where the text of a line ends: before its comment, if there is one, as inih would have it. */
static inline size_t hki_before_comment(const char *line, size_t length)
{
  const char *end = line + length;
  for (const char *at = line; (at = memchr(at, ';', (size_t)(end - at))) != NULL; at++) {
    if (at == line || hki_is_blank(at[-1])) {
      return (size_t)(at - line);
    }
  }
  return length;
}

/* The value that a word stands for. False when it stands for none. */
static inline bool hki_parse_bool(const char *text, bool *value)
{
  static const char *const words[] = {"off", "on", "false", "true", "no", "yes", "0", "1"};
  for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
    if (strcmp(text, words[i]) == 0) {
      *value = i % 2 == 1;
      return true;
    }
  }
  return false;
}

/* Bytes of the byte order mark that an editor may have put in front of a file's text. */
static inline size_t hki_mark_length(const char *text)
{
  static const char mark[] = "\xef\xbb\xbf";
  return strncmp(text, mark, sizeof mark - 1) == 0 ? sizeof mark - 1 : 0;
}

#endif
