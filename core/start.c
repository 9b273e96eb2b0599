/* SPDX-License-Identifier: MIT */
/*
 * start.c - the life of the process: BOOT -> LOADING -> READY -> EXITING. Owns hki_settings and the tables of [core] and [stats].
 *
 * Everything is loaded in an ELF constructor, never inside malloc: a dlopen under a lock of ours would deadlock with a thread that
 * is in dlopen and allocates. The constructors of the libraries a program links run before ours, so boot serves them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.h"
#include "background.h"
#include "boot.h"
#include "config.h"
#include "control.h"
#include "epoch.h"
#include "fork.h"
#include "front.h"
#include "message.h"
#include "option.h"
#include "pagemap.h"
#include "plugin.h"
#include "route.h"
#include "settings.h"
#include "strategy.h"
#include "thread.h"
#include "trust.h"

enum { EXIT_CONFIG = 78 }; /* EX_CONFIG of sysexits.h */

struct hki_settings hki_settings = {
    .small = "none", .small_max = HAK_CLASS_MAX, .policy = "", .epoch = 1024, .hardening = HKI_BASIC, .exit_file = ""};

static const char *const hardening_choices[] = {"off", "basic", "full", NULL};
static const char *const foreign_choices[] = {"libc", "abort", NULL};
static const char *const deepbind_choices[] = {"ours", "libc", NULL};
static const char *const syscalls_choices[] = {"all", "basic", NULL};
static const char *const exit_choices[] = {"off", "text", "json", "prometheus", NULL};

enum core_option {
  SMALL,
  SMALL_MAX,
  POLICY,
  EPOCH,
  CACHE,
  RECLAIM,
  CAP,
  SYSCALLS,
  BACKGROUND,
  PLUGIN_PATH,
  HARDENING,
  FOREIGN,
  DEEPBIND,
  STRICT,
  VERBOSE,
  CORE_OPTIONS
};
enum stats_option { STATS_EXIT, STATS_FILE, STATS_PID, STATS_OPTIONS };

static const hak_option core_options[CORE_OPTIONS] = {
    [SMALL] = {.key = "small",
               .type = HAK_STRING,
               .fallback = "none",
               .help = "backend for requests up to small_max, outside the policy: a class or byte backend, or none"},
    [SMALL_MAX] = {.key = "small_max",
                   .type = HAK_SIZE,
                   .fallback = "256K",
                   .min = "0",
                   .max = "256K",
                   .help = "up to this size requests go to `small`"},
    [POLICY] = {.key = "policy",
                .type = HAK_STRING,
                .fallback = "none",
                .help = "plugin that chooses the strategy of each size bin"},
    [EPOCH] = {.key = "epoch",
               .type = HAK_INT,
               .flags = HAK_LIVE,
               .fallback = "1024",
               .min = "1",
               .max = "1000000000",
               .help = "large blocks between two decisions of the policy"},
    [CACHE] = {.key = "cache",
               .type = HAK_STRING,
               .fallback = "none",
               .help = "plugin that keeps freed large blocks for reuse, or none"},
    [RECLAIM] = {.key = "reclaim",
                 .type = HAK_STRING,
                 .fallback = "none",
                 .help = "plugin that decides when freed large blocks go back to the system, or none: at once"},
    [CAP] = {.key = "cap",
             .type = HAK_SIZE,
             .flags = HAK_LIVE,
             .fallback = "256M",
             .min = "0",
             .help = "freed bytes that cache and reclaim may hold together"},
    [SYSCALLS] = {.key = "syscalls",
                  .type = HAK_ENUM,
                  .fallback = "all",
                  .choices = syscalls_choices,
                  .help = "basic: none that sandboxes tend to forbid (process_madvise, mincore); policies then cannot learn"},
    [BACKGROUND] = {.key = "background",
                    .type = HAK_BOOL,
                    .fallback = "off",
                    .help = "on: a thread gives back what is kept for too long while the program makes no requests"},
    [PLUGIN_PATH] = {.key = "plugin_path",
                     .type = HAK_LIST,
                     .fallback = "",
                     .help = "directories searched for NAME.so before the installed ones"},
    [HARDENING] = {.key = "hardening",
                   .type = HAK_ENUM,
                   .fallback = "basic",
                   .choices = hardening_choices,
                   .help = "how much is paid to detect misuse"},
    [FOREIGN] = {.key = "foreign",
                 .type = HAK_ENUM,
                 .flags = HAK_LIVE,
                 .fallback = "libc",
                 .choices = foreign_choices,
                 .help = "a free of memory that is not ours: hand it to libc if it can be libc's, or abort"},
    [DEEPBIND] = {.key = "deepbind",
                  .type = HAK_ENUM,
                  .fallback = "ours",
                  .choices = deepbind_choices,
                  .help = "whose malloc and free libraries get that a program loads with RTLD_DEEPBIND"},
    [STRICT] = {.key = "strict",
                .type = HAK_BOOL,
                .fallback = "off",
                .help = "a mistake in the configuration or a plugin ends the program with status 78 before main"},
    [VERBOSE] = {.key = "verbose", .type = HAK_BOOL, .fallback = "off", .help = "one line at start that says what is in force"},
};

static const hak_option stats_options[STATS_OPTIONS] = {
    [STATS_EXIT] = {.key = "exit",
                    .type = HAK_ENUM,
                    .flags = HAK_LIVE,
                    .fallback = "off",
                    .choices = exit_choices,
                    .help = "report when the process ends"},
    [STATS_FILE] = {.key = "file",
                    .type = HAK_STRING,
                    .flags = HAK_LIVE,
                    .fallback = "",
                    .help = "where to; empty is standard error; %p stands for the process id"},
    [STATS_PID] = {.key = "pid",
                   .type = HAK_INT,
                   .fallback = "0",
                   .min = "0",
                   .max = "4194304",
                   .help = "report only in the process with this id; 0: in every process"},
};

static int32_t set_core(void *owner, uint32_t index, hak_value value)
{
  (void)owner;
  if (index == EPOCH) {
    HKI_STORE(&hki_settings.epoch, (uint64_t)value.integer);
  } else if (index == CAP) {
    HKI_STORE(&hki_settings.cap, (size_t)value.size);
  } else if (index == FOREIGN) {
    HKI_STORE(&hki_settings.foreign, value.choice);
  } else {
    return HAK_UNSUPPORTED;
  }
  return HAK_OK;
}

static int32_t set_stats(void *owner, uint32_t index, hak_value value)
{
  (void)owner;
  if (index == STATS_EXIT) {
    hki_settings.exit_report = value.choice;
  } else if (index == STATS_FILE) {
    hki_settings.exit_file = value.string;
  } else {
    return HAK_UNSUPPORTED;
  }
  return HAK_OK;
}

static hak_value core_option(enum core_option index)
{
  return hki_option_read("core", &core_options[index], (uint32_t)index, set_core, NULL);
}

static hak_value stats_option(enum stats_option index)
{
  return hki_option_read("stats", &stats_options[index], (uint32_t)index, set_stats, NULL);
}

/* What a relative path means depends on where a process happens to start. */
static void refuse_relative(const char *const *directories)
{
  for (const char *const *d = directories; d != NULL && *d != NULL; d++) {
    if (**d != '/') {
      hki_mistake(hki_config_find("core", "plugin_path"),
                  "core.plugin_path: found \"%s\", expected directories with absolute paths; not searched", *d);
    }
  }
}

static void read_settings(void)
{
  hki_settings.small = core_option(SMALL).string;
  hki_settings.small_max = (size_t)core_option(SMALL_MAX).size;
  hki_settings.policy = core_option(POLICY).string;
  hki_settings.epoch = (uint64_t)core_option(EPOCH).integer;
  hki_settings.cache = core_option(CACHE).string;
  hki_settings.reclaim = core_option(RECLAIM).string;
  hki_settings.cap = (size_t)core_option(CAP).size;
  hki_settings.basic_syscalls = core_option(SYSCALLS).choice != 0;
  hki_settings.background = core_option(BACKGROUND).flag;
  hki_settings.plugin_path = core_option(PLUGIN_PATH).list;
  refuse_relative(hki_settings.plugin_path);
  hki_settings.hardening = core_option(HARDENING).choice;
  hki_settings.foreign = core_option(FOREIGN).choice;
  hki_settings.deepbind = core_option(DEEPBIND).choice;
  hki_settings.strict = core_option(STRICT).flag;
  hki_settings.verbose = core_option(VERBOSE).flag;
  hki_settings.exit_report = stats_option(STATS_EXIT).choice;
  hki_settings.exit_file = stats_option(STATS_FILE).string;
  hki_settings.exit_pid = (uint64_t)stats_option(STATS_PID).integer;
}

static void load_small(void)
{
  const struct hki_item *where = hki_config_find("core", "small");
  if (strcmp(hki_settings.small, "none") == 0 || hki_settings.small_max == 0) {
    return;
  }
  struct hki_backend *backend = hki_plugin_backend(hki_settings.small, where);
  if (backend != NULL && backend->granularity == HAK_PAGE) {
    hki_mistake(where, "core.small: found the page backend %s, expected a class or byte backend; not used", backend->name);
    backend = NULL;
  }
  /* Without it boot serves these sizes: routes may start with a page backend because `small` was to serve them. */
  hki_route.small = backend != NULL ? backend : &hki_backends[HKI_BOOT];
  hki_route.small_end = hki_settings.small_max + 1;
  hakmem_root.small = hki_route.small->index;
}

static bool resolve(const hak_option *option, const char *name, hak_value *value)
{
  if (option->type == HAK_ARM) {
    return hki_strategy_find(name, &value->arm);
  }
  value->pages = hki_plugin_pages(name);
  return value->pages != NULL;
}

static enum hki_section classify(const char *section, const char **right)
{
  bool ours = strcmp(section, "core") == 0 || strcmp(section, "stats") == 0 || hki_strategy_section(section);
  return ours ? HKI_SECTION_LOADED : hki_plugin_section(section, right);
}

static void load(void)
{
  static const struct hki_tables first_arm;
  hki_value_resolve = resolve;
  hki_config_read();
  read_settings();
  load_small();
  hki_strategy_read();
  if (hakmem_root.arm_count == 0) { /* not even the built-in file could be read */
    hakmem_root.arm_count = 1;
    hki_strategy_names[0] = "boot";
    hki_route.arm[0].count = 1;
    hki_route.arm[0].range[0].backend = &hki_backends[HKI_BOOT];
  }
  hki_route_publish(&first_arm);
  hki_plugin_optional(HAK_CACHE, hki_settings.cache, hki_config_find("core", "cache"));
  hki_plugin_optional(HAK_RECLAIM, hki_settings.reclaim, hki_config_find("core", "reclaim"));
  hki_plugin_optional(HAK_POLICY, hki_settings.policy, hki_config_find("core", "policy"));
  hakmem_root.switches = hakmem_root.change_count = 0;
  hki_trust_stop();
  hki_option_unknown(classify);
}

static const char *or_none(const char *name)
{
  return *name != 0 ? name : "none";
}

static void say_what_is_in_force(void)
{
  char names[256];
  struct hki_text text = hki_text(names, sizeof names);
  for (uint32_t i = 1; i < hakmem_root.backend_count; i++) {
    hki_append(&text, "%s%s", i == 1 ? "" : ", ", hakmem_root.backend[i].name);
  }
  hki_say("%s serves process %d: backends %s; policy %s, cache %s, reclaim %s; mistakes in the configuration: %u",
          PACKAGE_VERSION, (int)getpid(), names, or_none(hakmem_root.policy), or_none(hakmem_root.cache),
          or_none(hakmem_root.reclaim), hakmem_root.mistakes);
}

/* A linked and a preloaded copy may meet in one process. Every call goes to the first; the second stays in BOOT, untouched. */
static bool is_first_copy(void)
{
  const void *first = dlsym(RTLD_DEFAULT, "hakmem_root");
  return first == NULL || first == &hakmem_root;
}

static __attribute__((constructor)) void start(void)
{
  struct hki_thread *self = hki_self;
  hki_self = &hki_thread_load;
  if (is_first_copy()) {
    __atomic_store_n(&hakmem_root.sequence, 1U, __ATOMIC_RELEASE); /* names and counts change until READY */
    __atomic_store_n(&hakmem_root.state, (uint32_t)HKI_STATE_LOADING, __ATOMIC_RELEASE);
    hki_boot_start();
    hki_front_start();
    hki_thread_start();
    hki_fork_start();
    load();
    if (hki_settings.strict && hakmem_root.mistakes > 0) {
      hki_say("core.strict is on, and mistakes were found: %u; the program is not started", hakmem_root.mistakes);
      _exit(EXIT_CONFIG);
    }
    if (hki_settings.verbose) {
      say_what_is_in_force();
    }
    __atomic_store_n(&hakmem_root.sequence, 2U, __ATOMIC_RELEASE);
    __atomic_store_n(&hakmem_root.state, (uint32_t)HKI_STATE_READY, __ATOMIC_RELEASE);
    HKI_STORE(&hki_background_wanted, (uint32_t)hki_settings.background);
  }
  hki_self = self;
  /* Now rather than in the program's first request: a record, and the page map around its mappings. */
  (void)hki_thread_attach();
  (void)hki_pagemap_slot((uintptr_t)&hakmem_root);
}

static __attribute__((destructor)) void finish(void)
{
  if (hakmem_root.state == HKI_STATE_READY) {
    hki_epoch_finish();
    hki_control_exit_report();
    __atomic_store_n(&hakmem_root.state, (uint32_t)HKI_STATE_EXITING, __ATOMIC_RELEASE);
  }
}
