/* SPDX-License-Identifier: MIT */
/*
 * fault_meter.h - whether huge pages cost less than small ones here and now, found out by touching.
 *
 * A huge page that is not there yet takes a fault where small ones take 512. On one machine the one is a fifth of the others; on
 * another, a virtual one whose host must first find the memory say, it is several times as much, and that changes within minutes.
 * So the first touch of a page is timed now and then. When a huge one took longer than so many small ones, there is a pause: so many
 * bytes come from small pages before the next try, four times as many each time that it is in vain. Where the host must find memory
 * small pages may be as dear, which only many of them together show. When they do, the pause is over.
 *
 * Shared by hugepage.c and span_pool.c. The owner of a meter has the lock for it.
 */
#ifndef FAULT_METER_H
#define FAULT_METER_H

#include "hakmem/plugin.h"

#define FAULT_LEAST UINT64_C(100)        /* ns; a touch that takes less has met a small page that was there, */
#define FAULT_LEAST_HUGE UINT64_C(10000) /* or a huge one */
#define FAULT_FIRST UINT64_C(500)        /* ns of a small page while nothing is known */
#define FAULT_RATIO 512                  /* small pages in a huge one */
#define FAULT_PAUSE_MOST ((size_t)16 << 30)
#define FAULT_INTERRUPTED 8 /* what takes so many times longer than usual was interrupted */

struct fault_meter {
  uint64_t small;    /* recent mean of the first touch of a small page, ns; 0: FAULT_FIRST */
  uint64_t huge;     /* the same of a huge one; 0: nothing is known that is still true */
  size_t pause;      /* bytes to come from small pages */
  size_t next_pause; /* the next time; 0: the first one */
};

/* Writes to memory that nobody uses yet. Returns the ns that it took. */
static inline uint64_t fault_touch(const hak_host *host, void *at)
{
  uint64_t began = host->os->now();
  *(volatile char *)at = 0;
  return host->os->now() - began;
}

/* What a small page takes, ns. */
static inline uint64_t fault_small(const struct fault_meter *meter)
{
  return meter->small != 0 ? meter->small : FAULT_FIRST;
}

/* Whether `bytes` may come from huge pages. */
static inline bool fault_huge_pays(struct fault_meter *meter, size_t bytes)
{
  if (meter->pause == 0) {
    return true;
  }
  if (meter->huge < FAULT_RATIO * fault_small(meter) * 5 / 4) {
    meter->pause = 0;
    return true;
  }
  meter->pause -= bytes < meter->pause ? bytes : meter->pause;
  meter->huge = meter->pause == 0 ? 0 : meter->huge;
  return false;
}

/* So many pages, touched one after the other, took so many ns in all. */
static inline void fault_note_small(struct fault_meter *meter, uint64_t took, uint64_t pages)
{
  uint64_t known = meter->small != 0 ? 7 : 0, most = FAULT_INTERRUPTED * fault_small(meter) * pages;
  took = took < most ? took : most;
  if (took >= FAULT_LEAST * pages) { /* as 7 pages counts what earlier ones took */
    meter->small = (known * meter->small + took) / (known + pages);
  }
}

/*
 * False when the pages are dear: the pause has begun, of `first` bytes the first time. They may take half as much again as small
 * ones, since what has huge pages is faster afterwards; and each change costs something.
 */
static inline bool fault_note_huge(struct fault_meter *meter, uint64_t took, size_t first)
{
  if (took < FAULT_LEAST_HUGE) {
    return true;
  }
  uint64_t mean = meter->huge != 0 ? meter->huge : took, most = FAULT_INTERRUPTED * mean;
  meter->huge = (3 * mean + (took < most ? took : most)) / 4;
  bool dear = meter->huge > FAULT_RATIO * fault_small(meter) * 3 / 2;
  size_t next = meter->next_pause != 0 ? meter->next_pause : first;
  meter->pause = dear ? next : 0;
  meter->next_pause = !dear ? 0 : next < FAULT_PAUSE_MOST ? 4 * next : next;
  return !dear;
}

#endif
