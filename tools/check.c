/* SPDX-License-Identifier: MIT */
/*
 * check.c - `hakmem check`: validates a configuration by starting libhakmem on it, and says what this machine offers.
 */
#include "tool.h"

#include "../core/root.h"
#include "../core/spelling.h"
#include "descriptor.h"
#include "settings.h"

#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  CHECK_CLEAN = 0,
  CHECK_MISTAKES = 1,
  STRICT = 78 /* libhakmem's exit status for a mistake under core.strict */
};

/* ---- the machine ----------------------------------------------------------------------------------------------------- */

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
enum { SELF = -10000 }; /* PIDFD_SELF; not in the headers of glibc 2.36 */

/* The word in brackets, as in "always [madvise] never". */
static void print_chosen(const char *label, const char *path)
{
  char text[256];
  char *open = tool_read(path, text, sizeof text) > 0 ? strchr(text, '[') : NULL;
  char *close = open != NULL ? strchr(open, ']') : NULL;
  printf("; %-22s %.*s\n", label, close != NULL ? (int)(close - open - 1) : 7, close != NULL ? open + 1 : "unknown");
}

static void print_value(const char *label, const char *path)
{
  char text[256];
  printf("; %-22s %s\n", label, tool_read(path, text, sizeof text) > 0 ? text : "unknown");
}

static void print_huge_pages(void)
{
  char text[8192];
  unsigned long total = 0, unused = 0, kilobytes = 0;
  if (tool_read("/proc/meminfo", text, sizeof text) > 0) {
    const char *line = strstr(text, "HugePages_Total:");
    const char *size = strstr(text, "Hugepagesize:");
    if (line != NULL && size != NULL && sscanf(line, "HugePages_Total: %lu HugePages_Free: %lu", &total, &unused) == 2 &&
        sscanf(size, "Hugepagesize: %lu", &kilobytes) == 1) {
      printf("; %-22s %lu free of %lu reserved, %lu KiB each\n", "huge page pool", unused, total, kilobytes);
      return;
    }
  }
  printf("; %-22s unknown\n", "huge page pool");
}

/* Whether one call may purge several ranges of the own process. */
static void print_process_madvise(long page)
{
  const char *answer = "no memory";
  void *block = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block != MAP_FAILED) {
    struct iovec range = {block, (size_t)page};
    *(volatile char *)block = 1;
    long done = syscall(SYS_process_madvise, SELF, &range, 1UL, MADV_DONTNEED, 0U);
    answer = done != page ? strerror(errno) : *(volatile char *)block == 0 ? "works" : "without effect";
    munmap(block, (size_t)page);
  }
  printf("; %-22s %s\n", "process_madvise(self)", answer);
}

static void print_machine(void)
{
  struct utsname name;
  uname(&name);
  long page = sysconf(_SC_PAGESIZE);
  printf("\n; this machine\n");
  printf("; %-22s %s %s %s\n", "kernel", name.sysname, name.release, name.machine);
  printf("; %-22s %ld\n", "page size", page);
  print_chosen("transparent huge pages", "/sys/kernel/mm/transparent_hugepage/enabled");
  print_huge_pages();
  print_process_madvise(page);
  print_value("vm.max_map_count", "/proc/sys/vm/max_map_count");
  print_value("vm.overcommit_memory", "/proc/sys/vm/overcommit_memory");
}

/* ---- plugins that are not chosen ------------------------------------------------------------------------------------- */

/*
 * libhakmem does not load a plugin that nothing chooses, so it cannot judge the settings of one. Here they are compared with
 * the option table in its file.
 */
struct idle {
  const struct hki_root *root;
  char *plugin_path; /* core.plugin_path in force; NULL: never set */
  int mistakes;
};

static void note_path(void *context, const struct setting *setting)
{
  struct idle *idle = context;
  if (strcmp(setting->section, "core") == 0 && strcmp(setting->key, "plugin_path") == 0) {
    free(idle->plugin_path);
    idle->plugin_path = tool_text("%s", setting->value);
  }
}

static bool in_use(const struct hki_root *root, const char *section, const char *name)
{
  if (strncmp(section, "backend.", 8) != 0) {
    return same_name(strncmp(section, "cache.", 6) == 0     ? root->cache
                     : strncmp(section, "reclaim.", 8) == 0 ? root->reclaim
                                                            : root->policy,
                     name);
  }
  for (uint32_t i = 0; i < root->backend_count; i++) {
    if (same_name(root->backend[i].name, name)) {
      return true;
    }
  }
  return false;
}

/* The file of a plugin in one directory, from malloc; NULL when there is none. */
static char *file_in(const char *directory, size_t length, const char *name)
{
  char *path = tool_text("%.*s/%s.so", (int)length, directory, name);
  for (char *c = strrchr(path, '/'); *c != '\0'; c++) {
    *c = *c == '-' ? '_' : *c;
  }
  if (access(path, R_OK) == 0) {
    return path;
  }
  free(path);
  return NULL;
}

static char *find_plugin(const struct idle *idle, const char *name)
{
  for (const char *at = idle->plugin_path != NULL ? idle->plugin_path : ""; *at != '\0';) {
    at += strspn(at, ", ");
    size_t length = strcspn(at, ",");
    char *path = length > 0 ? file_in(at, length, name) : NULL;
    if (path != NULL) {
      return path;
    }
    at += length;
  }
  return file_in(place_find()->plugins, strlen(place_find()->plugins), name);
}

static void complain(struct idle *idle, const struct setting *setting, const char *text)
{
  char *line = setting->line != 0 ? tool_text(":%u", setting->line) : tool_text("%s", "");
  tool_say("%s%s: %s", setting->file, line, text);
  free(line);
  idle->mistakes++;
}

/* The option of the plugin that a name of none resembles most; NULL when it resembles none. */
static const hak_option *nearest(const struct descriptor *descriptor, const char *key)
{
  const hak_option *best = NULL;
  uint32_t within = HKI_NEAR;
  for (uint32_t i = 0; i < descriptor->plugin.option_count; i++) {
    uint32_t d = hki_distance(key, descriptor->options[i].key, within);
    if (d < within || (d == within && best == NULL)) {
      within = d;
      best = &descriptor->options[i];
    }
  }
  return best;
}

static void judge_setting(struct idle *idle, const struct setting *setting, const struct descriptor *descriptor)
{
  char *text = NULL;
  for (uint32_t i = 0; i < descriptor->plugin.option_count; i++) {
    const hak_option *option = &descriptor->options[i];
    if (strcmp(option->key, setting->key) != 0) {
      continue;
    }
    if (!option_accepts(option, setting->value)) {
      char *expected = option_expects(option);
      text = tool_text("%s.%s: found \"%s\", expected %s", setting->section, setting->key, setting->value, expected);
      free(expected);
      complain(idle, setting, text);
      free(text);
    }
    return;
  }
  const hak_option *near = nearest(descriptor, setting->key);
  text = near != NULL
             ? tool_text("unknown key %s.%s; did you mean %s.%s?", setting->section, setting->key, setting->section, near->key)
             : tool_text("unknown key %s.%s; ignored", setting->section, setting->key);
  complain(idle, setting, text);
  free(text);
}

/* What the sections of the plugin's kind begin with; "" for none. */
static const char *shown_section(const struct descriptor *descriptor)
{
  const char *section = descriptor_section(descriptor->plugin.kind);
  return section != NULL ? section : "";
}

static void judge_idle(void *context, const struct setting *setting)
{
  static struct descriptor descriptor;
  struct idle *idle = context;
  const char *dot = strchr(setting->section, '.');
  if (dot == NULL || strncmp(setting->section, "strategy.", 9) == 0 || strchr(dot, '/') != NULL ||
      in_use(idle->root, setting->section, dot + 1)) {
    return;
  }
  char *path = find_plugin(idle, dot + 1);
  if (path != NULL && descriptor_read(path, &descriptor) == NULL &&
      strlen(shown_section(&descriptor)) == (size_t)(dot - setting->section) &&
      strncmp(shown_section(&descriptor), setting->section, (size_t)(dot - setting->section)) == 0) {
    judge_setting(idle, setting, &descriptor);
  }
  free(path);
}

/* ---- the configuration ----------------------------------------------------------------------------------------------- */

int check_inside(void)
{
  int (*write_config)(int fd) = NULL;
  void *symbol = dlsym(RTLD_DEFAULT, "hak_config_write");
  if (symbol == NULL) {
    tool_say("%s: the dynamic linker did not load it", place_find()->library);
    _exit(TOOL_USAGE);
  }
  memcpy(&write_config, &symbol, sizeof symbol);
  int mistakes = write_config(STDOUT_FILENO);
  struct idle idle = {.root = dlsym(RTLD_DEFAULT, "hakmem_root")};
  if (idle.root != NULL) {
    settings_walk(note_path, &idle);
    settings_walk(judge_idle, &idle);
  }
  _exit(mistakes == 0 && idle.mistakes == 0 ? CHECK_CLEAN
                                            : CHECK_MISTAKES); /* not exit: the configuration may ask for a report then */
}

int check_command(int argc, char **argv)
{
  static const struct option options[] = {{"option", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
  struct preload preload = {0};
  for (int option; (option = getopt_long(argc, argv, "o:", options, NULL)) != -1;) {
    if (option != 'o') {
      tool_wrong_option();
    }
    preload_set(&preload, optarg);
  }
  if (argc - optind > 1) {
    tool_usage("check: more than one file");
  }
  if (optind < argc) {
    preload_config(&preload, argv[optind]);
  }

  int status = preload_self(&preload, (char *[]){(char *)"hakmem", (char *)"--inside-check", NULL});
  if (WIFSIGNALED(status)) {
    tool_say("check: libhakmem was killed by signal %d", WTERMSIG(status));
    return CHECK_MISTAKES;
  }
  int result = WEXITSTATUS(status);
  if (result == STRICT) {
    tool_say("check: core.strict is on: no program would start with this configuration");
    return CHECK_MISTAKES;
  }
  if (result == CHECK_CLEAN || result == CHECK_MISTAKES) {
    print_machine();
  }
  return result;
}
