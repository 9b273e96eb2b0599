/* SPDX-License-Identifier: MIT */
/*
 * state.c - fuzz target: the state file of the learning policies. The first byte of an input chooses the policy and what it
 * learns for, the others are the file.
 *
 * A policy starts with any file: with what the file says, or anew and with one line that says why. What was loaded is written
 * and read again as the same text, and bears the samples of an ordinary program.
 */
#include "learn.h"

#include <errno.h>
#include <string.h>

#include "must.h"

enum { PIECES = 64, ARMS = 4, ROUNDS = 12, TRIALS = 32, ELO_OPTIONS = LEARN_OPTIONS + 3 };

extern const hak_plugin elo_plugin, epsilon_plugin; /* the plugins' constants, renamed by the compiler's options */

/* ---- the host ------------------------------------------------------------------------------------------------------ */

static void *piece[PIECES];
static uint32_t piece_count;
static uint64_t counters[LEARN_COUNTERS];
static const uint8_t *file;
static size_t file_size;
static unsigned lines;
static char last_line[256];

/* Of the exact size, for the address sanitizer. */
static void *meta_alloc(const hak_host *host, size_t size, size_t align)
{
  void *made = NULL;
  (void)host;
  MUST(piece_count < PIECES && posix_memalign(&made, align, size) == 0);
  memset(made, 0, size);
  piece[piece_count++] = made;
  return made;
}

static void log_line(const hak_host *host, const char *text)
{
  (void)host;
  lines++;
  snprintf(last_line, sizeof last_line, "%s", text);
}

static long read_file(const char *path, char *buffer, size_t size)
{
  (void)path;
  size_t count = file_size < size - 1 ? file_size : size - 1;
  if (count > 0) {
    memcpy(buffer, file, count);
  }
  buffer[count] = 0;
  return (long)count;
}

static long write_file(const char *path, const char *content, size_t size)
{
  (void)path;
  MUST(size > 0 && content[size - 1] == '\n' && memchr(content, 0, size) == NULL);
  return (long)size;
}

static uint32_t arm_alike(const hak_host *host, uint32_t bin, uint32_t arm)
{
  (void)host, (void)bin;
  return arm;
}

static const hak_os os = {.struct_size = sizeof(hak_os), .read_file = read_file, .write_file = write_file};
static const char *const names[ARMS] = {"default", "a", "b", "c"};
static const hak_host host = {.struct_size = sizeof(hak_host),
                              .name = "fuzz",
                              .os = &os,
                              .counters = counters,
                              .arm_count = ARMS,
                              .arm_name = names,
                              .meta_alloc = meta_alloc,
                              .log = log_line,
                              .arm_alike = arm_alike};

/* ---- a learner ----------------------------------------------------------------------------------------------------- */

static struct learn *start(const hak_plugin *plugin, uint32_t scope, const char *path)
{
  static const char *const three[] = {"default", "a", "b", NULL};
  hak_value values[ELO_OPTIONS] = {0};
  for (uint32_t i = 0; i < plugin->option_count; i++) {
    const hak_option *option = &plugin->options[i];
    if (option->type == HAK_FLOAT) {
      values[i].number = strtod(option->fallback, NULL);
    } else if (option->type == HAK_INT) {
      values[i].integer = strtoll(option->fallback, NULL, 10);
    }
  }
  values[LEARN_LIST].list = three;
  values[LEARN_SCOPE].choice = scope;
  values[LEARN_STATE_FILE].string = path;
  void *self = NULL;
  memset(counters, 0, sizeof counters);
  MUST(plugin->start(&host, values, &self) == HAK_OK && self != NULL);
  return self;
}

/* What the learner would write, in memory of its own. */
static char *written(const struct learn *learn, size_t *size)
{
  char *text = malloc(learn_state_size(learn));
  MUST(text != NULL);
  *size = learn_state_write(learn, text);
  MUST(*size <= learn_state_size(learn));
  return text;
}

static bool same_text(const struct learn *a, const struct learn *b)
{
  size_t size, other_size;
  char *text = written(a, &size), *other = written(b, &other_size);
  bool same = size == other_size && memcmp(text, other, size) == 0;
  free(text);
  free(other);
  return same;
}

/* ---- samples ------------------------------------------------------------------------------------------------------- */

static void work(const hak_plugin *plugin, struct learn *learn)
{
  static uint8_t champion[HAK_ROWS], challenger[HAK_ROWS], reason[HAK_ROWS];
  static uint16_t share[HAK_ROWS], purse[HAK_ROWS], most[HAK_ROWS];
  hak_standing standing[ARMS] = {0};
  hak_choice choice = {.struct_size = sizeof choice,
                       .row_count = HAK_ROWS,
                       .champion = champion,
                       .challenger = challenger,
                       .share = share,
                       .reason = reason,
                       .standing = standing,
                       .purse = purse,
                       .most = most};
  const hak_policy_ops *ops = plugin->ops;
  for (uint32_t round = 0; round < ROUNDS; round++) {
    hak_trial trials[TRIALS];
    hak_cell cells[TRIALS];
    for (uint32_t i = 0; i < TRIALS; i++) {
      uint16_t row = (uint16_t)((LEARN_FIRST_BIN + i % 4 * 9) * HAK_SITES + i % HAK_SITES);
      uint8_t arm = round == 0 ? 0 : i % 4 == 0 ? challenger[row] : champion[row];
      trials[i] = (hak_trial){.row = row,
                              .arm = arm,
                              .bytes = (uint64_t)1 << (row / HAK_SITES),
                              .cpu_ns = 1000 + UINT64_C(100) * arm,
                              .fault_ns = i * 50,
                              .used_bytes = i * 4096};
      cells[i] =
          (hak_cell){.row = row, .arm = arm, .blocks = 100, .bytes = 100 * trials[i].bytes, .frees = 100, .release_ns = i};
    }
    hak_sample sample = {.struct_size = sizeof sample,
                         .trial_stride = sizeof(hak_trial),
                         .cell_stride = sizeof(hak_cell),
                         .trial_count = round == 0 ? 0 : TRIALS,
                         .cell_count = round == 0 ? 0 : TRIALS,
                         .arm_count = ARMS,
                         .epoch = round,
                         .blocks = round * UINT64_C(1024),
                         .now = round * UINT64_C(1000000000) + 1,
                         .faults = round * UINT64_C(1000),
                         .trials = trials,
                         .cells = cells};
    for (uint32_t row = 0; row < HAK_ROWS; row++) {
      purse[row] = (uint16_t)row;
      most[row] = UINT16_MAX;
    }
    MUST(ops->choose(learn, &sample, &choice) == HAK_OK);
    for (uint32_t row = 0; row < HAK_ROWS; row++) {
      MUST(champion[row] < ARMS && challenger[row] < ARMS && purse[row] < HAK_ROWS && learn->enabled[champion[row]]);
    }
  }
  ops->finish(learn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  uint32_t how = size > 0 ? data[0] : 0;
  const hak_plugin *plugin = how % 2 == 0 ? &elo_plugin : &epsilon_plugin;
  uint32_t scope = how / 2 % 3;
  file = size > 0 ? data + 1 : NULL;
  file_size = size > 0 ? size - 1 : 0;
  lines = 0;
  struct learn *learn = start(plugin, scope, "file");
  MUST(lines <= 1);
  if (lines == 1) {
    MUST(strncmp(last_line, "state_file: found ", 18) == 0 && strchr(last_line, '\n') == NULL);
    MUST(same_text(learn, start(plugin, scope, "")));
  } else {
    size_t length;
    char *text = written(learn, &length);
    struct learn *again = start(plugin, scope, "");
    MUST(learn_state_read(again, text, length) == NULL);
    free(text);
    text = written(again, &length); /* scores may differ in the last digit from the first text's */
    struct learn *third = start(plugin, scope, "");
    MUST(learn_state_read(third, text, length) == NULL && same_text(again, third));
    free(text);
  }
  work(plugin, learn);
  while (piece_count > 0) {
    free(piece[--piece_count]);
  }
  return 0;
}
