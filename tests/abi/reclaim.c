/* SPDX-License-Identifier: MIT */
/* reclaim.c - a reclaim plugin in which a few ranges wait, and are then released together. Owns the chain of them; one lock. */
#include "variant.h"

#include <sys/mman.h>

enum { PUTS, RELEASES, PURGED, DRAINS, COUNTERS };
static const hak_counter counters[COUNTERS] = {[PUTS] = COUNTER_ROW("puts"),
                                               [RELEASES] = COUNTER_ROW("releases"),
                                               [PURGED] = COUNTER_ROW("purged"),
                                               [DRAINS] = COUNTER_ROW("drains")};
static const hak_option options[] = {OPTION_ROWS};

static hak_range *waiting;
static int64_t waiting_count;

static uint64_t purge(const hak_purger *purger, const struct iovec *spans, uint32_t count)
{
  uint64_t kept = 0;
  (void)purger;
  for (uint32_t i = 0; i < count; i++) {
    bool failed = hak_os_failed(host->os->madvise(spans[i].iov_base, spans[i].iov_len, MADV_DONTNEED));
    kept |= (uint64_t)failed << i;
    COUNT(PURGED);
  }
  return kept;
}

static const hak_purger purger = {.purge = purge};

static size_t release_all(void *self)
{
  hak_lock_acquire(host, self);
  hak_range *chain = waiting;
  waiting = NULL;
  waiting_count = 0;
  hak_lock_release(host, self);
  COUNT(RELEASES);
  return chain != NULL ? host->release(host, chain, &purger) : 0;
}

static void reclaim_put(void *self, hak_range *chain)
{
  hak_lock_acquire(host, self);
  while (chain != NULL) {
    hak_range *next = chain->next;
    chain->next = waiting;
    waiting = chain;
    chain = next;
    waiting_count++;
    COUNT(PUTS);
  }
  bool full = waiting_count > __atomic_load_n(&limit, __ATOMIC_RELAXED);
  hak_lock_release(host, self);
  if (full) {
    (void)release_all(self);
  }
}

static void reclaim_expire(void *self)
{
  (void)release_all(self);
}

static size_t reclaim_drain(void *self)
{
  COUNT(DRAINS);
  return release_all(self);
}

static const hak_reclaim_ops ops = {.struct_size = OPS_SIZE,
                                    .put = reclaim_put,
                                    .expire = reclaim_expire,
                                    .drain = reclaim_drain,
                                    .fork_prepare = fork_prepare,
                                    .fork_parent = fork_parent,
                                    .fork_child = fork_child,
                                    FUTURE};

DESCRIBE(HAK_RECLAIM, begin);
