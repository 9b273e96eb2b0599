/* SPDX-License-Identifier: MIT */
/*
 * learning.c - the program that bench/learning.py measures: phases of large blocks, each block's cost taken from the outside.
 *
 *   learning SCENARIO [-n BLOCKS]... [-t FILE -e BLOCKS]
 *   learning -l
 *
 *   -n BLOCKS   of the first phase (10000); a second -n is for the second phase
 *   -t FILE     after every so many blocks the report of hakmem is appended to it as JSON
 *   -l          names the scenarios
 *
 * A scenario is one phase or two. A phase keeps some blocks live in a ring, oldest first, and replaces the oldest. Of each block
 * are taken: the time in malloc and free, the time in the writes, which is mostly page faults, and of every eighth one the bytes
 * resident before and after its free. These are the terms of the learning policies, measured without them, so a strategy that
 * was chosen and one that was learned are compared by the same figures. The result is one line of JSON with sums for each phase,
 * its last third apart, with its time, and size bin. Nothing allocates between the first block and the last.
 *
 * There is one thread, and no lock.
 */
#include "reading.h"

#include <sys/mman.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

enum {
  PAGE = 4096,
  RING = 64,     /* most live blocks */
  BINS = 32,     /* powers of two */
  PHASES = 2,    /* of a scenario */
  PARTS = 2,     /* of a phase: the last third of its blocks, in which a learner should have settled, is summed up apart */
  MEASURED = 8,  /* one block of so many is looked at for resident pages */
  STEP = 65536,  /* bytes by which rising sizes rise */
  TOUCH_ONE = 0, /* of `stride`: the first page only, */
  FILL = 1,      /* every byte */
  PAGES = 65536  /* of the largest block */
};

/* ---- scenarios ------------------------------------------------------------------------------------------------------- */

struct phase {
  size_t least, most; /* bytes of a block */
  unsigned live;      /* blocks in the ring; 0: there is no such phase */
  unsigned low;       /* when the ring is full, it is emptied down to this; live - 1: one is replaced */
  unsigned stride;    /* a byte of every so many pages is written; or TOUCH_ONE or FILL */
  unsigned work;      /* us that the program does something else for, after each block */
  bool rising;        /* each block is larger than the one before, up to the largest; else sizes are drawn */
};

static const struct scenario {
  const char *name, *about;
  struct phase phase[PHASES];
} scenarios[] = {
    {"reuse", "2 MiB, one at a time, every byte written", {{2 * MIB, 2 * MIB, 1, 0, FILL, 0, false}}},
    {"queue",
     "1 to 8 MiB, a queue that swings between 8 and 32 blocks, every byte written",
     {{MIB, 8 * MIB, 32, 8, FILL, 0, false}}},
    {"half",
     "512 to 1024 KiB, a queue that swings between 16 and 64 blocks, every byte written",
     {{512 * KIB, MIB - 1, 64, 16, FILL, 0, false}}},
    {"sparse",
     "4 to 8 MiB, a queue that swings between 8 and 32 blocks, one page written, 20 us of other work for each",
     {{4 * MIB, 8 * MIB - 1, 32, 8, TOUCH_ONE, 20, false}}},
    {"stream",
     "4 to 8 MiB, one at a time, each larger than the one before, every byte written",
     {{4 * MIB, 8 * MIB - 1, 1, 0, FILL, 0, true}}},
    {"thin",
     "4 to 8 MiB, one at a time, each larger than the one before, one page written, 20 us of other work for each",
     {{4 * MIB, 8 * MIB - 1, 1, 0, TOUCH_ONE, 20, true}}},
    {"dense-wide",
     "16 to 32 MiB, a queue that swings between 2 and 6 blocks, every byte written, then one at a time, each larger than the "
     "one before, one page of each 2 MiB written, 20 us of other work for each",
     {{16 * MIB, 32 * MIB - 1, 6, 2, FILL, 0, false}, {16 * MIB, 32 * MIB - 1, 1, 0, 512, 20, true}}},
    {"few-many",
     "4 to 8 MiB, one at a time, every byte written, then a queue that swings between 8 and 32 blocks",
     {{4 * MIB, 8 * MIB - 1, 1, 0, FILL, 0, false}, {4 * MIB, 8 * MIB - 1, 32, 8, FILL, 0, false}}},
    {"reuse-stream",
     "6 MiB, one at a time, every byte written, then stream",
     {{6 * MIB, 6 * MIB, 1, 0, FILL, 0, false}, {4 * MIB, 8 * MIB - 1, 1, 0, FILL, 0, true}}},
};

enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

/* ---- what a block costs ---------------------------------------------------------------------------------------------- */

struct sums {
  uint64_t blocks, bytes;       /* allocated, requested */
  uint64_t call_ns;             /* in malloc and free */
  uint64_t touch_ns;            /* in writes */
  uint64_t looked, looked_size; /* blocks looked at for resident pages, and their bytes */
  uint64_t used, held;          /* bytes resident of them, before and after the free */
};

static struct sums sums[PHASES][PARTS][BINS];
static uint64_t late_ns[PHASES]; /* wall time of the last third */

static unsigned bin_of(size_t size)
{
  return 63U - (unsigned)__builtin_clzll(size);
}

static uint64_t looking; /* ns; what it takes to look at pages is nobody's, and depends on how they are mapped */

/* Bytes of a block in resident pages; 0 when its address space is gone. */
static uint64_t resident(const char *block, size_t size)
{
  static unsigned char there[PAGES];
  uint64_t began = now();
  uintptr_t first = ((uintptr_t)block + PAGE - 1) / PAGE, end = ((uintptr_t)block + size) / PAGE;
  uint64_t found = 0;
  if (mincore((void *)(first * PAGE), (end - first) * PAGE, there) == 0) {
    for (size_t i = 0; i < end - first; i++) {
      found += there[i] & 1U;
    }
  }
  looking += now() - began;
  return found * PAGE;
}

/* ---- a phase --------------------------------------------------------------------------------------------------------- */

struct live {
  char *block;
  size_t size;
  uint64_t number;
};

/* The live blocks, oldest first. */
static struct {
  struct live at[RING];
  unsigned oldest, count;
} ring;

static uint64_t blocks;                /* of the process so far */
static uint32_t generator = 362436069; /* state, never 0 */

static size_t next_size(const struct phase *phase, size_t last)
{
  if (phase->rising) {
    return last + STEP > phase->most ? phase->least : last + STEP;
  }
  generator ^= generator << 13;
  generator ^= generator >> 17;
  generator ^= generator << 5;
  return phase->least + generator % (phase->most - phase->least + 1);
}

typedef uint64_t chunk __attribute__((vector_size(16), may_alias));

/*
 * Writes every byte. Not memset: from some MiB on it uses string instructions, which take 59 us for 6 MiB on one processor of a machine
 * and 158 on the other, so that where the kernel puts a process would decide a contest.
 */
static void fill(char *block, size_t size, uint64_t value)
{
  volatile chunk *at = (volatile chunk *)(void *)block, *end = at + size / sizeof(chunk);
  for (; at < end; at++) {
    *at = (chunk){value, value};
  }
  for (size_t done = size & ~(sizeof(chunk) - 1); done < size; done++) {
    ((volatile char *)block)[done] = (char)value;
  }
}

static void obtain(struct sums *bins, size_t size, unsigned stride)
{
  struct sums *sum = &bins[bin_of(size)];
  uint64_t began = now();
  char *block = malloc(size);
  uint64_t got = now();
  if (block == NULL) {
    die("malloc", strerror(errno));
  }
  if (stride == FILL) {
    fill(block, size, blocks);
  } else {
    size_t step = stride == TOUCH_ONE ? size : (size_t)stride * PAGE;
    for (size_t at = 0; at < size; at += step) {
      ((volatile char *)block)[at] = 1;
    }
  }
  sum->touch_ns += now() - got;
  sum->call_ns += got - began;
  sum->blocks++;
  sum->bytes += size;
  ring.at[(ring.oldest + ring.count++) % RING] = (struct live){block, size, blocks++};
}

static void give_back(struct sums *bins)
{
  struct live *live = &ring.at[ring.oldest];
  struct sums *sum = &bins[bin_of(live->size)];
  char *volatile block = live->block; /* its pages are looked at after the free, its bytes are not */
  bool look = live->number % MEASURED == 0;
  if (look) {
    sum->looked++;
    sum->looked_size += live->size;
    sum->used += resident(block, live->size);
  }
  uint64_t began = now();
  free(block);
  sum->call_ns += now() - began;
  if (look) {
    sum->held += resident(block, live->size);
  }
  ring.oldest = (ring.oldest + 1) % RING;
  ring.count--;
}

/* ---- traces ---------------------------------------------------------------------------------------------------------- */

static struct {
  int fd; /* -1: none */
  uint64_t every;
  int (*write)(int fd, const char *format);
} trace = {.fd = -1};

static void do_other_work(uint64_t us)
{
  for (uint64_t end = now() + us * 1000; now() < end;) {
  }
}

/* Returns the wall time of the last third, without the looking. */
static uint64_t run_phase(const struct phase *phase, struct sums parts[PARTS][BINS], uint64_t count)
{
  size_t size = phase->most;
  uint64_t began = now() - looking;
  for (uint64_t i = 0; i < count; i++) {
    struct sums *bins = parts[i >= count - count / 3];
    if (i == count - count / 3) {
      began = now() - looking;
    }
    if (ring.count == phase->live) {
      while (ring.count > phase->low) {
        give_back(bins);
      }
    }
    size = next_size(phase, size);
    obtain(bins, size, phase->stride);
    do_other_work(phase->work);
    if (trace.fd >= 0 && blocks % trace.every == 0 && trace.write(trace.fd, "json") != 0) {
      die("hak_stats_write", strerror(errno));
    }
  }
  while (ring.count > 0) {
    give_back(parts[PARTS - 1]);
  }
  return now() - looking - began;
}

/* ---- the process ----------------------------------------------------------------------------------------------------- */

struct reading {
  struct rusage usage;
  struct hak_totals totals; /* under hakmem */
};

static struct reading take_reading(void)
{
  return (struct reading){usage(), hakmem_totals()};
}

static void print_part(const struct sums *bins)
{
  const char *comma = "";
  for (unsigned bin = 0; bin < BINS; bin++) {
    const struct sums *s = &bins[bin];
    if (s->blocks > 0) {
      printf("%s\"%u\": {\"blocks\": %llu, \"bytes\": %llu, \"call_ns\": %llu, \"touch_ns\": %llu, \"looked_size\": %llu, "
             "\"used\": %llu, \"held\": %llu}",
             comma, bin, (unsigned long long)s->blocks, (unsigned long long)s->bytes, (unsigned long long)s->call_ns,
             (unsigned long long)s->touch_ns, (unsigned long long)s->looked_size, (unsigned long long)s->used,
             (unsigned long long)s->held);
      comma = ", ";
    }
  }
}

static void measure(const struct scenario *scenario, const uint64_t counts[PHASES])
{
  unsigned phases = scenario->phase[1].live != 0 ? 2 : 1;
  struct reading before = take_reading();
  uint64_t start = now();
  for (unsigned i = 0; i < phases; i++) {
    late_ns[i] = run_phase(&scenario->phase[i], sums[i], counts[i]);
  }
  uint64_t ns = now() - start - looking;
  struct reading after = take_reading();

  printf("{\"blocks\": %llu, \"ns\": %llu, \"cpu_us\": %lld, \"faults\": %lld, \"peak_kib\": %ld, \"malloc\": \"%s\"",
         (unsigned long long)blocks, (unsigned long long)ns,
         (long long)(cpu_us(&after.usage) - cpu_us(&before.usage)) - (long long)looking / 1000,
         (long long)(after.usage.ru_minflt - before.usage.ru_minflt), after.usage.ru_maxrss, malloc_object());
  if (hakmem_stats != NULL) {
    printf(", \"allocs\": %llu, \"frees\": %llu", (unsigned long long)(after.totals.allocs - before.totals.allocs),
           (unsigned long long)(after.totals.frees - before.totals.frees));
  }
  printf(", \"phases\": [");
  for (unsigned i = 0; i < phases; i++) {
    printf("%s[{", i == 0 ? "" : ", ");
    print_part(sums[i][0]);
    printf("}, {");
    print_part(sums[i][1]);
    printf("}]");
  }
  printf("], \"late_ns\": [%llu, %llu]}\n", (unsigned long long)late_ns[0], (unsigned long long)late_ns[1]);
}

static uint64_t number(const char *text)
{
  char *end = NULL;
  unsigned long value = strtoul(text, &end, 10);
  if (end == text || *end != '\0' || value < 1 || value > 100000000) {
    die(text, "not a usable number");
  }
  return value;
}

int main(int argc, char **argv)
{
  uint64_t counts[PHASES] = {10000, 10000};
  unsigned given = 0;
  trace.every = 1000;
  for (int option; (option = getopt(argc, argv, "n:t:e:l")) != -1;) {
    switch (option) {
    case 'n':
      for (unsigned i = given; i < PHASES; i++) {
        counts[i] = number(optarg);
      }
      given++;
      break;
    case 't':
      trace.fd = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
      if (trace.fd < 0) {
        die(optarg, strerror(errno));
      }
      break;
    case 'e':
      trace.every = number(optarg);
      break;
    case 'l':
      for (size_t i = 0; i < SCENARIOS; i++) {
        printf("%s\t%s\n", scenarios[i].name, scenarios[i].about);
      }
      return 0;
    default:
      return 2;
    }
  }
  void *symbol = dlsym(RTLD_DEFAULT, "hak_stats_write");
  memcpy(&trace.write, &symbol, sizeof trace.write);
  if (trace.fd >= 0 && trace.write == NULL) {
    die("-t", "not under hakmem");
  }
  for (size_t i = 0; optind < argc && i < SCENARIOS; i++) {
    if (strcmp(argv[optind], scenarios[i].name) == 0) {
      measure(&scenarios[i], counts);
      return 0;
    }
  }
  die("usage", "learning SCENARIO [-n BLOCKS]... [-t FILE -e BLOCKS] | learning -l");
}
