/* SPDX-License-Identifier: MIT */
/*
 * semantics.c - the promises of malloc and its relatives, as glibc 2.36 keeps them, at sizes on both sides of every border
 * between backends. Run preloaded by semantics.sh under each configuration. One thread, no lock.
 */
#include "probe.h"

#include <errno.h>
#include <malloc.h>

enum { MARK = 4711 }; /* an errno that nobody sets */

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* Both sides of the borders between size classes, granules, arenas and routes. */
static const size_t sizes[] = {
    0,         1,         16,        24,        100,     1024, 4096,    16 * KIB, 64 * KIB - 1, 64 * KIB,       65 * KIB,
    128 * KIB, 200 * KIB, 256 * KIB, 300 * KIB, MIB - 1, MIB,  MIB + 1, 2 * MIB,  3 * MIB + 5,  8 * MIB - 4096, 8 * MIB + 100,
    17 * MIB};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static volatile size_t huge; /* hides sizes that the compiler would warn about */

static void test_zero_size(void)
{
  void *block[64];
  bool unique = true;
  for (int i = 0; i < 64; i++) {
    block[i] = malloc(0);
    for (int j = 0; j < i; j++) {
      unique = unique && block[i] != NULL && block[i] != block[j];
    }
  }
  for (int i = 0; i < 64; i++) {
    free(block[i]);
  }
  PROBE(unique, "malloc(0): unique", "found %s, expected 64 different blocks", "NULL or a block twice");
  void *zero = calloc(0, 8), *other = calloc(8, 0);
  PROBE(zero != NULL && other != NULL && zero != other, "calloc(0)", "found %p and %p, expected two blocks", zero, other);
  free(zero);
  free(other);
  free(NULL);
}

static void test_overflow(void)
{
  static const size_t hopeless[] = {SIZE_MAX, SIZE_MAX - 101, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX, PTRDIFF_MAX - 4096};
  char name[96];
  for (int i = 0; i < 5; i++) {
    huge = hopeless[i];
    void *block = NULL;
    char *old = malloc(100);
    void *out = &name;
    memset(old, 'o', 100);
#define REFUSED(call)                                                                                                          \
  errno = 0;                                                                                                                   \
  block = (call);                                                                                                              \
  snprintf(name, sizeof name, "%s of %zx", #call, huge);                                                                       \
  probe_null(name, block, errno, ENOMEM)
    REFUSED(malloc(huge));
    REFUSED(calloc(1, huge));
    REFUSED(realloc(NULL, huge));
    REFUSED(memalign(64, huge));
    REFUSED(aligned_alloc(4096, huge));
    REFUSED(valloc(huge));
    REFUSED(pvalloc(huge));
    REFUSED(realloc(old, huge));
    probe_equal("failed realloc keeps the block", (uint64_t)(unsigned char)old[99], 'o');
    probe_equal("posix_memalign without memory", (uint64_t)posix_memalign(&out, 64, huge), ENOMEM);
    PROBE(out == &name, "posix_memalign without memory leaves out alone", "found %p, expected %p", out, (void *)&name);
    free(old);
  }
  void *block = NULL;
  huge = SIZE_MAX / 2;
  REFUSED(calloc(huge, 3));
  REFUSED(calloc(3, huge));
  REFUSED(calloc(huge, 2));
  REFUSED(reallocarray(NULL, huge, 3));
  REFUSED(reallocarray(NULL, 4, huge));
  huge = (size_t)1 << 46;
  errno = 0;
  block = malloc(huge);
  PROBE(block != NULL || errno == ENOMEM, "64 TiB is refused or served", "found errno %d, expected ENOMEM", errno);
  free(block);
}

static void test_alignment_arguments(void)
{
  static const size_t bad[] = {0, 1, 3, 4, 24, 4097};
  char name[64];
  for (int i = 0; i < 6; i++) {
    void *out = name;
    int code = posix_memalign(&out, bad[i], 64);
    snprintf(name, sizeof name, "posix_memalign at %zu is EINVAL", bad[i]);
    PROBE(code == EINVAL && out == name, name, "found %d and %p, expected EINVAL and out untouched", code, out);
  }
  static const size_t rounded[][2] = {{0, 16}, {3, 16}, {24, 32}, {3000, 4096}};
  for (int i = 0; i < 4; i++) {
    huge = rounded[i][0];
    void *up = memalign(huge, 100);
    snprintf(name, sizeof name, "memalign(%zu) rounds up to %zu", rounded[i][0], rounded[i][1]);
    PROBE(up != NULL && (uintptr_t)up % rounded[i][1] == 0, name, "found %p, expected that alignment", up);
    free(up);
  }
  huge = SIZE_MAX / 2 + 1; /* a power of two, and more than there are bytes of address space */
  for (size_t size = 100; size != 0; size = size == 100 ? huge - 20 : size == huge - 20 ? huge + 100 : 0) {
    void *out = name;
    int code = posix_memalign(&out, huge, size);
    snprintf(name, sizeof name, "posix_memalign of %zx at %zx", size, huge);
    PROBE(code == ENOMEM && out == name, name, "found %d and %p, expected ENOMEM and out untouched", code, out);
  }
  huge = SIZE_MAX / 2 + 2;
  errno = 0;
  void *block = memalign(huge, 100);
  probe_null("memalign above the largest power of two", block, errno, EINVAL);
  block = aligned_alloc(64, 100);
  PROBE(block != NULL && (uintptr_t)block % 64 == 0, "aligned_alloc(64, 100)", "found %p, expected a multiple of 64", block);
  free(block);
}

static void *by_posix(size_t align, size_t size)
{
  void *out = NULL;
  return posix_memalign(&out, align, size) == 0 ? out : NULL;
}

static void test_alignments(void)
{
  static void *(*const entry[])(size_t, size_t) = {memalign, aligned_alloc, by_posix};
  static const char *const entry_name[] = {"memalign", "aligned_alloc", "posix_memalign"};
  char name[64];
  for (int e = 0; e < 3; e++) {
    for (size_t align = 16; align <= 4 * MIB; align *= 2) {
      const size_t tried[] = {1, 100, align - 1, align + 1, 64 * KIB, MIB, 3 * MIB};
      void *block[7];
      bool good = true;
      for (int i = 0; i < 7; i++) {
        block[i] = entry[e](align, tried[i]);
        good = good && block[i] != NULL && (uintptr_t)block[i] % align == 0 && malloc_usable_size(block[i]) >= tried[i];
        if (block[i] != NULL) {
          probe_fill(block[i], tried[i], align + (size_t)i);
        }
      }
      for (int i = 0; i < 7; i++) {
        good = good && block[i] != NULL && probe_intact(block[i], tried[i], tried[i], align + (size_t)i);
        /* An aligned block can be resized, to plain alignment. */
        void *moved = realloc(block[i], tried[i] + 5000);
        good = good && moved != NULL && probe_intact(moved, tried[i], tried[i], align + (size_t)i);
        free(moved);
      }
      snprintf(name, sizeof name, "%s at %zu", entry_name[e], align);
      PROBE(good, name, "found a block misaligned, small or spoilt, expected 7 at multiples of %zu", align);
    }
  }
  void *block = valloc(100);
  PROBE(block != NULL && (uintptr_t)block % 4096 == 0, "valloc", "found %p, expected a multiple of 4096", block);
  free(block);
  block = pvalloc(4097);
  PROBE(block != NULL && (uintptr_t)block % 4096 == 0 && malloc_usable_size(block) >= 8192, "pvalloc",
        "found %p with %zu bytes, expected a multiple of 4096 with 8192", block, malloc_usable_size(block));
  free(block);
  bool good = true;
  for (int i = 0; i < SIZES; i++) {
    void *plain = malloc(sizes[i]);
    good = good && plain != NULL && (uintptr_t)plain % 16 == 0;
    free(plain);
  }
  PROBE(good, "malloc: multiples of 16", "found %s, expected multiples of 16", "another alignment");
}

static void test_errno(void)
{
  bool by_alloc = true, by_free = true;
  for (int i = 0; i <= SIZES; i++) {
    size_t size = i < SIZES ? sizes[i] : 200 * MIB;
    errno = MARK;
    void *block[4] = {malloc(size), calloc(1, size), aligned_alloc(128, size), realloc(NULL, size)};
    block[0] = realloc(block[0], size + 100);
    by_alloc = by_alloc && errno == MARK;
    for (int j = 0; j < 4; j++) {
      errno = MARK;
      free(block[j]);
      by_free = by_free && errno == MARK;
    }
  }
  PROBE(by_alloc, "errno untouched by success", "found %s, expected as it was", "changed");
  PROBE(by_free, "errno untouched by free", "found %s, expected as it was", "changed");
  errno = MARK;
  free(NULL);
  probe_equal("errno untouched by free(NULL)", (uint64_t)errno, MARK);
}

static void test_usable_size(void)
{
  bool enough = true, constant = true, intact = true;
  for (int i = 0; i < SIZES; i++) {
    void *block = malloc(sizes[i]), *neighbour = malloc(sizes[i]);
    size_t usable = malloc_usable_size(block);
    enough = enough && usable >= sizes[i];
    probe_fill(block, usable, 1);
    probe_fill(neighbour, malloc_usable_size(neighbour), 2);
    constant = constant && malloc_usable_size(block) == usable;
    intact = intact && probe_intact(block, usable, usable, 1);
    free(neighbour);
    constant = constant && malloc_usable_size(block) == usable;
    free(block);
  }
  PROBE(enough, "usable size covers the request", "found %s, expected at least the request", "less");
  PROBE(constant, "usable size is constant", "found %s, expected the same", "another");
  PROBE(intact, "usable size is writable", "found %s, expected own bytes only", "bytes of a neighbour");
  probe_equal("usable size of NULL", malloc_usable_size(NULL), 0);
}

static bool all_zero(const unsigned char *bytes, size_t size)
{
  return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

static void test_calloc(void)
{
  size_t bad = 0;
  for (size_t size = 1; size <= 64 * MIB; size += size / 3 + 1) {
    for (int round = 0; round < 2; round++) {
      void *dirty[2] = {malloc(size), malloc(size)};
      memset(dirty[0], 0xa5, malloc_usable_size(dirty[0]));
      memset(dirty[1], 0x5a, malloc_usable_size(dirty[1]));
      free(dirty[0]);
      dirty[1] = realloc(dirty[1], size / 2 + 1); /* a block shrunk in place leaves a dirty tail */
      void *clean = calloc(1, size);
      if (clean == NULL || !all_zero(clean, size)) {
        bad = size;
      }
      free(clean);
      free(dirty[1]);
    }
  }
  PROBE(bad == 0, "calloc is zero, 1 B to 64 MiB", "found other bytes at size %zu, expected zero", bad);
  bad = 0;
  for (int i = 0; i < SIZES; i++) {
    void *again = calloc(sizes[i] / 4 + 1, 4);
    if (again == NULL || !all_zero(again, sizes[i])) {
      bad = sizes[i];
    }
    free(again);
  }
  PROBE(bad == 0, "calloc is zero at the borders", "found other bytes at size %zu, expected zero", bad);
}

static void test_realloc(void)
{
  size_t bad_from = 0, bad_to = 0;
  bool good = true;
  for (int from = 1; from < SIZES; from++) {
    for (int to = 1; to < SIZES; to++) {
      void *block = malloc(sizes[from]);
      probe_fill(block, sizes[from], (uint64_t)from);
      void *moved = realloc(block, sizes[to]);
      size_t kept = sizes[from] < sizes[to] ? sizes[from] : sizes[to];
      if (moved == NULL || malloc_usable_size(moved) < sizes[to] || !probe_intact(moved, kept, sizes[from], (uint64_t)from)) {
        good = false;
        bad_from = sizes[from];
        bad_to = sizes[to];
      }
      if (moved != NULL) {
        memset(moved, 1, sizes[to]);
      }
      free(moved);
    }
  }
  PROBE(good, "realloc between all sizes", "found spoilt bytes from %zu to %zu, expected a copy", bad_from, bad_to);

  /* One block grows and shrinks through all of them, beyond the size of a mapping of its own. */
  size_t size = 1;
  unsigned char *walker = malloc(1);
  walker[0] = 7;
  good = true;
  for (; size < 600 * MIB && walker != NULL; size = size * 3 / 2 + 1) {
    size_t next = size * 3 / 2 + 1;
    walker = realloc(walker, next);
    for (size_t at = 0; walker != NULL && at < next; at += next / 64 + 1) {
      good = good && (at >= size || walker[at] == 7 || at % (size / 64 + 1) != 0);
      walker[at] = 7;
    }
    good = good && walker != NULL && walker[0] == 7;
  }
  for (; size > 1 && walker != NULL; size = size * 2 / 3) {
    walker[size / 2] = 9;
    walker = realloc(walker, size * 2 / 3);
    good = good && walker != NULL && walker[0] == 7 && walker[size / 2] == 9;
    if (walker != NULL) {
      walker[0] = 7;
    }
  }
  PROBE(good, "realloc up to 600 MiB and down", "found %s, expected a copy", "spoilt bytes");
  free(walker);

  struct hak_totals before = probe_totals();
  void *block = realloc(NULL, 100);
  PROBE(block != NULL && malloc_usable_size(block) >= 100, "realloc(NULL, n) allocates", "found %p, expected a block", block);
  void *none = realloc(block, 0);
  struct hak_totals after = probe_totals();
  PROBE(none == NULL, "realloc(p, 0) is NULL", "found %p, expected NULL", none);
  probe_equal("realloc(p, 0) frees", after.frees - before.frees, after.allocs - before.allocs);
  block = realloc(NULL, 0);
  PROBE(block != NULL, "realloc(NULL, 0) is a block", "found %p, expected a block", block);
  block = reallocarray(block, 100, 30);
  PROBE(block != NULL && malloc_usable_size(block) >= 3000, "reallocarray", "found %p, expected 3000 bytes", block);
  free(block);
}

static void test_libc_callers(void)
{
  char *text = NULL, *line = NULL, *memory = NULL;
  size_t room = 0, written = 0;
  int length = asprintf(&text, "%0*d", 100000, 7);
  PROBE(length == 100000 && text[99999] == '7', "asprintf", "found %d, expected 100000", length);
  FILE *stream = fmemopen(text, 100000, "r");
  ssize_t read = getline(&line, &room, stream);
  fclose(stream);
  PROBE(read == 100000 && line[99999] == '7', "getline", "found %zd, expected 100000", read);
  char *copy = strdup(line);
  PROBE(copy != NULL && strcmp(copy, text) == 0, "strdup", "found %s, expected a copy", "another text");
  stream = open_memstream(&memory, &written);
  for (int i = 0; i < 100; i++) {
    fputs(copy, stream);
  }
  fclose(stream);
  PROBE(written == 10000000 && memory[9999999] == '7', "open_memstream", "found %zu, expected 10000000", written);
  free(text);
  free(line);
  free(copy);
  free(memory);
}

static void test_introspection(void)
{
  struct mallinfo2 before = mallinfo2();
  void *block = malloc(3 * MIB);
  struct mallinfo2 after = mallinfo2();
  size_t grown = after.uordblks - before.uordblks; /* what is mapped may shrink at any time */
  PROBE(grown >= 3 * MIB && grown < 16 * MIB, "mallinfo2 sees 3 MiB", "found %zu, expected 3 to 16 MiB", grown);
  free(block);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  struct mallinfo old = mallinfo();
#pragma GCC diagnostic pop
  PROBE(old.uordblks > 0 || old.arena >= 0, "mallinfo", "found %d, expected bytes in use", old.uordblks);
  char *text = NULL;
  size_t length = 0;
  FILE *stream = open_memstream(&text, &length);
  int code = malloc_info(0, stream);
  fclose(stream);
  PROBE(code == 0 && length > 10 && strncmp(text, "<malloc", 7) == 0, "malloc_info", "found %d and '%.20s', expected XML", code,
        text);
  code = malloc_info(1, stdout);
  PROBE(code != 0, "malloc_info refuses options", "found %d, expected an error", code);
  free(text);
  malloc_stats();
  probe_print("ok malloc_stats\n");
  code = mallopt(M_MMAP_THRESHOLD, 1 << 20);
  PROBE(code == 0 || code == 1, "mallopt", "found %d, expected 0 or 1", code);
  code = malloc_trim(0);
  PROBE(code == 0 || code == 1, "malloc_trim", "found %d, expected 0 or 1", code);
}

/* Entries that glibc 2.36 lacks or no longer declares, and both names of one allocator. */
static void test_other_entries(void)
{
  void (*cfree_)(void *), (*free_sized_)(void *, size_t), (*free_aligned_sized_)(void *, size_t, size_t), (*hak_free_)(void *);
  void *(*hak_malloc_)(size_t);
  void *found[] = {probe_symbol("cfree"), probe_symbol("free_sized"), probe_symbol("free_aligned_sized"),
                   probe_symbol("hak_free"), probe_symbol("hak_malloc")};
  bool all = true;
  for (int i = 0; i < 5; i++) {
    all = all && found[i] != NULL;
  }
  PROBE(all, "cfree, free_sized, free_aligned_sized, hak_*", "found %s, expected all", "a missing symbol");
  if (!all) {
    return;
  }
  memcpy(&cfree_, &found[0], sizeof cfree_);
  memcpy(&free_sized_, &found[1], sizeof free_sized_);
  memcpy(&free_aligned_sized_, &found[2], sizeof free_aligned_sized_);
  memcpy(&hak_free_, &found[3], sizeof hak_free_);
  memcpy(&hak_malloc_, &found[4], sizeof hak_malloc_);
  struct hak_totals before = probe_totals();
  for (int i = 0; i < SIZES; i++) {
    cfree_(malloc(sizes[i]));
    free_sized_(malloc(sizes[i]), sizes[i]);
    free_aligned_sized_(aligned_alloc(256, sizes[i]), 256, sizes[i]);
    hak_free_(malloc(sizes[i]));
    free(hak_malloc_(sizes[i]));
  }
  struct hak_totals after = probe_totals();
  probe_equal("their allocations are counted", after.allocs - before.allocs, 5U * SIZES);
  probe_equal("their frees are counted", after.frees - before.frees, 5U * SIZES);
}

int main(void)
{
  probe_served();
  test_zero_size();
  test_overflow();
  test_alignment_arguments();
  test_alignments();
  test_errno();
  test_usable_size();
  test_calloc();
  test_realloc();
  test_libc_callers();
  test_introspection();
  test_other_entries();
  return probe_failures == 0 ? 0 : 1;
}
