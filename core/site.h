/* SPDX-License-Identifier: MIT */
/* site.h - what the call sites of large blocks have been doing, while the policy learns. */
#ifndef HKI_SITE_H
#define HKI_SITE_H

#include "base.h"

/* enum hak_site of a site. [any] */
uint32_t hki_site_kind(const void *site);

/* Counts a block of the site, whose number it sets; returns enum hak_site. Blocks that are counted at once may count as one. [any] */
uint32_t hki_site_count(const void *site, uint64_t *number);

/* Tells that a block was freed whose number was `born`. [any] */
void hki_site_freed(const void *site, uint64_t born);

/* Settles the kinds anew, after an epoch of so many blocks. Under the control lock. */
void hki_site_settle(uint64_t blocks);

#endif
