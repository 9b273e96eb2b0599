/* SPDX-License-Identifier: MIT */
/*
 * scenario.c - the program that bench/scenarios.py measures: one scenario in one fresh process.
 *
 *   scenario NAME [-n TIMES] [-t pages|first|all] [-j THREADS] [-c small|huge]
 *
 *   json        1000 blocks of 64 KiB, each allocated, touched and freed before the next
 *   mir         100 blocks of 256 KiB
 *   vm          10 blocks of 2 MiB
 *   mixed       all of these, spread evenly
 *   streaming   a queue of up to 64 live blocks of 1 to 8 MiB that grows and shrinks
 *
 *   -n TIMES    the whole so many times in a row (1); 0: everything but the calls
 *   -t TOUCH    what is written of a block: one byte of each page (the default), of its first page only, or every byte
 *   -j THREADS  so many threads, each doing the whole, timed from their common start to the end of the last (1)
 *   -c PAGES    control: the same writes to one place that stays, on pages of this kind, without malloc and free; a queue's
 *               blocks lie one behind the other in a ring that is as long as they need. One thread
 *
 * The clock is read before the first call and after the last, never between. Everything else is read outside of these two
 * readings and without allocating: page faults, peak of the resident set, TLB shootdowns of the machine, the object that malloc
 * belongs to, and hakmem's own count of calls where hakmem is loaded. The result is one line of JSON.
 *
 * The workers are in step by two words: `go` is written by the main thread and releases them; the semaphores count those that
 * have arrived and those that are done.
 */
#include "reading.h"

#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { PAGE = 4096, THREADS_MAX = 64 };

static const size_t MIB = 1024 * 1024;
static const size_t LARGEST = 2048 * 1024; /* the largest block that is no queue's; a huge page has as much */

/* ---- one block ------------------------------------------------------------------------------------------------------- */

enum touch { TOUCH_PAGES, TOUCH_FIRST, TOUCH_ALL };

/* Always inlined with a constant `touch`, so that no loop decides about it. The writes stay: as far as one can tell, somebody reads them. */
__attribute__((always_inline)) static inline void write_to(char *block, size_t size, enum touch touch)
{
  if (touch == TOUCH_ALL) {
    memset(block, 1, size);
  } else {
    size_t end = touch == TOUCH_FIRST ? 1 : size;
    for (size_t at = 0; at < end; at += PAGE) {
      ((volatile char *)block)[at] = 1;
    }
  }
  __asm__ volatile("" : : "r"(block) : "memory");
}

__attribute__((always_inline)) static inline char *obtain(size_t size, enum touch touch)
{
  char *block = malloc(size);
  if (block == NULL) {
    die("malloc", strerror(errno));
  }
  write_to(block, size, touch);
  return block;
}

/* A block's whole life; or, where `control` is a place and not constant NULL, the writes alone. */
__attribute__((always_inline)) static inline void live(size_t size, enum touch touch, char *control)
{
  if (control != NULL) {
    write_to(control, size, touch);
  } else {
    free(obtain(size, touch));
  }
}

/* ---- scenarios ------------------------------------------------------------------------------------------------------- */

/* `count` blocks of `size`, the next part of a scenario spread between them. */
struct part {
  size_t size;    /* bytes */
  unsigned count; /* blocks; divides that of the part before it. 0: the end */
};

struct scenario {
  const char *name;
  struct part parts[4]; /* the first has the most blocks; none: the queue */
};

static const struct scenario scenarios[] = {
    {"json", {{64 * 1024, 1000}}}, {"mir", {{256 * 1024, 100}}},
    {"vm", {{2048 * 1024, 10}}},   {"mixed", {{64 * 1024, 1000}, {256 * 1024, 100}, {2048 * 1024, 10}}},
    {"streaming", {{0, 0}}},
};

/* One block at a time. Returns the number of blocks. */
__attribute__((always_inline)) static inline uint64_t run_parts(const struct part *parts, unsigned times, enum touch touch,
                                                                char *control)
{
  uint64_t blocks = 0, first = (uint64_t)parts[0].count * times;
  for (uint64_t i = 1; i <= first; i++) {
    live(parts[0].size, touch, control);
    blocks++;
    for (const struct part *part = parts + 1; part->count != 0 && i % (parts[0].count / part->count) == 0; part++) {
      live(part->size, touch, control);
      blocks++;
    }
  }
  return blocks;
}

/* The live blocks of the streaming scenario, oldest first: a ring. Of one thread. */
enum { QUEUE_MOST = 64, QUEUE_LEAST = 8, QUEUE_TURNS = 128, QUEUE_CYCLES = 3 };
struct queue {
  char *blocks[QUEUE_MOST];
  unsigned oldest, count; /* index; blocks */
  uint32_t random;        /* state of the generator of sizes, never 0 */
  uint64_t obtained;      /* blocks so far */
  char *ring;             /* of the control: where blocks lie; or NULL */
  size_t at;              /* bytes of it before the next one */
};

static const size_t RING =
    344 * 1024 * 1024; /* bytes: 331 MiB are live at the peak, and what is left at the end is too short for a block */

/* From 1 MiB to 8 MiB, any number of bytes. */
static size_t queue_size(struct queue *queue)
{
  queue->random ^= queue->random << 13;
  queue->random ^= queue->random >> 17;
  queue->random ^= queue->random << 5;
  return MIB + queue->random % (7 * MIB + 1);
}

/* The next block of the ring. The oldest one is in its way when the ring is too short. */
static char *queue_place(struct queue *queue, size_t size)
{
  const char *oldest = queue->blocks[queue->oldest];
  if (queue->at + size > RING) {
    queue->at = 0;
  }
  char *place = queue->ring + queue->at;
  if (queue->count != 0 && place <= oldest && place + size > oldest) {
    die("-c", "the queue only once");
  }
  queue->at += (size + PAGE - 1) / PAGE * PAGE;
  return place;
}

static void queue_shrink(struct queue *queue, unsigned count)
{
  while (queue->count > count) {
    if (queue->ring == NULL) {
      free(queue->blocks[queue->oldest]);
    }
    queue->oldest = (queue->oldest + 1) % QUEUE_MOST;
    queue->count--;
  }
}

__attribute__((always_inline)) static inline void queue_grow(struct queue *queue, unsigned count, enum touch touch)
{
  while (queue->count < count) {
    size_t size = queue_size(queue);
    char **block = &queue->blocks[(queue->oldest + queue->count) % QUEUE_MOST];
    if (queue->ring != NULL) {
      *block = queue_place(queue, size);
      write_to(*block, size, touch);
    } else {
      *block = obtain(size, touch);
    }
    queue->count++;
    queue->obtained++;
  }
}

/* Grows, replaces the oldest block for a while, shrinks; again and again; then frees the rest. */
__attribute__((always_inline)) static inline uint64_t run_queue(unsigned times, enum touch touch, char *control)
{
  struct queue queue = {.random = 2463534242U, .ring = control};
  for (uint64_t cycle = 0; cycle < (uint64_t)QUEUE_CYCLES * times; cycle++) {
    queue_grow(&queue, QUEUE_MOST, touch);
    for (unsigned turn = 0; turn < QUEUE_TURNS; turn++) {
      queue_shrink(&queue, QUEUE_MOST - 1);
      queue_grow(&queue, QUEUE_MOST, touch);
    }
    queue_shrink(&queue, QUEUE_LEAST);
  }
  queue_shrink(&queue, 0);
  return queue.obtained;
}

/* What a process does, chosen on the command line. */
struct plan {
  const struct scenario *scenario;
  unsigned times;   /* repetitions */
  unsigned threads; /* the main thread included */
  enum touch touch;
  char *control; /* the place that is written to instead of blocks; or NULL */
};

__attribute__((always_inline)) static inline uint64_t run_touching(const struct plan *plan, enum touch touch)
{
  const struct scenario *scenario = plan->scenario;
  if (scenario->parts[0].count == 0) {
    return run_queue(plan->times, touch, plan->control);
  }
  return plan->control != NULL ? run_parts(scenario->parts, plan->times, touch, plan->control)
                               : run_parts(scenario->parts, plan->times, touch, NULL);
}

static uint64_t run(const struct plan *plan)
{
  switch (plan->touch) {
  case TOUCH_FIRST:
    return run_touching(plan, TOUCH_FIRST);
  case TOUCH_ALL:
    return run_touching(plan, TOUCH_ALL);
  default:
    return run_touching(plan, TOUCH_PAGES);
  }
}

/* ---- workers --------------------------------------------------------------------------------------------------------- */

/* A thread beside the main one. Written by it before it posts `done`, read by the main thread afterwards. */
struct worker {
  const struct plan *plan;
  uint64_t blocks; /* obtained and freed */
  uint64_t end;    /* ns, of the monotonic clock */
};

static atomic_bool go;             /* release by the main thread, acquire by the workers */
static sem_t arrived, done, leave; /* leave: a thread that ends may free; it waits until the counters have been read */

static void *work(void *argument)
{
  struct worker *worker = argument;
  sem_post(&arrived);
  while (!atomic_load_explicit(&go, memory_order_acquire)) {
  }
  worker->blocks = run(worker->plan);
  worker->end = now();
  sem_post(&done);
  sem_wait(&leave);
  return NULL;
}

static void wait_for(sem_t *semaphore)
{
  while (sem_wait(semaphore) != 0) {
  }
}

/* ---- readings -------------------------------------------------------------------------------------------------------- */

/* What is read before the loop and after it. */
struct reading {
  int64_t shootdowns;       /* TLB shootdowns of the whole machine so far; -1: unknown here */
  struct hak_totals totals; /* under hakmem */
};

static struct reading take_reading(void)
{
  return (struct reading){.shootdowns = sum_of_line("/proc/interrupts", "TLB:"), .totals = hakmem_totals()};
}

/* ---- the process ----------------------------------------------------------------------------------------------------- */

/* What the loop did. */
struct result {
  uint64_t blocks, ns;
  int64_t startup_faults, faults;
  struct reading before, after;
};

static void print_result(const struct result *result)
{
  int64_t shootdowns = result->before.shootdowns < 0 ? -1 : result->after.shootdowns - result->before.shootdowns;
  dprintf(STDOUT_FILENO,
          "{\"blocks\": %llu, \"ns\": %llu, \"faults\": %lld, \"startup_faults\": %lld, \"peak_kib\": %lld, "
          "\"shootdowns\": %lld, \"malloc\": \"%s\"",
          (unsigned long long)result->blocks, (unsigned long long)result->ns, (long long)result->faults,
          (long long)result->startup_faults, (long long)peak_kib(), (long long)shootdowns, malloc_object());
  if (hakmem_stats != NULL) {
    dprintf(STDOUT_FILENO, ", \"allocs\": %llu, \"frees\": %llu",
            (unsigned long long)(result->after.totals.allocs - result->before.totals.allocs),
            (unsigned long long)(result->after.totals.frees - result->before.totals.frees));
  }
  dprintf(STDOUT_FILENO, "}\n");
}

static void measure(const struct plan *plan)
{
  static struct worker workers[THREADS_MAX];
  pthread_t threads[THREADS_MAX];
  sem_init(&arrived, 0, 0);
  sem_init(&done, 0, 0);
  sem_init(&leave, 0, 0);
  for (unsigned i = 1; i < plan->threads; i++) {
    workers[i].plan = plan;
    if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) {
      die("pthread_create", "no thread");
    }
    wait_for(&arrived);
  }

  struct result result = {.before = take_reading()};
  result.startup_faults = usage().ru_minflt; /* the reading has some of its own */
  uint64_t start = now();
  atomic_store_explicit(&go, true, memory_order_release);
  result.blocks = run(plan);
  uint64_t end = now();
  for (unsigned i = 1; i < plan->threads; i++) {
    wait_for(&done);
  }
  result.faults = usage().ru_minflt - result.startup_faults;
  result.after = take_reading();

  for (unsigned i = 1; i < plan->threads; i++) {
    result.blocks += workers[i].blocks;
    end = workers[i].end > end ? workers[i].end : end;
    sem_post(&leave);
    pthread_join(threads[i], NULL);
  }
  result.ns = end - start;
  print_result(&result);
}

static unsigned number(const char *text, unsigned least, unsigned most)
{
  char *end = NULL;
  unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end != '\0' || value < least || value > most) {
    die(text, "not a usable number");
  }
  return (unsigned)value;
}

static enum touch touch_of(const char *name)
{
  static const char *const names[] = {[TOUCH_PAGES] = "pages", [TOUCH_FIRST] = "first", [TOUCH_ALL] = "all"};
  for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
    if (strcmp(name, names[i]) == 0) {
      return (enum touch)i;
    }
  }
  die(name, "expected pages, first or all");
}

/* A place for the largest block, or the queue, untouched, on small pages or, where the kernel has any, huge ones. */
static char *control_on(const char *name, bool queue)
{
  size_t size = queue ? RING : LARGEST;
  bool huge = strcmp(name, "huge") == 0;
  if (!huge && strcmp(name, "small") != 0) {
    die(name, "expected small or huge");
  }
  char *area = mmap(NULL, size + LARGEST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (area == MAP_FAILED) {
    die("mmap", strerror(errno));
  }
  char *place = area + (LARGEST - (uintptr_t)area % LARGEST) % LARGEST;
  (void)madvise(place, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  return place;
}

int main(int argc, char **argv)
{
  struct plan plan = {.times = 1, .threads = 1, .touch = TOUCH_PAGES};
  const char *control = NULL;
  for (int option; (option = getopt(argc, argv, "n:t:j:c:")) != -1;) {
    switch (option) {
    case 'n':
      plan.times = number(optarg, 0, 1000000);
      break;
    case 't':
      plan.touch = touch_of(optarg);
      break;
    case 'j':
      plan.threads = number(optarg, 1, THREADS_MAX);
      break;
    case 'c':
      control = optarg;
      break;
    default:
      return 2;
    }
  }
  for (size_t i = 0; optind < argc && i < sizeof scenarios / sizeof scenarios[0]; i++) {
    if (strcmp(argv[optind], scenarios[i].name) == 0) {
      plan.scenario = &scenarios[i];
    }
  }
  if (plan.scenario == NULL) {
    die("usage", "scenario json|mir|vm|mixed|streaming [-n TIMES] [-t pages|first|all] [-j THREADS] [-c small|huge]");
  }
  if (control != NULL && plan.threads > 1) {
    die("-c", "one thread");
  }
  if (control != NULL) {
    plan.control = control_on(control, plan.scenario->parts[0].count == 0);
  }
  measure(&plan);
  return 0;
}
