/* SPDX-License-Identifier: MIT */
/*
 * reentry.c - unusual ways to load libraries beside hakmem. Run by reentry.sh. One thread.
 *
 *     reentry hooked            beside hooks.so
 *     reentry linked            linked against libhakmem, also preloaded
 *     reentry copy LIBRARY      with a second copy of libhakmem, loaded by path
 *     reentry deep LIBRARY      with a library that is loaded with RTLD_DEEPBIND, and led here
 *     reentry bound LIBRARY     with the same, bound to libc's malloc
 *     reentry sealed LIBRARY    with the same, where the system does not let libc's symbols be written
 */
#include "deep.h"
#include "probe.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void test_hooked(void)
{
  _Atomic int *called = dlsym(RTLD_DEFAULT, "hooks_called");
  PROBE(called != NULL && *called > 0, "hooks ran", "found %p, expected hooks.so in use", (void *)called);
  int before = called != NULL ? *called : 0;
  int fd = open("/dev/null", O_RDONLY);
  void *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const char *path = getenv("PATH");
  PROBE(fd >= 0 && map != MAP_FAILED && path != NULL && called != NULL && *called >= before + 3, "hooks serve the program",
        "found %d calls, expected 3 more than %d", called != NULL ? *called : 0, before);
}

static void test_linked(void)
{
  char buffer[1 << 16];
  size_t copies = 0;
  int fd = open("/proc/self/maps", O_RDONLY);
  ssize_t got = 0, all = 0;
  while (all < (ssize_t)sizeof buffer - 1 && (got = read(fd, buffer + all, sizeof buffer - 1 - (size_t)all)) > 0) {
    all += got;
  }
  close(fd);
  buffer[all] = '\0';
  for (const char *at = buffer; (at = strstr(at, "libhakmem.so")) != NULL; at++) {
    const char *line = at;
    while (line > buffer && line[-1] != '\n') {
      line--;
    }
    copies += strstr(line, " r-xp ") != NULL && strstr(line, " r-xp ") < at;
  }
  probe_equal("linked and preloaded, one copy is in the process", copies, 1);
}

static void test_copy(const char *library)
{
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL), *found[2];
  PROBE(handle != NULL, "a second copy loads", "found %s, expected a handle", handle == NULL ? dlerror() : "");
  if (handle == NULL) {
    return;
  }
  void *(*copy_malloc)(size_t);
  void (*copy_free)(void *);
  found[0] = dlsym(handle, "hak_malloc");
  found[1] = dlsym(handle, "hak_free");
  memcpy(&copy_malloc, &found[0], sizeof copy_malloc);
  memcpy(&copy_free, &found[1], sizeof copy_free);
  bool good = found[0] != NULL && found[1] != NULL && found[0] != dlsym(RTLD_DEFAULT, "hak_malloc");
  for (size_t size = 1; good && size < (32U << 20); size *= 3) {
    void *theirs = copy_malloc(size), *ours = malloc(size);
    good = theirs != NULL && ours != NULL;
    if (good) {
      probe_fill(theirs, size, 1);
      probe_fill(ours, size, 2);
      good = probe_intact(theirs, size, size, 1) && probe_intact(ours, size, size, 2);
    }
    copy_free(theirs);
    free(ours);
  }
  PROBE(good, "both copies serve their callers", "found %s, expected own bytes", "spoilt bytes or no block");
}

static const size_t sizes[] = {1, 100, 5000, 100000, 1 << 20, 40 << 20};

enum { SIZES = sizeof sizes / sizeof *sizes };

/* The library, of which everything is looked up. */
static struct {
  const struct deep_bound *bound;
  void *(*make)(size_t);
  void (*drop)(void *);
} deep;

static bool load_deep(const char *library)
{
  void *handle = dlopen(library, RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND), *found[2];
  PROBE(handle != NULL, "the library loads", "found %s, expected a handle", handle == NULL ? dlerror() : "");
  if (handle != NULL) {
    deep.bound = dlsym(handle, "deep_bound");
    found[0] = dlsym(handle, "deep_make");
    found[1] = dlsym(handle, "deep_drop");
    memcpy(&deep.make, &found[0], sizeof found[0]);
    memcpy(&deep.drop, &found[1], sizeof found[1]);
  }
  return handle != NULL;
}

static void test_deep(const char *library)
{
  char *early[SIZES];
  for (int i = 0; i < SIZES; i++) {
    early[i] = malloc(sizes[i]);
    probe_fill(early[i], sizes[i], 1);
  }
  if (!load_deep(library)) {
    return;
  }
  const struct deep_bound program = {malloc,        free,           calloc, realloc, reallocarray,      memalign,
                                     aligned_alloc, posix_memalign, valloc, pvalloc, malloc_usable_size};
  PROBE(memcmp(deep.bound, &program, sizeof program) == 0, "the library has the program's malloc and its relatives",
        "found %s, expected the same functions", "others");
  struct hak_totals before = probe_totals();
  bool good = true;
  for (int i = 0; i < SIZES; i++) {
    good = good && probe_intact(early[i], sizes[i], sizes[i], 1);
    deep.drop(early[i]);
    char *block = deep.make(sizes[i]);
    probe_fill(block, sizes[i], 2);
    block = realloc(block, sizes[i] + 100);
    good = good && probe_intact(block, sizes[i], sizes[i], 2);
    deep.drop(block);
    free(deep.make(sizes[i]));
  }
  struct hak_totals after = probe_totals();
  PROBE(good, "blocks keep their bytes", "found %s, expected the same bytes", "others");
  PROBE(after.allocs - before.allocs >= 2 * SIZES && after.frees - before.frees >= 3 * SIZES, "blocks are ours on either side",
        "found %llu and %llu, expected 12 made and 18 freed", (unsigned long long)(after.allocs - before.allocs),
        (unsigned long long)(after.frees - before.frees));
  probe_equal("none is libc's", after.foreign - before.foreign, 0);
  void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  PROBE(libc != NULL && dlsym(libc, "free") == probe_symbol("hak_free"), "libc's own name leads here, too",
        "found %s, expected ours", "libc's");
}

static void test_bound(const char *library)
{
  if (!load_deep(library)) {
    return;
  }
  struct hak_totals before = probe_totals();
  deep.drop(deep.make(100));
  struct hak_totals own = probe_totals();
  probe_equal("its own blocks are libc's", own.allocs - before.allocs, 0);
  bool good = true, sized = true;
  for (int i = 0; i < 6; i++) {
    char *block = deep.make(sizes[i]);
    probe_fill(block, sizes[i], 3);
    sized = sized && malloc_usable_size(block) >= sizes[i];
    free(block);
    block = deep.make(sizes[i]);
    probe_fill(block, sizes[i], 4);
    block = realloc(block, sizes[i] * 2 + 100);
    good = good && block != NULL && probe_intact(block, sizes[i], sizes[i], 4);
    free(block);
  }
  PROBE(sized, "malloc_usable_size of libc's blocks", "found %s, expected at least the request", "less");
  PROBE(good, "realloc of libc's blocks keeps the bytes", "found %s, expected a copy", "spoilt bytes or NULL");
  struct hak_totals after = probe_totals();
  /* What stands in front of libc's blocks is other blocks' data, and may look like a header of any backend. */
  for (uint64_t forged = 0; forged < 16; forged++) {
    char *low = deep.make(24), *high = deep.make(24);
    if (high - low == 32) {
      memcpy(low + 16, &forged, sizeof forged);
      high = realloc(high, 5000);
    }
    good = good && high != NULL;
    free(low);
    free(high);
  }
  PROBE(good, "realloc of libc's blocks behind forged words", "found %s, expected a copy", "NULL");
  PROBE(after.foreign - before.foreign >= 6 && after.foreign - before.foreign <= 18, "libc's blocks are counted",
        "found %llu, expected 6 frees and 6 resizes of them", (unsigned long long)(after.foreign - before.foreign));
}

/* From here on the system makes no few pages writable that were not. False where that cannot be had. */
static bool seal(void)
{
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 5),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 1 << 20, 3, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 13 /* EACCES */),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {sizeof code / sizeof *code, code};
  bool sealed = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
  if (!sealed) {
    probe_print("skip the system refuses: no filter of system calls may be set here\n");
  }
  return sealed;
}

int main(int argc, char **argv)
{
  const char *mode = argc > 1 ? argv[1] : "", *library = argc > 2 ? argv[2] : "";
  probe_served();
  if (strcmp(mode, "hooked") == 0) {
    test_hooked();
  } else if (strcmp(mode, "linked") == 0) {
    test_linked();
  } else if (strcmp(mode, "copy") == 0) {
    test_copy(library);
  } else if (strcmp(mode, "deep") == 0) {
    test_deep(library);
  } else if (strcmp(mode, "bound") == 0) {
    test_bound(library);
  } else if (strcmp(mode, "sealed") == 0) {
    if (seal()) {
      test_bound(library);
    }
  }
  probe_served();
  return probe_failures == 0 ? 0 : 1;
}
