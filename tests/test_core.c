/* SPDX-License-Identifier: MIT */
/*
 * test_core.c - the core from the inside, linked without interposing: what cannot be provoked from outside, and everything that
 * the sanitizers are to see. HAKMEM_SET chooses the backends; tests/core.sh runs it under several.
 */
#define _GNU_SOURCE
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "front.h"
#include "hakmem/hakmem.h"
#include "message.h"
#include "meta.h"
#include "option.h"
#include "os.h"
#include "pagemap.h"
#include "plugin.h"
#include "report.h"
#include "route.h"
#include "settings.h"
#include "starts.h"
#include "thread.h"
#include "trust.h"

static struct hak_totals totals(void)
{
  struct hak_totals t = {.struct_size = sizeof t};
  ck_assert_int_eq(hak_stats(&t), 0);
  return t;
}

/* ---- size classes ---------------------------------------------------------------------------------------------------- */

START_TEST(class_is_the_smallest_that_fits)
{
  for (size_t n = 0; n <= HAK_CLASS_MAX; n++) {
    uint32_t cls = hki_class_of(n);
    ck_assert_uint_lt(cls, HKI_CLASSES);
    size_t bytes = hakmem_root.class_bytes[cls];
    ck_assert_uint_ge(bytes, n);
    ck_assert_uint_eq(bytes % HKI_ALIGN, 0);
    if (cls > 1) {
      ck_assert_uint_lt(hakmem_root.class_bytes[cls - 1], n);
    }
    if (n > 128) {
      ck_assert_uint_le((bytes - n) * 8, bytes); /* at most 12.5 % unused */
    }
  }
  ck_assert_uint_eq(hki_class_of(HAK_CLASS_MAX), HKI_CLASSES - 1);
}
END_TEST

START_TEST(aligned_class_is_aligned)
{
  for (size_t align = 16; align <= HAK_GRANULE; align *= 2) {
    for (size_t n = 0; n <= HAK_CLASS_MAX; n = n * 3 / 2 + 1) {
      size_t size = hki_front_size(n, align);
      ck_assert_uint_ge(size, n);
      ck_assert_uint_le(size, HAK_CLASS_MAX);
      ck_assert_uint_eq(hakmem_root.class_bytes[hki_class_of(size)] % align, 0);
    }
  }
  ck_assert_uint_eq(hki_front_size(16, 2 * HAK_GRANULE), SIZE_MAX);
  ck_assert_uint_eq(hki_front_size(SIZE_MAX, 64), SIZE_MAX);
  ck_assert_uint_eq(hki_front_size(SIZE_MAX - 10, 64), SIZE_MAX);
}
END_TEST

/* ---- page map and start bitmaps -------------------------------------------------------------------------------------- */

START_TEST(page_map_knows_nothing_of_strangers)
{
  int local = 0;
  ck_assert_uint_eq(hki_pagemap_get(0), 0);
  ck_assert_uint_eq(hki_pagemap_get(UINTPTR_MAX), 0);
  ck_assert_uint_eq(hki_pagemap_get((uintptr_t)1 << HKI_ADDRESS_BITS), 0);
  ck_assert_uint_eq(hki_pagemap_get((uintptr_t)&local), 0);
  ck_assert_ptr_null(hki_pagemap_slot((uintptr_t)1 << HKI_ADDRESS_BITS));
  ck_assert_ptr_null(hki_pagemap_enclosing(0));
}
END_TEST

START_TEST(start_bits_are_sixteen_bytes_apart)
{
  struct hki_starts *starts = hki_starts_get(1);
  ck_assert_ptr_nonnull(starts);
  for (uintptr_t a = 0; a < HAK_GRANULE; a += HKI_ALIGN) {
    ck_assert(hki_starts_set(starts, a));
    ck_assert(!hki_starts_set(starts, a));
    ck_assert(hki_starts_test(starts, a));
    ck_assert(a + HKI_ALIGN == HAK_GRANULE || !hki_starts_test(starts, a + HKI_ALIGN));
  }
  for (uintptr_t a = 0; a < HAK_GRANULE; a += HKI_ALIGN) {
    ck_assert(hki_starts_clear(starts, a));
    ck_assert(!hki_starts_clear(starts, a));
  }
  hki_starts_put(starts, 1);
}
END_TEST

/* Of memory that runs out, as in every_system_call_may_be_refused. */
static long no_mmap(void *a, size_t n, int p, int f, int d, long o)
{
  (void)a, (void)n, (void)p, (void)f, (void)d, (void)o;
  return -ENOMEM;
}

/* A backend that has moved a block cannot take that back: what other threads use up meanwhile must not matter. */
START_TEST(what_a_resize_has_set_aside_is_its_own)
{
  uintptr_t window = 40, most = window + 3; /* where nothing is mapped; two leaves need no system call */
  struct hki_starts *spare = NULL, *taken, *all = NULL;
  struct hak_os os = hki_os;
  ck_assert(hki_starts_reserve(&spare));
  ck_assert_ptr_nonnull(spare);
  hki_os.mmap = no_mmap;
  while ((taken = hki_starts_get(1)) != NULL) {
    memcpy(taken->bits, &all, sizeof all);
    all = taken;
  }
  while (hki_pagemap_slot(window << HKI_WINDOW_SHIFT) != NULL) {
    ck_assert_uint_lt(++window, most);
  }
  struct hki_starts *starts = hki_starts_at(window << HKI_WINDOW_SHIFT, &spare);
  ck_assert_ptr_nonnull(starts);
  ck_assert_ptr_null(spare);
  ck_assert(hki_starts_set(starts, 0) && hki_starts_clear(starts, 0));
  hki_os = os;
  while ((taken = all) != NULL) {
    memcpy(&all, taken->bits, sizeof all);
    hki_starts_put(taken, 1);
  }
}
END_TEST

/* ---- options --------------------------------------------------------------------------------------------------------- */

START_TEST(sizes_are_read_exactly)
{
  static const struct {
    const char *text;
    bool good;
    uint64_t size;
  } cases[] = {{"0", true, 0},
               {"4096", true, 4096},
               {"64K", true, 65536},
               {"64k", true, 65536},
               {"2M", true, 2097152},
               {"1G", true, 1073741824},
               {"3T", true, UINT64_C(3298534883328)},
               {"", false, 0},
               {"K", false, 0},
               {"12Q", false, 0},
               {"1.5M", false, 0},
               {"-1", false, 0},
               {"64KK", false, 0},
               {"64 K", false, 0},
               {"64 ", false, 0},
               {"18446744073709551616", false, 0},
               {"17179869184G", false, 0},
               {"16777216T", false, 0}};
  hak_option option = {.key = "size", .type = HAK_SIZE, .fallback = "0"};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    hak_value value = {.size = 1};
    ck_assert_msg((hki_value_parse(&option, cases[i].text, &value) == 0) == cases[i].good, "%s", cases[i].text);
    ck_assert_uint_eq(value.size, cases[i].good ? cases[i].size : 1);
  }
}
END_TEST

START_TEST(values_are_held_against_their_range)
{
  hak_value value;
  hak_option size = {.type = HAK_SIZE, .min = "4K", .max = "1M"};
  ck_assert_int_eq(hki_value_parse(&size, "4095", &value), EINVAL);
  ck_assert_int_eq(hki_value_parse(&size, "4K", &value), 0);
  ck_assert_int_eq(hki_value_parse(&size, "1M", &value), 0);
  ck_assert_int_eq(hki_value_parse(&size, "1048577", &value), EINVAL);
  hak_option integer = {.type = HAK_INT, .min = "-3", .max = "3"};
  ck_assert_int_eq(hki_value_parse(&integer, "-3", &value), 0);
  ck_assert_int_eq(value.integer, -3);
  ck_assert_int_eq(hki_value_parse(&integer, "4", &value), EINVAL);
  ck_assert_int_eq(hki_value_parse(&integer, "99999999999999999999", &value), EINVAL);
  hak_option number = {.type = HAK_FLOAT, .min = "0", .max = "1"};
  ck_assert_int_eq(hki_value_parse(&number, "0.25", &value), 0);
  ck_assert(value.number == 0.25);
  (void)fesetround(FE_UPWARD); /* as the program may do, and have exceptions trap */
  (void)feclearexcept(FE_ALL_EXCEPT);
  for (uint32_t i = 1; i < 1000; i++) {
    char text[64];
    (void)snprintf(text, sizeof text, "0.%04u%s", i * 7, i % 2 == 0 ? "" : "1234567890123456789");
    ck_assert_int_eq(hki_value_parse(&number, text, &value), 0);
    ck_assert_int_eq(fetestexcept(FE_ALL_EXCEPT), 0);
    (void)fesetround(FE_TONEAREST);
    double exact = strtod(text, NULL);
    (void)fesetround(FE_UPWARD);
    ck_assert_msg(value.number == exact || (i % 2 != 0 && value.number - exact < 1e-15 && exact - value.number < 1e-15), "%s",
                  text);
    (void)feclearexcept(FE_ALL_EXCEPT);
  }
  (void)fesetround(FE_TONEAREST);
  ck_assert_int_eq(hki_value_parse(&number, "9007199254740992", &value), EINVAL);
  ck_assert_int_eq(hki_value_parse(&number, "1.01", &value), EINVAL);
  ck_assert_int_eq(hki_value_parse(&number, "0.2x", &value), EINVAL);
  hak_option flag = {.type = HAK_BOOL};
  ck_assert(hki_value_parse(&flag, "yes", &value) == 0 && value.flag);
  ck_assert(hki_value_parse(&flag, "0", &value) == 0 && !value.flag);
  ck_assert_int_eq(hki_value_parse(&flag, "maybe", &value), EINVAL);
}
END_TEST

/* ---- messages -------------------------------------------------------------------------------------------------------- */

START_TEST(text_is_cut_at_its_buffer)
{
  char buffer[8];
  memset(buffer, '#', sizeof buffer);
  struct hki_text text = hki_text(buffer, sizeof buffer - 1);
  hki_append(&text, "%s-%u", "abcd", 123456U);
  ck_assert_str_eq(buffer, "abcd-1");
  ck_assert_int_eq(buffer[7], '#');
  char wide[64];
  text = hki_text(wide, sizeof wide);
  hki_append(&text, "%d %ld %lu %p %c%% %s", -5, -6L, 7UL, (void *)0xab, 'x', (const char *)NULL);
  ck_assert_str_eq(wide, "-5 -6 7 0xab x% (null)");
}
END_TEST

/* ---- refused system calls -------------------------------------------------------------------------------------------- */

static struct hak_os real;
static long refuse_at; /* the system call with this number fails */
static bool refuse_all_after;
static _Atomic long calls; /* of all threads */

static bool refused(void)
{
  long call = ++calls;
  return call == refuse_at || (refuse_all_after && call > refuse_at);
}

static long bad_mmap(void *a, size_t n, int p, int f, int fd, int64_t o)
{
  return refused() ? -ENOMEM : real.mmap(a, n, p, f, fd, o);
}
static long bad_munmap(void *a, size_t n)
{
  return refused() ? -ENOMEM : real.munmap(a, n);
}
static long bad_mprotect(void *a, size_t n, int p)
{
  return refused() ? -ENOMEM : real.mprotect(a, n, p);
}
static long bad_mremap(void *a, size_t n, size_t m, int f, void *b)
{
  return refused() ? -ENOMEM : real.mremap(a, n, m, f, b);
}
static long bad_madvise(void *a, size_t n, int advice)
{
  return refused() ? -ENOMEM : real.madvise(a, n, advice);
}

static void refuse(long at, bool all_after)
{
  calls = 0;
  refuse_at = at;
  refuse_all_after = all_after;
  hki_os.mmap = bad_mmap;
  hki_os.munmap = bad_munmap;
  hki_os.mprotect = bad_mprotect;
  hki_os.mremap = bad_mremap;
  hki_os.madvise = bad_madvise;
}

static void check_pattern(const unsigned char *p, size_t n, unsigned char with)
{
  ck_assert_uint_eq(p[0], with);
  ck_assert_uint_eq(p[n / 2], with);
  ck_assert_uint_eq(p[n - 1], with);
}

/* A sequence of all calls over all sizes. Every failure is NULL with ENOMEM and leaves what it was given. */
static void work(void)
{
  static const size_t sizes[] = {1, 64, 5000, 70000, 300000, 3 << 20, 9 << 20}; /* the last beyond a quarter of an arena */
  enum { N = sizeof sizes / sizeof *sizes };
  unsigned char *block[N] = {0};
  for (int i = 0; i < N; i++) {
    errno = 0;
    block[i] = i % 2 == 0 ? hak_malloc(sizes[i]) : hak_calloc(1, sizes[i]);
    if (block[i] == NULL) {
      ck_assert_int_eq(errno, ENOMEM);
    } else {
      if (i % 2 == 1) {
        check_pattern(block[i], sizes[i], 0);
      }
      block[i][0] = block[i][sizes[i] / 2] = block[i][sizes[i] - 1] = (unsigned char)(i + 1);
    }
  }
  for (int i = 0; i < N; i++) {
    if (block[i] != NULL) {
      size_t more = sizes[i] * 2;
      errno = 0;
      unsigned char *grown = hak_realloc(block[i], more);
      if (grown == NULL) {
        ck_assert_int_eq(errno, ENOMEM);
      } else {
        block[i] = grown;
        grown[more - 1] = 0x77;
      }
      check_pattern(block[i], sizes[i], (unsigned char)(i + 1));
      unsigned char *shrunk = hak_realloc(block[i], sizes[i] / 2 + 1);
      block[i] = shrunk != NULL ? shrunk : block[i];
      ck_assert_uint_eq(block[i][0], (unsigned)i + 1);
    }
    void *aligned = NULL;
    int code = hak_posix_memalign(&aligned, 4096, sizes[i]);
    ck_assert(code == 0 || (code == ENOMEM && aligned == NULL));
    ck_assert_uint_eq((uintptr_t)aligned % 4096, 0);
    hak_free(aligned);
  }
  for (int i = 0; i < N; i++) {
    errno = EXDEV;
    hak_free(block[i]);
    ck_assert_int_eq(errno, EXDEV);
  }
}

START_TEST(every_system_call_may_be_refused)
{
  real = hki_os;
  struct hak_totals before = totals();
  for (int all = 0; all < 2; all++) {
    long last = 1;
    for (long at = 1; at <= last; at++) {
      refuse(at, all != 0);
      work();
      last = calls > last && all == 0 ? calls : last;
      hki_os = real;
      if (all != 0 && at < 200) {
        last = at + 1;
      }
    }
    ck_assert_int_ge(last, 2);
  }
  work();
  struct hak_totals after = totals();
  ck_assert_uint_eq(after.allocs - before.allocs, after.frees - before.frees);
  ck_assert_uint_eq(after.allocated, before.allocated);
  ck_assert_uint_gt(after.allocs, before.allocs);
}
END_TEST

/* ---- threads --------------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 3000, SLOTS = 64 };

static unsigned char *_Atomic shared[SLOTS];
static _Atomic uint64_t made, given_back;

static void *churn(void *seed)
{
  uint32_t x = (uint32_t)(uintptr_t)seed;
  for (int i = 0; i < ROUNDS; i++) {
    x = x * 1664525U + 1013904223U;
    size_t n = (size_t)1 << (4 + (x >> 8) % 14);
    n += i % 512 == 0 ? 300000 : 0;
    unsigned char *p = hak_malloc(n);
    ck_assert_ptr_nonnull(p);
    made++;
    memset(p, (int)(n % 251), n < 64 ? n : 64);
    if (x % 7 == 0) {
      p = hak_realloc(p, n * 2);
      ck_assert_ptr_nonnull(p);
      ck_assert_uint_eq(p[0], n % 251);
    }
    unsigned char *old = atomic_exchange(&shared[(x >> 3) % SLOTS], p);
    if (old != NULL) {
      hak_free(old);
      given_back++;
    }
  }
  return NULL;
}

/* Blocks cross between threads, and the counters equal the calls, to the last one. */
START_TEST(counters_equal_the_calls_of_all_threads)
{
  pthread_t thread[THREADS];
  struct hak_totals before = totals();
  made = given_back = 0;
  for (uintptr_t i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_create(&thread[i], NULL, churn, (void *)(i + 1)), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
  }
  for (int i = 0; i < SLOTS; i++) {
    if (shared[i] != NULL) {
      hak_free(shared[i]);
      shared[i] = NULL;
      given_back++;
    }
  }
  struct hak_totals after = totals();
  uint64_t moved = after.allocs - before.allocs - made; /* a realloc that moves between backends is an alloc and a free */
  ck_assert_uint_eq(made, given_back);
  ck_assert_uint_eq(after.frees - before.frees, given_back + moved);
  ck_assert_uint_eq(after.allocated, before.allocated);
}
END_TEST

enum { FREEING = 2 * THREADS }; /* more than the records of threads that have ended */

static pthread_barrier_t barrier;

static void *free_and_wait(void *block)
{
  hak_free(block);
  pthread_barrier_wait(&barrier); /* all are freed: the records may be given up */
  pthread_barrier_wait(&barrier); /* the totals are read */
  return NULL;
}

/* Memory comes back when there is none for the record of the thread that frees it. */
START_TEST(free_needs_no_memory)
{
  static const size_t sizes[] = {64, 5000, 300000, 3 << 20};
  pthread_t thread[FREEING];
  void *block[FREEING];
  ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, FREEING + 1), 0);
  for (int i = 0; i < FREEING; i++) {
    block[i] = hak_malloc(sizes[i % 4]);
    ck_assert_ptr_nonnull(block[i]);
  }
  struct hak_totals before = totals();
  real = hki_os;
  refuse(0, true);
  while (hki_meta_alloc(64, 64) != NULL) {
  }
  for (int i = 0; i < FREEING; i++) {
    ck_assert_int_eq(pthread_create(&thread[i], NULL, free_and_wait, block[i]), 0);
  }
  pthread_barrier_wait(&barrier);
  hki_os = real;
  struct hak_totals after = totals();
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < FREEING; i++) {
    ck_assert_int_eq(pthread_join(thread[i], NULL), 0);
  }
  ck_assert_uint_lt(after.threads - before.threads, FREEING);
  ck_assert_uint_eq(after.frees - before.frees, FREEING);
}
END_TEST

/* Whether a write there ends the process. */
static bool fatal(volatile char *place)
{
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    *place = 1;
    _exit(0);
  }
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

START_TEST(records_lie_between_guards)
{
  const size_t large = 128 << 10, piece = 4096;
  uint32_t hardening = hki_settings.hardening;
  hki_settings.hardening = HKI_FULL;
  volatile char *own = hki_meta_alloc(large, 64);
  ck_assert(own != NULL && fatal(own - 1) && fatal(own + large) && !fatal(own) && !fatal(own + large - 1));
  volatile char *last = hki_meta_alloc(piece, piece), *next = hki_meta_alloc(piece, piece);
  for (int i = 0; i < 2000 && next == last + piece; i++) { /* to the end of a chunk */
    last = next;
    next = hki_meta_alloc(piece, piece);
  }
  ck_assert(next != NULL && next != last + piece && fatal(next - 1) && !fatal(next));
  hki_settings.hardening = hardening;
}
END_TEST

/* The message for a plugin whose name finds no memory says so. */
START_TEST(plugin_without_memory_is_refused)
{
  const char *directory = getenv("PLUGINS");
  if (directory == NULL) {
    return; /* not run by tests/core.sh */
  }
  char path[4096], said[4096] = "";
  snprintf(path, sizeof path, "%s/slab.so", directory); /* by its path, it is another plugin than the one that may be loaded */
  int to = memfd_create("said", 0), saved = dup(STDERR_FILENO);
  ck_assert_int_ge(to, 0);
  ck_assert_int_ge(dup2(to, STDERR_FILENO), 0);
  real = hki_os;
  refuse(0, true);
  while (hki_meta_alloc(1, 1) != NULL) {
  }
  struct hki_backend *backend = hki_plugin_backend(path, NULL);
  hki_os = real;
  ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
  close(saved);
  ck_assert_int_gt((int)pread(to, said, sizeof said - 1, 0), 0);
  close(to);
  ck_assert_ptr_null(backend);
  ck_assert_ptr_nonnull(strstr(said, "found none, expected memory for its name; not used"));
}
END_TEST

/* Statistics are read while a thread exchanges the array of a magazine. */
START_TEST(half_exchanged_magazine_holds_nothing)
{
  static void *places[2][HAK_RUN_MAX];
  static struct hki_thread thread;
  static struct hki_snapshot snapshot;
  thread.supply[4].refilled = 16;
  thread.magazine[4].base = places[1];
  thread.magazine[4].top = places[1] + 16;
  hki_snapshot_add_thread(&snapshot, &thread);
  ck_assert_uint_eq(snapshot.class_[4].cached, 16);
  ck_assert_uint_eq(snapshot.class_[4].frees, 0);
  thread.magazine[4].top = places[0];
  hki_snapshot_add_thread(&snapshot, &thread);
  ck_assert_uint_eq(snapshot.class_[4].cached, 16);
}
END_TEST

/* And while a run is between a magazine and the backend: it is counted at one of them, or at both. */
START_TEST(runs_on_their_way_do_not_make_impossible_numbers)
{
  static void *places[HAK_RUN_MAX];
  static struct hki_thread thread;
  static struct hki_snapshot snapshot;
  thread.magazine[4].base = thread.magazine[4].top = places;
  thread.supply[4].refilled = 64; /* and not in the magazine yet */
  hki_snapshot_add_thread(&snapshot, &thread);
  ck_assert_uint_eq(snapshot.class_[4].frees, 0);
  thread.magazine[4].allocs = 48;
  thread.magazine[4].top = places + 32;
  thread.supply[4].flushed = 64; /* and half of it in the magazine still */
  hki_snapshot_add_thread(&snapshot, &thread);
  snapshot.root.backend_count = 1;
  hki_snapshot_finish(&snapshot, 0);
  ck_assert_uint_eq(snapshot.class_[4].allocs, 48);
  ck_assert_uint_eq(snapshot.class_[4].frees, 48);
  ck_assert_uint_eq(snapshot.totals.frees, 48);
}
END_TEST

/* A free looks into the window of the page map that the thread used last, then into all. */
START_TEST(a_free_finds_blocks_of_any_window)
{
  static const uint64_t others[] = {HKI_NO_WINDOW, 0, 1};
  uintptr_t nobody[1] = {0};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    void *block = hak_malloc(64);
    struct hki_thread *self = hki_self;
    self->window = others[i];
    self->entries = (uintptr_t)nobody;
    uint64_t frees = totals().frees;
    hak_free(block);
    ck_assert_uint_eq(totals().frees, frees + 1);
    ck_assert_uint_eq(self->window, (uintptr_t)block >> HKI_WINDOW_SHIFT);
    hak_free(NULL);
    ck_assert_uint_eq(self->window, (uintptr_t)block >> HKI_WINDOW_SHIFT);
  }
}
END_TEST

START_TEST(live_options_reach_running_threads)
{
  char why[200];
  struct hki_thread *self = hki_self;
  hak_free(hak_malloc(100));
  self = hki_self;
  ck_assert(!hki_detached(self));
  ck_assert_int_eq(hak_set("core.epoch", "77", why, sizeof why), 0);
  ck_assert_str_eq(why, "core.epoch = 77 (was 1024)");
  ck_assert_uint_eq(self->direct_end, 0); /* every gate is closed until the next call */
  hak_free(hak_malloc(100));
  errno = 0;
  ck_assert_int_eq(hak_set("core.strict", "on", why, sizeof why), -1);
  ck_assert_int_eq(errno, EPERM);
  ck_assert_int_eq(hak_set("core.epohc", "1", why, sizeof why), -1);
  ck_assert_int_eq(errno, EINVAL);
  ck_assert_str_eq(why, "unknown key core.epohc; did you mean core.epoch?");
  ck_assert_int_eq(hak_set("core.epoch", "0", why, sizeof why), -1);
  ck_assert_str_eq(why, "core.epoch: found \"0\", expected an integer, 1 to 1000000000");
  const char *before = hki_meta_alloc(1, 1);
  for (int i = 0; i < 1000; i++) { /* texts of changes do not add up */
    char value[100];
    snprintf(value, sizeof value, "%0*d", 8 + i % 90, 7 + i);
    ck_assert_int_eq(hak_set("core.epoch", value, NULL, 0), 0);
  }
  ck_assert_uint_lt((uintptr_t)hki_meta_alloc(1, 1) - (uintptr_t)before, 1000);
  ck_assert_int_eq(hak_set("core.epoch", "1024", NULL, 0), 0);
}
END_TEST

START_TEST(child_of_a_fork_allocates)
{
  void *p = hak_malloc(1000);
  pid_t pid = fork();
  ck_assert_int_ge(pid, 0);
  if (pid == 0) {
    for (int i = 0; i < 1000; i++) {
      hak_free(hak_malloc((size_t)i * 500));
    }
    hak_free(p);
    _exit(0);
  }
  int status = -1;
  ck_assert_int_eq(waitpid(pid, &status, 0), pid);
  ck_assert_int_eq(status, 0);
  hak_free(p);
}
END_TEST

/* ---- files that become code -------------------------------------------------------------------------------------------- */

static void *mapped(const char *path)
{
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(ftruncate(fd, 4096), 0);
  void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
  ck_assert_ptr_ne(page, MAP_FAILED);
  (void)close(fd);
  return page;
}

START_TEST(swapped_file_is_noticed)
{
  char directory[] = "/tmp/hakmem-XXXXXX";
  char checked[64], other[64];
  const char *found = NULL, *expected = NULL;
  struct hki_trust trust;
  ck_assert_ptr_nonnull(mkdtemp(directory));
  (void)snprintf(checked, sizeof checked, "%s/checked", directory);
  (void)snprintf(other, sizeof other, "%s/other", directory);
  void *before = mapped(checked);
  void *stranger = mapped(other);
  ck_assert_msg(hki_trust_begin(&trust, checked, &found, &expected), "found %s, expected %s", found, expected);
  ck_assert(hki_trust_is(&trust, before));
  ck_assert(!hki_trust_is(&trust, stranger));
  ck_assert_int_eq(unlink(checked), 0);
  void *after = mapped(checked); /* the inode of the checked file cannot come back while it is open */
  ck_assert(!hki_trust_is(&trust, after));
  hki_trust_end(&trust);
  hki_trust_stop();
  (void)munmap(before, 4096);
  (void)munmap(stranger, 4096);
  (void)munmap(after, 4096);
  ck_assert_int_eq(unlink(checked) | unlink(other) | rmdir(directory), 0);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("core");
  TCase *tc = tcase_create("core");
  tcase_set_timeout(tc, 300);
  tcase_add_test(tc, class_is_the_smallest_that_fits);
  tcase_add_test(tc, aligned_class_is_aligned);
  tcase_add_test(tc, page_map_knows_nothing_of_strangers);
  tcase_add_test(tc, start_bits_are_sixteen_bytes_apart);
  tcase_add_test(tc, what_a_resize_has_set_aside_is_its_own);
  tcase_add_test(tc, sizes_are_read_exactly);
  tcase_add_test(tc, values_are_held_against_their_range);
  tcase_add_test(tc, text_is_cut_at_its_buffer);
  tcase_add_test(tc, every_system_call_may_be_refused);
  tcase_add_test(tc, counters_equal_the_calls_of_all_threads);
  tcase_add_test(tc, free_needs_no_memory);
  tcase_add_test(tc, records_lie_between_guards);
  tcase_add_test(tc, plugin_without_memory_is_refused);
  tcase_add_test(tc, half_exchanged_magazine_holds_nothing);
  tcase_add_test(tc, runs_on_their_way_do_not_make_impossible_numbers);
  tcase_add_test(tc, a_free_finds_blocks_of_any_window);
  tcase_add_test(tc, live_options_reach_running_threads);
  tcase_add_test(tc, child_of_a_fork_allocates);
  tcase_add_test(tc, swapped_file_is_noticed);
  suite_add_tcase(suite, tc);
  SRunner *runner = srunner_create(suite);
  srunner_set_fork_status(runner, CK_NOFORK);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed != 0;
}
