/* SPDX-License-Identifier: MIT */
/*
 * target.h - another process that runs under hakmem, seen through its memory. Needs no help from that process.
 */
#ifndef TARGET_H
#define TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../core/report.h"
#include "../core/root.h"

struct target {
  pid_t pid;
  uint64_t root; /* address of its hakmem_root */
  bool may_end;  /* its end is no mistake: target_root and target_snapshot fail without a line then, with ESRCH */
};

/* Finds libhakmem in the process. False after one line that says why not. */
bool target_open(struct target *target, pid_t pid);

/* Copies memory of the process. False with errno; nothing may be taken for granted about what was copied then. */
bool target_read(const struct target *target, uint64_t address, void *to, size_t size);
bool target_write(const struct target *target, uint64_t address, const void *from, size_t size);

/* A consistent copy of its root, safe to use: counts within bounds, names ended. False after one line that says why not. */
bool target_root(const struct target *target, struct hki_root *root);

/* All that the report shows. False after one line that says why not. */
bool target_snapshot(const struct target *target, struct hki_snapshot *snapshot);

/* Calls `visit` with the address of each thread record until it returns false. */
void target_threads(const struct target *target, const struct hki_root *root,
                    bool (*visit)(void *context, const struct target *target, uint64_t address), void *context);

/* The state letter of /proc/PID/stat: R, S, D, T, t, Z ...; 0 when the process is gone. */
char target_state(pid_t pid);

/* Says why the memory of the process could not be reached. */
void target_explain(pid_t pid, int error);

#endif
