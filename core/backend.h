/* SPDX-License-Identifier: MIT */
/*
 * backend.h - the backends in use, and the way into and out of their callbacks.
 *
 * Instances are made while loading and never change or go away afterwards: blocks refer to them by index for ever.
 */
#ifndef HKI_BACKEND_H
#define HKI_BACKEND_H

#include "base.h"
#include "thread.h"

struct __attribute__((aligned(256))) hki_backend {
  struct hak_backend_ops ops; /* complete: what the plugin lacks is a function that refuses */
  void *self;                 /* what its start returned */
  struct hki_thread *inside;  /* what a thread is while it runs one of the callbacks */
  uint32_t index;             /* in hki_backends, in page blocks, headers and tallies */
  uint32_t granularity;       /* enum hak_granularity */
  const char *name;
};

_Static_assert(sizeof(struct hki_backend) == 256, "found from its index by a shift");

extern HKI_HIDDEN struct hki_backend hki_backends[HKI_BACKENDS]; /* [HKI_BOOT] is boot; hakmem_root.backend_count are in use */

#ifdef HKI_TSAN
/* A wrapped allocator hands memory from thread to thread under locks that the sanitizer does not see: what comes out of a
 * backend happens after everything that went into it. */
extern void __tsan_acquire(void *address);
extern void __tsan_release(void *address);
#define HKI_RELEASE(p) __tsan_release(p)
#define HKI_ACQUIRE(p) __tsan_acquire(p)
#else
#define HKI_RELEASE(p) ((void)0)
#define HKI_ACQUIRE(p) ((void)0)
#endif

/*
 * While a callback runs, the thread is detached: its record is out of reach, so every malloc and free that arrives takes the
 * slow path, where it is told from the program's own. This costs two stores per callback and no test anywhere.
 */
HKI_INLINE void hki_enter(const struct hki_backend *backend)
{
  HKI_RELEASE(backend->inside);
  hki_self = backend->inside;
}

HKI_INLINE void hki_leave(struct hki_thread *thread)
{
  hki_self = thread;
}

/*
 * A new instance. `ops` is copied as far as it goes and completed with functions that refuse. NULL and *lacking set to the missing member's
 * name when it is not usable, or to NULL when there is no room. [load]
 */
struct hki_backend *hki_backend_add(const char *name, const struct hak_backend_ops *ops, const char **lacking);

#endif
