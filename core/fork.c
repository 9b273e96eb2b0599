/* SPDX-License-Identifier: MIT */
/*
 * fork.c - owns the order in which locks are taken around a fork: control, lent record, cache and reclaim, backends (those that
 * use others before those they use, which were loaded earlier), then the locks of the core that callbacks may take.
 *
 * Between the handlers the forking thread is detached, because other libraries' handlers run there too and may allocate: boot
 * serves them, and what they free waits.
 */
#define _GNU_SOURCE
#include "fork.h"

#include <pthread.h>

#include "backend.h"
#include "background.h"
#include "epoch.h"
#include "front.h"
#include "lock.h"
#include "meta.h"
#include "range.h"
#include "span.h"
#include "starts.h"
#include "thread.h"
#include "trial.h"

static struct hki_thread *before; /* what the forking thread was; under the control lock */

static hak_lock *const outer[] = {&hki_control_lock, &hki_lend_lock};
static hak_lock *const inner[] = {&hki_thread_lock, &hki_span_lock, &hki_starts_lock, &hki_meta_lock};

enum { OUTER = sizeof outer / sizeof *outer, INNER = sizeof inner / sizeof *inner };

static void prepare(void)
{
  for (int i = 0; i < OUTER; i++) {
    hki_lock(outer[i]);
  }
  before = hki_self;
  hki_range_fork_prepare();
  for (uint32_t i = hakmem_root.backend_count; i-- > HKI_BOOT + 1;) {
    hki_enter(&hki_backends[i]);
    hki_backends[i].ops.fork_prepare(hki_backends[i].self);
  }
  for (int i = 0; i < INNER; i++) {
    hki_lock(inner[i]);
  }
  hki_self = &hki_thread_fork;
}

static void parent(void)
{
  for (int i = INNER; i-- > 0;) {
    hki_unlock(inner[i]);
  }
  for (uint32_t i = HKI_BOOT + 1; i < hakmem_root.backend_count; i++) {
    hki_enter(&hki_backends[i]);
    hki_backends[i].ops.fork_parent(hki_backends[i].self);
  }
  hki_range_fork_parent();
  hki_self = before;
  for (int i = OUTER; i-- > 0;) {
    hki_unlock(outer[i]);
  }
}

static void child(void)
{
  for (int i = INNER; i-- > 0;) {
    inner[i]->word = 0; /* whoever waited for it is gone */
  }
  for (uint32_t i = HKI_BOOT + 1; i < hakmem_root.backend_count; i++) {
    hki_enter(&hki_backends[i]);
    hki_backends[i].ops.fork_child(hki_backends[i].self);
  }
  hki_range_fork_child();
  hki_epoch_fork_child();
  hki_trial_fork_child();
  hakmem_root.mailbox.state = HKI_MAIL_IDLE; /* a request was the parent's, and whoever served it is gone */
  hki_thread_fork_child(before);
  hki_front_fork_child(before);
  hki_background_fork_child();
  hki_self = before;
  for (int i = OUTER; i-- > 0;) {
    outer[i]->word = 0;
  }
}

void hki_fork_start(void)
{
  (void)pthread_atfork(prepare, parent, child);
}
