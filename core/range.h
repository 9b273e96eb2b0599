/* SPDX-License-Identifier: MIT */
/* range.h - the way of a freed page block: to the cache, from there to reclaim, and back to its backend. */
#ifndef HKI_RANGE_H
#define HKI_RANGE_H

#include "backend.h"
#include "base.h"
#include "span.h"
#include "want.h"

/* A freed block that suits, from the cache; the caller owns it. NULL when there is none. */
struct hki_span *hki_range_take(struct hki_thread *thread, const struct hki_backend *backend, const struct hki_want *want);

/* The block that the thread freed last, when the request is for the same again; the caller owns it. NULL when it is not. */
struct hki_span *hki_range_again(struct hki_thread *thread, const struct hki_want *want);

/* Offers to the cache what each thread freed last; or the calling thread, which ends. [own record] */
void hki_range_move_on(struct hki_thread *thread);
void hki_range_leave(struct hki_thread *thread);

/* Sends a block on its way that the caller has moved out of LIVE. */
void hki_range_retire(struct hki_thread *thread, struct hki_span *span);

/* Sends pages on their way that a plugin had from a page source: there is no block of theirs. False when there is no record for them. */
bool hki_range_retire_pages(const struct hki_backend *backend, void *base, size_t capacity);

/* From now on there is something to look at from time to time. [any] */
void hki_range_watch(void);

/* When that is, ns of the coarse clock; 0: there is nothing. [any] */
uint64_t hki_range_due(void);

/* Moves on what has been held too long, when it is time to look. [slow path of an own record] */
void hki_range_tick(struct hki_thread *thread);

/* Moves everything that is held, and what class backends keep unused, back to the backends; returns the bytes. Under the control lock. */
size_t hki_range_drain(struct hki_thread *thread);

/* The same when memory is short, unless another thread is at it. */
void hki_range_drain_now(struct hki_thread *thread);

/* Implements hak_host.release. */
size_t hki_range_release(const struct hak_host *host, hak_range *chain, const hak_purger *purger);

/*
 * Take a plugin into service, its ops completed as far as they go. NULL, or the missing member. `inside` is what a thread is while
 * it runs a callback. [load]
 */
const char *hki_range_cache(const struct hak_cache_ops *ops, void *self, struct hki_thread *inside);
const char *hki_range_reclaim(const struct hak_reclaim_ops *ops, void *self, struct hki_thread *inside);

/* Around a fork, before the backends' own. */
void hki_range_fork_prepare(void);
void hki_range_fork_parent(void);
void hki_range_fork_child(void);

#endif
