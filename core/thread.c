/* SPDX-License-Identifier: MIT */
/*
 * thread.c - owns the thread records. The list of all records only grows, by compare-and-swap; that of idle ones is under
 * hki_thread_lock. A record's contents belong to its thread, except for the gates.
 */
#define _GNU_SOURCE
#include "thread.h"

#include <errno.h>
#include <pthread.h>

#include "backend.h"
#include "front.h"
#include "lock.h"
#include "meta.h"
#include "range.h"
#include "route.h"

struct hki_thread hki_thread_none = {.inside = "a thread without a record", .window = HKI_NO_WINDOW};
struct hki_thread hki_thread_load = {.inside = "loading", .window = HKI_NO_WINDOW};
struct hki_thread hki_thread_gone = {.inside = "thread exit", .window = HKI_NO_WINDOW};
struct hki_thread hki_thread_fork = {.inside = "fork", .window = HKI_NO_WINDOW};

__thread struct hki_thread *hki_self __attribute__((tls_model("initial-exec"))) = &hki_thread_none;
__thread struct hki_thread *hki_home __attribute__((tls_model("initial-exec")));

hak_lock hki_thread_lock;
hak_lock hki_lend_lock;
static struct hki_thread *idle;
static struct hki_thread lent; /* under hki_lend_lock; not from the heap of records, since memory is freed when there is none */
static bool have_lent;
static struct hki_thread *lender;
static pthread_key_t exit_key;
static bool have_exit_key;

static void enlist(struct hki_thread *thread)
{
  thread->next = __atomic_load_n(&hakmem_root.threads, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&hakmem_root.threads, &thread->next, thread, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
}

/*
 * A record begins a line behind the beginning of a page, where blocks of pages begin: whoever touches the beginning of many pages in
 * turn sweeps the one set of the first-level cache that all these lines share, and what every call reads must not be in it.
 */
static struct hki_thread *fresh_record(void)
{
  char *pages = hki_meta_alloc(hki_round_up(HKI_RECORD_OFFSET + sizeof(struct hki_thread), HKI_RECORD_PAGE), HKI_RECORD_PAGE);
  struct hki_thread *thread = pages != NULL ? (struct hki_thread *)(void *)(pages + HKI_RECORD_OFFSET) : NULL;
  if (thread != NULL) {
    thread->window = HKI_NO_WINDOW;
  }
  return thread;
}

static struct hki_thread *record(void)
{
  hki_lock(&hki_thread_lock);
  struct hki_thread *thread = idle;
  if (thread != NULL) {
    idle = thread->next_idle;
  }
  hki_unlock(&hki_thread_lock);
  if (thread != NULL) {
    return thread;
  }
  thread = fresh_record();
  if (thread != NULL) {
    enlist(thread);
  }
  return thread;
}

static void give_up(struct hki_thread *thread)
{
  HKI_STORE(&thread->live, 0U);
  hki_lock(&hki_thread_lock);
  thread->next_idle = idle;
  idle = thread;
  hki_unlock(&hki_thread_lock);
}

static void thread_exit(void *value)
{
  struct hki_thread *thread = value;
  int saved = errno;
  hki_front_close(thread);
  hki_range_leave(thread);
  HKI_STORE(&thread->front_end, UINT64_C(0));
  HKI_STORE(&thread->direct_end, UINT64_C(0));
  for (uint32_t i = HKI_BOOT + 1; i < hakmem_root.backend_count; i++) {
    struct hki_backend *backend = &hki_backends[i];
    hki_enter(backend);
    backend->ops.thread_exit(backend->self, &thread->seat[i].slot);
    thread->seat[i].slot = NULL;
  }
  hki_self = &hki_thread_gone;
  hki_home = NULL;
  give_up(thread);
  errno = saved;
}

void hki_thread_start(void)
{
  have_exit_key = pthread_key_create(&exit_key, thread_exit) == 0;
}

HKI_SLOW struct hki_thread *hki_thread_attach(void)
{
  struct hki_thread *thread = hki_self;
  if (thread != &hki_thread_none || __atomic_load_n(&hakmem_root.state, __ATOMIC_ACQUIRE) < HKI_STATE_READY) {
    return thread;
  }
  hki_self = &hki_thread_load; /* pthread_setspecific may allocate */
  thread = record();
  if (thread == NULL) {
    hki_self = &hki_thread_none; /* boot serves this call; the next one tries again */
    return hki_self;
  }
  if (have_exit_key) {
    (void)pthread_setspecific(exit_key, thread);
  }
  HKI_STORE(&thread->live, 1U);
  hki_home = hki_self = thread;
  hki_gates_open(thread);
  return thread;
}

HKI_COLD struct hki_thread *hki_thread_lend(void)
{
  hki_lock(&hki_lend_lock);
  if (!have_lent) {
    have_lent = true;
    lent.window = HKI_NO_WINDOW;
    enlist(&lent);
  }
  lender = hki_self;
  hki_home = hki_self = &lent;
  return &lent;
}

HKI_COLD void hki_thread_unlend(void)
{
  hki_self = lender;
  hki_home = NULL;
  hki_unlock(&hki_lend_lock);
}

HKI_COLD struct hki_thread *hki_thread_inside(const char *name)
{
  struct hki_thread *thread = hki_meta_alloc(sizeof *thread, 64);
  if (thread != NULL) {
    thread->inside = name;
    thread->live = HKI_INSIDE;
    thread->window = HKI_NO_WINDOW;
  }
  return thread;
}

void hki_gates_open(struct hki_thread *thread)
{
  /* Store, then look again: whoever changes the route closes the gates after it, so one of the two sees the other. */
  uint32_t generation;
  do {
    generation = __atomic_load_n(&hki_route.generation, __ATOMIC_ACQUIRE);
    thread->direct = HKI_LOAD(&hki_route.direct);
    thread->direct_seat = thread->direct != NULL ? &thread->seat[thread->direct->index] : NULL;
    __atomic_store_n(&thread->front_end, HKI_LOAD(&hki_route.front_end), __ATOMIC_SEQ_CST);
    __atomic_store_n(&thread->direct_end, HKI_LOAD(&hki_route.direct_end), __ATOMIC_SEQ_CST);
  } while (generation != __atomic_load_n(&hki_route.generation, __ATOMIC_SEQ_CST));
}

void hki_gates_close(void)
{
  for (struct hki_thread *t = __atomic_load_n(&hakmem_root.threads, __ATOMIC_SEQ_CST); t != NULL; t = t->next) {
    __atomic_store_n(&t->direct_end, UINT64_C(0), __ATOMIC_SEQ_CST);
    __atomic_store_n(&t->front_end, UINT64_C(0), __ATOMIC_SEQ_CST);
  }
}

void hki_thread_fork_child(const struct hki_thread *survivor)
{
  /* Their magazines may have been in the middle of a change, so the objects in them are lost to the child. */
  for (struct hki_thread *t = hakmem_root.threads; t != NULL; t = t->next) {
    if (t != survivor) {
      t->live = 0;
    }
  }
}
