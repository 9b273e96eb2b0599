/* SPDX-License-Identifier: MIT */
/* call_sites.h - how often the call sites of a program found what they wanted in the cache. */
#ifndef CALL_SITES_H
#define CALL_SITES_H

#include <stdbool.h>
#include <stdint.h>

enum { CALL_SITES = 64, CALL_SITES_TOP = 4 };

enum call_site_count { SITE_HITS, SITE_MISSES, SITE_EVICTIONS, SITE_COUNTS };

/* The first CALL_SITES sites that came, or fewer, as each has few places. All of it is atomic; zeroed memory is a valid start. */
struct call_sites {
  struct call_site {
    const void *address; /* NULL: free; set once */
    uint64_t count[SITE_COUNTS];
  } place[CALL_SITES];
};

uint32_t call_site_hash(const void *address);

/*
 * Adds to a count of a site, if it has any, and says whether the site is a new one. Two threads that do so at once may count once: the
 * counts are there to compare sites with, and every hit would pay for more.
 */
bool call_sites_add(struct call_sites *sites, const void *address, enum call_site_count which, uint64_t times);

/* The places of those with most requests, most first. Returns how many these are. */
uint32_t call_sites_top(const struct call_sites *sites, uint32_t place[CALL_SITES_TOP]);

uint64_t call_sites_get(const struct call_sites *sites, uint32_t place, enum call_site_count which);

#endif
