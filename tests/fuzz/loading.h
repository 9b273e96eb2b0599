/* SPDX-License-Identifier: MIT */
/*
 * loading.h - the core's loading as one translation unit, for the fuzz targets that run it again and again in one process:
 * its state can be put back, its bookkeeping memory is of the exact size and freed afterwards, so that the address sanitizer
 * sees every step beyond it, what it writes is held against the form of a message, and its plugins are those that the target
 * describes.
 *
 * Owns what the included files own. One thread. The rest of the core is linked.
 */
#ifndef LOADING_H
#define LOADING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "must.h"

/* ---- messages: each is one line ------------------------------------------------------------------------------------ */

static unsigned said; /* lines since the state was put back */

static long one_line(long number, int fd, const char *text, size_t size)
{
  MUST(number == SYS_write && fd == STDERR_FILENO && size > 8 && size <= 1024 && memcmp(text, "hakmem: ", 8) == 0);
  for (size_t i = 0; i < size; i++) {
    MUST(((unsigned char)text[i] >= ' ') == (i + 1 < size));
  }
  MUST(text[size - 1] == '\n');
  said++;
  return (long)size;
}

#define syscall(number, fd, text, size) one_line(number, fd, text, size)
#include "../../core/message.c"
#undef syscall

/* ---- bookkeeping memory -------------------------------------------------------------------------------------------- */

#include "../../core/meta.h"

enum { PIECES = 1 << 16 };

hak_lock hki_meta_lock;
static void *piece[PIECES];
static uint32_t piece_count, pieces_kept;
static size_t piece_bytes; /* since the state was put back */

void *hki_meta_alloc(size_t size, size_t align)
{
  void *made = NULL;
  MUST(piece_count < PIECES && posix_memalign(&made, align < sizeof made ? sizeof made : align, size) == 0);
  memset(made, 0, size);
  piece[piece_count++] = made;
  piece_bytes += size;
  return made;
}

const char *hki_meta_string(const char *s)
{
  size_t size = strlen(s) + 1;
  return memcpy(hki_meta_alloc(size, 1), s, size);
}

/* ---- files of plugins ---------------------------------------------------------------------------------------------- */

#include "../../core/trust.h"

/* The descriptor in the file of that path; NULL when there is no such file. The target's. */
static const struct hak_plugin *described(const char *path);

bool hki_trust_begin(struct hki_trust *trust, const char *path, const char **found, const char **expected)
{
  (void)found, (void)expected;
  trust->fd = -1;
  struct hki_text text = hki_text(trust->path, sizeof trust->path);
  hki_append(&text, "%s", path);
  return true;
}

bool hki_trust_is(const struct hki_trust *trust, const void *address)
{
  return address == described(trust->path);
}

void hki_trust_end(struct hki_trust *trust)
{
  (void)trust;
}

void hki_trust_stop(void)
{
}

/* ---- the core ------------------------------------------------------------------------------------------------------ */

#include "../../core/config.c"
#include "../../core/option.c"

#define access(path, mode) (described(path) != NULL ? 0 : -1)
#define dlopen(path, flags) ((void *)(uintptr_t)described(path))
#define dlsym(handle, symbol) (handle)
#include "../../core/plugin.c"
#undef access
#undef dlopen
#undef dlsym

#define load load_all
#define start start_process /* still the constructor, which loads the defaults */
#include "../../core/start.c"
#undef load
#undef start

/* ---- putting back -------------------------------------------------------------------------------------------------- */

static void nothing(void *self)
{
  (void)self;
}

static int32_t no_choice(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self, (void)sample, (void)choice;
  return HAK_FAILED;
}

/* No cache, reclaim plugin or policy: a refused one takes the place of what was there, an empty one that of its functions. */
static void retire_plugins(void)
{
  static struct hki_thread inside;
  static const struct hak_cache_ops no_cache = {.struct_size = sizeof no_cache};
  static const struct hak_reclaim_ops no_reclaim = {.struct_size = sizeof no_reclaim};
  static const struct hak_policy_ops no_policy = {.struct_size = sizeof no_policy};
  struct hak_cache_ops cache = {.struct_size = sizeof cache, .fork_prepare = nothing};
  struct hak_reclaim_ops reclaim = {.struct_size = sizeof reclaim, .fork_prepare = nothing};
  struct hak_policy_ops policy = {.struct_size = sizeof policy, .choose = no_choice};
  cache.take = (hak_range * (*)(void *, const hak_need *, hak_range **))(uintptr_t)nothing; /* there, and never called */
  cache.put = (hak_range * (*)(void *, hak_range *))(uintptr_t)nothing;
  cache.drain = (hak_range * (*)(void *))(uintptr_t)nothing;
  reclaim.put = (void (*)(void *, hak_range *))(uintptr_t)nothing;
  reclaim.drain = (size_t(*)(void *))(uintptr_t)nothing;
  MUST(hki_range_cache(&cache, NULL, &inside) != NULL && hki_range_cache(&no_cache, NULL, &inside) != NULL);
  MUST(hki_range_reclaim(&reclaim, NULL, &inside) != NULL && hki_range_reclaim(&no_reclaim, NULL, &inside) != NULL);
  MUST(hki_epoch_start(&policy, NULL, &inside) != NULL && hki_epoch_start(&no_policy, NULL, &inside) != NULL);
}

/* As before anything was loaded. The first call keeps what the constructor needed. */
static void put_back(void)
{
  pieces_kept = pieces_kept == 0 ? piece_count : pieces_kept;
  retire_plugins();
  items = NULL;
  options = first_options;
  option_room = FIRST;
  item_count = option_count = plugin_count = 0;
  hakmem_root.mistakes = hakmem_root.arm_count = hakmem_root.row_count = 0;
  hakmem_root.policy[0] = hakmem_root.cache[0] = hakmem_root.reclaim[0] = 0;
  hakmem_root.backend_count = HKI_BOOT + 1;
  memset(&hki_route, 0, sizeof hki_route);
  hki_settings.exit_report = HKI_REPORT_OFF; /* or the end of this process would write the file that an input names */
  while (piece_count > pieces_kept) {
    free(piece[--piece_count]);
  }
  piece_bytes = said = 0;
}

/* ---- what follows a load ------------------------------------------------------------------------------------------- */

struct listing {
  uint32_t lines, equals; /* so many " = " */
  char last;
};

static void count_lines(void *context, const char *text, size_t size)
{
  struct listing *listing = context;
  for (size_t i = 0; i < size; i++) {
    listing->lines += text[i] == '\n';
    listing->equals += i + 2 < size && memcmp(text + i, " = ", 3) == 0;
    listing->last = text[i];
  }
}

/*
 * Each line of the text, KEY=VALUE, as hak_set does it. Then the effective configuration must have a line for each option; or
 * more unless `exact`: a plugin may have made up a default of two.
 */
static void set_all(char *text, bool exact)
{
  char *rest = text, *line;
  while ((line = strsep(&rest, "\n")) != NULL) {
    char why[HKI_MAIL];
    char *equals = strchr(line, '=');
    if (equals == NULL) {
      continue;
    }
    *equals = 0;
    int result = hki_option_set(line, equals + 1, "hak_set", why, sizeof why);
    MUST(result == 0 || result == EINVAL || result == EPERM);
    MUST(why[0] != 0 && strlen(why) < sizeof why && strchr(why, '\n') == NULL);
  }
  struct listing listing = {0};
  uint32_t sections = 0;
  for (uint32_t i = 0; i < option_count; i++) {
    uint32_t first = 0;
    while (strcmp(options[first].section, options[i].section) != 0) {
      first++;
    }
    sections += first == i;
  }
  hki_option_list(count_lines, &listing);
  MUST(option_count == 0 || listing.last == '\n');
  MUST(listing.equals >= option_count && listing.lines >= option_count + 2 * sections - (sections > 0));
  MUST(!exact || listing.lines == option_count + 2 * sections - (sections > 0));
}

#endif
