/* SPDX-License-Identifier: MIT */
/*
 * report.h - the statistics of one process, as text, JSON or Prometheus. Depends on root.h alone, because the `hakmem` command
 * makes the same report from copies of another process's memory. No stdio, no allocation.
 */
#ifndef HKI_REPORT_H
#define HKI_REPORT_H

#include "hakmem/hakmem.h"
#include "root.h"

struct hki_snapshot {
  struct hak_totals totals;
  struct hki_root root;                   /* copied */
  struct hki_tally backend[HKI_BACKENDS]; /* summed over threads; boot's includes the detached */
  struct {
    uint64_t allocs; /* objects handed out */
    uint64_t frees;  /* objects taken back */
    uint64_t cached; /* objects in magazines now */
  } class_[HKI_CLASSES];
};

/* Starts a snapshot from (a copy of) the root; add every thread's record; finish with what the kernel says is resident, or 0. */
void hki_snapshot_from_root(struct hki_snapshot *snapshot, const struct hki_root *root);
void hki_snapshot_add_thread(struct hki_snapshot *snapshot, const struct hki_thread *thread);
void hki_snapshot_finish(struct hki_snapshot *snapshot, uint64_t resident_bytes);

/* The resident bytes in the text of a /proc/PID/statm; 0 when it is none. */
uint64_t hki_resident_bytes(const char *statm, uint32_t page_size);

/* Renders the snapshot: format "text", "json" or "prometheus". Calls sink with pieces of it. -1 for another format. */
int hki_report_write(const struct hki_snapshot *snapshot, const char *format, long pid,
                     void (*sink)(void *context, const char *text, size_t size), void *context);

#endif
