/* SPDX-License-Identifier: MIT */
/* strategy.c - owns the names of the arms and fills hki_route.arm; while loading only. */
#include "strategy.h"

#include <string.h>

#include "backend.h"
#include "config.h"
#include "message.h"
#include "meta.h"
#include "option.h"
#include "plugin.h"
#include "route.h"

#define PREFIX "strategy."
#define GRAMMAR "BACKEND, BACKEND from SIZE, ... with rising sizes"

const char *hki_strategy_names[HKI_ARMS];

enum { ROUTE, CACHE, RECLAIM, THRESHOLDS, STRATEGY_OPTIONS };

static const hak_option strategy_options[STRATEGY_OPTIONS] = {
    [ROUTE] = {.key = "route",
               .type = HAK_LIST,
               .fallback = "malloc",
               .help = "which backend serves which size: BACKEND, BACKEND from SIZE, ..."},
    [CACHE] = {.key = "cache", .type = HAK_BOOL, .fallback = "on", .help = "its page blocks go through the cache plugin"},
    [RECLAIM] = {.key = "reclaim",
                 .type = HAK_BOOL,
                 .fallback = "on",
                 .help = "its page blocks go back through the reclaim plugin"},
    [THRESHOLDS] = {.key = "thresholds",
                    .type = HAK_LIST,
                    .fallback = "",
                    .help = "makes one strategy NAME-SIZE for each of these sizes, where the last part of its route starts"},
};
static const hak_option from_option = {.key = "from", .type = HAK_SIZE};

bool hki_strategy_section(const char *section)
{
  return strncmp(section, PREFIX, strlen(PREFIX)) == 0;
}

bool hki_strategy_find(const char *name, uint32_t *arm)
{
  for (uint32_t i = 0; i < hakmem_root.arm_count; i++) {
    if (strcmp(hki_strategy_names[i], name) == 0) {
      *arm = i;
      return true;
    }
  }
  return false;
}

/* Splits "NAME from SIZE"; cuts `word`. False when it is neither that nor "NAME". */
static bool split(char *word, size_t *from)
{
  *from = 0;
  size_t name = strcspn(word, " \t");
  if (word[name] == 0) {
    return name > 0;
  }
  const char *rest = word + name + strspn(word + name, " \t");
  word[name] = 0;
  hak_value value;
  if (strncmp(rest, "from", 4) != 0 || (rest[4] != ' ' && rest[4] != '\t') ||
      hki_value_parse(&from_option, rest + 4 + strspn(rest + 4, " \t"), &value) != 0) {
    return false;
  }
  *from = (size_t)value.size;
  return true;
}

/* The option's value under the section, and where it was set. */
static hak_value read(const char *section, uint32_t index, const struct hki_item **where)
{
  *where = hki_config_find(section, strategy_options[index].key);
  return hki_option_read(section, &strategy_options[index], index, NULL, NULL);
}

/* Fills an arm with the parts of a route; `last_from`, if not 0, is where the last part starts instead. */
static void read_route(uint32_t arm, const char *section, hak_value route, const struct hki_item *item, size_t last_from)
{
  struct hki_arm *row = &hki_route.arm[arm];
  row->count = 1;
  row->range[0].backend = &hki_backends[HKI_BOOT];
  for (uint32_t i = 0; route.list != NULL && route.list[i] != NULL; i++) {
    char word[256];
    struct hki_text text = hki_text(word, sizeof word);
    hki_append(&text, "%s", route.list[i]);
    size_t from;
    size_t least = i == 0 ? 0 : row->range[row->count - 1].from + 1;
    bool ok = split(word, &from);
    from = last_from != 0 && i > 0 && route.list[i + 1] == NULL ? last_from : from;
    if (!ok || (i == 0) != (from == 0) || from < least || (i > 0 && row->count == HKI_RANGES)) {
      hki_mistake(item, "%s.route: found \"%s\", expected " GRAMMAR ", at most %d; that part is not used", section,
                  route.list[i], HKI_RANGES);
      continue;
    }
    struct hki_backend *backend = hki_plugin_backend(word, item);
    if (backend == NULL) {
      continue; /* reported; the range before it, or boot, serves these sizes */
    }
    bool small = from < HAK_GRANULE && hki_route.small_end < HAK_GRANULE; /* nobody else serves what is below a granule */
    if (backend->granularity == HAK_CLASS || (backend->granularity == HAK_PAGE && small)) {
      hki_mistake(item, "%s.route: found %s from %lu, expected %s; that part is not used", section, word, (unsigned long)from,
                  backend->granularity == HAK_CLASS
                      ? "a class backend in core.small only"
                      : "a page backend from 64K upwards, and below a byte backend, or core.small");
      continue;
    }
    uint32_t at = i == 0 ? 0 : row->count++;
    row->range[at].from = from;
    row->range[at].backend = backend;
  }
}

/* A new arm; false after one line when there is no room or the name is none. */
static bool add(const char *name, const struct hki_item *item, uint32_t *arm)
{
  if (hakmem_root.arm_count == HKI_ARMS || strlen(name) >= HKI_NAME || *name == 0) {
    hki_mistake(item, "[%s]: found %s, expected at most %d strategies with names of 1 to %d characters; ignored", item->section,
                hakmem_root.arm_count == HKI_ARMS ? "too many" : "such a name", HKI_ARMS, HKI_NAME - 1);
    return false;
  }
  *arm = hakmem_root.arm_count++;
  hki_strategy_names[*arm] = name;
  struct hki_text text = hki_text(hakmem_root.arm[*arm], HKI_NAME);
  hki_append(&text, "%s", name);
  return true;
}

/* One section's options. */
struct section {
  const char *name; /* in full */
  const struct hki_item *item, *route_item, *list_item;
  hak_value route, thresholds;
  bool cache, reclaim;
};

/* One arm of a section; `size`, if not NULL, is where the last part of its route starts, as written and in bytes. */
static bool make(const struct section *section, const char *size, size_t from)
{
  char full[2 * HKI_NAME];
  struct hki_text text = hki_text(full, sizeof full);
  hki_append(&text, size == NULL ? "%s" : "%s-%s", section->name + strlen(PREFIX), size);
  const char *kept = hki_meta_string(full);
  uint32_t arm;
  if (kept == NULL || !add(kept, section->item, &arm)) {
    return false;
  }
  hki_route.arm[arm].cache = section->cache;
  hki_route.arm[arm].reclaim = section->reclaim;
  read_route(arm, section->name, section->route, section->route_item, from);
  return true;
}

/* The arms of one section: one for each threshold, or just one, also when no threshold is usable. */
static void read_section(const char *name, const struct hki_item *item)
{
  struct section section = {.name = name, .item = item};
  const struct hki_item *unused;
  section.route = read(name, ROUTE, &section.route_item);
  section.thresholds = read(name, THRESHOLDS, &section.list_item);
  section.cache = read(name, CACHE, &unused).flag;
  section.reclaim = read(name, RECLAIM, &unused).flag;
  const char *const *list = section.thresholds.list;
  if (section.route.list != NULL && section.route.list[0] == NULL) {
    hki_mistake(section.route_item, "%s.route: found \"\", expected " GRAMMAR ", at most %d; libc's allocator serves all sizes",
                name, HKI_RANGES);
  }
  size_t before = 0;
  bool any = false;
  for (uint32_t i = 0; list != NULL && list[i] != NULL; i++) {
    hak_value size = {0};
    if (hki_value_parse(&from_option, list[i], &size) == 0 && (size_t)size.size > before) {
      before = (size_t)size.size;
      any = make(&section, list[i], before) || any;
    } else {
      hki_mistake(section.list_item, "%s.thresholds: found \"%s\", expected sizes that rise; that one is not used", name,
                  list[i]);
    }
  }
  if (!any) {
    (void)make(&section, NULL, 0);
  }
}

void hki_strategy_read(void)
{
  for (uint32_t i = 0; i < hki_config_count(); i++) {
    const struct hki_item *item = hki_config_item(i);
    bool seen = !hki_strategy_section(item->section);
    for (uint32_t j = 0; j < i && !seen; j++) {
      seen = strcmp(hki_config_item(j)->section, item->section) == 0;
    }
    if (!seen) {
      read_section(item->section, item);
    }
  }
}
