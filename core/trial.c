/* SPDX-License-Identifier: MIT */
/*
 * trial.c - owns the trials that run, those that wait for the policy, and the rate at which blocks are measured; all under `lock`,
 * but for the countdowns.
 */
#include "trial.h"

#include <sys/auxv.h>
#include <sys/mman.h>

#include "epoch.h"
#include "header.h"
#include "lock.h"
#include "os.h"
#include "pagemap.h"
#include "site.h"
#include "span.h"

enum {
  RUNNING = 128,       /* trials at a time; beyond, the oldest is abandoned */
  DONE = 256,          /* finished ones that wait */
  WHOLE = 256,         /* pages that are looked at with one call; a look takes some 10 ns for each */
  WINDOWS = 2,         /* pieces of a larger block that are looked at instead, */
  WINDOW = 64,         /* of so many pages each */
  CHAMPION_FIRST = 16, /* the first champion block that is measured: short programs pay nothing */
  OUTLIER = 50000,     /* ns; what took longer was most likely interrupted */
  INCOME = 100,        /* of the time, one part in so many may go into measuring */
  CONTESTED = 200,     /* the same for champions while they have a challenger, */
  URGENT = 4,          /* as long as there is credit, one block in so many while they have none, */
  WATCHED = 8,         /* and one in so many while they have one */
  GROWTH = 4,          /* times that a stride is longer than the one before, at most */
  TOUCHES = 16,        /* pages touched to learn what a fault costs, */
  HUGE_TOUCHES = 1,    /* and huge ones, */
  ROUNDS = 3           /* so many times */
};
#define HUGE ((size_t)2 << 20)
#define CREDIT_MOST INT64_C(20000000) /* ns that can be saved */
#define SETTLED UINT64_C(50000000)    /* ns that a process runs before it spends time on learning what a fault costs */

struct running {
  const void *site;
  uint64_t number; /* of the block at its site */
  uint64_t began;  /* ns; 0: free */
  uint64_t got;    /* ns, when malloc had it */
  uint64_t cpu_ns; /* in malloc */
  uint64_t before; /* bytes resident at first */
  size_t bytes;    /* requested */
  uint16_t row;
  uint8_t arm;
  bool is_challenger;
  uint8_t generation; /* with the index, what the block carries: an abandoned trial is told by it */
  bool hit, huge;
};

static hak_lock lock;
static struct running running[RUNNING];
static struct hak_trial done[DONE];
static uint32_t done_count; /* also read without the lock */
static uint32_t done_tries; /* of them, of challengers */

/* How often to measure, apart for champions [0] and challengers [1]: the few of the latter would be lost among the former. */
static struct {
  int64_t countdown; /* blocks until the next measured one; atomic */
  uint64_t stride;   /* what it started from */
  uint64_t last;     /* ns; when that was */
} rate[2] = {{.countdown = CHAMPION_FIRST, .stride = CHAMPION_FIRST}, {.countdown = 1, .stride = 1}};
static uint64_t cost_ns = 4000; /* mean, of one trial with its part of the decisions */
static uint64_t spent_ns;       /* on trials and decisions, not yet in that mean */

/* Time that was not spent on measuring may be spent later, when something is to be found out. */
static int64_t credit_ns;
static uint32_t ease = 1; /* so much less often than that allows; atomic */
static uint64_t credited; /* ns; when the last income came; 0: never */
static uint32_t jitter = 2463534242U;

static uint64_t first_end; /* ns, when the first trial ended; 0: none has */
static struct {
  uint64_t small_ns, huge_ns; /* first touch of a page */
  bool measured;
} fault = {.small_ns = 1000, .huge_ns = 90000};

/* ---- resident pages -------------------------------------------------------------------------------------------------- */

/*
 * Bytes of [block, block + size) in resident pages. Of a block beyond 4 MiB, a window in each half stands for the rest. Where in its
 * half depends on the address: programs touch the first page and round distances, and the same block is looked at alike.
 */
static uint64_t resident(const void *block, size_t size)
{
  size_t page = getauxval(AT_PAGESZ);
  uintptr_t first = ((uintptr_t)block + page - 1) / page, end = ((uintptr_t)block + size) / page;
  bool whole = end - first <= WHOLE;
  size_t window = whole ? WHOLE : WINDOW, step = whole ? WHOLE : (end - first) / WINDOWS;
  size_t shift = (size_t)(((uint64_t)first * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % (step - window + 1);
  uint64_t found = 0, looked = 0;
  for (uintptr_t at = first + shift; at < end; at += step) {
    union {
      unsigned char page[WHOLE];
      uint64_t word[WHOLE / 8];
    } there = {.page = {0}};
    size_t count = end - at < window ? end - at : window;
    bool known = !hak_os_failed(hki_os.mincore((void *)(at * page), count * page, there.page));
    for (size_t i = 0; known && i < (count + 7) / 8; i++) { /* the product adds up the lowest bits of the eight */
      found += (there.word[i] & UINT64_C(0x0101010101010101)) * UINT64_C(0x0101010101010101) >> 56;
    }
    looked += count;
  }
  return looked == 0 ? 0 : found * (end - first) / looked * page;
}

/* The same after a free. What the cache or the reclaim plugin holds is as it was. */
static uint64_t resident_after(const struct hki_trial_end *end)
{
  hki_entry entry = hki_pagemap_get((uintptr_t)end->block);
  const struct hki_span *span = hki_entry_kind(entry) == HKI_PAGE_BLOCK ? hki_entry_record(entry) : NULL;
  uint32_t state = span != NULL ? __atomic_load_n(&span->state, __ATOMIC_ACQUIRE) : HKI_SPAN_LIVE;
  bool held = state == HKI_SPAN_CACHED || state == HKI_SPAN_PENDING;
  return held ? end->used : resident(end->block, end->capacity);
}

/* ---- what a fault costs ---------------------------------------------------------------------------------------------- */

/* ns of a first touch, the mean of so many. */
static uint64_t touch(char *base, size_t step, int count)
{
  uint64_t began = hki_os.now();
  for (int i = 0; i < count; i++) {
    *(volatile char *)(base + (size_t)i * step) = 1;
  }
  return (hki_os.now() - began) / (uint64_t)count;
}

/*
 * The best of some rounds, as others were interrupted. The pages are given back in between: a first touch may get memory that a virtual
 * machine has to get from its host, which takes fifty times as long, and a program that allocates and frees gets such pages but once.
 */
static uint64_t touch_again(char *base, size_t step, int count)
{
  uint64_t least = touch(base, step, count);
  for (int i = 1; i < ROUNDS; i++) {
    (void)hki_os.madvise(base, step * (size_t)count, MADV_DONTNEED);
    uint64_t took = touch(base, step, count);
    least = took < least ? took : least;
  }
  return least;
}

/* Once, since it takes a fraction of a millisecond. */
static HKI_COLD void measure_faults(void)
{
  size_t page = getauxval(AT_PAGESZ);
  fault.measured = true;
  size_t size = (1 + HUGE_TOUCHES) * HUGE;
  long at = hki_os.mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(at)) {
    return;
  }
  char *small = (char *)hki_round_up((uintptr_t)at, HUGE);
  char *huge = small + HUGE;
  (void)hki_os.madvise(small, HUGE, MADV_NOHUGEPAGE);
  fault.small_ns = touch_again(small, page, TOUCHES);
  (void)hki_os.madvise(huge, HUGE_TOUCHES * HUGE, MADV_HUGEPAGE);
  uint64_t once = touch_again(huge, HUGE, HUGE_TOUCHES);
  fault.huge_ns = resident(huge, HUGE) == HUGE ? once : HUGE / page * fault.small_ns;
  (void)hki_os.munmap((void *)at, size + HUGE);
}

static uint64_t fault_ns(uint64_t bytes, bool huge)
{
  uint64_t wholes = huge ? bytes / HUGE : 0;
  return wholes * fault.huge_ns + (bytes - wholes * HUGE) / getauxval(AT_PAGESZ) * fault.small_ns;
}

/* ---- the life of a trial --------------------------------------------------------------------------------------------- */

static bool count_down(uint32_t kind)
{
  int64_t *countdown = &rate[kind].countdown;
  int64_t left = HKI_LOAD(countdown) - 1; /* threads that count at once may count as one */
  HKI_STORE(countdown, left);
  return left <= 0;
}

bool hki_trial_turn(void)
{
  return count_down(1);
}

bool hki_trial_due(const struct hki_want *want)
{
  return want->is_challenger || count_down(0);
}

/* Under the lock. */
static void spend(uint64_t ns)
{
  spent_ns += ns < OUTLIER ? ns : OUTLIER;
}

static uint64_t draw_below(uint64_t limit)
{
  jitter ^= jitter << 13;
  jitter ^= jitter >> 17;
  jitter ^= jitter << 5;
  return jitter % limit;
}

/*
 * Sets the stride so that measuring takes its share of the time. A challenger's blocks are few, and all of them are measured while
 * there is credit. So are many of a champion: the policy must know it before it lets another one try, and see soon when the
 * program changes what it does. Strides vary, lest they fall into step with the program. Under the lock.
 */
static void pace(const struct hki_want *want, uint64_t now)
{
  uint32_t kind = want->is_challenger;
  bool contested = HKI_LOAD(&hakmem_root.share[want->row]) != 0;
  credit_ns += credited == 0 ? 0 : (int64_t)((now - credited) / INCOME);
  credit_ns = (credit_ns < CREDIT_MOST ? credit_ns : CREDIT_MOST) - (int64_t)spent_ns;
  credited = now;
  cost_ns = cost_ns - cost_ns / 8 + spent_ns / 8;
  spent_ns = 0;
  uint64_t stride = rate[kind].stride;
  if (rate[kind].last != 0) {
    uint64_t per_block = (now - rate[kind].last) / stride + 1;
    uint64_t parts = HKI_LOAD(&ease);
    uint64_t blocks = cost_ns * (contested && kind == 0 ? CONTESTED : INCOME) * parts / per_block + 1;
    if (credit_ns > 0 && parts == 1) {
      uint64_t urgent = kind == 1 ? 1 : contested ? WATCHED : URGENT;
      blocks = blocks < urgent ? blocks : urgent;
    }
    /* In one step it grows so much at most: a burst of the program says little about the blocks after it. */
    stride = blocks > stride * GROWTH ? stride * GROWTH : blocks;
  }
  stride = stride > 1 ? 1 + draw_below(2 * stride - 1) : 1;
  rate[kind].last = now;
  rate[kind].stride = stride;
  __atomic_store_n(&rate[kind].countdown, (int64_t)stride, __ATOMIC_RELAXED);
}

/* A free place, or that of the oldest trial: its block may live for ever. Under the lock. */
static struct running *place(void)
{
  struct running *oldest = &running[0];
  for (uint32_t i = 0; i < RUNNING; i++) {
    if (running[i].began < oldest->began) {
      oldest = &running[i];
    }
  }
  oldest->generation++;
  return oldest;
}

/* What took so long, without the release of other blocks' pages, which the arms are charged with that had them. */
static uint64_t own_ns(uint64_t ns, uint64_t release_before, const struct hki_thread *thread)
{
  uint64_t release = thread->release_ns - release_before;
  return ns > release ? ns - release : 0;
}

HKI_COLD void hki_trial_start(const struct hki_want *want, void *block, const struct hki_trial_begin *begin,
                              const struct hki_thread *thread)
{
  uint64_t got = hki_os.now();
  uint64_t cpu_ns = own_ns(got - begin->ns, begin->release, thread);
  hki_entry entry = hki_pagemap_get((uintptr_t)block);
  struct hki_span *span = hki_entry_kind(entry) == HKI_PAGE_BLOCK ? hki_entry_record(entry) : NULL;
  uint64_t before = want->untouched ? 0 : resident(block, span != NULL ? span->range.capacity : want->size);
  hki_lock(&lock);
  struct running *trial = place();
  *trial = (struct running){.site = want->site,
                            .number = want->number,
                            .began = begin->ns,
                            .got = got,
                            .cpu_ns = cpu_ns,
                            .before = before,
                            .bytes = want->size,
                            .row = (uint16_t)want->row,
                            .arm = (uint8_t)want->arm,
                            .is_challenger = want->is_challenger,
                            .generation = trial->generation,
                            .hit = want->hit,
                            .huge = span != NULL && (span->range.flags & HAK_HUGE)};
  uint32_t id = (uint32_t)(trial - running + 1) << 8 | trial->generation;
  uint64_t now = hki_os.now();
  spend(now - got);
  pace(want, now);
  hki_unlock(&lock);
  if (span != NULL) {
    span->trial = id;
  } else if (hki_entry_kind(entry) == HKI_STARTS) {
    hki_header(block)->offset |= (uint64_t)id << HKI_TRIAL_SHIFT;
  }
}

HKI_COLD void hki_trial_stop(struct hki_trial_end *end, uint32_t trial, const void *block, size_t capacity,
                             const struct hki_thread *thread)
{
  uint64_t began = hki_os.now();
  *end = (struct hki_trial_end){.block = block, .capacity = capacity, .trial = trial, .release = thread->release_ns};
  end->used = resident(block, capacity);
  end->began = hki_os.now();
  end->looking = end->began - began;
}

/* The trial that a block carries; NULL when it was abandoned. Under the lock. */
static struct running *find(uint32_t id)
{
  uint32_t index = (id >> 8) - 1;
  bool same = index < RUNNING && running[index].began != 0 && running[index].generation == (uint8_t)id;
  return same ? &running[index] : NULL;
}

HKI_COLD void hki_trial_finish(const struct hki_trial_end *end, const struct hki_thread *thread)
{
  uint64_t freed = hki_os.now();
  uint64_t free_ns = own_ns(freed - end->began, end->release, thread), stopped = end->began - end->looking;
  uint64_t held = resident_after(end);
  hki_lock(&lock);
  struct running *t = find(end->trial);
  if (t != NULL) {
    if (!fault.measured && first_end != 0 && freed - first_end > SETTLED) {
      measure_faults();
    }
    first_end = first_end == 0 ? freed : first_end;
    HKI_ADD(&hakmem_root.trials, UINT64_C(1));
    if (done_count == DONE) {
      HKI_ADD(&hakmem_root.trials_lost, UINT64_C(1));
    } else {
      done[done_count] = (struct hak_trial){.row = t->row,
                                            .arm = t->arm,
                                            .hit = t->hit,
                                            .bytes = t->bytes,
                                            .cpu_ns = t->cpu_ns + free_ns,
                                            .fault_ns = fault_ns(end->used > t->before ? end->used - t->before : 0, t->huge),
                                            .used_bytes = end->used,
                                            .held_bytes = held,
                                            .life_ns = stopped - t->got};
      HKI_STORE(&done_count, done_count + 1);
      done_tries += t->is_challenger;
    }
    hki_site_freed(t->site, t->number);
    t->began = 0;
    spend(end->looking + (hki_os.now() - freed));
  }
  uint32_t count = done_count, tries = done_tries;
  hki_unlock(&lock);
  hki_epoch_trials(count, tries);
}

uint32_t hki_trial_collect(struct hak_trial *to, uint32_t room)
{
  hki_lock(&lock);
  uint32_t count = done_count < room ? done_count : room;
  for (uint32_t i = 0; i < count; i++) {
    to[i] = done[i];
  }
  HKI_ADD(&hakmem_root.trials_lost, done_count - count);
  HKI_STORE(&done_count, 0U);
  done_tries = 0;
  hki_unlock(&lock);
  return count;
}

void hki_trial_ease(uint32_t parts)
{
  HKI_STORE(&ease, parts);
}

void hki_trial_spent(uint64_t ns)
{
  hki_lock(&lock);
  spend(ns);
  hki_unlock(&lock);
}

void hki_trial_fork_child(void)
{
  lock.word = 0;
}
