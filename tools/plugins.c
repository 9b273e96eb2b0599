/* SPDX-License-Identifier: MIT */
/*
 * plugins.c - `hakmem plugins`: lists plugins from their descriptors. With --check it hands over to conform.c.
 */
#include "tool.h"

#include "descriptor.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *shown(const char *text)
{
  return text != NULL ? text : "";
}

static void print_option(const hak_option *option)
{
  char *values = option_expects(option);
  const char *fallback = shown(option->fallback);
  printf("    %-16s %s, default %s%s\n", shown(option->key), values, fallback[0] != '\0' ? fallback : "empty",
         (option->flags & HAK_LIVE) != 0 ? ", live" : "");
  printf("    %-16s   %s\n", "", shown(option->help));
  free(values);
}

static void print_plugin(const char *path, const struct descriptor *descriptor)
{
  const hak_plugin *plugin = &descriptor->plugin;
  printf("%s %s (%s) %s\n  %s\n", shown(plugin->name), shown(plugin->version), descriptor_kind(descriptor), path,
         shown(plugin->summary));
  if (plugin->option_count > 0) {
    printf("  options\n");
  }
  for (uint32_t i = 0; i < plugin->option_count; i++) {
    print_option(&descriptor->options[i]);
  }
  if (plugin->counter_count > 0) {
    printf("  counters\n");
  }
  for (uint32_t i = 0; i < plugin->counter_count; i++) {
    const hak_counter *counter = &descriptor->counters[i];
    printf("    %-16s %-7s %s%s%s\n", shown(counter->key), counter->kind == HAK_GAUGE ? "gauge" : "counter",
           shown(counter->unit), shown(counter->unit)[0] != '\0' ? ": " : "", shown(counter->help));
  }
}

static int list_loaded(const char *path)
{
  static struct descriptor descriptor;
  const char *why = descriptor_read(path, &descriptor);
  if (why != NULL) {
    tool_say("%s: not a plugin: %s", path, why);
    return 1;
  }
  print_plugin(path, &descriptor);
  return 0;
}

static bool list_file(const char *path)
{
  int status = tool_apart(list_loaded, path);
  if (WIFSIGNALED(status)) {
    tool_say("%s: not a plugin: reading it ended in signal %d (%s)", path, WTERMSIG(status), strsignal(WTERMSIG(status)));
  }
  return status == 0;
}

static int is_plugin_file(const struct dirent *entry)
{
  size_t length = strlen(entry->d_name);
  return length > 3 && strcmp(entry->d_name + length - 3, ".so") == 0;
}

static bool list_directory(const char *path)
{
  struct dirent **entries = NULL;
  int count = scandir(path, &entries, is_plugin_file, alphasort);
  if (count < 0) {
    tool_say("%s: %s", path, strerror(errno));
    return false;
  }
  if (count == 0) {
    tool_say("%s: no plugins in it", path);
  }
  bool good = true;
  for (int i = 0; i < count; i++) {
    char *file = tool_text("%s/%s", path, entries[i]->d_name);
    good &= list_file(file);
    free(file);
    free(entries[i]);
  }
  free(entries);
  return good;
}

static bool list(const char *path)
{
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode) ? list_directory(path) : list_file(path);
}

int plugins_command(int argc, char **argv)
{
  static const struct option options[] = {
      {"check", no_argument, NULL, 'k'},
      {"option", required_argument, NULL, 'o'},
      {NULL, 0, NULL, 0},
  };
  struct preload preload = {0};
  bool check = false;
  for (int option; (option = getopt_long(argc, argv, "o:", options, NULL)) != -1;) {
    switch (option) {
    case 'k':
      check = true;
      break;
    case 'o':
      preload_set(&preload, optarg);
      break;
    default:
      tool_wrong_option();
    }
  }
  if (check) {
    if (argc - optind != 1) {
      tool_usage("plugins --check: expected one file");
    }
    return conform_check(argv[optind], &preload);
  }
  if (optind >= argc) {
    return list_directory(place_find()->plugins) ? 0 : 1;
  }
  bool good = true;
  for (int i = optind; i < argc; i++) {
    good &= list(argv[i]);
  }
  return good ? 0 : 1;
}
