/* SPDX-License-Identifier: MIT */
/*
 * release.c - what it costs to give memory back: one call for each range, or the reclaim plugin `batch`.
 *
 *   release [REPETITIONS]
 *
 * 512 dirty ranges of 64 KiB lie between as many that live. They are released in random order by one thread, while 0, 1 or 3
 * others run: by munmap each; by madvise each, which is what a page backend does alone; and through `batch` with its default
 * options over the same backend. The three take turns, and a ratio compares runs that follow each other. A run is measured in
 * eighths: those in which other programs kept one of the threads from running are left out, and a run with no other eighths is
 * tried again. The plugin and the extent allocator are linked in; a small host counts their system calls, and the plugin's own
 * counters must agree at the end.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "extent.h"
#include "hakmem/plugin.h"

enum {
  RANGES = 512,
  BLOCKS = 2 * RANGES,
  CASES = 3,
  OTHERS_MAX = 3,
  PAGE = 4096,
  PARTS = 8,
  REPETITIONS = 40,
  REPETITIONS_MAX = 10000
};
static_assert(RANGES % PARTS == 0, "parts are equal");

enum { TRIES = 8, CASE_SECONDS = 15, RUNNING_PERCENT = 90 }; /* of a run; of a case; what the other threads must reach */
enum method { MUNMAP, MADVISE, BATCH, METHODS };

static const unsigned others[CASES] = {0, 1, 3};
static const char *const names[METHODS] = {"munmap each", "madvise each", "batch"};

static void fail(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  fputs("release: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(1);
}

/* ---- a host ---------------------------------------------------------------------------------------------------------- */

static unsigned long calls; /* system calls through the host; only the measuring thread makes any */

static long counted(long result)
{
  calls++;
  return result == -1 ? -errno : result;
}

static long os_mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)
{
  return counted(syscall(SYS_mmap, addr, length, prot, flags, fd, offset));
}

static long os_munmap(void *addr, size_t length)
{
  return counted(syscall(SYS_munmap, addr, length));
}

static long os_mprotect(void *addr, size_t length, int prot)
{
  return counted(syscall(SYS_mprotect, addr, length, prot));
}

static long os_mremap(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr)
{
  return counted(syscall(SYS_mremap, old_addr, old_length, new_length, flags, new_addr));
}

static long os_madvise(void *addr, size_t length, int advice)
{
  return counted(syscall(SYS_madvise, addr, length, advice));
}

static long os_process_madvise(int pidfd, const void *iovec, size_t count, int advice, uint32_t flags)
{
  return counted(syscall(SYS_process_madvise, pidfd, iovec, count, advice, flags));
}

static uint64_t os_time(clockid_t clock)
{
  struct timespec ts;
  clock_gettime(clock, &ts);
  return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static uint64_t os_now(void)
{
  return os_time(CLOCK_MONOTONIC);
}

static uint64_t os_coarse(void)
{
  return os_time(CLOCK_MONOTONIC_COARSE);
}

static const hak_os os = {.struct_size = sizeof(hak_os),
                          .mmap = os_mmap,
                          .munmap = os_munmap,
                          .mprotect = os_mprotect,
                          .mremap = os_mremap,
                          .madvise = os_madvise,
                          .process_madvise = os_process_madvise,
                          .now = os_now,
                          .coarse = os_coarse};

static void *meta_alloc(const hak_host *of, size_t size, size_t align)
{
  (void)of;
  void *memory = aligned_alloc(align, (size + align - 1) / align * align);
  return memory == NULL ? NULL : memset(memory, 0, size);
}

static void write_log(const hak_host *of, const char *text)
{
  fprintf(stderr, "%s: %s\n", of->name, text);
}

static struct extent_pool *pool;

static size_t release(const hak_host *of, hak_range *chain, const hak_purger *purger)
{
  (void)of;
  size_t bytes = 0;
  for (const hak_range *range = chain; range != NULL; range = range->next) {
    bytes += range->capacity;
  }
  extent_free_many(pool, chain, purger);
  return bytes;
}

/* Only one thread takes locks: the slow halves are never reached. */
static uint64_t extent_counters[EXTENT_COUNTERS], batch_counters[32];
static const hak_host extent_host = {.struct_size = sizeof(hak_host),
                                     .name = "mmap",
                                     .os = &os,
                                     .counters = extent_counters,
                                     .page_size = PAGE,
                                     .meta_alloc = meta_alloc,
                                     .log = write_log};
static uint64_t live; /* bytes of blocks */
static const hak_host batch_host = {.struct_size = sizeof(hak_host),
                                    .name = "batch",
                                    .os = &os,
                                    .counters = batch_counters,
                                    .page_size = PAGE,
                                    .meta_alloc = meta_alloc,
                                    .log = write_log,
                                    .release = release,
                                    .active = &live};
static void *batch;
static const hak_reclaim_ops *batch_ops;

/* The default of an option, from the plugin's own table. */
static hak_value default_of(const hak_option *option)
{
  hak_value value = {0};
  char *suffix = NULL;
  unsigned long long number = strtoull(option->fallback, &suffix, 10);
  unsigned shift = *suffix == 'K' ? 10 : *suffix == 'M' ? 20 : *suffix == 'G' ? 30 : 0;
  if (option->type == HAK_SIZE) {
    value.size = number << shift;
  } else if (option->type == HAK_INT) {
    value.integer = (int64_t)number;
  } else if (option->type != HAK_ENUM || strcmp(option->choices[0], option->fallback) != 0) { /* else index 0 */
    fail("option %s has a type that this program does not know", option->key);
  }
  return value;
}

static void start_plugins(void)
{
  const struct extent_setup setup = {.arena = (size_t)1 << 30, .unit = HAK_GRANULE};
  hak_value values[16];
  if (hakmem_plugin.option_count > 16 || hakmem_plugin.counter_count > 32) {
    fail("the plugin has more options or counters than this program knows");
  }
  for (uint32_t i = 0; i < hakmem_plugin.option_count; i++) {
    values[i] = default_of(&hakmem_plugin.options[i]);
  }
  pool = extent_start(&extent_host, &setup);
  if (pool == NULL || hakmem_plugin.start(&batch_host, values, &batch) != HAK_OK) {
    fail("the plugins do not start");
  }
  batch_ops = hakmem_plugin.ops;
}

static uint64_t counter(const char *key)
{
  for (uint32_t i = 0; i < hakmem_plugin.counter_count; i++) {
    if (strcmp(hakmem_plugin.counters[i].key, key) == 0) {
      return batch_counters[i];
    }
  }
  fail("the plugin has no counter %s", key);
  return 0;
}

/* ---- other threads --------------------------------------------------------------------------------------------------- */

static cpu_set_t processors; /* that this process may use */
static unsigned stop;        /* atomic */
static unsigned running;     /* of the other threads have begun; atomic */
static pthread_t other[OTHERS_MAX];
static unsigned threads; /* of them */

/* Keeps the measuring thread on the first processor and the others away from it: they are interrupted, it is not preempted. */
static void stay(pthread_t thread, unsigned number)
{
  unsigned count = (unsigned)CPU_COUNT(&processors);
  unsigned wanted = number == 0 || count == 1 ? 0 : 1 + (number - 1) % (count - 1);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &processors) && wanted-- == 0) {
      CPU_SET(cpu, &one);
      break;
    }
  }
  pthread_setaffinity_np(thread, sizeof one, &one);
}

static void *run(void *unused)
{
  (void)unused;
  static __thread volatile unsigned char own[16 * PAGE];
  __atomic_fetch_add(&running, 1U, __ATOMIC_RELEASE);
  for (size_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
    own[i * PAGE % sizeof own]++;
  }
  return NULL;
}

/* Processor time that the other threads have had, ns; and how much of it there is for them in so much time. */
static uint64_t time_had(void)
{
  uint64_t sum = 0;
  for (unsigned i = 0; i < threads; i++) {
    clockid_t clock;
    sum += pthread_getcpuclockid(other[i], &clock) == 0 ? os_time(clock) : 0;
  }
  return sum;
}

static uint64_t time_due(uint64_t wall)
{
  unsigned free = (unsigned)CPU_COUNT(&processors) - 1;
  return wall * (threads < free ? threads : free) * RUNNING_PERCENT / 100;
}

static long preemptions(void)
{
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

/* ---- one measurement ------------------------------------------------------------------------------------------------- */

struct result {
  double wall, cpu; /* microseconds */
  double calls, shootdowns;
  bool disturbed; /* other programs had a processor that one of the threads was due */
};

/* Interrupts for TLB shootdowns on all processors since the machine started; -1 where they are not counted. */
static long shootdowns(void)
{
  static char line[65536];
  long sum = -1;
  FILE *interrupts = fopen("/proc/interrupts", "r");
  while (interrupts != NULL && fgets(line, sizeof line, interrupts) != NULL) {
    char *at = strstr(line, "TLB:");
    if (at != NULL) {
      sum = 0;
      at += 4;
      for (char *end = at;; at = end) {
        long number = strtol(at, &end, 10);
        if (end == at) {
          break;
        }
        sum += number;
      }
    }
  }
  if (interrupts != NULL) {
    fclose(interrupts);
  }
  return sum;
}

static char *block[BLOCKS];
static hak_range range[BLOCKS];
static unsigned order[RANGES]; /* in which the ranges, every other block, are released */

static void prepare(enum method method)
{
  char *region = NULL;
  if (method == MUNMAP) {
    region = mmap(NULL, BLOCKS * HAK_GRANULE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED) {
      fail("no memory");
    }
    madvise(region, BLOCKS * HAK_GRANULE, MADV_NOHUGEPAGE);
  }
  for (size_t i = 0; i < BLOCKS; i++) {
    block[i] = method == MUNMAP ? region + i * HAK_GRANULE : extent_alloc(pool, HAK_GRANULE, HAK_GRANULE).base;
    if (block[i] == NULL) {
      fail("no memory");
    }
    live += HAK_GRANULE;
    range[i] = (hak_range){.base = block[i], .capacity = HAK_GRANULE};
    for (size_t at = 0; at < HAK_GRANULE; at += i % 2 == 0 ? PAGE : HAK_GRANULE) {
      block[i][at] = 1;
    }
  }
}

static uint64_t ranges_put; /* into batch, in all runs */

/* Releases the ranges from `first` on, an eighth of them. */
static void release_part(enum method method, unsigned first)
{
  for (unsigned i = first; i < first + RANGES / PARTS; i++) {
    hak_range *next = &range[2 * order[i]];
    live -= HAK_GRANULE;
    if (method == MUNMAP) {
      os.munmap(next->base, next->capacity);
    } else if (method == MADVISE) {
      extent_free(pool, next->base, next->capacity);
    } else {
      batch_ops->put(batch, next);
      ranges_put++;
    }
  }
  if (method == BATCH) {
    batch_ops->drain(batch);
  }
}

/* What was released reads as zero, what lives is there. Then everything goes. */
static void check_and_clear(enum method method)
{
  for (size_t i = 0; i < BLOCKS; i++) {
    bool released = i % 2 == 0;
    if (released && method == MUNMAP) {
      continue;
    }
    for (size_t at = 0; at < HAK_GRANULE; at += released ? PAGE : HAK_GRANULE) {
      if (block[i][at] != !released) {
        fail("%s: wrong contents", names[method]);
      }
    }
    if (!released && method != MUNMAP) {
      extent_free(pool, block[i], HAK_GRANULE);
    }
  }
  if (method == MUNMAP) {
    munmap(block[0], BLOCKS * HAK_GRANULE);
  }
  live = 0;
}

static struct result measure_part(enum method method, unsigned first)
{
  long interrupts = shootdowns(), preempted = preemptions();
  uint64_t had = time_had(), cpu = os_time(CLOCK_THREAD_CPUTIME_ID), wall = os_now();
  calls = 0;
  release_part(method, first);
  wall = os_now() - wall;
  cpu = os_time(CLOCK_THREAD_CPUTIME_ID) - cpu;
  struct result result = {.wall = (double)wall / 1e3, .cpu = (double)cpu / 1e3, .calls = (double)calls};
  result.disturbed = time_had() - had < time_due(wall) || preemptions() != preempted;
  result.shootdowns = (double)(shootdowns() - interrupts);
  return result;
}

/* All ranges: what they cost in the undisturbed parts, or in all parts if there is no such part. */
static struct result measure(enum method method)
{
  struct result part[PARTS], sum = {.disturbed = true};
  prepare(method);
  for (unsigned i = 0; i < PARTS; i++) {
    part[i] = measure_part(method, i * (RANGES / PARTS));
    sum.disturbed = sum.disturbed && part[i].disturbed;
  }
  check_and_clear(method);
  double used = 0;
  for (unsigned i = 0; i < PARTS; i++) {
    if (part[i].disturbed == sum.disturbed) {
      used++;
      sum.wall += part[i].wall;
      sum.cpu += part[i].cpu;
      sum.calls += part[i].calls;
      sum.shootdowns += part[i].shootdowns;
    }
  }
  double scale = PARTS / used;
  return (struct result){sum.wall * scale, sum.cpu * scale, sum.calls * scale, sum.shootdowns * scale, sum.disturbed};
}

/* ---- statistics ------------------------------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double sample[REPETITIONS_MAX];

/* Sorts the sample; then a quantile of it. */
static double quantile(size_t count, double part)
{
  qsort(sample, count, sizeof *sample, by_value);
  double at = part * (double)(count - 1);
  size_t low = (size_t)at;
  return low + 1 < count ? sample[low] + (at - (double)low) * (sample[low + 1] - sample[low]) : sample[low];
}

/* The median of the sample, and the order statistics between which it lies with 95 % confidence. */
static void print_ratio(size_t count)
{
  double median = quantile(count, 0.5);
  double half = 0.98 * sqrt((double)count);
  double low = (double)count / 2 - half;
  size_t rank = low < 1 ? 0 : (size_t)low - 1;
  printf(" %.2f (%.2f to %.2f) |", median, sample[rank], sample[count - 1 - rank]);
}

static struct result results[METHODS][REPETITIONS_MAX];

static void print_case(unsigned other_threads, size_t count)
{
  for (int method = 0; method < METHODS; method++) {
    unsigned disturbed = 0;
    for (size_t i = 0; i < count; i++) {
      disturbed += results[method][i].disturbed;
    }
    printf("| %u | %s | %zu (%u) |", other_threads, names[method], count, disturbed);
    for (size_t i = 0; i < count; i++) {
      sample[i] = results[method][i].wall;
    }
    double median = quantile(count, 0.5);
    printf(" %.0f (%.0f to %.0f) |", median, quantile(count, 0.25), quantile(count, 0.75));
    for (size_t i = 0; i < count; i++) {
      sample[i] = results[method][i].cpu;
    }
    printf(" %.0f |", quantile(count, 0.5));
    for (size_t i = 0; i < count; i++) {
      sample[i] = results[method][i].calls;
    }
    printf(" %.0f |", quantile(count, 0.5));
    for (size_t i = 0; i < count; i++) {
      sample[i] = results[method][i].shootdowns;
    }
    printf(" %.0f |", quantile(count, 0.5));
    for (size_t i = 0; i < count; i++) {
      sample[i] = results[method][i].wall / results[BATCH][i].wall;
    }
    if (method == BATCH) {
      printf(" 1 |\n");
    } else {
      print_ratio(count);
      printf("\n");
    }
  }
}

static struct result measure_undisturbed(enum method method)
{
  struct result result = measure(method);
  for (int tries = 1; tries < TRIES && result.disturbed; tries++) {
    result = measure(method);
  }
  return result;
}

static void run_case(unsigned other_threads, size_t count)
{
  stop = running = 0;
  for (threads = 0; threads < other_threads; threads++) {
    if (pthread_create(&other[threads], NULL, run, NULL) != 0) {
      fail("no thread");
    }
    stay(other[threads], threads + 1);
  }
  while (__atomic_load_n(&running, __ATOMIC_ACQUIRE) == 0 && threads > 0) {
    sched_yield();
  }
  uint64_t limit = os_now() + CASE_SECONDS * UINT64_C(1000000000);
  size_t done = 0;
  for (; done < count && (done == 0 || os_now() < limit); done++) {
    for (size_t turn = 0; turn < METHODS; turn++) {
      enum method method = (enum method)((done + turn) % METHODS);
      results[method][done] = measure_undisturbed(method);
    }
  }
  __atomic_store_n(&stop, 1U, __ATOMIC_RELAXED);
  for (unsigned i = 0; i < threads; i++) {
    pthread_join(other[i], NULL);
  }
  print_case(other_threads, done);
}

int main(int argc, char **argv)
{
  long count = argc > 1 ? atol(argv[1]) : REPETITIONS;
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* ranges of small pages, where the system gives huge ones unasked, too */
  if (count < 1 || count > REPETITIONS_MAX) {
    fail("the number of repetitions is from 1 to %d", REPETITIONS_MAX);
  }
  struct utsname system;
  uname(&system);
  int major = 0, minor = 0;
  sscanf(system.release, "%d.%d", &major, &minor);
  sched_getaffinity(0, sizeof processors, &processors);
  stay(pthread_self(), 0);
  start_plugins();
  unsigned state = 1;
  for (unsigned i = 0; i < RANGES; i++) {
    state = state * 1664525U + 1013904223U;
    unsigned j = (state >> 8) % (i + 1);
    order[i] = order[j];
    order[j] = i;
  }

  printf("Linux %s, %d processors. Release of %d dirty ranges of 64 KiB between live ones.\n\n", system.release,
         CPU_COUNT(&processors), RANGES);
  printf("| other threads | released by | runs (disturbed) | us, median (quartiles) | us of processor time | system calls | "
         "TLB shootdowns "
         "| times batch (95 %%) |\n|---|---|---|---|---|---|---|---|\n");
  for (unsigned i = 0; i < CASES; i++) {
    run_case(others[i], (size_t)count);
  }

  printf("\nCounters of the plugin: ranges %lu, batches %lu, spans %lu, purge_calls %lu, purged %lu MiB, unreleased %lu, "
         "fallbacks %lu, pending %lu.\n",
         counter("ranges"), counter("batches"), counter("spans"), counter("purge_calls"), counter("purged") >> 20,
         counter("unreleased"), counter("fallbacks"), counter("pending"));
  if (counter("ranges") != ranges_put || counter("purged") + counter("unreleased") != ranges_put * HAK_GRANULE ||
      counter("pending") != 0) {
    fail("these are not what went in: %lu ranges", ranges_put);
  }
  if (counter("vectored") == 0) {
    printf("This system does not let a process call process_madvise for itself (Linux 6.15 does): batch had to use madvise.\n");
  } else if (major < 6 || (major == 6 && minor < 16)) {
    printf("Before Linux 6.16 one process_madvise interrupts the other processors once for each range: the gain is smaller.\n");
  }
  return 0;
}
