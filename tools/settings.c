/* SPDX-License-Identifier: MIT */
/*
 * settings.c - walks over the settings of all layers. Lines that are no settings are left out; libhakmem reports them.
 */
#include "tool.h"

#include "../core/syntax.h"
#include "settings.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *trim(char *text)
{
  while (isspace((unsigned char)*text)) {
    text++;
  }
  size_t length = strlen(text);
  while (length > 0 && isspace((unsigned char)text[length - 1])) {
    text[--length] = '\0';
  }
  return text;
}

static void walk_file(const char *path, void (*visit)(void *context, const struct setting *setting), void *context)
{
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    return;
  }
  char *line = NULL;
  size_t size = 0;
  char *section = tool_text("%s", "");
  struct setting setting = {.file = path};
  for (ssize_t length; (length = getline(&line, &size, file)) >= 0;) {
    if (strlen(line) < (size_t)length) { /* a NUL byte; nothing from here on counts */
      break;
    }
    setting.line++;
    char *text = trim(line + (setting.line == 1 ? hki_mark_length(line) : 0));
    text[hki_before_comment(text, strlen(text))] = '\0';
    char *bracket = strchr(text, ']');
    if (text[0] == '#') {
      continue;
    }
    if (text[0] == '[') {
      if (bracket != NULL) {
        *bracket = '\0';
      }
      free(section);
      section = tool_text("%s", bracket != NULL ? text + 1 : "");
      continue;
    }
    char *sign = strpbrk(text, "=:");
    if (sign != NULL) {
      *sign = '\0';
      setting.section = section;
      setting.key = trim(text);
      setting.value = trim(sign + 1);
      visit(context, &setting);
    }
  }
  free(section);
  free(line);
  fclose(file);
}

static void walk_set(const char *set, void (*visit)(void *context, const struct setting *setting), void *context)
{
  char *copy = tool_text("%s", set);
  char *rest = NULL;
  for (char *item = strtok_r(copy, ";", &rest); item != NULL; item = strtok_r(NULL, ";", &rest)) {
    char *equals = strchr(item, '=');
    if (equals == NULL) {
      continue;
    }
    *equals = '\0';
    char *name = trim(item);
    char *dot = strrchr(name, '.');
    if (dot != NULL) {
      *dot = '\0';
      visit(context, &(struct setting){.section = name, .key = dot + 1, .value = trim(equals + 1), .file = "HAKMEM_SET"});
    }
  }
  free(copy);
}

void settings_walk(void (*visit)(void *context, const struct setting *setting), void *context)
{
  walk_file(HKI_SYSCONFDIR "/hakmem.ini", visit, context);
  if (getenv("HAKMEM_CONF") != NULL) {
    walk_file(getenv("HAKMEM_CONF"), visit, context);
  }
  if (getenv("HAKMEM_SET") != NULL) {
    walk_set(getenv("HAKMEM_SET"), visit, context);
  }
}
