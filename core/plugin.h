/* SPDX-License-Identifier: MIT */
/* plugin.h - finding, checking, loading and starting plugins. All of it [load]. */
#ifndef HKI_PLUGIN_H
#define HKI_PLUGIN_H

#include "base.h"
#include "config.h"
#include "option.h"

/* The backend of that name, loaded when it is not yet. NULL after one line that says why; `where` is the setting that names it. */
struct hki_backend *hki_plugin_backend(const char *name, const struct hki_item *where);

/* Loads a policy, cache or reclaim plugin and takes it into service, unless its name is "none". One line says why when it fails. */
void hki_plugin_optional(uint32_t kind, const char *name, const struct hki_item *where);

/* The page source of that name, its backend loaded when it is not yet; NULL after one line. */
const struct hak_pages *hki_plugin_pages(const char *name);

/* What a section such as "backend.mmap" is; *right as hki_option_unknown says. */
enum hki_section hki_plugin_section(const char *section, const char **right);

#endif
