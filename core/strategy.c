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

static const hak_option route_option = {.key = "route",
                                        .type = HAK_LIST,
                                        .fallback = "malloc",
                                        .help = "which backend serves which size: BACKEND, BACKEND from SIZE, ..."};
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
      !hki_value_parse(&from_option, rest + 4 + strspn(rest + 4, " \t"), &value)) {
    return false;
  }
  *from = (size_t)value.size;
  return true;
}

static void read_route(uint32_t arm, const char *section)
{
  struct hki_arm *row = &hki_route.arm[arm];
  row->count = 1;
  row->range[0].backend = &hki_backends[HKI_BOOT];
  hak_value route = hki_option_read(section, &route_option, 0, NULL, NULL);
  const struct hki_item *item = hki_config_find(section, route_option.key);
  for (uint32_t i = 0; route.list != NULL && route.list[i] != NULL; i++) {
    char word[256];
    struct hki_text text = hki_text(word, sizeof word);
    hki_append(&text, "%s", route.list[i]);
    size_t from;
    size_t least = i == 0 ? 0 : row->range[row->count - 1].from + 1;
    if (!split(word, &from) || (i == 0) != (from == 0) || from < least || (i > 0 && row->count == HKI_RANGES)) {
      hki_mistake(item, "%s.route: found \"%s\", expected " GRAMMAR ", at most %d; that part is not used", section,
                  route.list[i], HKI_RANGES);
      continue;
    }
    struct hki_backend *backend = hki_plugin_backend(word, item);
    if (backend == NULL) {
      continue; /* reported; the range before it, or boot, serves these sizes */
    }
    if (backend->granularity == HAK_CLASS || (backend->granularity == HAK_PAGE && from < HAK_GRANULE)) {
      hki_mistake(item, "%s.route: found %s from %lu, expected %s; that part is not used", section, word, (unsigned long)from,
                  backend->granularity == HAK_CLASS ? "a class backend in core.small only"
                                                    : "a page backend from 64K upwards, and a byte backend below");
      continue;
    }
    uint32_t at = i == 0 ? 0 : row->count++;
    row->range[at].from = from;
    row->range[at].backend = backend;
  }
}

void hki_strategy_read(void)
{
  for (uint32_t i = 0; i < hki_config_count(); i++) {
    const struct hki_item *item = hki_config_item(i);
    uint32_t arm;
    if (!hki_strategy_section(item->section) || hki_strategy_find(item->section + strlen(PREFIX), &arm)) {
      continue;
    }
    const char *name = item->section + strlen(PREFIX);
    if (hakmem_root.arm_count == HKI_ARMS || strlen(name) >= HKI_NAME || *name == 0) {
      hki_mistake(item, "[%s]: found %s, expected at most %d strategies with names of 1 to %d characters; ignored",
                  item->section, hakmem_root.arm_count == HKI_ARMS ? "too many" : "such a name", HKI_ARMS, HKI_NAME - 1);
      continue;
    }
    arm = hakmem_root.arm_count++;
    hki_strategy_names[arm] = name;
    struct hki_text text = hki_text(hakmem_root.arm[arm], HKI_NAME);
    hki_append(&text, "%s", name);
  }
  for (uint32_t arm = 0; arm < hakmem_root.arm_count; arm++) {
    char section[HKI_NAME + sizeof PREFIX];
    struct hki_text text = hki_text(section, sizeof section);
    hki_append(&text, PREFIX "%s", hki_strategy_names[arm]);
    const char *kept = hki_meta_string(section);
    if (kept != NULL) {
      read_route(arm, kept);
    }
  }
}
