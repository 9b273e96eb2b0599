/* SPDX-License-Identifier: MIT */
/*
 * populate.h - pages before they are touched, for page and class backends.
 *
 * The first touch of a page is a page fault, of which the page itself is less than half: the rest is the way into the kernel and
 * back. Where memory will be filled, its pages come cheaper together.
 */
#ifndef POPULATE_H
#define POPULATE_H

#include <sys/mman.h>

#include "hakmem/plugin.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Makes pages resident, whole ones, without changing what is in them. False when the system does not, or has too few. */
static inline bool populate(const hak_host *host, void *base, size_t bytes)
{
  return !hak_os_failed(host->os->madvise(base, bytes, MADV_POPULATE_WRITE));
}

#endif
