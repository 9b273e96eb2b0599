/* SPDX-License-Identifier: MIT */
/*
 * config.c - owns the items of all layers; written while loading only, by one thread.
 *
 * inih does the parsing. What it would do silently is caught in next_line, through which it reads: an indented line would
 * continue the key above, an over-long line or section name would be cut, and a line without '=' would only be counted. Keys that
 * follow a section header which cannot be read must not fall into the section above it: they go to section "!", unreported.
 */
#define _GNU_SOURCE
#include "config.h"

#include <fcntl.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "builtin_ini.h"
#include "message.h"
#include "meta.h"
#include "os.h"
#include "syntax.h"
#include "trust.h"

#define INSTALLED HKI_SYSCONFDIR "/hakmem.ini"

enum { ITEMS = 512, FILE_BYTES = 128 * 1024, SHOWN = 40 };

static struct hki_item *items;
static uint32_t item_count;

struct source {
  const char *file;
  const char *at;
  uint32_t line;
};

const char *hki_config_place(const struct hki_item *item, char *buffer, size_t size)
{
  struct hki_text text = hki_text(buffer, size);
  if (item->line != 0) {
    hki_append(&text, "%s:%u", item->file, item->line);
  } else {
    hki_append(&text, "%s", item->file);
  }
  return buffer;
}

void hki_mistake(const struct hki_item *item, const char *format, ...)
{
  char place[300], what[600];
  struct hki_text text = hki_text(what, sizeof what);
  va_list args;
  va_start(args, format);
  hki_vappend(&text, format, args);
  va_end(args);
  if (item != NULL) {
    hki_say("%s: %s", hki_config_place(item, place, sizeof place), what);
  } else {
    hki_say("%s", what);
  }
  hakmem_root.mistakes++;
}

static void add(const struct source *source, const char *section, const char *key, const char *value)
{
  const char *last = item_count > 0 ? items[item_count - 1].section : "";
  struct hki_item item = {.section = strcmp(last, section) == 0 ? last : hki_meta_string(section),
                          .key = hki_meta_string(key),
                          .value = hki_meta_string(value),
                          .file = source->file,
                          .line = source->line};
  if (items == NULL) {
    items = hki_meta_alloc(ITEMS * sizeof *items, _Alignof(struct hki_item));
  }
  if (items == NULL || item.section == NULL || item.key == NULL || item.value == NULL) {
    hki_mistake(&item, "no memory for the configuration");
  } else if (item_count == ITEMS) {
    hki_mistake(&item, "found more than %d settings, expected fewer; ignored", ITEMS);
  } else {
    items[item_count++] = item;
  }
}

static int on_item(void *user, const char *section, const char *key, const char *value)
{
  const struct source *source = user;
  struct hki_item here = {.file = source->file, .line = source->line};
  if (strcmp(section, "!") == 0) {
    return 1;
  }
  const char *hash = strstr(value, " #");
  if (hash != NULL || value[0] == '#') {
    hki_mistake(&here, "%s.%s: found \"%s\", expected ';' to start a comment after a value; ignored", section, key, value);
  } else {
    add(source, section, key, value);
  }
  return 1;
}

static const char *shown(char start[SHOWN + 1], const char *line, size_t length)
{
  struct hki_text text = hki_text(start, (length < SHOWN ? length : SHOWN) + 1);
  hki_append(&text, "%s", line);
  return start;
}

/* The next line that says something, without indentation and comment; NULL at the end. */
static const char *next_text(struct source *source, size_t *length)
{
  while (*source->at != 0) {
    const char *line = source->at;
    const char *end = strchrnul(line, '\n');
    source->at = end + (*end == '\n');
    source->line++;
    while (line < end && hki_is_blank(*line)) {
      line++;
    }
    *length = hki_before_comment(line, (size_t)(end - line));
    if (*length > 0 && *line != '#') {
      return line;
    }
  }
  return NULL;
}

/*
 * inih's reader: the next line or NULL at the end. What inih cannot digest is reported and left out; so are comments, for which
 * it would search character by character.
 */
static char *next_line(char *buffer, int size, void *stream)
{
  struct source *source = stream;
  size_t length;
  const char *line = next_text(source, &length);
  if (line == NULL) {
    return NULL;
  }
  char start[SHOWN + 1];
  struct hki_item here = {.file = source->file, .line = source->line};
  const char *instead = NULL;
  if (*line == '[') {
    const char *close = memchr(line, ']', length);
    size_t name = close != NULL ? (size_t)(close - line) - 1 : 0;
    if (close == NULL) {
      hki_mistake(&here, "found \"%s\", expected ']' after the section's name; section ignored", shown(start, line, length));
      instead = "[!]";
    } else if (name >= HKI_SECTION) {
      hki_mistake(&here, "found a section name of %lu characters, expected at most %d; section ignored", (unsigned long)name,
                  HKI_SECTION - 1);
      instead = "[!]";
    } else {
      length = name + 2; /* nothing behind it counts */
    }
  } else if (length + 2 > (size_t)size) {
    hki_mistake(&here, "found a line of %lu characters (\"%s...\"), expected at most %d; ignored", (unsigned long)length,
                shown(start, line, length), size - 2);
    instead = "";
  } else if (memchr(line, '=', length) == NULL && memchr(line, ':', length) == NULL) {
    hki_mistake(&here, "found \"%s\", expected key = value; ignored", shown(start, line, length));
    instead = "";
  }
  if (instead != NULL) {
    line = instead;
    length = strlen(instead);
  }
  memcpy(buffer, line, length);
  buffer[length] = '\n';
  buffer[length + 1] = 0;
  return buffer;
}

static void parse(const char *file, const char *text)
{
  struct source source = {.file = hki_meta_string(file), .at = text + hki_mark_length(text)};
  if (source.file != NULL) {
    (void)ini_parse_stream(next_line, &source, on_item, &source);
  }
}

/* A text ends at a NUL byte, what is meant does not: it ends before the line that has one. */
static void end_before_nul(const char *path, char *text, size_t size)
{
  struct hki_item here = {.file = path, .line = 1};
  char *line = text;
  if (strlen(text) == size) {
    return;
  }
  for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
    here.line++;
  }
  *line = 0;
  hki_mistake(&here, "found a NUL byte, expected text; this line and those below it are ignored");
}

/* The text of a file, empty when there is none; `text` is room for FILE_BYTES, or NULL. */
static const char *read_file(const char *path, char *text, bool must_exist)
{
  struct hki_item here = {.file = path};
  if (text == NULL) {
    hki_mistake(&here, "no memory to read it; ignored");
    return "";
  }
  long size = hki_os.read_file(path, text, FILE_BYTES);
  if (size >= 0 && size < FILE_BYTES - 1) {
    end_before_nul(path, text, (size_t)size);
    return text;
  }
  if (size >= 0) {
    hki_mistake(&here, "found a file of %d bytes or more, expected less; ignored", FILE_BYTES - 1);
  } else if (must_exist) {
    hki_mistake(&here, "cannot be read (error %ld), expected the INI file that HAKMEM_CONF names; ignored", -size);
  }
  return "";
}

/* 'section.key=value' items separated by ';'. The key is what follows the last dot before '='. */
static void parse_set(const char *text)
{
  struct source source = {.file = "HAKMEM_SET"};
  struct hki_item here = {.file = source.file};
  while (*text != 0) {
    char copy[512];
    size_t length = strcspn(text, ";");
    size_t kept = length < sizeof copy ? length : sizeof copy - 1;
    memcpy(copy, text, kept);
    copy[kept] = 0;
    text += length + (text[length] == ';');
    char *word = copy + strspn(copy, " \t");
    char *equals = strchr(word, '=');
    char *dot = equals != NULL ? memrchr(word, '.', (size_t)(equals - word)) : NULL;
    if (*word == 0) {
      continue;
    }
    if (kept < length) {
      word[strlen(word) < SHOWN ? strlen(word) : SHOWN] = 0;
      hki_mistake(&here, "found a setting of %lu characters (\"%s...\"), expected at most %d; ignored", (unsigned long)length,
                  word, (int)sizeof copy - 1);
      continue;
    }
    if (dot == NULL || dot == word || memchr(word, '\n', (size_t)(equals - word)) != NULL) {
      hki_mistake(&here, "found \"%s\", expected section.key=value; ignored", word);
      continue;
    }
    *dot = *equals = 0;
    char *key = dot + 1;
    char *value = equals + 1 + strspn(equals + 1, " \t");
    char *key_end = equals;
    while (key_end > key && hki_is_blank(key_end[-1])) {
      *--key_end = 0;
    }
    for (char *end = value + strlen(value); end > value && hki_is_blank(end[-1]);) {
      *--end = 0;
    }
    add(&source, word, key, value);
  }
}

/*
 * The text of the installed file. It may name files to write and libraries to load, so a process with more rights than its caller
 * reads it only where nobody else can write it. The path that was checked has no links, and all above it is trusted.
 */
static const char *read_installed(char *text, bool secure)
{
  struct hki_item here = {.file = INSTALLED};
  struct hki_trust trust;
  const char *found, *expected;
  if (!secure) {
    return read_file(INSTALLED, text, false);
  }
  if (faccessat(AT_FDCWD, INSTALLED, F_OK, AT_EACCESS) != 0) {
    return "";
  }
  bool good = hki_trust_begin(&trust, INSTALLED, &found, &expected);
  const char *installed = good ? read_file(trust.path, text, false) : "";
  hki_trust_end(&trust);
  if (!good) {
    hki_mistake(&here, "found %s, expected %s; ignored in a process with privileges of its own", found, expected);
  }
  return installed;
}

/* A variable of the environment. Where it must not count, neither shall it in programs that this one starts. */
static const char *variable(const char *name, bool secure)
{
  if (secure) {
    (void)unsetenv(name);
  }
  return getenv(name);
}

void hki_config_read(void)
{
  bool secure = getauxval(AT_SECURE) != 0;
  const char *conf = variable("HAKMEM_CONF", secure);
  const char *set = variable("HAKMEM_SET", secure);
  const char *verbose = variable("HAKMEM_VERBOSE", secure);
  long r = hki_os.mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *text = hak_os_failed(r) ? NULL : (char *)r;
  const char *installed = read_installed(text, secure);
  if (strcmp(installed, hki_builtin_ini) != 0) { /* else every item would be overridden by its like */
    parse(HKI_BUILT_IN, hki_builtin_ini);
  }
  parse(INSTALLED, installed);
  if (conf != NULL && *conf != 0) {
    parse(conf, read_file(conf, text, true));
  }
  if (text != NULL) {
    (void)hki_os.munmap(text, FILE_BYTES);
  }
  if (verbose != NULL && *verbose != 0) {
    add(&(struct source){.file = "HAKMEM_VERBOSE"}, "core", "verbose", verbose);
  }
  if (set != NULL) {
    parse_set(set);
  }
}

const struct hki_item *hki_config_find(const char *section, const char *key)
{
  const struct hki_item *found = NULL;
  for (uint32_t i = 0; i < item_count; i++) {
    /* The first letter settles most of them: the product of items and options is in the start of every program. */
    if (*items[i].key == *key && strcmp(items[i].key, key) == 0 && strcmp(items[i].section, section) == 0) {
      items[i].used = true;
      found = &items[i];
    }
  }
  return found;
}

const struct hki_item *hki_config_last(const char *section)
{
  for (uint32_t i = item_count; i-- > 0;) {
    if (strcmp(items[i].section, section) == 0 && strcmp(items[i].file, HKI_BUILT_IN) != 0) {
      return &items[i];
    }
  }
  return NULL;
}

uint32_t hki_config_count(void)
{
  return item_count;
}

const struct hki_item *hki_config_item(uint32_t index)
{
  return &items[index];
}
