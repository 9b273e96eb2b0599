/* SPDX-License-Identifier: MIT */
/* settings.h - the values of [core] and [stats] in force. Written while loading; live ones under the control lock afterwards. */
#ifndef HKI_SETTINGS_H
#define HKI_SETTINGS_H

#include "base.h"

enum hki_hardening { HKI_OFF = 0, HKI_BASIC = 1, HKI_FULL = 2 };
enum hki_foreign { HKI_FOREIGN_LIBC = 0, HKI_FOREIGN_ABORT = 1 };
enum hki_deepbind { HKI_DEEPBIND_OURS = 0, HKI_DEEPBIND_LIBC = 1 };
enum hki_exit_report { HKI_REPORT_OFF = 0, HKI_REPORT_TEXT, HKI_REPORT_JSON, HKI_REPORT_PROMETHEUS };

struct hki_settings {
  const char *small;           /* name of the backend for small requests, or "none" */
  size_t small_max;            /* bytes */
  const char *policy;          /* name of the policy plugin */
  const char *cache, *reclaim; /* names of these plugins, or "none" */
  size_t cap;                  /* freed bytes that both may hold */
  bool basic_syscalls;
  bool background;                /* a thread of our own looks at the age of things */
  uint64_t epoch;                 /* large blocks between two decisions */
  const char *const *plugin_path; /* directories */
  uint32_t hardening;             /* enum hki_hardening */
  uint32_t foreign;               /* enum hki_foreign */
  uint32_t deepbind;              /* enum hki_deepbind */
  bool strict;
  bool verbose;
  uint32_t exit_report;  /* enum hki_exit_report */
  const char *exit_file; /* "" is standard error */
  uint64_t exit_pid;     /* 0: every process */
};

extern HKI_HIDDEN struct hki_settings hki_settings;

#endif
