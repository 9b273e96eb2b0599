/* SPDX-License-Identifier: MIT */
/* control.c - owns nothing: the functions of hakmem.h that read or steer the whole process. */
#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend.h"
#include "front.h"
#include "hakmem/hakmem.h"
#include "lock.h"
#include "message.h"
#include "option.h"
#include "os.h"
#include "range.h"
#include "report.h"
#include "route.h"
#include "settings.h"
#include "thread.h"

int hki_control_set(const char *name, const char *value, const char *who, char *why, size_t why_size)
{
  hki_lock(&hki_control_lock);
  int result = hki_option_set(name, value, who, why, why_size);
  hki_unlock(&hki_control_lock);
  hki_gates_close();
  return result;
}

int hak_set(const char *key, const char *value, char *why, size_t why_size)
{
  char unused[HKI_MAIL];
  bool wanted = why != NULL && why_size > 0;
  int result = EINVAL;
  if (key != NULL && value != NULL) {
    result = hki_control_set(key, value, "hak_set", wanted ? why : unused, wanted ? why_size : sizeof unused);
  }
  if (result != 0) {
    errno = result;
    return -1;
  }
  return 0;
}

size_t hki_control_trim(void)
{
  struct hki_thread *thread = hki_thread_attach();
  if (hki_detached(thread)) {
    return 0;
  }
  hki_front_drain(thread);
  hki_lock(&hki_control_lock);
  size_t given = hki_range_drain(thread);
  hki_unlock(&hki_control_lock);
  return given;
}

/* ---- statistics ------------------------------------------------------------------------------------------------------ */

/* A snapshot is too large for a small thread's stack, and must not come from malloc. */
static struct hki_snapshot *take_snapshot(void)
{
  long r = hki_os.mmap(NULL, sizeof(struct hki_snapshot), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(r)) {
    return NULL;
  }
  struct hki_snapshot *snapshot = (struct hki_snapshot *)r;
  char statm[128];
  long n = hki_os.read_file("/proc/self/statm", statm, sizeof statm);
  hki_snapshot_from_root(snapshot, &hakmem_root);
  for (struct hki_thread *t = __atomic_load_n(&hakmem_root.threads, __ATOMIC_ACQUIRE); t != NULL; t = t->next) {
    hki_snapshot_add_thread(snapshot, t);
  }
  hki_snapshot_finish(snapshot, n > 0 ? hki_resident_bytes(statm, (uint32_t)getauxval(AT_PAGESZ)) : 0);
  return snapshot;
}

static void drop_snapshot(struct hki_snapshot *snapshot)
{
  (void)hki_os.munmap(snapshot, sizeof *snapshot);
}

int hak_stats(struct hak_totals *totals)
{
  if (totals == NULL || totals->struct_size < offsetof(struct hak_totals, allocs)) {
    errno = EINVAL;
    return -1;
  }
  uint32_t size = totals->struct_size;
  struct hki_snapshot *snapshot = take_snapshot();
  if (snapshot == NULL) {
    errno = ENOMEM;
    return -1;
  }
  memcpy(totals, &snapshot->totals, size < sizeof *totals ? size : sizeof *totals);
  totals->struct_size = size;
  drop_snapshot(snapshot);
  return 0;
}

/* A report in memory of its own, for the same reasons. */
struct report {
  char *text;        /* NULL while it is measured */
  size_t size, room; /* bytes */
};

static void to_report(void *context, const char *text, size_t size)
{
  struct report *report = context;
  if (report->text == NULL) {
    report->room += size;
  } else if (size <= report->room - report->size) {
    memcpy(report->text + report->size, text, size);
    report->size += size;
  }
}

static int render(const struct hki_snapshot *snapshot, const char *format, struct report *report)
{
  if (hki_report_write(snapshot, format, (long)getpid(), to_report, report) != 0) {
    return EINVAL;
  }
  long r = hki_os.mmap(NULL, report->room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(r)) {
    return ENOMEM;
  }
  report->text = (char *)r;
  return hki_report_write(snapshot, format, (long)getpid(), to_report, report);
}

/* 0, or an errno code. */
static int take_report(const char *format, struct report *report)
{
  struct hki_thread *thread = hki_thread_attach();
  *report = (struct report){0};
  if (!hki_detached(thread)) {
    hki_range_move_on(thread); /* the cache counts what it knows of */
  }
  struct hki_snapshot *snapshot = take_snapshot();
  if (snapshot == NULL) {
    return ENOMEM;
  }
  int failure = render(snapshot, format, report);
  drop_snapshot(snapshot);
  return failure;
}

static void drop_report(struct report *report)
{
  (void)hki_os.munmap(report->text, report->room);
}

int hak_stats_write(int fd, const char *format)
{
  struct report report;
  int failure = take_report(format, &report);
  if (failure == 0) {
    failure = hki_write(fd, report.text, report.size);
    drop_report(&report);
  }
  if (failure != 0) {
    errno = failure;
    return -1;
  }
  return 0;
}

struct target {
  int fd;
  int error; /* the first errno code; 0 */
};

static void to_fd(void *context, const char *text, size_t size)
{
  struct target *target = context;
  if (target->error == 0) {
    target->error = hki_write(target->fd, text, size);
  }
}

int hak_config_write(int fd)
{
  struct target target = {.fd = fd};
  hki_lock(&hki_control_lock);
  hki_option_list(to_fd, &target);
  hki_unlock(&hki_control_lock);
  return (int)hakmem_root.mistakes;
}

const char *hak_version(void)
{
  return PACKAGE_VERSION;
}

/* stats.file, with the process id in its place. */
static void name_of_file(char *path, size_t size)
{
  struct hki_text text = hki_text(path, size);
  for (const char *f = hki_settings.exit_file; *f != 0; f++) {
    if (f[0] == '%' && f[1] == 'p') {
      hki_append(&text, "%d", (int)getpid());
      f++;
    } else {
      hki_append(&text, "%c", *f);
    }
  }
}

static void report_to_file(const char *format)
{
  char path[4096];
  struct report report;
  name_of_file(path, sizeof path);
  int failure = take_report(format, &report);
  if (failure == 0) {
    failure = hki_write_report(path, report.text, report.size);
    drop_report(&report);
  }
  if (failure != 0) {
    hki_say("stats.file: cannot write %s (error %d)", path, failure);
  }
}

void hki_control_exit_report(void)
{
  static const char *const formats[] = {
      [HKI_REPORT_TEXT] = "text", [HKI_REPORT_JSON] = "json", [HKI_REPORT_PROMETHEUS] = "prometheus"};
  if (hki_settings.exit_report == HKI_REPORT_OFF ||
      (hki_settings.exit_pid != 0 && hki_settings.exit_pid != (uint64_t)getpid())) {
    return;
  }
  if (hki_settings.exit_file[0] == 0) {
    (void)hak_stats_write(STDERR_FILENO, formats[hki_settings.exit_report]);
  } else {
    report_to_file(formats[hki_settings.exit_report]);
  }
}
