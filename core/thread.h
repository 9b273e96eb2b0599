/* SPDX-License-Identifier: MIT */
/*
 * thread.h - the per-thread record, and the thread-local pointer through which every call begins.
 *
 * The pointer is never NULL. A thread without a record of its own is detached: it points at a static record whose gates are
 * closed, whose magazines hold nothing and take nothing, and whose `inside` says why. So the hot paths test nothing for it.
 */
#ifndef HKI_THREAD_H
#define HKI_THREAD_H

#include "base.h"

extern HKI_HIDDEN __thread struct hki_thread *hki_self __attribute__((tls_model("initial-exec")));

/* The calling thread's own record while it has one, also inside callbacks; else NULL. */
extern HKI_HIDDEN __thread struct hki_thread *hki_home __attribute__((tls_model("initial-exec")));

extern HKI_HIDDEN struct hki_thread hki_thread_none; /* before the first call of a thread */
extern HKI_HIDDEN struct hki_thread hki_thread_load; /* while plugins are loaded, and while a thread gets its record */
extern HKI_HIDDEN struct hki_thread hki_thread_gone; /* after its exit: never attached again */
extern HKI_HIDDEN struct hki_thread hki_thread_fork; /* between fork's prepare handler and its parent or child handler */

HKI_INLINE bool hki_detached(const struct hki_thread *thread)
{
  return thread->inside != NULL;
}

/* Prepares the exit hook. Once, before the first attach. */
void hki_thread_start(void);

/*
 * The calling thread's record, made when it has none yet and may have one; else what it is detached to. Every slow path starts
 * here, from whatever hki_self was.
 */
struct hki_thread *hki_thread_attach(void);

/*
 * A record for calls on behalf of nobody: what a thread frees that has no record goes through it. hki_thread_lend makes the
 * caller the only user and points hki_self there; hki_thread_unlend undoes both.
 */
struct hki_thread *hki_thread_lend(void);
void hki_thread_unlend(void);

/* A record that stands for the callbacks of a plugin: what hki_self is while they run. Lives for ever; `name` must. NULL: no memory. */
struct hki_thread *hki_thread_inside(const char *name);

/* Opens the gates of the calling thread's own record to what is in force. */
void hki_gates_open(struct hki_thread *thread);
/* Sends every thread through its slow path once. [any] */
void hki_gates_close(void);

/* In the child of a fork: every other thread's record is given up; its tallies stay. */
void hki_thread_fork_child(const struct hki_thread *survivor);

extern hak_lock hki_thread_lock; /* the list of idle records; taken around a fork */
extern hak_lock hki_lend_lock;   /* the lent record; taken around a fork */

#endif
