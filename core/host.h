/* SPDX-License-Identifier: MIT */
/* host.h - the core as a plugin sees it: hak_host, one for each plugin. */
#ifndef HKI_HOST_H
#define HKI_HOST_H

#include "base.h"

struct hki_host {
  struct hak_host base; /* first: what the plugin gets */
  uint32_t backend;     /* index it will have, or has */
};

/*
 * While a plugin starts, what it says is held back: if the start fails, it is the reason and part of the one line about it.
 * hki_host_let_go says it when the start succeeded, and returns it when not; NULL when the plugin said nothing.
 */
void hki_host_hold(void);
const char *hki_host_let_go(const struct hak_host *host, bool started);

/*
 * A host for the plugin of that section and descriptor, with places for its counters. NULL when there is no memory or no room.
 */
struct hki_host *hki_host_new(const char *section, const char *name, const struct hak_plugin *plugin);

#endif
