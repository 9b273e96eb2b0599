/* SPDX-License-Identifier: MIT */
/*
 * stat.c - `hakmem stat`: the report of another process, once or again and again.
 */
#include "tool.h"

#include "target.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>

enum { HEADING_EVERY = 20 }; /* lines of --watch */

static void to_stdout(void *context, const char *text, size_t size)
{
  (void)context;
  fwrite(text, 1, size, stdout);
}

static bool print_report(const struct hki_snapshot *snapshot, const char *format, pid_t pid)
{
  hki_report_write(snapshot, format, (long)pid, to_stdout, NULL);
  return fflush(stdout) == 0;
}

/* ---- --watch --------------------------------------------------------------------------------------------------------- */

/* Waits for the next tick. False when the process has ended. */
static bool next_tick(int process, pid_t pid, double seconds)
{
  struct pollfd end = {.fd = process, .events = POLLIN}; /* a negative fd is only waited for */
  if (poll(&end, 1, (int)(seconds * 1000)) > 0) {
    return false;
  }
  char state = target_state(pid);
  return state != '\0' && state != 'Z' && state != 'X';
}

/* Four significant places with a unit of 1024. */
static void print_bytes(uint64_t bytes)
{
  static const char units[] = "BKMGTPE";
  double value = (double)bytes;
  size_t unit = 0;
  while (value >= 1024 && units[unit + 1] != '\0') {
    value /= 1024;
    unit++;
  }
  printf(" %*.*f%c", 9, unit == 0 || value >= 1000 ? 0 : 1, value, units[unit]);
}

static void print_tick(const struct hak_totals *now, const struct hak_totals *before, double seconds, unsigned line)
{
  if (line % HEADING_EVERY == 0) {
    printf("%12s %12s %10s %10s %10s %10s %8s\n", "allocs/s", "frees/s", "allocated", "mapped", "retained", "resident",
           "threads");
  }
  printf("%12.0f %12.0f", (double)(now->allocs - before->allocs) / seconds, (double)(now->frees - before->frees) / seconds);
  print_bytes(now->allocated);
  print_bytes(now->mapped);
  print_bytes(now->retained);
  print_bytes(now->resident);
  printf(" %8u\n", now->threads);
  fflush(stdout);
}

/* Rates between two readings, one line each; with a format, whole reports. Until the process ends. */
static int watch(struct target *target, const char *format, double seconds)
{
  static struct hki_snapshot snapshot;
  struct hak_totals before;
  int process = pidfd_open(target->pid, 0);
  if (!target_snapshot(target, &snapshot)) {
    return 1;
  }
  before = snapshot.totals;
  target->may_end = true;
  double last = tool_now();
  for (unsigned line = 0; next_tick(process, target->pid, seconds); line++) {
    errno = 0;
    if (!target_snapshot(target, &snapshot)) {
      return errno == ESRCH ? 0 : 1; /* its memory goes before the process does */
    }
    if (format != NULL) {
      if (!print_report(&snapshot, format, target->pid)) {
        return 1;
      }
      continue;
    }
    double now = tool_now();
    print_tick(&snapshot.totals, &before, now - last, line);
    before = snapshot.totals;
    last = now;
  }
  return 0;
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

int stat_command(int argc, char **argv)
{
  static const struct option options[] = {
      {"json", no_argument, NULL, 'j'},
      {"prometheus", no_argument, NULL, 'p'},
      {"watch", optional_argument, NULL, 'w'},
      {NULL, 0, NULL, 0},
  };
  const char *format = NULL;
  double seconds = 0;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    char *end = NULL;
    switch (option) {
    case 'j':
      format = "json";
      break;
    case 'p':
      format = "prometheus";
      break;
    case 'w':
      seconds = optarg != NULL ? strtod(optarg, &end) : 1;
      if (!(seconds >= 0.01 && seconds <= 86400) || (end != NULL && *end != '\0')) {
        tool_usage("--watch=%s: expected seconds, from 0.01 to 86400", optarg);
      }
      break;
    default:
      tool_wrong_option();
    }
  }
  if (argc - optind != 1) {
    tool_usage("stat: expected one process id");
  }
  struct target target;
  if (!target_open(&target, tool_pid(argv[optind]))) {
    return 1;
  }
  if (seconds > 0) {
    return watch(&target, format, seconds);
  }
  static struct hki_snapshot snapshot;
  return target_snapshot(&target, &snapshot) && print_report(&snapshot, format != NULL ? format : "text", target.pid) ? 0 : 1;
}
