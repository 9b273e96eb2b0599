/* SPDX-License-Identifier: MIT */
/* strategy.h - the [strategy.NAME] sections, turned into the arms of the route. */
#ifndef HKI_STRATEGY_H
#define HKI_STRATEGY_H

#include "base.h"

/* Reads the names of all strategies, then their routes; loads the backends they name. */
void hki_strategy_read(void);

/* The index of a strategy. False when there is none of that name. */
bool hki_strategy_find(const char *name, uint32_t *arm);

/* True when the section is that of a strategy. */
bool hki_strategy_section(const char *section);

/* The names, for hak_host.arm_name. */
extern const char *hki_strategy_names[HKI_ARMS];

#endif
