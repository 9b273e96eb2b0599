/* SPDX-License-Identifier: MIT */
/*
 * ini.c - fuzz target: the configuration. An input has four parts, separated by lines "%%": the installed INI, the INI that
 * HAKMEM_CONF names, HAKMEM_SET, and lines KEY=VALUE that are set afterwards, as hak_set does it.
 *
 * It must hold that loading ends, each mistake is one line, the effective configuration is made of whole lines, and memory is
 * bounded. Options are those of the core and of the plugins in $FUZZ_PLUGINS, of which only the tables are used.
 */
#include "loading.h"

enum { PARTS = 4, FILES = 32, MOST = 4 * FILE_BYTES, MEMORY = 1 << 20 };

static char part[PARTS][MOST];
static size_t part_length[PARTS];           /* may have NUL bytes in it */
static char set_text[MOST] = "HAKMEM_SET="; /* in the environment */

/* ---- plugins that start and do nothing ----------------------------------------------------------------------------- */

static struct file {
  char name[64];
  struct hak_plugin descriptor;
} files[FILES];
static uint32_t file_count;

static int32_t start_idle(const hak_host *host, const hak_value *values, void **self)
{
  (void)host, (void)values;
  *self = NULL;
  return HAK_OK;
}

static int32_t set_idle(void *self, uint32_t option, hak_value value)
{
  (void)self, (void)value;
  return option % 2 == 0 ? HAK_OK : HAK_INVALID;
}

static int32_t choose_nothing(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self, (void)sample, (void)choice;
  return HAK_OK;
}

static const struct hak_policy_ops idle_policy = {.struct_size = sizeof idle_policy, .choose = choose_nothing};

/* Looked up once; input cannot name more files than there are, since one that is missing is not remembered. */
static const struct hak_plugin *described(const char *path)
{
  const char *directory = getenv("FUZZ_PLUGINS");
  const char *name = strrchr(path, '/') + 1;
  char real[4096];
  for (uint32_t i = 0; i < file_count; i++) {
    if (strcmp(files[i].name, name) == 0) {
      return &files[i].descriptor;
    }
  }
  struct file *file = &files[file_count];
  if (pieces_kept != 0 || strlen(name) >= sizeof file->name) {
    return NULL;
  }
  MUST(directory != NULL && file_count < FILES);
  snprintf(real, sizeof real, "%s/%s", directory, name);
  void *handle = dlopen(real, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  const struct hak_plugin *plugin = handle != NULL ? dlsym(handle, HAK_PLUGIN_SYMBOL) : NULL;
  if (plugin == NULL) {
    return NULL;
  }
  strcpy(file->name, name);
  file->descriptor = *plugin;
  file->descriptor.start = start_idle;
  file->descriptor.set = set_idle;
  file->descriptor.ops = plugin->kind == HAK_POLICY ? &idle_policy : plugin->ops;
  file_count++;
  return &file->descriptor;
}

/* ---- files of the configuration ------------------------------------------------------------------------------------ */

static long read_part(const char *path, char *buffer, size_t size)
{
  int i = strcmp(path, "fuzz.ini") == 0;
  size_t length = part_length[i], count = length < size - 1 ? length : size - 1;
  memcpy(buffer, part[i], count);
  buffer[count] = 0;
  return length > 0 ? (long)count : -ENOENT;
}

static void split_parts(const uint8_t *data, size_t size)
{
  for (int i = 0; i < PARTS; i++) {
    const uint8_t *end = size > 0 ? memmem(data, size, "%%\n", 3) : NULL;
    size_t length = end != NULL && i + 1 < PARTS ? (size_t)(end - data) : size;
    size_t step = length < size ? length + 3 : length, kept = length < MOST - 16 ? length : MOST - 16;
    if (kept > 0) {
      memcpy(part[i], data, kept);
    }
    part[i][kept] = 0;
    part_length[i] = kept;
    data += step;
    size -= step;
  }
}

static void once(void)
{
  static const char *const names[] = {"malloc",         "mmap", "hugepage", "slab", "static",
                                      "epsilon_greedy", "elo",  "bigcache", "batch"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[64];
    snprintf(path, sizeof path, "/%s.so", names[i]);
    MUST(described(path) != NULL);
  }
  hki_os.read_file = read_part;
  setenv("HAKMEM_CONF", "fuzz.ini", 1);
  putenv(set_text);
  put_back();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static bool ready;
  if (!ready) {
    once();
    ready = true;
  }
  split_parts(data, size);
  strcpy(set_text + strlen("HAKMEM_SET="), part[2]);
  load_all();
  MUST(said == hakmem_root.mistakes);
  MUST(piece_bytes < MEMORY + 16 * size);
  set_all(part[3], true);
  put_back();
  return 0;
}
