/* SPDX-License-Identifier: MIT */
/*
 * background.c - a thread that does what is due while the program makes no requests. Owns the word that it sleeps on.
 *
 * It is started by a request and not by the constructor, so that a child of fork which only calls exec never has one. It sleeps for ever
 * while nothing is held or kept.
 */
#define _GNU_SOURCE
#include "background.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>

#include "alloc.h"
#include "message.h"
#include "os.h"
#include "range.h"
#include "thread.h"

enum { STACK = 256 * 1024, TICK = 4000000 /* ns; of the coarse clock, at most */ };

uint32_t hki_background_wanted;
static uint32_t bell;   /* changes when there is something to look at; atomic */
static uint32_t runs;   /* there is a thread; atomic */
static uint32_t sleeps; /* it is asleep, or about to be; atomic, in one order with `bell` */

static void *run(void *unused)
{
  (void)prctl(PR_SET_NAME, "hakmem");
  struct hki_thread *thread = hki_thread_attach();
  while (!hki_detached(thread)) {
    uint32_t heard = __atomic_load_n(&bell, __ATOMIC_SEQ_CST);
    uint64_t due = hki_range_due(), now = hki_os.coarse();
    if (due == 0 || due > now) {
      __atomic_store_n(&sleeps, 1U, __ATOMIC_SEQ_CST);
      hki_futex_wait(&bell, heard, due == 0 ? 0 : due - now + TICK);
      __atomic_store_n(&sleeps, 0U, __ATOMIC_RELAXED);
    } else {
      hki_slow_event(thread);
    }
  }
  __atomic_store_n(&runs, 0U, __ATOMIC_RELAXED);
  return unused;
}

static int create(void)
{
  pthread_attr_t attributes;
  pthread_t thread;
  int error = pthread_attr_init(&attributes);
  if (error == 0) {
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, STACK); /* where this is too little for TLS, the default is as good */
    error = pthread_create(&thread, &attributes, run, NULL);
    (void)pthread_attr_destroy(&attributes);
  }
  return error;
}

HKI_COLD void hki_background_start(void)
{
  if (__atomic_exchange_n(&hki_background_wanted, 0U, __ATOMIC_RELAXED) == 0) {
    return;
  }
  struct hki_thread *self = hki_self;
  sigset_t all, before;
  (void)sigfillset(&all); /* signals are for the program's own threads */
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);
  hki_self = &hki_thread_load; /* pthread_create allocates */
  __atomic_store_n(&runs, 1U, __ATOMIC_RELAXED);
  int error = create();
  hki_self = self;
  (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error != 0) {
    __atomic_store_n(&runs, 0U, __ATOMIC_RELAXED);
    hki_say("core.background: no thread can be started (error %d); what is kept is looked at during requests only", error);
  }
}

void hki_background_wake(void)
{
  if (HKI_UNLIKELY(HKI_LOAD(&runs) != 0)) {
    (void)__atomic_add_fetch(&bell, 1U, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&sleeps, __ATOMIC_SEQ_CST) != 0) {
      hki_futex_wake(&bell);
    }
  }
}

void hki_background_fork_child(void)
{
  if (HKI_LOAD(&runs) != 0) {
    HKI_STORE(&runs, 0U);
    HKI_STORE(&hki_background_wanted, 1U);
  }
}
