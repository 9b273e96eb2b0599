/* SPDX-License-Identifier: MIT */
/*
 * strategies.c - asks libhakmem for the configuration in force and takes the strategies from it. Keeps nothing.
 */
#include "strategies.h"

#include "../core/syntax.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PREFIX "strategy."

/* ---- sizes and routes ------------------------------------------------------------------------------------------------ */

char *size_text(size_t size)
{
  static const char units[] = "\0KMGT";
  size_t unit = 0;
  while (size != 0 && size % 1024 == 0 && unit + 2 < sizeof units) {
    size /= 1024;
    unit++;
  }
  return tool_text("%zu%.1s", size, &units[unit]);
}

static size_t size_of(const char *text)
{
  static const char units[] = "KMGT";
  char *end;
  size_t size = strtoull(text, &end, 10);
  const char *unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
  return unit != NULL ? size << (10 * (unit - units + 1)) : size;
}

uint32_t route_part(const struct route *route, size_t size)
{
  uint32_t part = route->count - 1;
  while (route->part[part].from > size) { /* the first starts at 0 */
    part--;
  }
  return part;
}

char *route_text(const struct route *route)
{
  char *text = tool_text("%s", route->part[0].backend);
  for (uint32_t i = 1; i < route->count; i++) {
    char *size = size_text(route->part[i].from);
    char *longer = tool_text("%s, %s from %s", text, route->part[i].backend, size);
    free(size);
    free(text);
    text = longer;
  }
  return text;
}

/* "BACKEND" or "BACKEND from SIZE", with another size if there is a threshold. Left out where libhakmem does so. */
static void read_part(struct route *route, const char *word, bool first, const char *threshold)
{
  word += strspn(word, " \t");
  size_t name = strcspn(word, " \t");
  const char *from = strstr(word + name, "from");
  size_t start = from != NULL ? size_of(from + 4 + strspn(from + 4, " \t")) : 0;
  start = threshold != NULL && !first ? size_of(threshold) : start;
  bool full = route->count == ROUTE_MOST;
  if (first ? start == 0 : start > route->part[route->count - 1].from && !full) {
    uint32_t at = first ? 0 : route->count++;
    route->part[at].from = start;
    route->part[at].backend = tool_text("%.*s", (int)name, word);
  }
}

/*
 * "BACKEND, BACKEND from SIZE, ..."; the last part begins at the threshold, if there is one. libhakmem has told what is wrong with
 * it. Without a first part libc's allocator serves its sizes, which is what the backend malloc wraps.
 */
static void read_route(struct route *route, const char *text, const char *threshold)
{
  char *copy = tool_text("%s", text), *rest = NULL;
  char *word = strtok_r(copy, ",", &rest);
  route->part[0].backend = (char *)"malloc";
  route->count = 1;
  for (bool first = true; word != NULL; first = false) {
    char *next = strtok_r(NULL, ",", &rest);
    read_part(route, word, first, next == NULL ? threshold : NULL);
    word = next;
  }
  free(copy);
}

/* ---- sections -------------------------------------------------------------------------------------------------------- */

struct section {
  char *name; /* NULL: of something else */
  bool core;
  char *route, *cache, *reclaim, *thresholds;
};

/* What is in force is on or off, whichever word says so. */
static const char *switch_text(const char *word)
{
  bool on = false;
  return hki_parse_bool(word, &on) && on ? "on" : "off";
}

static void add(struct strategies *strategies, const struct section *section, const char *threshold)
{
  if (strategies->count == HKI_ARMS) {
    return;
  }
  struct strategy *strategy = &strategies->at[strategies->count++];
  char *name = threshold == NULL ? tool_text("%s", section->name) : tool_text("%s-%s", section->name, threshold);
  memcpy(strategy->name, name, strnlen(name, sizeof strategy->name - 1));
  free(name);
  read_route(&strategy->route, section->route, threshold);
  strategy->cache = switch_text(section->cache);
  strategy->reclaim = switch_text(section->reclaim);
}

static void end_section(struct strategies *strategies, struct section *section)
{
  if (section->name != NULL && section->route != NULL && section->cache != NULL && section->reclaim != NULL) {
    char *rest = NULL;
    char *threshold = section->thresholds != NULL ? strtok_r(section->thresholds, ", ", &rest) : NULL;
    if (threshold == NULL) {
      add(strategies, section, NULL);
    }
    for (; threshold != NULL; threshold = strtok_r(NULL, ", ", &rest)) {
      add(strategies, section, threshold);
    }
  }
  *section = (struct section){0};
}

/* The directories of plugins, unless it is the one that this command puts behind them in a build tree. */
static void take_path(struct strategies *strategies, const char *key, const char *value)
{
  size_t length = strlen(value), own = strlen(place_find()->plugins);
  if (strcmp(key, "plugin_path") != 0) {
    return;
  }
  if (place_find()->build && length >= own && strcmp(value + length - own, place_find()->plugins) == 0) {
    length -= own;
  }
  while (length > 0 && (value[length - 1] == ',' || value[length - 1] == ' ')) {
    length--;
  }
  strategies->plugin_path = length > 0 ? tool_text("%.*s", (int)length, value) : NULL;
}

/* A line of the configuration in force: [SECTION], or KEY = VALUE ; ORIGIN. */
static void take_line(struct strategies *strategies, struct section *section, char *line)
{
  char *end = strchr(line, ']'), *value = strstr(line, " = ");
  if (line[0] == '[' && end != NULL) {
    end_section(strategies, section);
    *end = '\0';
    section->name = strncmp(line + 1, PREFIX, strlen(PREFIX)) == 0 ? tool_text("%s", line + 1 + strlen(PREFIX)) : NULL;
    section->core = strcmp(line, "[core") == 0;
  } else if (value != NULL && (section->name != NULL || section->core)) {
    char *origin = strstr(value, " ;");
    if (origin != NULL) {
      *origin = '\0';
    }
    *value = '\0';
    char **to = strcmp(line, "route") == 0        ? &section->route
                : strcmp(line, "cache") == 0      ? &section->cache
                : strcmp(line, "reclaim") == 0    ? &section->reclaim
                : strcmp(line, "thresholds") == 0 ? &section->thresholds
                                                  : NULL;
    if (section->core) {
      take_path(strategies, line, value + 3);
    } else if (to != NULL) {
      *to = tool_text("%s", value + 3);
    }
  }
}

const struct strategy *strategies_find(const struct strategies *strategies, const char *name)
{
  for (uint32_t i = 0; i < strategies->count; i++) {
    if (strcmp(strategies->at[i].name, name) == 0) {
      return &strategies->at[i];
    }
  }
  return NULL;
}

/* A copy of this command under hakmem writes the configuration to its standard output, which is a file meanwhile. */
static FILE *configuration(const struct preload *preload, int *status)
{
  FILE *file = tmpfile();
  fflush(stdout);
  int output = dup(STDOUT_FILENO);
  if (file == NULL || output < 0 || dup2(fileno(file), STDOUT_FILENO) < 0) {
    tool_die(TOOL_USAGE, "cannot read the configuration: %s", strerror(errno));
  }
  *status = preload_self(preload, (char *[]){(char *)"hakmem", (char *)"--inside-check", NULL});
  dup2(output, STDOUT_FILENO);
  close(output);
  rewind(file);
  return file;
}

bool strategies_read(struct strategies *strategies, const struct preload *preload)
{
  int status;
  FILE *file = configuration(preload, &status);
  struct section section = {0};
  char *line = NULL;
  size_t size = 0;
  memset(strategies, 0, sizeof *strategies);
  while (getline(&line, &size, file) > 0) {
    line[strcspn(line, "\n")] = '\0';
    take_line(strategies, &section, line);
  }
  end_section(strategies, &section);
  free(line);
  fclose(file);
  if (!WIFEXITED(status) || WEXITSTATUS(status) > 1 || strategies->count == 0) {
    tool_say("libhakmem does not start with this configuration; hakmem check says more");
    return false;
  }
  return true;
}
