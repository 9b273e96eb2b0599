/* SPDX-License-Identifier: MIT */
/*
 * config.h - what the INI files and the environment say, as text with its origin. What the words mean is option.h's business.
 */
#ifndef HKI_CONFIG_H
#define HKI_CONFIG_H

#include "base.h"

#define HKI_BUILT_IN "built-in" /* name of the layer that is embedded */

enum { HKI_SECTION = 50 }; /* inih keeps so many bytes of a section's name, its NUL included */

/* One "key = value" of one layer. */
struct hki_item {
  const char *section, *key, *value;
  const char *file; /* name of the layer */
  uint32_t line;    /* 0: the layer has no lines */
  bool used;        /* some option asked for it */
};

/*
 * Reads all layers in order: built-in, the installed file, $HAKMEM_CONF, $HAKMEM_SET. Under AT_SECURE the installed file only
 * when nobody else can write it, and nothing of the environment.
 */
void hki_config_read(void);

/* The item in force, or NULL; marks it and all that it overrides as used. */
const struct hki_item *hki_config_find(const char *section, const char *key);

/* The last item of a section that a user wrote, or NULL. */
const struct hki_item *hki_config_last(const char *section);

uint32_t hki_config_count(void);
const struct hki_item *hki_config_item(uint32_t index);

/* "FILE:LINE", in a buffer that the caller provides. */
const char *hki_config_place(const struct hki_item *item, char *buffer, size_t size);

/* Reports one mistake as a line, and counts it. `item` says where; NULL: nowhere in particular. */
void hki_mistake(const struct hki_item *item, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
