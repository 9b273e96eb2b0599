/* SPDX-License-Identifier: MIT */
/*
 * strategies.h - the strategies of a configuration, as libhakmem understands it: which backend serves which size.
 */
#ifndef STRATEGIES_H
#define STRATEGIES_H

#include "tool.h"

#include "../core/root.h"

enum { ROUTE_MOST = 8 }; /* backends in a route */

struct route {
  uint32_t count;
  struct {
    size_t from; /* first size; 0 for the first part, rising */
    char *backend;
  } part[ROUTE_MOST];
};

struct strategy {
  char name[2 * HKI_NAME];
  struct route route;
  const char *cache, *reclaim; /* on or off */
};

struct strategies {
  uint32_t count;
  struct strategy at[HKI_ARMS];
  char *plugin_path; /* core.plugin_path, without the build tree; NULL: empty */
};

/* Reads them. False after one line that says why not. */
bool strategies_read(struct strategies *strategies, const struct preload *preload);

/* NULL when there is none of that name. */
const struct strategy *strategies_find(const struct strategies *strategies, const char *name);

/* The part that serves a size. */
uint32_t route_part(const struct route *route, size_t size);

/* As in an INI; from malloc. */
char *route_text(const struct route *route);

/* As in an INI; from malloc. */
char *size_text(size_t size);

#endif
