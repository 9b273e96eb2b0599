/* SPDX-License-Identifier: MIT */
/*
 * descriptor.c - fuzz target: the descriptor of a plugin. The bytes of an input choose each of its fields, of its options,
 * counters and operations, what its callbacks answer, and the configuration it is started with.
 *
 * A table has the size that its count and stride say, and not one byte more. A count that must be refused has no table behind
 * it. What is refused is told in a line; nothing crashes.
 */
#include "loading.h"

enum { NEARBY = 1024 /* largest stride of a table that is there */, TEXTS = 256, TEXT_BYTES = 64 };

static const uint8_t *at, *end; /* of the input */

static const struct hak_plugin *made; /* what the file made.so has */

static const struct hak_plugin *described(const char *path)
{
  return strcmp(strrchr(path, '/'), "/made.so") == 0 ? made : NULL;
}

/* ---- from bytes to values ------------------------------------------------------------------------------------------ */

static void *owned[TEXTS * 2];
static uint32_t owned_count;

static void *own(size_t size)
{
  void *room = calloc(1, size > 0 ? size : 1);
  MUST(room != NULL && owned_count < sizeof owned / sizeof *owned);
  owned[owned_count++] = room;
  return room;
}

static uint32_t byte(void)
{
  return at < end ? *at++ : 0;
}

static uint32_t word(void)
{
  uint32_t value = byte() << 24;
  value |= byte() << 16;
  value |= byte() << 8;
  return value | byte();
}

/* Mostly the right value, else one nearby or any at all. */
static uint32_t near_to(uint32_t right)
{
  uint32_t how = byte();
  return how < 160 ? right : how < 240 ? right + how - 200 : word();
}

static const char *text(const char *right)
{
  uint32_t how = byte();
  if (how < 160 || owned_count >= TEXTS) {
    return right;
  }
  if (how < 176) {
    return how == 160 ? NULL : "";
  }
  size_t length = how < 240 ? byte() % 48 : TEXT_BYTES * (byte() % 16);
  char *made_up = own(length + 1);
  for (size_t i = 0; i < length; i++) {
    made_up[i] = (char)byte();
  }
  return made_up;
}

/* ---- callbacks ----------------------------------------------------------------------------------------------------- */

static int32_t start_result, set_result, choose_result;
static const char *last_words;
static uint32_t chosen, chosen_row;

static int32_t start_made(const hak_host *host, const hak_value *values, void **self)
{
  (void)values;
  if (last_words != NULL) {
    host->log(host, last_words);
    host->log(host, last_words);
  }
  *self = NULL;
  return start_result;
}

static int32_t set_made(void *self, uint32_t option, hak_value value)
{
  (void)self, (void)option, (void)value;
  return set_result;
}

static int32_t choose_made(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self, (void)sample;
  choice->champion[chosen_row % choice->row_count] = (uint8_t)chosen;
  choice->challenger[chosen_row / 2 % choice->row_count] = (uint8_t)(chosen >> 8);
  choice->purse[chosen_row / 3 % choice->row_count] = (uint16_t)(chosen >> 16);
  choice->reason[chosen_row % choice->row_count] = (uint8_t)(chosen >> 16);
  choice->trials = choice->tries = chosen;
  return choose_result;
}

/* There, and never called. */
static void uncalled(void)
{
  abort();
}

/* ---- the descriptor ------------------------------------------------------------------------------------------------ */

/* The table of an option or counter: its stride made true where the count is one that may be taken. */
static char *table(uint32_t count, uint32_t most, uint32_t *stride)
{
  if (count <= most && *stride > NEARBY) {
    *stride %= NEARBY;
  }
  return count == 0 || byte() == 1 ? NULL : own(count <= most ? (size_t)count * *stride : 1);
}

static void put_row(char *rows, uint32_t i, uint32_t stride, const void *row, size_t size)
{
  memcpy(rows + (size_t)i * stride, row, stride < size ? stride : size);
}

static void make_options(struct hak_plugin *plugin)
{
  static const char *const words[] = {"one", "two", NULL}, *const none[] = {NULL};
  plugin->option_count = byte() < 200 ? byte() % 34 : word();
  plugin->option_stride = near_to(sizeof(struct hak_option));
  char *rows = table(plugin->option_count, 32, &plugin->option_stride);
  plugin->options = (const struct hak_option *)(const void *)rows;
  for (uint32_t i = 0; rows != NULL && i < plugin->option_count && plugin->option_count <= 32; i++) {
    struct hak_option option = {.key = text(i % 2 == 0 ? "size" : "mode"),
                                .type = near_to(1 + byte() % HAK_ARM),
                                .flags = byte() % 4,
                                .fallback = text("one"),
                                .min = text(NULL),
                                .max = text(NULL),
                                .choices = byte() < 128   ? words
                                           : byte() < 128 ? none
                                                          : NULL,
                                .help = text("help")};
    put_row(rows, i, plugin->option_stride, &option, sizeof option);
  }
}

static void make_counters(struct hak_plugin *plugin)
{
  plugin->counter_count = byte() < 200 ? byte() % (HKI_ROWS + 2) : word();
  plugin->counter_stride = near_to(sizeof(struct hak_counter));
  char *rows = table(plugin->counter_count, HKI_ROWS, &plugin->counter_stride);
  plugin->counters = (const struct hak_counter *)(const void *)rows;
  for (uint32_t i = 0; rows != NULL && i < plugin->counter_count && plugin->counter_count <= HKI_ROWS; i++) {
    struct hak_counter counter = {.key = text("count"),
                                  .kind = near_to(HAK_COUNTER),
                                  .sum = near_to(HAK_SUM_NONE),
                                  .unit = text("bytes"),
                                  .help = text("")};
    put_row(rows, i, plugin->counter_stride, &counter, sizeof counter);
  }
}

/* Two words of 32 bits and pointers to functions, whatever the kind. */
static void make_operations(struct hak_plugin *plugin)
{
  enum { WORDS_MOST = sizeof(struct hak_backend_ops) / sizeof(uintptr_t) };
  uintptr_t words[WORDS_MOST] = {0};
  uint32_t size = near_to(sizeof words), second = byte() % 5;
  for (size_t i = 1; i < WORDS_MOST; i++) {
    words[i] = byte() < 200 ? (uintptr_t)uncalled : 0;
  }
  if (plugin->kind == HAK_POLICY) {
    words[1] = words[1] != 0 ? (uintptr_t)choose_made : 0;
  }
  memcpy(words, &size, sizeof size);
  memcpy((char *)words + sizeof size, &second, sizeof second);
  size_t there = size < sizeof words ? size : sizeof words;
  void *room = own(there < sizeof size ? sizeof size : there);
  memcpy(room, words, there < sizeof size ? sizeof size : there);
  plugin->ops = room;
}

static void make_descriptor(uint32_t kind)
{
  struct hak_plugin plugin = {.struct_size = near_to(sizeof plugin),
                              .abi_major = (uint16_t)near_to(HAK_ABI_MAJOR),
                              .abi_minor = (uint16_t)near_to(HAK_ABI_MINOR),
                              .kind = near_to(kind),
                              .reserved = near_to(0),
                              .name = text("made"),
                              .version = text("1"),
                              .summary = text("made up"),
                              .start = byte() < 250 ? start_made : NULL,
                              .set = byte() < 200 ? set_made : NULL};
  make_options(&plugin);
  make_counters(&plugin);
  if (byte() < 250) {
    make_operations(&plugin);
  }
  size_t there = plugin.struct_size < sizeof plugin ? plugin.struct_size : sizeof plugin;
  void *room = own(there < sizeof(uint32_t) ? sizeof(uint32_t) : there);
  memcpy(room, &plugin, there < sizeof(uint32_t) ? sizeof(uint32_t) : there);
  made = room;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static char rest[1 << 16];
  put_back();
  at = data;
  end = data + size;
  uint32_t kind = 1 + byte() % (KINDS - 1);
  const char *name = byte() < 128 ? "made" : "/made.so";
  start_result = byte() < 224 ? HAK_OK : (int32_t)word();
  set_result = byte() < 192 ? HAK_OK : HAK_INVALID;
  choose_result = byte() < 224 ? HAK_OK : HAK_FAILED;
  chosen = byte() < 192 ? 0 : word();
  chosen_row = byte();
  last_words = text(NULL);
  make_descriptor(kind);
  size_t left = (size_t)(end - at) < sizeof rest ? (size_t)(end - at) : sizeof rest - 1;
  if (left > 0) {
    memcpy(rest, at, left);
  }
  rest[left] = 0;

  hki_value_resolve = resolve;
  hakmem_root.arm_count = 1;
  hki_strategy_names[0] = "default";
  hki_route.arm[0].count = 1;
  hki_route.arm[0].range[0].backend = &hki_backends[HKI_BOOT];
  parse_set(rest);
  unsigned before = said;
  bool served;
  if (kind == HAK_BACKEND) {
    struct hki_backend *backend = hki_plugin_backend(name, NULL);
    served = backend != NULL;
    MUST(!served || (backend->granularity >= HAK_BYTE && backend->granularity <= HAK_CLASS && backend->ops.free != NULL));
    MUST(hki_plugin_backend(name, NULL) == backend); /* told once */
  } else {
    hki_plugin_optional(kind, name, NULL);
    const char *shown = kind == HAK_POLICY ? hakmem_root.policy : kind == HAK_CACHE ? hakmem_root.cache : hakmem_root.reclaim;
    served = shown[0] != 0;
  }
  MUST(served || said > before);
  for (uint32_t i = 0; i < HKI_BACKENDS; i++) { /* whatever a damaged header names */
    MUST(hki_backends[i].ops.free != NULL && hki_backends[i].ops.resize != NULL);
  }
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    MUST(hakmem_root.champion[row] < hakmem_root.arm_count && hakmem_root.challenger[row] < hakmem_root.arm_count);
  }
  MUST(hakmem_root.row_count <= HKI_ROWS && hakmem_root.backend_count <= HKI_BACKENDS);
  if (served) {
    hki_option_unknown(classify);
  }
  set_all(rest, false);
  put_back();
  made = NULL;
  while (owned_count > 0) {
    free(owned[--owned_count]);
  }
  return 0;
}
