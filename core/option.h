/* SPDX-License-Identifier: MIT */
/*
 * option.h - typed options: from the text of the INI to values in range, for the core's own tables and for those of plugins, and
 * the register of all options in force, from which live changes and the effective configuration are served.
 */
#ifndef HKI_OPTION_H
#define HKI_OPTION_H

#include "base.h"
#include "config.h"

/* One option in force. */
struct hki_option {
  const char *section;
  const hak_option *table; /* its line in the table that declares it */
  uint32_t index;          /* of that line */
  const char *text;        /* value in force, as written */
  char *changed;           /* of a value that was changed: where its text is, and stays; NULL: none yet */
  size_t room;             /* bytes there */
  const char *origin;      /* "FILE:LINE", "default", or who changed it */
  /* [slow] Puts a new value in force; NULL: the option cannot change in a running process. */
  int32_t (*set)(void *owner, uint32_t index, hak_value value);
  void *owner;
};

/* Converts text by an option's line. 0; EINVAL; ENOMEM when it is good but cannot be kept. Not 0: *value is untouched. */
int hki_value_parse(const hak_option *option, const char *text, hak_value *value);

/* Finds what a HAK_PAGES or HAK_ARM names. False when there is none. Set by those who know, before the first such option. */
extern bool (*hki_value_resolve)(const hak_option *option, const char *name, hak_value *value);

/* What a value of the option looks like, for messages. */
const char *hki_value_expected(const hak_option *option, char *buffer, size_t size);

/*
 * The value of section.key in force: what the configuration says, or the default after one line about what is wrong with that.
 * Registers it. `set` and `owner` as in hki_option.
 */
hak_value hki_option_read(const char *section, const hak_option *option, uint32_t index,
                          int32_t (*set)(void *, uint32_t, hak_value), void *owner);

/* What a section of the configuration is. */
enum hki_section {
  HKI_SECTION_UNKNOWN, /* nothing */
  HKI_SECTION_LOADED,  /* its options are read */
  HKI_SECTION_IDLE,    /* of a plugin that is installed, but that nothing in the configuration chooses */
  HKI_SECTION_OTHER,   /* of another kind than the plugin that is loaded under its name */
  HKI_SECTION_MISSING  /* of a plugin that is not installed */
};

/*
 * Reports every item of the configuration that no option asked for. After all options were read. `classify` sets *right, to the section
 * of the plugin, for HKI_SECTION_OTHER.
 */
void hki_option_unknown(enum hki_section (*classify)(const char *section, const char **right));

/* hak_set and the mailbox. errno code; `why` gets a line. Under the control lock. */
int hki_option_set(const char *name, const char *value, const char *who, char *why, size_t why_size);

/* Writes the effective configuration through `sink`. */
void hki_option_list(void (*sink)(void *context, const char *text, size_t size), void *context);

#endif
