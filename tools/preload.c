/* SPDX-License-Identifier: MIT */
/*
 * preload.c - the environment in which a program runs under hakmem: LD_PRELOAD, HAKMEM_CONF, HAKMEM_SET, GLIBC_TUNABLES.
 */
#include "tool.h"

#include "settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Room for the thread-local storage of a wrapped library that is loaded late; the default of glibc is 512. */
#define STATIC_TLS "16384"
#define STATIC_TLS_NAME "glibc.rtld.optional_static_tls"

/* ---- what the configuration says about loading ----------------------------------------------------------------------- */

/* The two settings that decide about the environment. */
struct wish {
  char *plugin_path; /* core.plugin_path in force; NULL: never set */
  bool library;      /* a [backend.*] names a library */
};

static void note(void *context, const struct setting *setting)
{
  struct wish *wish = context;
  if (strcmp(setting->section, "core") == 0 && strcmp(setting->key, "plugin_path") == 0) {
    free(wish->plugin_path);
    wish->plugin_path = tool_text("%s", setting->value);
  } else if (strncmp(setting->section, "backend.", 8) == 0 && strcmp(setting->key, "library") == 0 &&
             setting->value[0] != '\0') {
    wish->library = true;
  }
}

static bool in_list(const char *list, const char *word, char separator)
{
  size_t length = strlen(word);
  for (const char *at = list; (at = strstr(at, word)) != NULL; at++) {
    if ((at == list || at[-1] == separator) && (at[length] == '\0' || at[length] == separator)) {
      return true;
    }
  }
  return false;
}

/* ---- one variable each ----------------------------------------------------------------------------------------------- */

static void put(const char *name, char *value)
{
  if (setenv(name, value, 1) != 0) {
    tool_die(TOOL_USAGE, "no memory");
  }
  free(value);
}

/* The value of a variable with `text` behind what it has. */
static char *appended(const char *old, char separator, const char *text)
{
  return old != NULL && old[0] != '\0' ? tool_text("%s%c%s", old, separator, text) : tool_text("%s", text);
}

/* In a build tree the plugins are not where libhakmem looks; its own directories come first all the same. */
static void enter_plugins(const struct place *place, const struct wish *wish)
{
  if (!place->build || (wish->plugin_path != NULL && in_list(wish->plugin_path, place->plugins, ','))) {
    return;
  }
  if (strpbrk(place->plugins, ";,\n") != NULL) {
    tool_die(TOOL_USAGE, "%s: a plugin directory cannot have ';' or ',' in its name", place->plugins);
  }
  char *path = appended(wish->plugin_path, ',', place->plugins);
  char *item = tool_text("core.plugin_path=%s", path);
  put("HAKMEM_SET", appended(getenv("HAKMEM_SET"), ';', item));
  free(item);
  free(path);
}

/* A library with initial-exec thread-local storage can only be loaded late when ld.so has kept room for it. */
static void enter_tunables(void)
{
  char *kept = NULL;
  char *copy = tool_text("%s", getenv("GLIBC_TUNABLES") != NULL ? getenv("GLIBC_TUNABLES") : "");
  char *rest = NULL;
  for (char *item = strtok_r(copy, ":", &rest); item != NULL; item = strtok_r(NULL, ":", &rest)) {
    if (strncmp(item, STATIC_TLS_NAME "=", sizeof STATIC_TLS_NAME) != 0) {
      char *more = appended(kept, ':', item);
      free(kept);
      kept = more;
    } else if (strtoul(item + sizeof STATIC_TLS_NAME, NULL, 0) >= strtoul(STATIC_TLS, NULL, 10)) {
      goto out; /* the user has made more room already */
    }
  }
  put("GLIBC_TUNABLES", appended(kept, ':', STATIC_TLS_NAME "=" STATIC_TLS));
out:
  free(kept);
  free(copy);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

void preload_library(const char *path)
{
  if (strpbrk(path, " :") != NULL) {
    tool_die(TOOL_USAGE, "%s: the dynamic linker cannot preload a path with a blank or a colon", path);
  }
  const char *old = getenv("LD_PRELOAD");
  put("LD_PRELOAD", old != NULL && old[0] != '\0' ? tool_text("%s:%s", path, old) : tool_text("%s", path));
}

void preload_config(struct preload *preload, const char *path)
{
  struct stat status;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &status) != 0) {
    tool_die(TOOL_USAGE, "%s: %s", path, strerror(errno));
  }
  close(fd);
  if (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode)) {
    tool_die(TOOL_USAGE, "%s: expected a file, because every process reads it anew", path);
  }
  preload->config = realpath(path, NULL);
  if (preload->config == NULL) {
    tool_die(TOOL_USAGE, "%s: %s", path, strerror(errno));
  }
}

void preload_set(struct preload *preload, const char *item)
{
  const char *equals = strchr(item, '=');
  if (equals == NULL || equals == item) {
    tool_usage("%s: expected key=value", item);
  }
  if (strpbrk(item, ";\n") != NULL) {
    tool_usage("%s: a setting cannot have ';' or a line break in it", item);
  }
  char *more = appended(preload->set, ';', item);
  free(preload->set);
  preload->set = more;
}

void preload_enter(const struct preload *preload)
{
  const struct place *place = place_find();
  if (preload->config != NULL) {
    put("HAKMEM_CONF", tool_text("%s", preload->config));
  }
  if (preload->set != NULL) {
    put("HAKMEM_SET", appended(getenv("HAKMEM_SET"), ';', preload->set));
  }

  struct wish wish = {0};
  settings_walk(note, &wish);
  preload_library(place->library);
  enter_plugins(place, &wish);
  if (wish.library) {
    enter_tunables();
  }
  free(wish.plugin_path);
}

int preload_self(const struct preload *preload, char *const argv[])
{
  place_find(); /* says in this process what is missing */
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    preload_enter(preload);
    execv("/proc/self/exe", argv);
    tool_say("/proc/self/exe: %s", strerror(errno));
    _exit(TOOL_USAGE);
  }
  return tool_wait(child);
}
