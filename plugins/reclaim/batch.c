/* SPDX-License-Identifier: MIT */
/*
 * batch.c - reclaim: freed ranges wait until there are many, and then go back to the system together.
 *
 * What a release costs is mostly not the pages but the call, and the interruption of every processor that runs another thread
 * of the process. One process_madvise for many ranges has one of each.
 *
 * It owns the ranges that wait. batch->lock guards them, the accounts and the thresholds, and is never held while memory is
 * released: the thread that crosses a threshold takes everything that waits and releases it; the others go on filling. What
 * is being released counts as pending until it is done, so that `cap` bounds all freed memory that the system has not got back.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hakmem/plugin.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#define SELF (-10000) /* PIDFD_SELF (Linux 6.15): a process names itself without a file descriptor; older headers lack it */

#define NS_PER_MS UINT64_C(1000000)
#define LITTLE ((size_t)256 << 10) /* bytes that may wait however little is live */

static_assert(HAK_PURGE_SPANS <= 64, "what the system kept is told in one word");

enum { CHAIN_ORDERS = 32 }; /* powers of two: the longest chain that can be sorted has 2^32 - 1 ranges */

/* ---- options and counters -------------------------------------------------------------------------------------------- */

enum { BATCH_BYTES, BATCH_SHARE, BATCH_COUNT, BATCH_AGE, BATCH_CAP, BATCH_METHOD, BATCH_ADVICE, BATCH_OPTIONS };

enum method { METHOD_AUTO, METHOD_VECTOR, METHOD_SINGLE };

static const char *const batch_methods[] = {"auto", "process_madvise", "madvise", NULL};

enum advice { ADVICE_DONTNEED, ADVICE_FREE };

static const char *const batch_advices[] = {"dontneed", "free", NULL};

static const hak_option batch_options[BATCH_OPTIONS] = {
    [BATCH_BYTES] = {.key = "bytes",
                     .type = HAK_SIZE,
                     .flags = HAK_LIVE,
                     .fallback = "4M",
                     .min = "64K",
                     .max = "64G",
                     .help = "release when so many bytes wait"},
    [BATCH_SHARE] = {.key = "share",
                     .type = HAK_INT,
                     .flags = HAK_LIVE,
                     .fallback = "8",
                     .min = "0",
                     .max = "1024",
                     .help = "release when more waits than one in so many bytes of live large blocks; 0: however much"},
    [BATCH_COUNT] = {.key = "count",
                     .type = HAK_INT,
                     .flags = HAK_LIVE,
                     .fallback = "256",
                     .min = "1",
                     .max = "1048576",
                     .help = "release when so many ranges wait"},
    [BATCH_AGE] = {.key = "age",
                   .type = HAK_INT,
                   .flags = HAK_LIVE,
                   .fallback = "1000",
                   .min = "1",
                   .max = "3600000",
                   .help = "release when a range has waited so many milliseconds; noticed at the next slow event"},
    [BATCH_CAP] = {.key = "cap",
                   .type = HAK_SIZE,
                   .flags = HAK_LIVE,
                   .fallback = "8M",
                   .min = "0",
                   .max = "64G",
                   .help = "most bytes that wait or are being released at any moment"},
    [BATCH_METHOD] = {.key = "method",
                      .type = HAK_ENUM,
                      .fallback = "auto",
                      .choices = batch_methods,
                      .help = "the system call: process_madvise for many ranges at once (Linux 6.15), or madvise for each"},
    [BATCH_ADVICE] = {.key = "advice",
                      .type = HAK_ENUM,
                      .fallback = "dontneed",
                      .choices = batch_advices,
                      .help = "dontneed: pages go at once; free: when the system needs them, and they count as retained"},
};

enum {
  BATCH_PENDING,
  BATCH_VECTORED,
  BATCH_LONGEST,
  BATCH_RANGES,
  BATCH_BATCHES,
  BATCH_OVER_CAP,
  BATCH_RELEASED,
  BATCH_SPANS,
  BATCH_PURGE_CALLS,
  BATCH_PURGED,
  BATCH_UNRELEASED,
  BATCH_FALLBACKS,
  BATCH_COUNTERS
};

static const hak_counter batch_counters[BATCH_COUNTERS] = {
    {"pending", HAK_GAUGE, HAK_SUM_RETAINED, "bytes", "ranges that wait or are being released"},
    {"vectored", HAK_GAUGE, HAK_SUM_NONE, "", "1: process_madvise is in use; 0: madvise for each span"},
    {"longest", HAK_GAUGE, HAK_SUM_NONE, "", "most ranges in one batch"},
    {"ranges", HAK_COUNTER, HAK_SUM_NONE, "", "freed ranges taken over"},
    {"batches", HAK_COUNTER, HAK_SUM_NONE, "", "chains of ranges released"},
    {"over_cap", HAK_COUNTER, HAK_SUM_NONE, "", "ranges released without a wait, because the cap was reached"},
    {"released", HAK_COUNTER, HAK_SUM_NONE, "bytes", "ranges returned to their backends"},
    {"spans", HAK_COUNTER, HAK_SUM_NONE, "", "stretches of pages to purge, neighbours taken together"},
    {"purge_calls", HAK_COUNTER, HAK_SUM_NONE, "calls", "system calls that purged them"},
    {"purged", HAK_COUNTER, HAK_SUM_NONE, "bytes", "pages that the system took back"},
    {"unreleased", HAK_COUNTER, HAK_SUM_NONE, "bytes", "pages that it kept: locked ones, and all with advice = free"},
    {"fallbacks", HAK_COUNTER, HAK_SUM_NONE, "", "spans that process_madvise did not take, and madvise was asked for"},
};

/* ---- state ----------------------------------------------------------------------------------------------------------- */

/* Ranges that are released together. */
struct pack {
  hak_range *chain; /* ended by NULL */
  size_t bytes;     /* their capacities */
  uint32_t count;   /* ranges */
};

struct batch {
  hak_purger purger;     /* the first member, by which purge finds the rest; constant */
  const hak_host *host;  /* constant */
  hak_lock lock;         /* guards what follows, to `cap` */
  struct pack waiting;   /* ranges that no thread releases yet */
  uint64_t since;        /* when the first of them came, ns */
  size_t pending;        /* bytes that wait or are being released; the gauge shows it */
  size_t bytes;          /* threshold: bytes that wait */
  uint32_t share;        /* threshold: bytes that wait, one in so many of live large blocks; 0: none */
  uint32_t count;        /* threshold: ranges that wait */
  uint64_t age;          /* threshold: time since the first came, ns */
  size_t cap;            /* limit of `pending`, bytes */
  int advice;            /* MADV_DONTNEED or MADV_FREE; constant */
  bool vector_wanted;    /* process_madvise was to be used; constant */
  uint32_t vector_works; /* it is; atomic, cleared for good when the system forbids it */
};

/* ---- one purge, without a lock --------------------------------------------------------------------------------------- */

/* Purges the longest sequence from the first span on that the system takes in one call. Returns how many spans that are. */
static uint32_t purge_vector(struct batch *batch, const struct iovec *spans, uint32_t count)
{
  long result = batch->host->os->process_madvise(SELF, spans, count, batch->advice, 0);
  hak_count(batch->host, BATCH_PURGE_CALLS, 1);
  if (result == -EPERM || result == -ENOSYS || result == -EBADF) { /* a sandbox entered since the start, say */
    __atomic_store_n(&batch->vector_works, 0U, __ATOMIC_RELAXED);
    hak_gauge(batch->host, BATCH_VECTORED, 0);
  }
  size_t bytes = hak_os_failed(result) ? 0 : (size_t)result;
  uint32_t done = 0;
  while (done < count && bytes >= spans[done].iov_len) {
    bytes -= spans[done++].iov_len;
  }
  return done;
}

/*
 * The system stops at the first span that it does not take, for which there are good reasons: locked pages. That one is tried
 * alone, and the rest goes on together.
 */
static uint64_t batch_purge(const hak_purger *purger, const struct iovec *spans, uint32_t count)
{
  struct batch *batch = (struct batch *)(uintptr_t)purger;
  const hak_host *host = batch->host;
  uint64_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (__atomic_load_n(&batch->vector_works, __ATOMIC_RELAXED) != 0) {
      i += purge_vector(batch, &spans[i], count - i);
      if (i == count) {
        break;
      }
    }
    bool refused = hak_os_failed(host->os->madvise(spans[i].iov_base, spans[i].iov_len, batch->advice));
    kept |= (uint64_t)refused << i;
    hak_count(host, BATCH_PURGE_CALLS, 1);
    hak_count(host, BATCH_FALLBACKS, batch->vector_wanted);
  }
  if (batch->advice == MADV_FREE) { /* until the system takes them, the pages are there, and do not read as zero */
    kept = UINT64_MAX;
  }
  hak_count(host, BATCH_SPANS, count);
  for (uint32_t i = 0; i < count; i++) {
    hak_count(host, (kept >> i & 1) != 0 ? BATCH_UNRELEASED : BATCH_PURGED, spans[i].iov_len);
  }
  return kept;
}

/* Whether the system lets a process purge its own pages with process_madvise: by doing it, because some only pretend. */
static bool vector_probe(const hak_host *host)
{
  const hak_os *os = host->os;
  long at = os->mmap(NULL, host->page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(at)) {
    return false;
  }
  volatile char *page = (volatile char *)at;
  *page = 1;
  const struct iovec span = {(void *)at, host->page_size};
  long result = os->process_madvise(SELF, &span, 1, MADV_DONTNEED, 0);
  bool works = result == (long)host->page_size && *page == 0;
  (void)os->munmap((void *)at, host->page_size);
  return works;
}

/* ---- chains ---------------------------------------------------------------------------------------------------------- */

static bool before(const hak_range *a, const hak_range *b)
{
  return a->backend != b->backend ? a->backend < b->backend : (uintptr_t)a->base < (uintptr_t)b->base;
}

static hak_range *merge(hak_range *a, hak_range *b)
{
  hak_range *head = NULL;
  hak_range **end = &head;
  while (a != NULL && b != NULL) {
    hak_range **least = before(a, b) ? &a : &b;
    *end = *least;
    end = &(*least)->next;
    *least = *end;
  }
  *end = a != NULL ? a : b;
  return head;
}

/* By backend and address. Sorted parts of 2^i ranges are merged as in a binary counter; no memory, no recursion. */
static hak_range *sort(hak_range *chain)
{
  hak_range *part[CHAIN_ORDERS] = {NULL};
  while (chain != NULL) {
    hak_range *sorted = chain;
    chain = chain->next;
    sorted->next = NULL;
    uint32_t order = 0;
    for (; part[order] != NULL; order++) {
      sorted = merge(part[order], sorted);
      part[order] = NULL;
    }
    part[order] = sorted;
  }
  hak_range *sorted = NULL;
  for (uint32_t order = 0; order < CHAIN_ORDERS; order++) {
    sorted = merge(part[order], sorted);
  }
  return sorted;
}

/* ---- what waits ------------------------------------------------------------------------------------------------------ */

/* Whether so much waits that the program's resident memory is notably more than it needs. */
static bool weighs(const struct batch *batch)
{
  return batch->share != 0 && batch->waiting.bytes >= LITTLE &&
         batch->waiting.bytes > __atomic_load_n(batch->host->active, __ATOMIC_RELAXED) / batch->share;
}

/* Whether what waits is to be released now. Under batch->lock. */
static bool due(const struct batch *batch, uint64_t now)
{
  const struct pack *waiting = &batch->waiting;
  return waiting->bytes >= batch->bytes || weighs(batch) || waiting->count >= batch->count ||
         (waiting->count > 0 && now - batch->since >= batch->age);
}

/* The ranges of both, with `last` the last of a. */
static struct pack join(struct pack a, hak_range *last, struct pack b)
{
  last->next = b.chain;
  return (struct pack){a.chain, a.bytes + b.bytes, a.count + b.count};
}

/* Takes everything that waits. Under batch->lock. */
static struct pack take(struct batch *batch)
{
  struct pack pack = batch->waiting;
  batch->waiting = (struct pack){NULL, 0, 0};
  return pack;
}

static void set_pending(struct batch *batch, size_t pending)
{
  batch->pending = pending;
  hak_gauge(batch->host, BATCH_PENDING, pending);
}

/* Releases a chain, of whose bytes `counted` are among the pending. Returns the bytes. Called without batch->lock. */
static size_t release(struct batch *batch, struct pack pack, size_t counted)
{
  if (pack.count == 0) {
    return 0;
  }
  const hak_host *host = batch->host;
  size_t bytes = host->release(host, sort(pack.chain), &batch->purger);
  hak_count(host, BATCH_RELEASED, bytes);
  hak_count(host, BATCH_BATCHES, 1);
  hak_lock_acquire(host, &batch->lock);
  set_pending(batch, batch->pending - counted);
  if (pack.count > host->counters[BATCH_LONGEST]) {
    hak_gauge(host, BATCH_LONGEST, pack.count);
  }
  hak_lock_release(host, &batch->lock);
  return bytes;
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------- */

/* What does not fit under the cap cannot wait: it goes at once, and takes along what does. */
static void batch_put(void *self, hak_range *chain)
{
  struct batch *batch = self;
  const hak_host *host = batch->host;
  struct pack pack = {.chain = chain};
  hak_range *last = NULL;
  for (hak_range *range = chain; range != NULL; range = range->next) {
    pack.bytes += range->capacity;
    pack.count++;
    last = range;
  }
  if (last == NULL) {
    return;
  }
  hak_count(host, BATCH_RANGES, pack.count);

  struct pack out = {0};
  size_t counted = 0;
  hak_lock_acquire(host, &batch->lock);
  if (pack.bytes > batch->cap || batch->pending > batch->cap - pack.bytes) {
    hak_count(host, BATCH_OVER_CAP, pack.count);
    counted = batch->waiting.bytes;
    out = join(pack, last, take(batch));
  } else {
    uint64_t now = host->os->coarse(); /* under the lock, so that no other thread has seen a later time */
    batch->since = batch->waiting.count == 0 ? now : batch->since;
    batch->waiting = join(pack, last, batch->waiting);
    set_pending(batch, batch->pending + pack.bytes);
    if (due(batch, now)) {
      out = take(batch);
      counted = out.bytes;
    }
  }
  hak_lock_release(host, &batch->lock);
  release(batch, out, counted);
}

static void batch_expire(void *self)
{
  struct batch *batch = self;
  const hak_host *host = batch->host;
  struct pack out = {0};
  hak_lock_acquire(host, &batch->lock);
  if (due(batch, host->os->coarse())) {
    out = take(batch);
  }
  hak_lock_release(host, &batch->lock);
  release(batch, out, out.bytes);
}

static size_t batch_drain(void *self)
{
  struct batch *batch = self;
  hak_lock_acquire(batch->host, &batch->lock);
  struct pack out = take(batch);
  hak_lock_release(batch->host, &batch->lock);
  return release(batch, out, out.bytes);
}

static void batch_fork_prepare(void *self)
{
  struct batch *batch = self;
  hak_lock_acquire(batch->host, &batch->lock);
}

static void batch_fork_parent(void *self)
{
  struct batch *batch = self;
  hak_lock_release(batch->host, &batch->lock);
}

/* What other threads were just releasing is out of reach: it no longer counts. */
static void batch_fork_child(void *self)
{
  struct batch *batch = self;
  batch->lock.word = 0;
  set_pending(batch, batch->waiting.bytes);
}

/* A threshold that is lower than what waits shows at the next put or expire. */
static int32_t batch_set(void *self, uint32_t option, hak_value value)
{
  struct batch *batch = self;
  int32_t result = HAK_OK;
  hak_lock_acquire(batch->host, &batch->lock);
  switch (option) {
  case BATCH_BYTES:
    batch->bytes = value.size;
    break;
  case BATCH_SHARE:
    batch->share = (uint32_t)value.integer;
    break;
  case BATCH_COUNT:
    batch->count = (uint32_t)value.integer;
    break;
  case BATCH_AGE:
    batch->age = (uint64_t)value.integer * NS_PER_MS;
    break;
  case BATCH_CAP:
    batch->cap = value.size;
    break;
  default:
    result = HAK_INVALID;
  }
  hak_lock_release(batch->host, &batch->lock);
  return result;
}

static int32_t batch_start(const hak_host *host, const hak_value *values, void **self)
{
  struct batch *batch = host->meta_alloc(host, sizeof(*batch), _Alignof(struct batch));
  if (batch == NULL) {
    host->log(host, "no memory to start with");
    return HAK_NO_MEMORY;
  }
  batch->purger.purge = batch_purge;
  batch->host = host;
  for (uint32_t option = 0; option < BATCH_OPTIONS; option++) {
    (void)batch_set(batch, option, values[option]); /* those that are not live are below */
  }
  batch->advice = values[BATCH_ADVICE].choice == ADVICE_FREE ? MADV_FREE : MADV_DONTNEED;
  batch->vector_wanted = values[BATCH_METHOD].choice != METHOD_SINGLE && host->basic_syscalls == 0;
  batch->vector_works = batch->vector_wanted && vector_probe(host);
  hak_gauge(host, BATCH_VECTORED, batch->vector_works);
  if (values[BATCH_METHOD].choice == METHOD_VECTOR && batch->vector_works == 0) {
    host->log(host, host->basic_syscalls != 0
                        ? "method = process_madvise: not with core.syscalls = basic; using madvise"
                        : "method = process_madvise: the system does not offer it (Linux 6.15 does); using madvise");
  }
  *self = batch;
  return HAK_OK;
}

/* ---- what the core sees ---------------------------------------------------------------------------------------------- */

static const hak_reclaim_ops batch_ops = {
    .struct_size = sizeof(hak_reclaim_ops),
    .put = batch_put,
    .expire = batch_expire,
    .drain = batch_drain,
    .fork_prepare = batch_fork_prepare,
    .fork_parent = batch_fork_parent,
    .fork_child = batch_fork_child,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin),
    .abi_major = HAK_ABI_MAJOR,
    .abi_minor = HAK_ABI_MINOR,
    .kind = HAK_RECLAIM,
    .name = "batch",
    .version = "0.1",
    .summary = "freed ranges wait for each other, and go back to the system with one call",
    .options = batch_options,
    .option_count = BATCH_OPTIONS,
    .option_stride = sizeof(hak_option),
    .counters = batch_counters,
    .counter_count = BATCH_COUNTERS,
    .counter_stride = sizeof(hak_counter),
    .start = batch_start,
    .set = batch_set,
    .ops = &batch_ops,
};
