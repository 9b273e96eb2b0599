/* SPDX-License-Identifier: MIT */
/*
 * faults.c - one case for each surrounding in which allocators break, with real faults. Run preloaded by faults.sh.
 *
 *     faults CASE [ARGUMENT]
 *
 * A case brings about its fault and does the same work before, under and after it: blocks of all sizes with a mark in each page,
 * looked at before every change, zeroes where they are promised, and the counters of hakmem, which must rise by the calls made.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "filter.h"
#include "probe.h"

enum { SLOTS = 40, PAGE = 4096, STEPS = 1200 };

#define MIB ((size_t)1 << 20)
#define MS UINT64_C(1000000)

struct block {
  unsigned char *bytes;
  size_t size;
  uint64_t mark;
};

/* What one worker does, and found. */
struct work {
  uint32_t state;  /* of its random numbers */
  bool may_fail;   /* NULL with ENOMEM is no mistake */
  uint64_t calls;  /* blocks that it got */
  uint64_t frees;  /* blocks that it gave back */
  uint64_t spoilt; /* blocks with bytes of others, or without zeroes */
  uint64_t odd;    /* NULL where there must be none, or with another errno */
  struct block slot[SLOTS];
};

static uint64_t clock_ns(clockid_t clock)
{
  struct timespec now;
  (void)clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

/* Half of them small, half of them up to 4 MiB, and rarely more. */
static size_t pick(struct work *work)
{
  uint32_t draw = probe_random(&work->state);
  size_t base = draw % 2 == 0 ? (size_t)16 << draw / 2 % 12 : (size_t)65536 << draw / 2 % 6;
  return draw % 199 == 0 ? 16 * MIB : base + (draw >> 8) % base;
}

/* The mark is in the first word, in the first of each further page, and in the last bytes. */
static void mark(const struct block *block)
{
  for (size_t at = 0; at + sizeof block->mark <= block->size; at += PAGE) {
    memcpy(block->bytes + at, &block->mark, sizeof block->mark);
  }
  memcpy(block->bytes + block->size - sizeof block->mark, &block->mark, sizeof block->mark);
}

/* Whether the marks are there, up to `size`; the last only if that is all. */
static bool marked(const struct block *block, size_t size)
{
  size_t last = block->size - sizeof block->mark;
  for (size_t at = 0; at + sizeof block->mark <= size; at += PAGE) {
    if (at + sizeof block->mark <= last && memcmp(block->bytes + at, &block->mark, sizeof block->mark) != 0) {
      return false;
    }
  }
  return size < block->size || memcmp(block->bytes + last, &block->mark, sizeof block->mark) == 0;
}

static bool reads_zero(const unsigned char *bytes, size_t size)
{
  for (size_t at = 0; at < size; at += at + 61 < size || at + 1 == size ? 61 : size - 1 - at) {
    if (bytes[at] != 0) {
      return false;
    }
  }
  return true;
}

static void refuse(struct work *work)
{
  work->odd += !work->may_fail || errno != ENOMEM;
}

static void fill(struct work *work, struct block *block)
{
  bool zeroed = probe_random(&work->state) % 3 == 0;
  size_t size = pick(work);
  errno = 0;
  block->bytes = zeroed ? calloc(1, size) : malloc(size);
  if (block->bytes == NULL) {
    refuse(work);
    return;
  }
  work->calls++;
  work->spoilt += zeroed && !reads_zero(block->bytes, size);
  block->size = size;
  block->mark = (uint64_t)probe_random(&work->state) << 32 | (uintptr_t)block >> 4;
  mark(block);
}

static void drop(struct work *work, struct block *block)
{
  work->spoilt += !marked(block, block->size);
  errno = 77;
  free(block->bytes);
  work->odd += errno != 77;
  work->frees++;
  block->bytes = NULL;
}

static void resize(struct work *work, struct block *block)
{
  size_t size = pick(work);
  work->spoilt += !marked(block, block->size);
  errno = 0;
  unsigned char *moved = realloc(block->bytes, size);
  if (moved == NULL) { /* the old one is as it was, which is looked at later */
    refuse(work);
    return;
  }
  block->bytes = moved;
  if (size > block->size) {
    work->spoilt += !marked(block, block->size);
  } else {
    work->spoilt += !marked(&(struct block){moved, block->size, block->mark}, size < block->size ? size : block->size);
  }
  block->size = size;
  mark(block);
}

static void churn(struct work *work, int steps)
{
  for (int i = 0; i < steps; i++) {
    struct block *block = &work->slot[probe_random(&work->state) % SLOTS];
    if (block->bytes == NULL) {
      fill(work, block);
    } else if (probe_random(&work->state) % 4 == 0) {
      resize(work, block);
    } else {
      drop(work, block);
    }
  }
}

static void drop_all(struct work *work)
{
  for (int i = 0; i < SLOTS; i++) {
    if (work->slot[i].bytes != NULL) {
      drop(work, &work->slot[i]);
    }
  }
}

/* The reports of one worker, or of several together. */
static void judge(const char *when, const struct work *work, struct hak_totals before)
{
  char name[100];
  struct hak_totals after = probe_totals();
  snprintf(name, sizeof name, "%s: every block has its own bytes", when);
  probe_equal(name, work->spoilt, 0);
  snprintf(name, sizeof name, "%s: requests are served%s, and errno is right", when, work->may_fail ? " or refused" : "");
  probe_equal(name, work->odd, 0);
  snprintf(name, sizeof name, "%s: served by hakmem", when);
  PROBE(after.allocs - before.allocs >= work->calls && after.frees - before.frees >= work->frees && work->calls > 0, name,
        "found %llu blocks and %llu frees counted, expected %llu and %llu", (unsigned long long)(after.allocs - before.allocs),
        (unsigned long long)(after.frees - before.frees), (unsigned long long)work->calls, (unsigned long long)work->frees);
}

/* The work of one thread. */
static void exercise(const char *when)
{
  static struct work work;
  struct hak_totals before = probe_totals();
  work = (struct work){.state = 12345};
  churn(&work, STEPS);
  drop_all(&work);
  malloc_trim(0);
  struct hak_totals after = probe_totals();
  judge(when, &work, before);
  char name[100];
  snprintf(name, sizeof name, "%s: nothing is left behind", when);
  probe_equal(name, after.allocs - after.frees, before.allocs - before.frees);
}

/* ---- system calls that are refused, from now on ------------------------------------------------------------------------- */

static void case_filter(const char *answer)
{
  exercise("before the filter");
  void *waiting[8]; /* ranges that are freed before and released after */
  for (int i = 0; i < 8; i++) {
    waiting[i] = malloc(300000);
    memset(waiting[i], 1, 300000);
  }
  for (int i = 0; i < 8; i++) {
    free(waiting[i]);
  }
  PROBE(filter_begin(answer), "the filter is in force", "found errno %d, expected a filter", errno);
  exercise("under the filter");
}

/* ---- no more mappings --------------------------------------------------------------------------------------------------- */

static size_t number_in(const char *path)
{
  char text[32] = "";
  int file = open(path, O_RDONLY);
  ssize_t got = file >= 0 ? read(file, text, sizeof text - 1) : 0;
  close(file);
  return got > 0 ? strtoul(text, NULL, 10) : 0;
}

static void case_mappings(const char *unused)
{
  (void)unused;
  size_t limit = number_in("/proc/sys/vm/max_map_count");
  if (limit == 0 || limit > 300000) {
    probe_print("skip no more mappings: vm.max_map_count is %zu\n", limit);
    return;
  }
  static struct work work = {.state = 12345, .may_fail = true};
  exercise("before");                        /* everything is given back, and what is served after this needs no mapping more */
  struct hak_totals before = probe_totals(); /* statistics need a mapping themselves */
  size_t pages = 2 * limit;
  unsigned char *all = mmap(NULL, pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  size_t split = 0;
  errno = 0;
  while (all != MAP_FAILED && split < pages && mprotect(all + split * PAGE, PAGE, PROT_READ) == 0) {
    split += 2;
  }
  PROBE(all != MAP_FAILED && split < pages && errno == ENOMEM, "there are no more mappings", "found errno %d after %zu pages",
        errno, split);
  churn(&work, STEPS);
  void *large[9] = {NULL}; /* they need mappings of their own, unless the system joins them with others */
  int got = 0;
  errno = 0;
  while (got < 8 && (large[got] = malloc(2048 * MIB)) != NULL) {
    got++;
  }
  PROBE(got == 8 || errno == ENOMEM, "large requests are served or refused", "found errno %d, expected ENOMEM", errno);
  while (got > 0) {
    free(large[--got]);
  }
  drop_all(&work);
  malloc_trim(0);
  (void)munmap(all, pages * PAGE);
  judge("without mappings", &work, before);
  exercise("afterwards");
}

/* ---- no more memory ----------------------------------------------------------------------------------------------------- */

/* What can be written to may not grow, as where the system promises no more than it has (vm.overcommit_memory = 2). */
static void case_memory(const char *unused)
{
  static struct work work = {.state = 12345, .may_fail = true}, held = {.state = 77};
  struct rlimit before_it, none;
  (void)unused;
  exercise("before");
  churn(&held, 400);
  (void)getrlimit(RLIMIT_DATA, &before_it);
  none = (struct rlimit){PAGE, before_it.rlim_max}; /* 0 has a meaning of its own */
  struct hak_totals before = probe_totals();        /* statistics need memory themselves */
  (void)setrlimit(RLIMIT_DATA, &none);
  churn(&work, STEPS);
  errno = 0;
  void *large = malloc(2048 * MIB);
  PROBE(large == NULL && errno == ENOMEM, "a large request is refused", "found %p with errno %d, expected ENOMEM", large,
        errno);
  drop_all(&work);
  malloc_trim(0);
  (void)setrlimit(RLIMIT_DATA, &before_it);
  judge("without memory", &work, before);
  exercise("afterwards");
  churn(&held, 400);
  drop_all(&held);
  probe_equal("blocks from before are intact", held.spoilt + held.odd, 0);
}

/* ---- descriptors -------------------------------------------------------------------------------------------------------- */

/* Started without descriptors 0 to 2, and with `number` for the report. */
static void case_descriptors(const char *number)
{
  bool closed = true;
  for (int fd = 0; fd < 3; fd++) {
    closed = closed && fcntl(fd, F_GETFD) < 0 && errno == EBADF;
  }
  if (dup2(atoi(number), STDOUT_FILENO) < 0) {
    _exit(2);
  }
  PROBE(closed, "0 to 2 are as they were", "found %s, expected them closed", "one of them open");
  struct rlimit none = {0, 0};
  PROBE(setrlimit(RLIMIT_NOFILE, &none) == 0 && open("/", O_RDONLY) < 0, "no further descriptor", "found %s, expected none",
        "one");
  exercise("without descriptors");
}

/* ---- locked pages ------------------------------------------------------------------------------------------------------- */

static void case_locked(const char *unused)
{
  (void)unused;
  const size_t much = 512 * MIB; /* more than the process will have; on fault: nothing of it is touched */
  void *trial = mmap(NULL, much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  bool allowed = trial != MAP_FAILED && mlock2(trial, much, MLOCK_ONFAULT) == 0;
  munmap(trial, much);
  if (!allowed) {
    probe_print("skip locked pages: RLIMIT_MEMLOCK\n");
    return;
  }
  for (size_t size = 100000; size <= 8 * MIB; size *= 3) { /* a block that the program locks and frees */
    unsigned char *block = malloc(size);
    memset(block, 7, size);
    bool locked = mlock(block, size) == 0;
    free(block);
    malloc_trim(0);
    unsigned char *next = calloc(1, size);
    char name[60];
    snprintf(name, sizeof name, "%zu bytes freed while locked, then zero", size);
    PROBE(locked && next != NULL && reads_zero(next, size), name, "found %s, expected zeroes", locked ? "others" : "no lock");
    free(next);
  }
  PROBE(mlockall(MCL_CURRENT | MCL_FUTURE) == 0, "all is locked", "found errno %d, expected 0", errno);
  exercise("all locked");
  PROBE(munlockall() == 0, "all is unlocked", "found errno %d, expected 0", errno);
  exercise("unlocked");
}

/* ---- trapping floating-point exceptions --------------------------------------------------------------------------------- */

static const char *trapped = "nothing";

static void on_trap(int signal)
{
  (void)signal;
  PROBE(false, "no exception", "found SIGFPE in %s, expected none", trapped);
  _exit(1);
}

/* With the argument `start` the exceptions trap since before hakmem was started. */
static void case_trapping(const char *when)
{
  int (*set)(const char *, const char *, char *, size_t) = NULL;
  void *symbol = probe_symbol("hak_set");
  memcpy(&set, &symbol, sizeof set);
  struct sigaction action = {.sa_handler = on_trap};
  (void)sigaction(SIGFPE, &action, NULL);
  probe_equal("they trap since the start", (uint64_t)fegetexcept(), *when != 0 ? FE_ALL_EXCEPT : 0);
  (void)feclearexcept(FE_ALL_EXCEPT);
  (void)feenableexcept(FE_ALL_EXCEPT);
  (void)fesetround(FE_UPWARD);
  trapped = "the work";
  exercise("exceptions trap");
  trapped = "hak_set";
  probe_equal("an option is set", set != NULL ? (uint64_t)set("core.epoch", "7", NULL, 0) : 1, 0);
  exercise("exceptions trap, with another epoch");
  trapped = "the checks";
  probe_equal("no exception is raised", (uint64_t)fetestexcept(FE_ALL_EXCEPT), 0);
  probe_equal("they still trap", (uint64_t)fegetexcept(), FE_ALL_EXCEPT);
  probe_equal("the rounding is as it was", (uint64_t)fegetround(), FE_UPWARD);
  trapped = "the report at exit";
}

/* ---- a storm of purges -------------------------------------------------------------------------------------------------- */

static uint32_t done; /* atomic */

static void *churn_until_done(void *argument)
{
  struct work *work = argument;
  while (__atomic_load_n(&done, __ATOMIC_RELAXED) == 0) {
    churn(work, 50);
  }
  return NULL;
}

static void *purge_until_done(void *argument)
{
  uint64_t *purges = argument;
  while (__atomic_load_n(&done, __ATOMIC_RELAXED) == 0) {
    malloc_trim(0);
    ++*purges;
  }
  return NULL;
}

static void case_storm(const char *unused)
{
  enum { THREADS = 3 };
  static struct work work[THREADS];
  uint64_t purges = 0;
  pthread_t thread[THREADS + 1];
  (void)unused;
  struct hak_totals before = probe_totals();
  for (uint32_t i = 0; i < THREADS; i++) {
    work[i].state = i + 1;
    if (pthread_create(&thread[i], NULL, churn_until_done, &work[i]) != 0) {
      _exit(2);
    }
  }
  if (pthread_create(&thread[THREADS], NULL, purge_until_done, &purges) != 0) {
    _exit(2);
  }
  (void)nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
  __atomic_store_n(&done, 1U, __ATOMIC_RELAXED);
  for (int i = 0; i <= THREADS; i++) {
    pthread_join(thread[i], NULL);
  }
  struct work all = {0};
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < THREADS; i++) {
    drop_all(&work[i]);
    least = work[i].calls < least ? work[i].calls : least;
    all.calls += work[i].calls;
    all.frees += work[i].frees;
    all.spoilt += work[i].spoilt;
    all.odd += work[i].odd;
  }
  judge("a storm of purges", &all, before);
  PROBE(least >= 20 && purges >= 20, "nobody is kept waiting", "found %llu blocks in one thread and %llu purges, expected 20",
        (unsigned long long)least, (unsigned long long)purges);
}

/* ---- a child with what its parent freed --------------------------------------------------------------------------------- */

/* Blocks of all sizes from 64 KiB on, freed every second one: what is freed waits for its release, its neighbours live. */
static void case_child(const char *unused)
{
  enum { BLOCKS = 60 };
  static struct work work = {.state = 5};
  struct block block[BLOCKS];
  (void)unused;
  struct hak_totals before = probe_totals();
  for (uint64_t i = 0; i < BLOCKS; i++) {
    size_t size = (size_t)65536 << i % 6;
    block[i] = (struct block){malloc(size), size, i + 1};
    mark(&block[i]);
  }
  work.calls = BLOCKS;
  for (int i = 0; i < BLOCKS; i += 2) {
    drop(&work, &block[i]);
  }
  int status = -1;
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    malloc_trim(0);
    exercise("in the child");
    for (int i = 1; i < BLOCKS; i += 2) {
      drop(&work, &block[i]);
    }
    malloc_trim(0);
    probe_equal("the child's copies are intact", work.spoilt, 0);
    _exit(probe_failures != 0);
  }
  exercise("in the parent");
  PROBE(waitpid(child, &status, 0) == child && status == 0, "the child ends well", "found status %#x, expected 0",
        (unsigned)status);
  for (int i = 1; i < BLOCKS; i += 2) {
    drop(&work, &block[i]);
  }
  judge("parent of a child that purges", &work, before);
}

/* ---- a thread that must not wait for one that cannot run ---------------------------------------------------------------- */

static void case_priority(const char *unused)
{
  static struct work low = {.state = 3}, high = {.state = 4};
  uint64_t purges = 0, longest = 0;
  cpu_set_t allowed, one;
  pthread_t churning, purging;
  (void)unused;
  struct sched_param parameters = {.sched_priority = 1};
  CPU_ZERO(&one);
  (void)sched_getaffinity(0, sizeof allowed, &allowed);
  for (unsigned cpu = 0; CPU_COUNT(&one) == 0; cpu++) {
    if (CPU_ISSET(cpu, &allowed)) {
      CPU_SET(cpu, &one);
    }
  }
  struct hak_totals before = probe_totals();
  if (sched_setaffinity(0, sizeof one, &one) != 0 || pthread_create(&churning, NULL, churn_until_done, &low) != 0 ||
      pthread_create(&purging, NULL, purge_until_done, &purges) != 0) {
    _exit(2);
  }
  if (sched_setscheduler(0, SCHED_FIFO, &parameters) != 0) {
    probe_print("skip a thread of higher priority: errno %d\n", errno);
    _exit(0);
  }
  uint64_t end = clock_ns(CLOCK_MONOTONIC) + 500 * MS;
  while (clock_ns(CLOCK_MONOTONIC) < end) {
    uint64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    churn(&high, 4);
    uint64_t used = clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
    longest = used > longest ? used : longest;
    (void)nanosleep(&(struct timespec){.tv_nsec = 300000 + probe_random(&high.state) % 65536}, NULL);
  }
  __atomic_store_n(&done, 1U, __ATOMIC_RELAXED);
  (void)sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){0});
  pthread_join(churning, NULL);
  pthread_join(purging, NULL);
  drop_all(&high);
  drop_all(&low);
  struct work all = {.calls = low.calls + high.calls,
                     .frees = low.frees + high.frees,
                     .spoilt = low.spoilt + high.spoilt,
                     .odd = low.odd + high.odd};
  judge("two priorities", &all, before);
  PROBE(longest < 300 * MS, "it sleeps while it waits", "found %llu ms of processor time for 4 steps, expected less than 300",
        (unsigned long long)(longest / MS));
}

/* ---- huge pages --------------------------------------------------------------------------------------------------------- */

/* `switched off`: for this process, by prctl; else the surroundings are as they are. The child writes to all that it has. */
static void case_huge(const char *how)
{
  enum { BLOCKS = 12 };
  struct block block[BLOCKS];
  static struct work work;
  if (*how != 0 && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) {
    probe_print("skip huge pages switched off: errno %d\n", errno);
    return;
  }
  struct hak_totals before = probe_totals();
  for (uint64_t i = 0; i < BLOCKS; i++) {
    block[i] = (struct block){malloc((2 + i % 3 * 3) * MIB), (2 + i % 3 * 3) * MIB, i + 1};
    mark(&block[i]);
  }
  work.calls = BLOCKS;
  int status = -1;
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    bool intact = true;
    for (int i = 0; i < BLOCKS; i++) {
      intact = intact && marked(&block[i], block[i].size);
      block[i].mark += 100;
      mark(&block[i]);
      intact = intact && marked(&block[i], block[i].size);
      free(block[i].bytes);
    }
    exercise("in the child");
    _exit(probe_failures != 0 || !intact);
  }
  PROBE(waitpid(child, &status, 0) == child && status == 0, "the child writes to every page", "found status %#x, expected 0",
        (unsigned)status);
  for (int i = 0; i < BLOCKS; i++) {
    drop(&work, &block[i]);
  }
  exercise("huge pages");
  judge("blocks of huge pages", &work, before);
}

static void case_plain(const char *unused)
{
  (void)unused;
  exercise("the work");
}

static const struct {
  const char *name;
  void (*run)(const char *argument);
} cases[] = {
    {"plain", case_plain},
    {"filter", case_filter},
    {"mappings", case_mappings},
    {"memory", case_memory},
    {"descriptors", case_descriptors},
    {"locked", case_locked},
    {"trapping", case_trapping},
    {"storm", case_storm},
    {"child", case_child},
    {"huge", case_huge},
    {"priority", case_priority},
};

int main(int argc, char **argv)
{
  for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++) {
    if (strcmp(argv[1], cases[i].name) == 0) {
      if (strcmp(argv[1], "descriptors") != 0) { /* it has no place for a report yet */
        probe_served();
      }
      cases[i].run(argc > 2 ? argv[2] : "");
      return probe_failures != 0;
    }
  }
  return 2;
}
