/* SPDX-License-Identifier: MIT */
/*
 * workout.c - the half of `hakmem plugins --check` that runs under hakmem: uses malloc and its relatives in every way that
 * reaches a plugin, and proves from the counters of libhakmem that the plugin served. `slots` and `failed` are atomic; the
 * rest belongs to the main thread.
 */
#include "tool.h"

#include "../core/report.h"
#include "conform.h"
#include "descriptor.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  SECONDS = 60,       /* for the whole workout */
  CHILD_SECONDS = 20, /* for one child */
  FORKS = 20,
  THREADS = 4,
  SLOTS = 256,          /* blocks on the way from one thread to another */
  THREAD_BLOCKS = 1000, /* blocks of each thread, at least */
  COMPLAINT = 160
};

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

/* Why a piece of the workout failed; empty while it has not. */
static char complaint[COMPLAINT];

#define COMPLAIN(...) (snprintf(complaint, sizeof complaint, __VA_ARGS__), false)

/* ---- blocks with recognisable contents ------------------------------------------------------------------------------- */

/* Every byte of a small block, some bytes of every page of a large one, and its last byte. */
static size_t stride_of(size_t size)
{
  return size <= 64 * KIB ? 1 : 509;
}

static unsigned char byte_at(size_t offset, size_t seed)
{
  return (unsigned char)((offset * 131 + seed * 17 + (offset >> 12)) & 0xffU);
}

static void stamp(void *block, size_t size, size_t seed)
{
  unsigned char *bytes = block;
  for (size_t i = 0; i < size; i += stride_of(size)) {
    bytes[i] = byte_at(i, seed);
  }
  if (size > 0) {
    bytes[size - 1] = byte_at(size - 1, seed);
  }
}

/* Whether the first `size` bytes of a block that was stamped with `stamped` bytes are as they were. */
static bool intact(const void *block, size_t size, size_t stamped, size_t seed)
{
  const unsigned char *bytes = block;
  for (size_t i = 0; i < size; i += stride_of(stamped)) {
    if (bytes[i] != byte_at(i, seed)) {
      return false;
    }
  }
  return size < stamped || size == 0 || bytes[size - 1] == byte_at(size - 1, seed);
}

static bool all_zero(const void *block, size_t size)
{
  const char *bytes = block;
  return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static bool is_aligned(const void *block, size_t alignment)
{
  return (uintptr_t)block % alignment == 0;
}

/* ---- pieces for one thread ------------------------------------------------------------------------------------------- */

/* Sizes at which classes, granules, huge pages and routes begin and end. */
static const size_t edges[] = {16,        64,        1000,    KIB,     4 * KIB, 32 * KIB, 64 * KIB,
                               128 * KIB, 256 * KIB, 1 * MIB, 2 * MIB, 4 * MIB, 9 * MIB};
enum { EDGES = sizeof edges / sizeof edges[0], SIZES = EDGES * 3 };

static size_t size_number(size_t i)
{
  return edges[i / 3] + i % 3 - 1;
}

static bool live_blocks(void)
{
  void *block[SIZES];
  for (size_t i = 0; i < SIZES; i++) {
    size_t size = size_number(i);
    block[i] = malloc(size);
    if (block[i] == NULL) {
      return COMPLAIN("found no block of %zu bytes, expected one", size);
    }
    if (!is_aligned(block[i], 16)) {
      return COMPLAIN("found a block of %zu bytes at %p, expected a multiple of 16", size, block[i]);
    }
    size_t usable = malloc_usable_size(block[i]);
    if (usable < size) {
      return COMPLAIN("found %zu usable bytes, expected at least %zu", usable, size);
    }
    stamp(block[i], usable, i);
  }
  malloc_trim(0); /* may take nothing that lives */
  for (size_t step = 0; step < SIZES; step++) {
    size_t i = step * 7 % SIZES; /* in an order that leaves holes */
    size_t usable = malloc_usable_size(block[i]);
    if (!intact(block[i], usable, usable, i)) {
      return COMPLAIN("found other bytes in a live block of %zu bytes, expected those written", size_number(i));
    }
    free(block[i]);
  }
  return true;
}

/* The age of what plugins keep is looked at every 50 ms, at slow events. */
static bool aged_blocks(void)
{
  const struct timespec pause = {.tv_nsec = 60000000};
  enum { PAIRS = 2 * SIZES };
  void *block[PAIRS];
  for (size_t i = 0; i < PAIRS; i++) {
    block[i] = malloc(size_number(i / 2));
    if (block[i] == NULL) {
      return COMPLAIN("found no block of %zu bytes, expected one", size_number(i / 2));
    }
    stamp(block[i], size_number(i / 2), i);
  }
  for (size_t i = 0; i < PAIRS; i += 2) {
    free(block[i]); /* grows old; its neighbour stays */
  }
  for (int round = 0; round < 2; round++) {
    nanosleep(&pause, NULL);
    free(malloc(2 * MIB));
    for (size_t i = 1; i < PAIRS; i += 2) {
      if (!intact(block[i], size_number(i / 2), size_number(i / 2), i)) {
        return COMPLAIN("found other bytes in a live block of %zu bytes, expected those written", size_number(i / 2));
      }
    }
  }
  for (size_t i = 1; i < PAIRS; i += 2) {
    free(block[i]);
  }
  return true;
}

static bool zeroed_blocks(void)
{
  for (size_t i = 0; i < SIZES; i++) {
    size_t size = size_number(i);
    for (int round = 0; round < 2; round++) {
      char *block = calloc(1, size);
      if (block == NULL) {
        return COMPLAIN("found no block of %zu bytes, expected one", size);
      }
      if (!all_zero(block, size)) {
        return COMPLAIN("found a byte that is not 0 in calloc of %zu bytes, expected zeros", size);
      }
      memset(block, 0xa5, size); /* what the next one must not show */
      free(block);
    }
    if (i % 8 == 0) {
      malloc_trim(0);
    }
  }
  return true;
}

static bool aligned_blocks(void)
{
  static const size_t sizes[] = {1, 100, 64 * KIB, MIB + 1};
  for (size_t alignment = 16; alignment <= 4 * MIB; alignment *= 2) {
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
      void *block = aligned_alloc(alignment, sizes[i]);
      if (block == NULL || !is_aligned(block, alignment)) {
        return COMPLAIN("found %p for %zu bytes, expected a multiple of %zu", block, sizes[i], alignment);
      }
      stamp(block, sizes[i], alignment);
      if (!intact(block, sizes[i], sizes[i], alignment)) {
        return COMPLAIN("found other bytes at alignment %zu, expected those written", alignment);
      }
      free(block);
    }
  }
  return true;
}

static bool resized_blocks(void)
{
  static const size_t sizes[] = {100,     60 * KIB, 70 * KIB,  300 * KIB, MIB,     MIB + 1, 3 * MIB,
                                 9 * MIB, 2 * MIB,  200 * KIB, 64 * KIB,  KIB - 1, 40};
  enum { COUNT = sizeof sizes / sizeof sizes[0] };
  for (size_t from = 0; from < COUNT; from++) {
    for (size_t to = 0; to < COUNT; to++) {
      size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
      char *block = malloc(sizes[from]);
      if (block == NULL) {
        return COMPLAIN("found no block of %zu bytes, expected one", sizes[from]);
      }
      stamp(block, sizes[from], from);
      char *moved = realloc(block, sizes[to]);
      if (moved == NULL || !intact(moved, kept, sizes[from], from)) {
        return COMPLAIN("found %s after %zu -> %zu bytes, expected those written", moved != NULL ? "other bytes" : "no block",
                        sizes[from], sizes[to]);
      }
      stamp(moved, sizes[to], to); /* all of it can be written */
      free(moved);
    }
  }
  return true;
}

/* Larger than any plugin is likely to keep: refusing it is fine. */
static bool vast_block(void)
{
  size_t size = 300 * MIB;
  errno = 0;
  char *block = malloc(size);
  if (block == NULL) {
    return errno == ENOMEM || COMPLAIN("found errno %d, expected a block or ENOMEM", errno);
  }
  block[0] = 1;
  block[size - 1] = 2;
  bool good = block[0] == 1 && block[size - 1] == 2;
  free(block);
  return good || COMPLAIN("found other bytes in a block of %zu bytes, expected those written", size);
}

/* ---- threads and forks ----------------------------------------------------------------------------------------------- */

/* A block on its way to the thread that frees it. Its size is in its first word. */
static void *slots[SLOTS];
static unsigned failed; /* blocks with wrong contents, or none at all */
static bool threads_stop;

static uint64_t draw(uint64_t *state)
{
  *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return *state >> 33;
}

/* Most are small, some up to 1 MiB. */
static size_t draw_size(uint64_t *state)
{
  unsigned bits = 4 + (unsigned)(draw(state) % 17);
  return ((size_t)1 << bits) + draw(state) % ((size_t)1 << bits) / 2;
}

static void *block_make(size_t size)
{
  unsigned char *block = malloc(size);
  if (block == NULL) {
    __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
    return NULL;
  }
  memcpy(block, &size, sizeof size);
  stamp(block + sizeof size, size - sizeof size, size);
  return block;
}

static void block_end(unsigned char *block)
{
  if (block == NULL) {
    return;
  }
  size_t size;
  memcpy(&size, block, sizeof size);
  if (!intact(block + sizeof size, size - sizeof size, size - sizeof size, size)) {
    __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
  }
  free(block);
}

static void *churn(void *argument)
{
  uint64_t state = (uintptr_t)argument + 1;
  for (unsigned i = 0; i < THREAD_BLOCKS || !__atomic_load_n(&threads_stop, __ATOMIC_RELAXED); i++) {
    void **slot = &slots[draw(&state) % SLOTS];
    block_end(__atomic_exchange_n(slot, block_make(draw_size(&state)), __ATOMIC_ACQ_REL));
  }
  return NULL;
}

/* A child uses the allocator as it finds it, and frees what it inherited. */
_Noreturn static void child(void *inherited)
{
  void *block[64];
  uint64_t state = (uint64_t)getpid();
  alarm(CHILD_SECONDS);
  failed = 0;
  block_end(inherited);
  for (size_t i = 0; i < sizeof block / sizeof block[0]; i++) {
    block[i] = block_make(draw_size(&state));
  }
  for (size_t i = 0; i < sizeof block / sizeof block[0]; i++) {
    block_end(block[i]);
  }
  _exit(failed == 0 ? 0 : 1);
}

static bool forked_children(void)
{
  for (int i = 0; i < FORKS; i++) {
    void *inherited = block_make((size_t)64 << (i % 16));
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
      child(inherited);
    }
    block_end(inherited);
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
      return COMPLAIN("found errno %d, expected a child", errno);
    }
    if (WIFSIGNALED(status)) {
      return COMPLAIN("found child %d killed by signal %d%s, expected its end", i + 1, WTERMSIG(status),
                      WTERMSIG(status) == SIGALRM ? " (it hung)" : "");
    }
    if (WEXITSTATUS(status) != 0) {
      return COMPLAIN("found wrong bytes in child %d, expected those written", i + 1);
    }
  }
  return true;
}

/* Threads that free each other's blocks; meanwhile this one forks. */
static bool threads_and_forks(bool *forks_good)
{
  pthread_t thread[THREADS];
  int started = 0;
  failed = 0;
  threads_stop = false;
  while (started < THREADS && pthread_create(&thread[started], NULL, churn, (void *)(uintptr_t)started) == 0) {
    started++;
  }
  *forks_good = forked_children();
  __atomic_store_n(&threads_stop, true, __ATOMIC_RELAXED);
  for (int i = 0; i < started; i++) {
    pthread_join(thread[i], NULL);
  }
  for (size_t i = 0; i < SLOTS; i++) {
    block_end(slots[i]);
    slots[i] = NULL;
  }
  return started == THREADS && failed == 0;
}

/* ---- the counters ---------------------------------------------------------------------------------------------------- */

/* Index of the backend; 0, which is boot, when it is not in use. */
static uint32_t backend_index(const struct hki_root *root, const char *name)
{
  for (uint32_t i = 1; i < root->backend_count && i < HKI_BACKENDS; i++) {
    if (same_name(root->backend[i].name, name)) {
      return i;
    }
  }
  return 0;
}

/* Blocks or objects that the program got from a backend since the start, and those it still holds. */
struct served {
  uint64_t given, live;
};

static struct served served_by(const struct hki_root *root, uint32_t backend)
{
  static struct hki_snapshot snapshot;
  hki_snapshot_from_root(&snapshot, root);
  for (const struct hki_thread *thread = root->threads; thread != NULL; thread = thread->next) {
    hki_snapshot_add_thread(&snapshot, thread);
  }
  hki_snapshot_finish(&snapshot, 0);
  const struct hki_tally *tally = &snapshot.backend[backend];
  return (struct served){tally->allocs, tally->allocs - tally->frees};
}

static void judge_backend(const struct hki_root *root, uint32_t backend, struct served before)
{
  struct served after = served_by(root, backend);
  verdict(after.given > before.given, "the plugin served the calls", "found 0 blocks from it, expected some");
  verdict(after.live == before.live, "all blocks came back", "found %lld more live blocks than before, expected 0",
          (long long)(after.live - before.live));
  uint32_t callbacks = root->backend[backend].callbacks;
  verdict(callbacks == 0, "no malloc in callbacks", "found %u, expected 0", callbacks);
}

/* Where the root shows the plugin of that kind which is in force; NULL for a backend. */
static const char *in_force(const struct hki_root *root, const char *kind)
{
  return strcmp(kind, "policy") == 0    ? root->policy
         : strcmp(kind, "cache") == 0   ? root->cache
         : strcmp(kind, "reclaim") == 0 ? root->reclaim
                                        : NULL;
}

static void judge_cache(const struct hki_root *root)
{
  uint64_t hits = 0;
  for (uint32_t i = 0; i < root->cell_count; i++) {
    hits += root->cell[i].hits;
  }
  verdict(hits > 0, "the cache gives blocks back", "found no large block that came from it, expected some");
}

static void judge_policy(const struct hki_root *root, const char *name)
{
  verdict(same_name(root->policy, name), "the policy is still in force", "found %s, expected %s",
          root->policy[0] != '\0' ? root->policy : "none", name);
  verdict(root->epochs > 1, "the policy decided", "found %llu decisions, expected several", (unsigned long long)root->epochs);
}

/* ---- the whole ------------------------------------------------------------------------------------------------------- */

static void judge_piece(bool good, const char *what)
{
  verdict(good, what, "%s", complaint);
  complaint[0] = '\0';
}

static void round_of_work(bool print)
{
  static const struct {
    const char *what;
    bool (*piece)(void);
  } pieces[] = {
      {"live blocks keep their bytes", live_blocks}, {"live blocks outlast what grows old beside them", aged_blocks},
      {"calloc gives zeros", zeroed_blocks},         {"alignments from 16 bytes to 4 MiB", aligned_blocks},
      {"realloc keeps the bytes", resized_blocks},   {"a block of 300 MiB", vast_block},
  };
  for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
    bool good = pieces[i].piece();
    if (print || !good) {
      judge_piece(good, pieces[i].what);
    }
  }
  bool forks_good = false;
  bool threads_good = threads_and_forks(&forks_good);
  if (print || !forks_good) {
    judge_piece(forks_good, "20 children allocate and free");
  }
  if (print || !threads_good) {
    verdict(threads_good, "4 threads free each other's blocks", "found %u wrong blocks, expected 0", failed);
  }
}

static void set_live_options(int count, char **settings)
{
  int (*set)(const char *key, const char *value, char *why, size_t why_size) = NULL;
  void *symbol = dlsym(RTLD_DEFAULT, "hak_set");
  memcpy(&set, &symbol, sizeof symbol);
  for (int i = 0; i < count && set != NULL; i++) {
    char why[256] = "";
    char *equals = strchr(settings[i], '=');
    if (equals == NULL) {
      tool_usage("--inside-workout %s: expected KEY=VALUE", settings[i]);
    }
    char *what = tool_text("takes %s while it serves", settings[i]);
    *equals = '\0';
    int result = set(settings[i], equals + 1, why, sizeof why);
    verdict(result == 0, what, "found \"%s\", expected that it is in force", why);
    free(what);
  }
}

int workout_inside(int argc, char **argv)
{
  if (argc < 3) {
    tool_usage("unknown command --inside-workout");
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  const char *kind = argv[1], *name = argv[2];
  bool is_backend = strcmp(kind, "backend") == 0;
  const struct hki_root *root = dlsym(RTLD_DEFAULT, "hakmem_root");
  if (!verdict(root != NULL && root->magic == HKI_ROOT_MAGIC && root->version == HKI_ROOT_VERSION, "runs under hakmem",
               "found no libhakmem of this version in the process, expected one") ||
      root == NULL) { /* for those that do not see into verdict */
    return verdict_status();
  }
  uint32_t backend = is_backend ? backend_index(root, name) : 0;
  bool used = is_backend ? backend != 0 : same_name(in_force(root, kind), name);
  if (!verdict(used, "libhakmem uses the plugin", "found that it does not, expected %s in force; the line above says why",
               name)) {
    return verdict_status();
  }

  alarm(SECONDS);
  round_of_work(true); /* also fills what threads and libc keep for good */
  set_live_options(argc - 3, argv + 3);
  struct served before = is_backend ? served_by(root, backend) : (struct served){0};
  round_of_work(false);
  if (is_backend) {
    judge_backend(root, backend, before);
  } else if (strcmp(kind, "policy") == 0) {
    judge_policy(root, name);
  } else if (strcmp(kind, "cache") == 0) {
    judge_cache(root);
  }
  return verdict_status();
}
