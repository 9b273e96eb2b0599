/* SPDX-License-Identifier: MIT */
/*
 * stress.c - threads that do everything at once to one table of blocks: all entry points, blocks that cross between threads, threads
 * that end, forks, options that change, memory that runs out. Run by stress.sh.
 *
 *     stress [-r SEED] [-j THREADS] [-t SECONDS | -n OPERATIONS] [-f] [-l]
 *
 * -f: requests may fail. -l: they are made to, by limits on memory that come and go. With one thread at a time and no -l, a seed and a
 * number of operations give the same operations, which the printed digest sums up. Built twice: to be preloaded, and with -DDIRECT for
 * the hak_ functions of a linked libhakmem, in any build.
 *
 * Each block belongs to a cell of the table, and carries a pattern of its owner, its size and its number over all that may be written.
 * Whoever takes the cell checks the pattern before it changes or frees the block; blocks that overlap have wrong patterns. What a fork
 * finds taken was being changed by a thread that the child does not have.
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#ifdef DIRECT
#define malloc hak_malloc
#define calloc hak_calloc
#define realloc hak_realloc
#define reallocarray hak_reallocarray
#define free hak_free
#define free_sized hak_free_sized
#define free_aligned_sized hak_free_aligned_sized
#define posix_memalign hak_posix_memalign
#define aligned_alloc hak_aligned_alloc
#define memalign hak_memalign
#define valloc hak_valloc
#define pvalloc hak_pvalloc
#define malloc_usable_size(block) hak_malloc_usable_size(block)
#define malloc_trim hak_malloc_trim
#else
/* Of the preloaded library. */
#pragma weak hak_stats
#pragma weak hak_stats_write
#pragma weak hak_set
extern void free_sized(void *block, size_t size) __attribute__((weak));
extern void free_aligned_sized(void *block, size_t alignment, size_t size) __attribute__((weak));
#endif

/* AddressSanitizer's own allocator has locks that a fork leaves locked: then a child calls nothing of libc that allocates. */
#ifdef __SANITIZE_ADDRESS__
#define CHILD_IS_BARE true
#else
#define CHILD_IS_BARE false
#endif

/* ThreadSanitizer's runtime does not support what a child of a process with threads does. */
#ifdef __SANITIZE_THREAD__
#define FORKS false
#else
#define FORKS true
#endif

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)
#define STACK MIB             /* enough for the run-time libraries of sanitizers */
#define CEILING (32 * MIB)    /* more than at the start: the limits when they are not lowered */
#define LIVE_MOST (192 * MIB) /* bytes in blocks; beyond them no large ones are asked for */

enum {
  THREADS = 64,
  OWN = 256, /* cells of one thread, from which half of its draws come */
  CELLS = THREADS * OWN,
  PAGE = 4096,
  CHILD_STEPS = 300,
  CHILD_SECONDS = 60,
};

/* How a block came, which says how it may be freed. */
enum way { BY_MALLOC, BY_ALIGNED_ALLOC, BY_OTHER };

/* Whoever has set `taken` reads and writes the rest. */
struct cell {
  _Atomic bool taken;
  enum way way;
  uint32_t owner; /* thread that filled it */
  unsigned char *block;
  size_t size;  /* asked for */
  size_t room;  /* may be written */
  size_t align; /* asked for */
  uint64_t seed;
};

static struct cell cells[CELLS];

/* A thread at work. The counts are added up when it has ended. */
struct worker {
  pthread_t thread;
  _Atomic bool ended;
  bool running, calm; /* calm: it does nothing but calls of the malloc family */
  uint32_t index, number, state;
  uint32_t life; /* steps left */
  uint64_t digest, steps, allocs, reallocs, failures, crossed, sets;
};

static struct worker workers[THREADS];
static char stacks[THREADS][STACK] __attribute__((aligned(4096)));
static sem_t endings;

static struct {
  uint32_t seed, threads;
  uint64_t deadline; /* nanoseconds; 0: none */
  bool may_fail, limits;
} run = {.seed = 1, .threads = 8};

static _Atomic bool stop;
static _Atomic int64_t steps_left;
static _Atomic uint64_t live_bytes, wrongs, children, children_lost;
static _Atomic uint32_t serial;

/* ---- what is wrong ----------------------------------------------------------------------------------------------------- */

/* Ends the run: what comes after the first wrong thing says little. */
#define WRONG(name, format, ...)                                                                                               \
  do {                                                                                                                         \
    wrongs++;                                                                                                                  \
    stop = true;                                                                                                               \
    probe_print("FAIL %s: " format "\n", name, __VA_ARGS__);                                                                   \
  } while (0)

static uint64_t now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

/* ---- patterns ---------------------------------------------------------------------------------------------------------- */

static bool part(const struct cell *cell, size_t at, size_t size, size_t upto, bool fill)
{
  if (fill) {
    probe_fill(cell->block + at, size, cell->seed + at);
    return true;
  }
  return at >= upto || probe_intact(cell->block + at, size < upto - at ? size : upto - at, size, cell->seed + at);
}

/* The pattern is all over a small block; at head and tail and in every page of a large one. Only `upto` bytes are looked at. */
static bool pattern(const struct cell *cell, size_t upto, bool fill)
{
  size_t room = cell->room;
  if (room <= 4 * PAGE) {
    return part(cell, 0, room, upto, fill);
  }
  size_t tail = (room - 64) & ~(size_t)7;
  bool good = part(cell, 0, PAGE, upto, fill);
  for (size_t at = PAGE; at < tail; at += PAGE) {
    good = part(cell, at, sizeof(uint64_t), upto, fill) && good;
  }
  return part(cell, tail, room - tail, upto, fill) && good;
}

static void check(const struct cell *cell, size_t upto, const char *when)
{
  if (!pattern(cell, upto, false)) {
    WRONG("a block has its own bytes", "found others in the first %zu of %p (cell %td, %zu bytes for thread %u) %s", upto,
          (void *)cell->block, cell - cells, cell->size, cell->owner, when);
  }
}

static bool all_zero(const unsigned char *bytes, size_t size)
{
  uint64_t word = 0;
  size_t at = 0;
  for (; at + sizeof word <= size; at += sizeof word) {
    memcpy(&word, bytes + at, sizeof word);
    if (word != 0) {
      return false;
    }
  }
  for (; at < size; at++) {
    if (bytes[at] != 0) {
      return false;
    }
  }
  return true;
}

/* ---- draws ------------------------------------------------------------------------------------------------------------- */

/* A draw below `bound` that goes into the digest. */
static uint32_t draw(struct worker *self, uint32_t bound)
{
  uint32_t drawn = (uint32_t)((uint64_t)probe_random(&self->state) * bound >> 32);
  self->digest = (self->digest ^ drawn) * UINT64_C(0x100000001b3);
  return drawn;
}

/* From `from` to twice as much, 2^`doublings` times as much at most, each doubling equally often. */
static size_t logarithmic(struct worker *self, size_t from, uint32_t doublings)
{
  size_t low = from << draw(self, doublings);
  return low + draw(self, (uint32_t)low);
}

/* The size of a class (16 bytes apart up to 256, then eight to a doubling), or a byte beside it. */
static size_t class_border(struct worker *self)
{
  size_t low = (size_t)256 << draw(self, 10);
  size_t border = draw(self, 4) == 0 ? (size_t)16 * draw(self, 17) : low + low / 8 * draw(self, 9);
  size_t offset = draw(self, 3);
  return border + offset > 0 ? border + offset - 1 : 0;
}

static size_t draw_size(struct worker *self)
{
  uint32_t kind = draw(self, 1024);
  size_t size = kind < 8      ? 0
                : kind < 700  ? 1 + (size_t)draw(self, 1024U >> draw(self, 8))
                : kind < 860  ? class_border(self)
                : kind < 990  ? logarithmic(self, KIB, 8)
                : kind < 1000 ? 256 * KIB + draw(self, 65) - 32
                : kind < 1008 ? 64 * KIB * (1 + draw(self, 64)) + draw(self, 3) - 1
                : kind < 1022 ? logarithmic(self, 256 * KIB, 5)
                              : logarithmic(self, 4 * MIB, 4);
  return live_bytes + size > LIVE_MOST ? size % (16 * KIB) : size;
}

static size_t draw_align(struct worker *self)
{
  return draw(self, 16) != 0 ? (size_t)8 << draw(self, 10) : (size_t)PAGE << draw(self, 10);
}

/* ---- calls of the malloc family ---------------------------------------------------------------------------------------- */

/* A request that failed: it may, and said so as it should. */
static void failed(struct worker *self, int code, size_t size)
{
  self->failures++;
  if (!run.may_fail || code != ENOMEM) {
    WRONG("a request is served", "found NULL with errno %d for %zu bytes, expected %s", code, size,
          run.may_fail ? "ENOMEM" : "a block");
  }
}

/* A new block belongs to the cell. */
static void settle(struct worker *self, struct cell *cell)
{
  cell->owner = self->number;
  cell->room = malloc_usable_size(cell->block);
  cell->seed = ((uint64_t)self->number << 40 ^ cell->size << 8) + serial++;
  if ((uintptr_t)cell->block % cell->align != 0 || cell->room < cell->size) {
    WRONG("a block is as it was asked for", "found %p of %zu bytes, expected %zu at a multiple of %zu", (void *)cell->block,
          cell->room, cell->size, cell->align);
  }
  live_bytes += cell->size;
  pattern(cell, cell->room, true);
}

static void allocate(struct worker *self, struct cell *cell, size_t size)
{
  size_t align = 16, count;
  void *block = NULL;
  int code = 0;
  cell->way = BY_MALLOC;
  errno = 0;
  switch (draw(self, 16)) {
  case 0:
  case 1:
  case 2:
    count = draw(self, 2) == 0 ? 1 : 1 + draw(self, 16);
    block = calloc(count, size / count);
    size = size / count * count;
    if (block != NULL && !all_zero(block, size)) {
      WRONG("calloc clears", "found bytes that are not 0 in %zu at %p", size, block);
    }
    break;
  case 3:
    block = realloc(NULL, size);
    break;
  case 4:
    count = 1 + draw(self, 16);
    block = reallocarray(NULL, count, size / count);
    size = size / count * count;
    break;
  case 5:
  case 6:
    align = draw_align(self);
    code = posix_memalign(&block, align, size);
    cell->way = BY_OTHER;
    break;
  case 7:
    align = draw_align(self);
    block = aligned_alloc(align, size);
    cell->way = BY_ALIGNED_ALLOC;
    break;
  case 8:
    align = draw_align(self);
    block = memalign(align, size);
    cell->way = BY_OTHER;
    break;
  case 9:
    align = PAGE;
    block = valloc(size);
    cell->way = BY_OTHER;
    break;
  case 10:
    align = PAGE;
    block = pvalloc(size);
    cell->way = BY_OTHER;
    break;
  default:
    block = malloc(size);
  }
  if (block == NULL) {
    failed(self, code != 0 ? code : errno, size);
    return;
  }
  self->allocs++;
  cell->block = block;
  cell->size = size;
  cell->align = align;
  settle(self, cell);
}

static void release(struct worker *self, struct cell *cell)
{
  check(cell, cell->room, "at free");
  self->crossed += cell->owner != self->number;
  live_bytes -= cell->size;
  void *block = cell->block;
  cell->block = NULL;
  uint32_t kind = draw(self, 4);
  errno = EXDEV;
  if (kind == 0 && cell->way == BY_MALLOC) {
    free_sized(block, cell->size);
  } else if (kind == 0 && cell->way == BY_ALIGNED_ALLOC) {
    free_aligned_sized(block, cell->align, cell->size);
  } else if (kind == 1 && realloc(block, 0) != NULL) {
    WRONG("realloc to nothing frees", "found a block, expected NULL, for %zu bytes", cell->size);
  } else if (kind != 1) {
    free(block);
  }
  if (errno != EXDEV) {
    WRONG("free keeps errno", "found %d, expected %d", errno, EXDEV);
  }
}

static void resize(struct worker *self, struct cell *cell)
{
  size_t size = draw(self, 2) == 0 ? draw_size(self) : cell->size + cell->size / 8 + draw(self, 64);
  size_t count = draw(self, 4) == 0 ? 1 + draw(self, 8) : 1;
  size = size / count * count + (size < count ? count : 0);
  check(cell, cell->room, "at realloc");
  errno = 0;
  void *block = count > 1 ? reallocarray(cell->block, count, size / count) : realloc(cell->block, size);
  if (block == NULL) {
    failed(self, errno, size);
    check(cell, cell->room, "after a realloc that failed");
    return;
  }
  self->reallocs++;
  live_bytes -= cell->size;
  cell->block = block;
  check(cell, size < cell->size ? size : cell->size, "after realloc");
  self->crossed += cell->owner != self->number;
  cell->size = size;
  cell->align = 16;
  cell->way = BY_MALLOC;
  settle(self, cell);
}

/* Requests that nobody can serve change nothing. */
static void ask_too_much(struct worker *self, struct cell *cell)
{
  volatile size_t size = (size_t)PTRDIFF_MAX + 1 + draw(self, 4096); /* compilers would know */
  void *block = NULL;
  int code = ENOMEM;
  errno = 0;
  switch (draw(self, 5)) {
  case 0:
    block = malloc(size);
    break;
  case 1:
    block = calloc(size, 3);
    break;
  case 2:
    block = reallocarray(cell->block, size, 5);
    break;
  case 3:
    block = realloc(cell->block, size);
    break;
  default:
    errno = posix_memalign(&block, 24, 1);
    code = EINVAL;
  }
  if (block != NULL || errno != code) {
    WRONG("too much is refused", "found %p with errno %d, expected NULL with errno %d", block, errno, code);
  }
  if (cell->block != NULL) {
    check(cell, cell->room, "after a request for too much");
  }
}

static void handle(struct worker *self, struct cell *cell)
{
  if (draw(self, 256) == 0) {
    ask_too_much(self, cell);
    return;
  }
  if (cell->block == NULL) {
    allocate(self, cell, draw_size(self));
    return;
  }
  uint32_t kind = draw(self, 16);
  if (kind < 8) {
    release(self, cell);
  } else if (kind < 12) {
    resize(self, cell);
  } else if (kind < 14) {
    size_t size = cell->size;
    release(self, cell);
    allocate(self, cell, size); /* what was freed last fits */
  } else {
    check(cell, cell->room, "while it lives");
    size_t room = malloc_usable_size(cell->block);
    if (room != cell->room) {
      WRONG("the usable size is constant", "found %zu, expected %zu, for %zu bytes", room, cell->room, cell->size);
    }
  }
}

static bool take(struct cell *cell)
{
  return !atomic_exchange_explicit(&cell->taken, true, memory_order_acquire);
}

static void put(struct cell *cell)
{
  atomic_store_explicit(&cell->taken, false, memory_order_release);
}

/* Frees all blocks of `count` cells from `first`. */
static void sweep(struct worker *self, uint32_t first, uint32_t count)
{
  for (uint32_t i = first; i < first + count; i++) {
    if (take(&cells[i])) {
      if (cells[i].block != NULL) {
        release(self, &cells[i]);
      }
      put(&cells[i]);
    }
  }
}

/* ---- disturbances ------------------------------------------------------------------------------------------------------ */

/* Options that can change in a running process. Of each the last value is the one to begin with. */
static struct option {
  const char *key, *values[4];
  uint32_t count; /* values that this configuration has a use for */
} options[] = {
    {"core.cap", {"0", "1M", "16M", "256M"}, 0},
    {"core.epoch", {"1", "7", "100000", "64"}, 0},
    {"core.foreign", {"abort", "libc"}, 0},
    {"stats.exit", {"json", "text", "prometheus", "off"}, 0},
    {"stats.file", {"/dev/null", "/tmp/no/such/directory", "/dev/null"}, 0},
    {"policy.static.strategy", {"plain", "uncached", "huge-1090K", "default"}, 0},
    {"policy.elo.freeze", {"on", "off"}, 0},
    {"policy.epsilon-greedy.freeze", {"on", "off"}, 0},
    {"backend.slab.keep", {"0", "64K", "4M", "64M"}, 0},
    {"backend.slab.age", {"0", "1", "1000"}, 0},
    {"cache.bigcache.limit", {"0", "1M", "1G", "16M"}, 0},
    {"cache.bigcache.floor", {"64M", "0"}, 0},
    {"cache.bigcache.age", {"0", "1", "1000"}, 0},
    {"reclaim.batch.bytes", {"64K", "64G", "4M"}, 0},
    {"reclaim.batch.count", {"1", "1048576", "256"}, 0},
    {"reclaim.batch.age", {"1", "3600000", "1000"}, 0},
    {"reclaim.batch.cap", {"0", "64K", "64G", "8M"}, 0},
};
enum { OPTIONS = sizeof options / sizeof *options };

static uint32_t known_options;

/* Keeps the values that are accepted; options of plugins that are not loaded have none, nor have strategies that there are not. */
static void find_options(void)
{
  for (uint32_t i = 0; i < OPTIONS; i++) {
    struct option option = options[i];
    for (int j = 0; j < 4 && option.values[j] != NULL; j++) {
      if (hak_set(option.key, option.values[j], NULL, 0) == 0) {
        option.values[option.count++] = option.values[j];
      }
    }
    if (option.count > 0) {
      options[known_options++] = option;
    }
  }
}

static void set_option(struct worker *self)
{
  const struct option *option = &options[draw(self, known_options)];
  const char *value = option->values[draw(self, option->count)];
  char why[128];
  self->sets++;
  if (hak_set(option->key, value, why, sizeof why) != 0 && (!run.limits || errno != ENOMEM)) {
    WRONG("an option changes", "found %s", why);
  }
}

/* Pages of address space, and of data: what the two limits are about. */
static const int resources[] = {RLIMIT_AS, RLIMIT_DATA};
static unsigned long first_pages[2];

static void count_pages(unsigned long counts[2])
{
  char text[128] = ""; /* of /proc/self/statm: all, resident, shared, text, unused, data, unused */
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  ssize_t got = read(fd, text, sizeof text - 1);
  close(fd);
  if (got <= 0 || sscanf(text, "%lu %*u %*u %*u %*u %lu", &counts[0], &counts[1]) != 2) {
    WRONG("/proc/self/statm", "found '%s', expected numbers", text);
  }
}

/* Soft limits `spare` bytes above so many pages. The hard limits stay. */
static void limit(const unsigned long counts[2], size_t spare)
{
  for (int i = 0; i < 2; i++) {
    struct rlimit limits;
    getrlimit(resources[i], &limits);
    limits.rlim_cur = counts[i] * PAGE + spare;
    setrlimit(resources[i], &limits);
  }
}

static void lift_limits(void)
{
  for (int i = 0; i < 2; i++) {
    struct rlimit limits;
    getrlimit(resources[i], &limits);
    limits.rlim_cur = limits.rlim_max;
    setrlimit(resources[i], &limits);
  }
}

static void change_limits(struct worker *self)
{
  unsigned long counts[2];
  uint32_t kind = draw(self, 16), spare = (4 * MIB - 1) >> draw(self, 16);
  if (kind == 0) {
    lift_limits();
  } else if (kind < 8) {
    limit(first_pages, CEILING);
  } else {
    count_pages(counts);
    limit(counts, spare);
  }
}

static void report(struct worker *self)
{
  static const char *const formats[] = {"text", "json", "prometheus"};
  struct hak_totals totals = {.struct_size = sizeof totals};
  int code = hak_stats(&totals);
  if (code == 0 ? totals.frees > totals.allocs : !run.limits || errno != ENOMEM) {
    WRONG("the totals add up", "found %d, errno %d, %llu frees of %llu blocks", code, errno, (unsigned long long)totals.frees,
          (unsigned long long)totals.allocs);
  }
  int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (hak_stats_write(fd, formats[draw(self, 3)]) != 0 && (!run.limits || errno != ENOMEM)) {
    WRONG("a report is written", "found errno %d", errno);
  }
  close(fd);
}

static void step(struct worker *self);

static void *work_in_child(void *worker)
{
  for (int i = 0; i < CHILD_STEPS; i++) {
    step(worker);
  }
  return NULL;
}

/* Checks all blocks, works with them, also in a thread, and frees most. */
static _Noreturn void be_child(struct worker *self)
{
  pthread_t thread;
  struct worker other = {.calm = true, .index = self->index + 1, .number = self->number, .state = self->state ^ 1};
  alarm(CHILD_SECONDS);
  lift_limits();
  stop = false;
  wrongs = 0;
  self->calm = true;
  for (uint32_t i = 0; i < CELLS; i++) {
    if (!cells[i].taken && cells[i].block != NULL) {
      check(&cells[i], cells[i].room, "in a child");
    }
  }
  if (CHILD_IS_BARE) {
    work_in_child(&other);
    work_in_child(self);
  } else if (pthread_create(&thread, NULL, work_in_child, &other) != 0) {
    WRONG("a child starts a thread", "found errno %d", errno);
  } else {
    work_in_child(self);
    pthread_join(thread, NULL);
  }
  uint32_t first = draw(self, CELLS / 2);
  sweep(self, first, CELLS - first);
  if (first % 2 == 0 && !CHILD_IS_BARE) {
    exit(wrongs == 0 ? 0 : 1);
  }
  _exit(wrongs == 0 ? 0 : 1);
}

static void fork_child(struct worker *self)
{
  int status = 0;
  if (!FORKS) {
    return;
  }
  pid_t child = fork();
  if (child == 0) {
    be_child(self);
  }
  if (child < 0) {
    if (!run.limits) {
      WRONG("a child is made", "found errno %d", errno);
    }
    return;
  }
  children++;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) {
    children_lost++;
    WRONG("a child ends well", "found the wait status %#x, expected 0%s", (unsigned)status,
          WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? " (it hangs)" : "");
  }
}

static void disturb(struct worker *self)
{
  uint32_t kind = draw(self, 65536);
  if (kind < 4) {
    fork_child(self);
  } else if (kind < 16) {
    report(self);
  } else if (kind < 32) {
    malloc_trim(draw(self, 2) * MIB);
  } else if (kind < 48) {
    sweep(self, self->index * OWN, OWN);
  } else if (kind < 112) {
    set_option(self);
  } else if (run.limits && kind < 240) {
    change_limits(self);
  }
}

/* ---- threads ----------------------------------------------------------------------------------------------------------- */

static void step(struct worker *self)
{
  uint32_t index = draw(self, 2) == 0 ? self->index % THREADS * OWN + draw(self, OWN) : draw(self, CELLS);
  if (take(&cells[index])) {
    handle(self, &cells[index]);
    put(&cells[index]);
  }
  self->steps++;
  if (!self->calm) {
    disturb(self);
  }
}

static void *work(void *worker)
{
  struct worker *self = worker;
  for (; self->life > 0 && !stop && steps_left-- > 0; self->life--) {
    step(self);
    if (self->life % 64 == 0 && run.deadline != 0 && now() >= run.deadline) {
      stop = true;
    }
  }
  self->ended = true;
  sem_post(&endings);
  return NULL;
}

static struct worker sum; /* of the workers that have ended */

static void start(struct worker *worker, uint32_t index)
{
  static uint32_t number;
  uint64_t mixed = ((uint64_t)run.seed << 32 | ++number) * UINT64_C(0x9e3779b97f4a7c15);
  *worker = (struct worker){.index = index, .number = number, .state = (uint32_t)(mixed >> 32) | 1, .running = true};
  worker->life = 256U << draw(worker, 7);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stacks[index], STACK); /* libc would keep stacks, and with them blocks */
  int code = pthread_create(&worker->thread, &attributes, work, worker);
  if (code == EAGAIN && run.limits) { /* there is no memory for it */
    lift_limits();
    code = pthread_create(&worker->thread, &attributes, work, worker);
  }
  pthread_attr_destroy(&attributes);
  if (code != 0 && !(code == EAGAIN && run.may_fail)) {
    WRONG("a thread starts", "found errno %d", code);
  }
  worker->running = code == 0;
  sum.number = number;
}

static void end(struct worker *worker)
{
  pthread_join(worker->thread, NULL);
  worker->running = false;
  sum.digest = (sum.digest ^ worker->digest) * UINT64_C(0x100000001b3);
  sum.steps += worker->steps;
  sum.allocs += worker->allocs;
  sum.reallocs += worker->reallocs;
  sum.failures += worker->failures;
  sum.crossed += worker->crossed;
  sum.sets += worker->sets;
}

static void work_all(void)
{
  uint32_t running = 0;
  do {
    for (uint32_t i = 0; i < run.threads; i++) {
      struct worker *worker = &workers[i];
      if (worker->running && worker->ended) {
        end(worker);
        running--;
      }
      if (!worker->running && !stop && steps_left > 0) {
        start(worker, i);
        running += worker->running;
      }
    }
    while (running > 0 && sem_wait(&endings) != 0) {
    }
  } while (running > 0 || (!stop && steps_left > 0));
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

/* The last child has all blocks that there are; then they are freed here. */
static void finish(void)
{
  struct worker self = {.calm = true, .number = UINT16_MAX, .state = 1};
  fork_child(&self);
  sweep(&self, 0, CELLS);
  hak_set("stats.exit", "off", NULL, 0);
  malloc_trim(0);
}

static void judge(struct hak_totals before)
{
  struct hak_totals after = probe_totals();
  uint64_t allocs = after.allocs - before.allocs, frees = after.frees - before.frees;
  uint64_t most = sum.allocs + sum.reallocs + 4 * (uint64_t)sum.number; /* resizes may copy; libc allocates for threads */
  probe_equal("nothing was wrong with any block", wrongs, 0);
  PROBE(allocs >= sum.allocs && allocs <= most, "served by hakmem: allocations counted", "found %llu, expected %llu to %llu",
        (unsigned long long)allocs, (unsigned long long)sum.allocs, (unsigned long long)most);
  probe_equal("as many frees", frees, allocs);
  probe_equal("no byte stays allocated", after.allocated, before.allocated);
  probe_equal("no byte stays in blocks", after.active, before.active);
  probe_equal("one thread is left", after.threads, before.threads);
  PROBE(known_options >= 5, "options change while it runs", "found %u of them", known_options);
  if (run.threads > 1) {
    PROBE(sum.crossed > 0, "blocks cross between threads", "found %llu", (unsigned long long)sum.crossed);
  }
  if (run.may_fail) {
    PROBE(sum.failures > 0, "requests fail", "found %llu", (unsigned long long)sum.failures);
  }
}

int main(int argc, char **argv)
{
  double seconds = 0;
  steps_left = INT64_MAX;
  for (int option; (option = getopt(argc, argv, "r:j:t:n:fl")) != -1;) {
    switch (option) {
    case 'r':
      run.seed = (uint32_t)strtoul(optarg, NULL, 10);
      break;
    case 'j':
      run.threads = (uint32_t)strtoul(optarg, NULL, 10);
      break;
    case 't':
      seconds = strtod(optarg, NULL);
      break;
    case 'n':
      steps_left = strtoll(optarg, NULL, 10);
      break;
    case 'l':
      run.limits = true;
      run.may_fail = true;
      break;
    case 'f':
      run.may_fail = true;
      break;
    default:
      return 2;
    }
  }
  if (run.threads < 1 || run.threads > THREADS || (seconds <= 0 && steps_left == INT64_MAX)) {
    probe_print("FAIL arguments: found 1 to %d threads, and seconds or operations, not all said\n", THREADS);
    return 2;
  }
  if (probe_symbol("hak_set") == NULL) {
    probe_print("FAIL loaded: found no hak_set, expected libhakmem\n");
    return 1;
  }
  sem_init(&endings, 0, 0);
  find_options();
  struct hak_totals before = probe_totals();
  run.deadline = seconds > 0 ? now() + (uint64_t)(seconds * 1e9) : 0;
  if (run.limits) {
    count_pages(first_pages);
    limit(first_pages, CEILING);
  }
  work_all();
  lift_limits();
  finish();
  probe_print(
      "# seed %u, %u threads: %llu operations, %u threads ended, %llu blocks crossed, %llu children, %llu changes of options, "
      "%llu requests failed, digest %016llx\n",
      run.seed, run.threads, (unsigned long long)sum.steps, sum.number, (unsigned long long)sum.crossed,
      (unsigned long long)children, (unsigned long long)sum.sets, (unsigned long long)sum.failures,
      (unsigned long long)sum.digest);
  judge(before);
  return probe_failures == 0 ? 0 : 1;
}
