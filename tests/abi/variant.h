/* SPDX-License-Identifier: MIT */
/*
 * variant.h - what abi.sh makes of one plugin's source: NAME and MAJOR in the descriptor; LATER, against a header that has more members, which
 * are filled with what no core may read; OPS_SIZE, operations of which a shorter struct_size hides the last. No lock but that of
 * the plugin, which has one.
 */
#ifndef HAKMEM_TESTS_VARIANT_H
#define HAKMEM_TESTS_VARIANT_H

#include <hakmem/plugin.h>

#ifdef LATER
#define FUTURE .later = {UINT64_MAX, UINT64_MAX},
#else
#define FUTURE
#endif
#ifndef MAJOR
#define MAJOR HAK_ABI_MAJOR
#endif
#ifndef OPS_SIZE
#define OPS_SIZE sizeof ops
#endif

static const hak_host *host;
static hak_lock lock;

#define COUNT(counter) hak_count(host, counter, 1)
#define COUNTER_ROW(counter)                                                                                                   \
  {                                                                                                                            \
    .key = counter, .kind = HAK_COUNTER, .unit = "", .help = "of a test", FUTURE                                               \
  }

/* Every plugin has two options: the second shows that the core finds a row by the plugin's stride, the first by what it is for. */
#define OPTION_ROWS                                                                                                            \
  {.key = "spare", .type = HAK_STRING, .fallback = "none", .help = "of no use", FUTURE},                                       \
  {                                                                                                                            \
    .key = "limit", .type = HAK_INT, .flags = HAK_LIVE, .fallback = "8", .min = "1", .max = "64", .help = "ranges kept",       \
    FUTURE                                                                                                                     \
  }

static int64_t limit;

static int32_t set(void *self, uint32_t option, hak_value value)
{
  (void)self;
  if (option == 1) {
    __atomic_store_n(&limit, value.integer, __ATOMIC_RELAXED);
  }
  return HAK_OK;
}

/* Refuses a core that hands out less than the first version had, or does not say how much. */
static int32_t begin(const hak_host *core, const hak_value *values, void **self)
{
  host = core;
  *self = &lock;
  limit = values[1].integer;
  if (core->struct_size < offsetof(hak_host, arm_alike) + sizeof core->arm_alike || core->abi_major != HAK_ABI_MAJOR ||
      core->os->struct_size < offsetof(hak_os, write_file) + sizeof core->os->write_file || values[0].string[0] != 'n') {
    core->log(core, "a core that lacks something");
    return HAK_FAILED;
  }
#ifdef LATER
  /* What the core does not have is behind what it says it has. */
  if (core->abi_minor >= HAK_ABI_MINOR || core->struct_size >= sizeof *core || core->os->struct_size >= sizeof *core->os) {
    core->log(core, "a core that claims members it has not");
    return HAK_FAILED;
  }
#endif
  return HAK_OK;
}

__attribute__((unused)) static void fork_prepare(void *self)
{
  hak_lock_acquire(host, self);
}

__attribute__((unused)) static void fork_parent(void *self)
{
  hak_lock_release(host, self);
}

__attribute__((unused)) static void fork_child(void *self)
{
  *(hak_lock *)self = (hak_lock){0};
}

#define DESCRIBE(plugin_kind, function)                                                                                        \
  HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {.struct_size = sizeof(hak_plugin),                                       \
                                                      .abi_major = MAJOR,                                                      \
                                                      .abi_minor = HAK_ABI_MINOR,                                              \
                                                      .kind = (plugin_kind),                                                   \
                                                      .name = NAME,                                                            \
                                                      .version = "1",                                                          \
                                                      .summary = "a plugin of a test",                                         \
                                                      .options = options,                                                      \
                                                      .option_count = sizeof options / sizeof *options,                        \
                                                      .option_stride = sizeof *options,                                        \
                                                      .counters = counters,                                                    \
                                                      .counter_count = sizeof counters / sizeof *counters,                     \
                                                      .counter_stride = sizeof *counters,                                      \
                                                      .start = (function),                                                     \
                                                      .set = set,                                                              \
                                                      .ops = &ops,                                                             \
                                                      FUTURE}

#endif
