/* SPDX-License-Identifier: MIT */
/*
 * descriptor.h - a plugin's descriptor, copied so that it can be read whatever sizes the plugin was compiled with. Stateless.
 */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include "hakmem/plugin.h"

enum { DESCRIPTOR_ROWS = 256 }; /* more options or counters than this are taken for garbage */

/* Members that the plugin's structs are too short for are zero. */
struct descriptor {
  size_t symbol_size; /* of hakmem_plugin, as its file says */
  hak_plugin plugin;
  hak_option options[DESCRIPTOR_ROWS];
  hak_counter counters[DESCRIPTOR_ROWS];
  hak_backend_ops backend; /* of a backend */
  hak_policy_ops policy;   /* of a policy */
  hak_cache_ops cache;     /* of a cache */
  hak_reclaim_ops reclaim; /* of a reclaim plugin */
};

/* Loads a plugin, without starting it. NULL, or why it is no plugin that this version can read. */
const char *descriptor_read(const char *path, struct descriptor *descriptor);

/* Whether two names mean the same plugin: '-' and '_' are one. */
bool same_name(const char *a, const char *b);

/* The kind as the sections of the INI call it; NULL when there is no such kind. */
const char *descriptor_section(uint32_t kind);

/* The kind as a word, with the granularity of a backend: "backend, page". */
const char *descriptor_kind(const struct descriptor *descriptor);

/* The type of an option as a word; NULL when there is no such type. */
const char *option_type(uint32_t type);

/* The value of a number that is written as in an INI, for comparison. False when it is none, of that type. */
bool option_number(uint32_t type, const char *text, long double *number);

/* Whether a text is a value of this option, bounds included. */
bool option_accepts(const hak_option *option, const char *text);

/* What a value of this option looks like, from malloc: "size from 4M up to 64G". */
char *option_expects(const hak_option *option);

#endif
