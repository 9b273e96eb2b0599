/* SPDX-License-Identifier: MIT */
/*
 * conform.c - `hakmem plugins --check`: judges a plugin's descriptor, then has workout.c use it under a configuration made for
 * it. Both happen in processes of their own, so that a plugin that crashes is a line of the result.
 */
#include "tool.h"

#include "../core/abi.h"
#include "../core/root.h"
#include "conform.h"
#include "descriptor.h"
#include "elf.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Longest plugin name for which the section name fits into the statistics. */
enum { NAME_MAX_LENGTH = HKI_NAME - 1 - (int)sizeof "backend." + 1 };

/* ---- verdicts -------------------------------------------------------------------------------------------------------- */

static bool any_bad;

bool verdict(bool good, const char *what, const char *format, ...)
{
  if (good) {
    printf("ok   %s\n", what);
    return true;
  }
  va_list arguments;
  va_start(arguments, format);
  printf("FAIL %s: ", what);
  vprintf(format, arguments);
  putchar('\n');
  va_end(arguments);
  any_bad = true;
  return false;
}

int verdict_status(void)
{
  fflush(stdout);
  return any_bad ? 1 : 0;
}

/* ---- the file -------------------------------------------------------------------------------------------------------- */

struct exports {
  bool plugin; /* hakmem_plugin is among them */
  char *other; /* names of the others; NULL: none */
};

static void note_export(void *context, const char *name)
{
  /* Older linkers export these from every shared object. */
  static const char *const ours[] = {"_init", "_fini", "_edata", "_end", "__bss_start"};
  struct exports *exports = context;
  for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
    if (strcmp(name, ours[i]) == 0) {
      return;
    }
  }
  if (strcmp(name, HAK_PLUGIN_SYMBOL) == 0) {
    exports->plugin = true;
  } else {
    char *more = exports->other != NULL ? tool_text("%s, %s", exports->other, name) : tool_text("%s", name);
    free(exports->other);
    exports->other = more;
  }
}

static bool judge_file(const char *path)
{
  struct elf elf;
  struct exports exports = {0};
  bool readable = elf_read(path, &elf) && elf.native && elf_exports(path, note_export, &exports);
  if (!verdict(readable, "is a shared object of this machine",
               "found something else, expected an ELF file with dynamic symbols")) {
    return false;
  }
  verdict(!elf.thread_local, "has no thread-local storage", "found a PT_TLS segment, expected none: use the per-thread slot");
  bool good = verdict(exports.plugin, "exports " HAK_PLUGIN_SYMBOL, "found no such symbol, expected a const hak_plugin");
  if (exports.other != NULL) {
    printf("warn exports more than " HAK_PLUGIN_SYMBOL ": %s\n", exports.other);
  }
  free(exports.other);
  return good;
}

/* ---- the descriptor -------------------------------------------------------------------------------------------------- */

static bool plain_word(const char *text, const char *punctuation)
{
  if (text == NULL || !islower((unsigned char)text[0])) {
    return false;
  }
  for (; *text != '\0'; text++) {
    if (!islower((unsigned char)*text) && !isdigit((unsigned char)*text) && strchr(punctuation, *text) == NULL) {
      return false;
    }
  }
  return true;
}

static bool one_line(const char *text)
{
  return text != NULL && text[0] != '\0' && strchr(text, '\n') == NULL;
}

static const char *shown(const char *text)
{
  return text != NULL ? text : "(null)";
}

/* What is wrong with a row of the option table, from malloc; NULL when nothing is. */
static char *option_mistake(const struct descriptor *descriptor, uint32_t row)
{
  const hak_option *option = &descriptor->options[row];
  if (!plain_word(option->key, "_") || strlen(option->key) >= HKI_NAME) {
    return tool_text("found key %s in row %u, expected lower case, digits and '_', at most %d", shown(option->key), row,
                     HKI_NAME - 1);
  }
  for (uint32_t i = 0; i < row; i++) {
    if (strcmp(shown(descriptor->options[i].key), option->key) == 0) {
      return tool_text("found key %s twice, expected it once", option->key);
    }
  }
  if (option_type(option->type) == NULL) {
    return tool_text("found %s of type %u, expected an enum hak_option_type", option->key, option->type);
  }
  if (option->type == HAK_ARM && descriptor->plugin.kind != HAK_POLICY) {
    return tool_text("found %s of type arm, expected one only in a policy", option->key);
  }
  if ((option->type == HAK_ENUM) != (option->choices != NULL)) {
    return tool_text("found %s %s choices, expected them for an enum only", option->key,
                     option->choices != NULL ? "with" : "without");
  }
  const char *bounds[] = {option->min, option->max};
  long double number;
  for (size_t i = 0; i < 2; i++) {
    if (bounds[i] != NULL && !option_number(option->type, bounds[i], &number)) {
      return tool_text("found %s with the bound %s, expected a %s", option->key, bounds[i], option_type(option->type));
    }
  }
  if (option->fallback == NULL || !option_accepts(option, option->fallback)) {
    return tool_text("found %s with the default %s, expected a value it accepts", option->key, shown(option->fallback));
  }
  if (!one_line(option->help)) {
    return tool_text("found %s without help, expected one line", option->key);
  }
  return NULL;
}

static void judge_options(const struct descriptor *descriptor)
{
  const hak_plugin *plugin = &descriptor->plugin;
  char *mistake = NULL;
  bool live = false;
  if (plugin->option_count != 0 && plugin->option_stride < HKI_OPTION_FIRST) {
    mistake = tool_text("found stride %u, expected at least %d", plugin->option_stride, HKI_OPTION_FIRST);
  }
  for (uint32_t i = 0; i < plugin->option_count; i++) {
    live |= (descriptor->options[i].flags & HAK_LIVE) != 0;
    if (mistake == NULL) {
      mistake = option_mistake(descriptor, i);
    }
  }
  verdict(mistake == NULL, "option table", "%s", shown(mistake));
  free(mistake);
  verdict(!live || plugin->set != NULL, "set for live options", "found NULL, expected a function");
}

static void judge_counters(const struct descriptor *descriptor)
{
  const hak_plugin *plugin = &descriptor->plugin;
  char *mistake = NULL;
  if (plugin->counter_count != 0 && plugin->counter_stride < HKI_COUNTER_FIRST) {
    mistake = tool_text("found stride %u, expected at least %d", plugin->counter_stride, HKI_COUNTER_FIRST);
  } else if (plugin->counter_count > HKI_ROWS) {
    mistake = tool_text("found %u counters, expected at most %d", plugin->counter_count, HKI_ROWS);
  }
  for (uint32_t i = 0; i < plugin->counter_count && mistake == NULL; i++) {
    const hak_counter *counter = &descriptor->counters[i];
    if (!plain_word(counter->key, "_") || strlen(counter->key) >= HKI_NAME) {
      mistake = tool_text("found key %s in row %u, expected lower case, digits and '_', at most %d", shown(counter->key), i,
                          HKI_NAME - 1);
    } else if (counter->kind != HAK_COUNTER && counter->kind != HAK_GAUGE) {
      mistake = tool_text("found %s of kind %u, expected HAK_COUNTER or HAK_GAUGE", counter->key, counter->kind);
    } else if (counter->sum > HAK_SUM_METADATA || (counter->sum != HAK_SUM_NONE && counter->kind != HAK_GAUGE)) {
      mistake = tool_text("found %s with sum %u, expected an enum hak_counter_sum, and of a gauge", counter->key, counter->sum);
    } else if (counter->unit == NULL || strlen(counter->unit) >= sizeof((struct hki_row_view *)0)->unit) {
      mistake = tool_text("found %s with unit %s, expected a short word or \"\"", counter->key, shown(counter->unit));
    } else if (!one_line(counter->help)) {
      mistake = tool_text("found %s without help, expected one line", counter->key);
    }
  }
  verdict(mistake == NULL, "counter table", "%s", shown(mistake));
  free(mistake);
}

static void judge_backend(const hak_backend_ops *ops)
{
  const char *missing = NULL;
  bool whole = ops->granularity == HAK_CLASS;
  verdict(ops->granularity >= HAK_BYTE && ops->granularity <= HAK_CLASS, "granularity",
          "found %u, expected HAK_BYTE, HAK_PAGE or HAK_CLASS", ops->granularity);
  if (whole) {
    missing = ops->refill == NULL ? "refill" : ops->flush == NULL ? "flush" : NULL;
  } else {
    missing = ops->alloc == NULL ? "alloc" : ops->free == NULL ? "free" : NULL;
  }
  verdict(missing == NULL, "functions that the granularity needs", "found no %s, expected %s", missing,
          whole ? "refill and flush" : "alloc and free");
  int hooks = (ops->fork_prepare != NULL) + (ops->fork_parent != NULL) + (ops->fork_child != NULL);
  verdict(hooks == 0 || hooks == 3, "fork hooks", "found %d of 3, expected all or none", hooks);
}

static void judge_ops(const struct descriptor *descriptor)
{
  if (!verdict(descriptor->plugin.ops != NULL, "ops", "found NULL, expected the operations")) {
    return;
  }
  const struct {
    uint32_t expected, found;
  } sizes[] = {[HAK_BACKEND] = {HKI_BACKEND_FIRST, descriptor->backend.struct_size},
               [HAK_POLICY] = {HKI_POLICY_FIRST, descriptor->policy.struct_size},
               [HAK_CACHE] = {HKI_CACHE_FIRST, descriptor->cache.struct_size},
               [HAK_RECLAIM] = {HKI_RECLAIM_FIRST, descriptor->reclaim.struct_size}};
  uint32_t kind = descriptor->plugin.kind;
  verdict(sizes[kind].found >= sizes[kind].expected, "struct_size of ops", "found %u, expected at least %u", sizes[kind].found,
          sizes[kind].expected);
  const hak_cache_ops *cache = &descriptor->cache;
  const hak_reclaim_ops *reclaim = &descriptor->reclaim;
  switch (kind) {
  case HAK_BACKEND:
    judge_backend(&descriptor->backend);
    break;
  case HAK_POLICY:
    verdict(descriptor->policy.choose != NULL, "functions that a policy needs", "found no choose, expected one");
    break;
  case HAK_CACHE:
    verdict(cache->take != NULL && cache->put != NULL && cache->drain != NULL && cache->fork_prepare != NULL &&
                cache->fork_parent != NULL && cache->fork_child != NULL,
            "functions that a cache needs", "found some missing, expected take, put, drain and the fork hooks");
    break;
  default:
    verdict(reclaim->put != NULL && reclaim->drain != NULL && reclaim->fork_prepare != NULL && reclaim->fork_parent != NULL &&
                reclaim->fork_child != NULL,
            "functions that a reclaim plugin needs", "found some missing, expected put, drain and the fork hooks");
    break;
  }
}

/* A file name without its directory and ".so", from malloc. */
static char *stem_of(const char *path)
{
  const char *slash = strrchr(path, '/');
  char *stem = tool_text("%s", slash != NULL ? slash + 1 : path);
  size_t length = strlen(stem);
  if (length > 3 && strcmp(stem + length - 3, ".so") == 0) {
    stem[length - 3] = '\0';
  }
  return stem;
}

static void judge_names(const char *path, const hak_plugin *plugin)
{
  bool good = plain_word(plugin->name, "-_") && strlen(plugin->name) <= (size_t)NAME_MAX_LENGTH;
  if (verdict(good, "name", "found %s, expected lower case, digits, '-' and '_', at most %d", shown(plugin->name),
              NAME_MAX_LENGTH)) {
    char *file = stem_of(path), *name = tool_text("%s", plugin->name);
    for (char *c = name; *c != '\0'; c++) {
      *c = *c == '-' ? '_' : *c;
    }
    verdict(strcmp(file, name) == 0, "file name", "found %s.so, expected %s.so", file, name);
    free(file);
    free(name);
  }
  verdict(one_line(plugin->version), "version", "found %s, expected one line", shown(plugin->version));
  verdict(one_line(plugin->summary), "summary", "found %s, expected one line", shown(plugin->summary));
}

/* All that can be judged without starting the plugin. False when it cannot be started. */
static bool judge_descriptor(const char *path, struct descriptor *descriptor)
{
  const char *why = descriptor_read(path, descriptor);
  if (!verdict(why == NULL, "descriptor", "found that %s, expected a descriptor of ABI %d.%d", why, HAK_ABI_MAJOR,
               HAK_ABI_MINOR)) {
    return false;
  }
  const hak_plugin *plugin = &descriptor->plugin;
  bool whole = plugin->struct_size >= HKI_PLUGIN_FIRST && plugin->struct_size <= descriptor->symbol_size;
  verdict(whole, "struct_size", "found %u in a symbol of %zu bytes, expected at least %d", plugin->struct_size,
          descriptor->symbol_size, HKI_PLUGIN_FIRST);
  bool known = descriptor_section(plugin->kind) != NULL;
  verdict(known, "kind", "found %u, expected an enum hak_plugin_kind", plugin->kind);
  verdict(plugin->reserved == 0, "reserved", "found %u, expected 0", plugin->reserved);
  judge_names(path, plugin);
  judge_options(descriptor);
  judge_counters(descriptor);
  verdict(plugin->start != NULL, "start", "found NULL, expected a function");
  if (known) {
    judge_ops(descriptor);
  }
  return known && plugin->start != NULL && plugin->ops != NULL;
}

static struct descriptor loaded; /* the plugin in question */

/* ---- the behaviour --------------------------------------------------------------------------------------------------- */

static void put(struct preload *preload, const char *key, const char *value)
{
  char *item = tool_text("%s=%s", key, value);
  preload_set(preload, item);
  free(item);
}

/* Routes everything to the plugin, and says everything that the installed configuration may say otherwise. */
static void route_to(struct preload *preload, const char *directory, const char *name, const struct descriptor *descriptor)
{
  uint32_t kind = descriptor->plugin.kind;
  bool policy = kind == HAK_POLICY;
  uint32_t granularity = kind == HAK_BACKEND ? descriptor->backend.granularity : 0;
  char *page = tool_text("malloc, %s from 64K", name);
  put(preload, "core.plugin_path", directory);
  put(preload, "core.strict", "off");
  put(preload, "core.foreign", "libc");
  put(preload, "core.small_max", "256K");
  put(preload, "core.epoch", "16");
  put(preload, "core.small", granularity == HAK_CLASS ? name : "none");
  put(preload, "core.policy", policy ? name : "static");
  put(preload, "core.cache", kind == HAK_CACHE ? name : "none");
  put(preload, "core.reclaim", kind == HAK_RECLAIM ? name : "none");
  put(preload, "stats.exit", "off");
  put(preload, "policy.static.strategy", "default");
  put(preload, "strategy.default.route",
      granularity == HAK_BYTE   ? name
      : granularity == HAK_PAGE ? page
      : policy                  ? "malloc, mmap from 1M"
                                : "malloc, mmap from 64K");
  if (policy) {
    put(preload, "strategy.other.route", "malloc, mmap from 64K");
  }
  free(page);
}

/* The arguments of workout_inside: kind, name, and each live option with its default; ended by NULL. */
static char **workout_arguments(const char *name, const struct descriptor *descriptor)
{
  const hak_plugin *plugin = &descriptor->plugin;
  char **arguments = calloc((size_t)plugin->option_count + 5, sizeof *arguments);
  if (arguments == NULL) {
    tool_die(TOOL_USAGE, "no memory");
  }
  size_t count = 0;
  arguments[count++] = tool_text("hakmem");
  arguments[count++] = tool_text("--inside-workout");
  arguments[count++] = tool_text("%s", descriptor_section(plugin->kind));
  arguments[count++] = tool_text("%s", name);
  for (uint32_t i = 0; i < plugin->option_count; i++) {
    const hak_option *option = &descriptor->options[i];
    if ((option->flags & HAK_LIVE) != 0) {
      arguments[count++] = tool_text("%s.%s.%s=%s", descriptor_section(plugin->kind), name, option->key, option->fallback);
    }
  }
  return arguments;
}

/* The verdict on how a process of ours ended. */
static int judge_end(const char *what, int status)
{
  if (WIFSIGNALED(status)) {
    int number = WTERMSIG(status);
    verdict(false, what, "found killed by signal %d (%s), expected an orderly end", number,
            number == SIGALRM ? "still running after 60 s" : strsignal(number));
    return 1;
  }
  int result = WEXITSTATUS(status);
  if (result > 1) {
    verdict(false, what, "found exit status %d, expected 0", result);
  }
  return result == 0 ? 0 : 1;
}

static int judge_behaviour(const char *path, const struct descriptor *descriptor, const struct preload *extra)
{
  struct preload preload = {0};
  char *directory = tool_text("%s", path), *name = stem_of(path);
  *strrchr(directory, '/') = '\0';
  if (strpbrk(directory, ";,\n") != NULL) {
    tool_die(TOOL_USAGE, "%s: a plugin directory cannot have ';' or ',' in its name", directory);
  }
  unsetenv("HAKMEM_CONF");
  unsetenv("HAKMEM_SET");
  route_to(&preload, directory, name, descriptor);
  if (extra->set != NULL) {
    char *all = tool_text("%s;%s", preload.set, extra->set);
    free(preload.set);
    preload.set = all;
  }

  char **arguments = workout_arguments(name, descriptor);
  int status = preload_self(&preload, arguments);
  for (char **argument = arguments; *argument != NULL; argument++) {
    free(*argument);
  }
  free(arguments);
  free(preload.set);
  free(directory);
  free(name);
  return judge_end("workout", status);
}

/* Status 1 for a bad verdict, 2 more when the plugin cannot be started at all. */
static int judge_static(const char *path)
{
  bool usable = judge_file(path) && judge_descriptor(path, &loaded);
  return verdict_status() | (usable ? 0 : 2);
}

int conform_check(const char *path, const struct preload *preload)
{
  char *file = realpath(path, NULL);
  if (file == NULL) {
    tool_die(TOOL_USAGE, "%s: %s", path, strerror(errno));
  }
  place_find();
  setvbuf(stdout, NULL, _IOLBF, 0); /* no verdict is lost in a crash */
  int status = tool_apart(judge_static, file);
  int result = WIFEXITED(status) ? WEXITSTATUS(status) : judge_end("descriptor", status) | 2;
  /* Now that a child has survived it, this process reads the descriptor too. */
  if ((result & 2) == 0 && descriptor_read(file, &loaded) == NULL) {
    result |= judge_behaviour(file, &loaded, preload);
  }
  free(file);
  fflush(stdout);
  return result != 0 ? 1 : 0;
}
