/* SPDX-License-Identifier: MIT */
/*
 * os.c - system calls and the clock.
 *
 * Owns hki_os. Calls go through syscall(2), not through libc's wrappers: preloaded libraries hook those, and a hook that
 * allocates would come back to us. Each returns the kernel's result or -errno and leaves errno as it was.
 */
#define _GNU_SOURCE
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base.h"
#include "message.h"

static long result(long value, int saved_errno)
{
  if (value == -1) {
    value = -errno;
    errno = saved_errno;
  }
  return value;
}

#ifdef HKI_TSAN
/* The kernel orders what one thread did with pages before it unmapped them and what another does with the same addresses after
 * it mapped them. ThreadSanitizer knows nothing of system calls that pass libc by. */
static uint32_t unmapped; /* atomic */
#define MAPPED() ((void)__atomic_load_n(&unmapped, __ATOMIC_ACQUIRE))
#define UNMAPPED() ((void)__atomic_fetch_add(&unmapped, 1U, __ATOMIC_RELEASE))
#else
#define MAPPED() ((void)0)
#define UNMAPPED() ((void)0)
#endif

static long os_mmap(void *addr, size_t length, int prot, int flags, int fd, int64_t offset)
{
  int saved = errno;
  long address = result(syscall(SYS_mmap, addr, length, prot, flags, fd, offset), saved);
  MAPPED();
  return address;
}

static long os_munmap(void *addr, size_t length)
{
  int saved = errno;
  UNMAPPED();
  return result(syscall(SYS_munmap, addr, length), saved);
}

static long os_mprotect(void *addr, size_t length, int prot)
{
  int saved = errno;
  return result(syscall(SYS_mprotect, addr, length, prot), saved);
}

static long os_mremap(void *old_addr, size_t old_length, size_t new_length, int flags, void *new_addr)
{
  int saved = errno;
  return result(syscall(SYS_mremap, old_addr, old_length, new_length, flags, new_addr), saved);
}

static long os_madvise(void *addr, size_t length, int advice)
{
  int saved = errno;
  return result(syscall(SYS_madvise, addr, length, advice), saved);
}

static long os_process_madvise(int pidfd, const void *iovec, size_t count, int advice, uint32_t flags)
{
  int saved = errno;
  return result(syscall(SYS_process_madvise, pidfd, iovec, count, advice, flags), saved);
}

static long os_mincore(void *addr, size_t length, unsigned char *vec)
{
  int saved = errno;
  return result(syscall(SYS_mincore, addr, length, vec), saved);
}

static long os_read_file(const char *path, char *buffer, size_t size)
{
  int saved = errno;
  long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return result(-1, saved);
  }
  size_t have = 0;
  long got = 0;
  while (have + 1 < size) {
    got = syscall(SYS_read, fd, buffer + have, size - 1 - have);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      break;
    }
    have += (size_t)got;
  }
  long failure = got < 0 ? -errno : 0;
  (void)syscall(SYS_close, fd);
  errno = saved;
  buffer[have] = 0;
  return failure != 0 ? failure : (long)have;
}

static uint64_t os_now(void)
{
  struct timespec ts = {0};
  int saved = errno;
  (void)clock_gettime(CLOCK_MONOTONIC, &ts);
  errno = saved;
  return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static uint64_t os_coarse(void)
{
  struct timespec ts = {0};
  int saved = errno;
  (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
  errno = saved;
  return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

/* ---- files that are written ------------------------------------------------------------------------------------------ */

enum { NAME = 4096 }; /* longest path, with its NUL */

/* Opens a file beside `path`, which is to take its place. The descriptor, or -1. */
static int open_beside(const char *path, char beside[NAME], unsigned mode)
{
  struct hki_text text = hki_text(beside, NAME);
  hki_append(&text, "%s.%d", path, (int)getpid());
  (void)syscall(SYS_unlinkat, AT_FDCWD, beside, 0); /* of a process that was cut short */
  return (int)syscall(SYS_openat, AT_FDCWD, beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
}

/* Writes it and closes it. 0, or the errno code, and it is gone. */
static int fill_beside(int fd, const char *beside, const char *content, size_t size)
{
  int failure = hki_write(fd, content, size);
  (void)syscall(SYS_close, fd);
  if (failure != 0) {
    (void)syscall(SYS_unlinkat, AT_FDCWD, beside, 0);
  }
  return failure;
}

/* A reader of `path` sees the old content or the new. 0, or the errno code, and the file beside it is gone. */
static int put_in_place(const char *beside, const char *path)
{
  if (syscall(SYS_renameat2, AT_FDCWD, beside, AT_FDCWD, path, 0) == 0) {
    return 0;
  }
  int failure = errno;
  (void)syscall(SYS_unlinkat, AT_FDCWD, beside, 0);
  return failure;
}

/* What is at `path`, a link being one. False when nothing is, or it cannot be known: errno tells. */
static bool look_at(const char *path, struct statx *is)
{
  return syscall(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, is) == 0;
}

static long os_write_file(const char *path, const char *content, size_t size)
{
  int saved = errno;
  char beside[NAME];
  struct statx old;
  bool file = !look_at(path, &old) || S_ISREG(old.stx_mode);
  errno = saved;
  if (!file) {
    return -EEXIST;
  }
  int fd = open_beside(path, beside, 0600);
  if (fd < 0) {
    return result(-1, saved);
  }
  int failure = fill_beside(fd, beside, content, size);
  if (failure == 0) {
    failure = put_in_place(beside, path);
  }
  errno = saved;
  return failure != 0 ? -failure : (long)size;
}

/* As open_beside, with the owner and the mode of what is there. -1, too, for what no new file can stand for. */
static int open_alike(const char *path, char beside[NAME])
{
  struct statx old;
  bool exists = look_at(path, &old);
  /* One without a name has just been replaced, by a process that ended at the same moment. */
  if (exists ? !S_ISREG(old.stx_mode) || old.stx_nlink > 1 || (old.stx_mode & S_IWUSR) == 0 : errno != ENOENT) {
    return -1;
  }
  int fd = open_beside(path, beside, 0644);
  if (fd >= 0 && exists &&
      (syscall(SYS_fchown, fd, old.stx_uid, old.stx_gid) != 0 || syscall(SYS_fchmod, fd, old.stx_mode & 0777U) != 0)) {
    (void)syscall(SYS_close, fd);
    (void)syscall(SYS_unlinkat, AT_FDCWD, beside, 0);
    return -1;
  }
  return fd;
}

/* What is there is overwritten. 0, or the errno code. */
static int write_into(const char *path, const char *content, size_t size)
{
  int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) {
    return errno;
  }
  int failure = hki_write(fd, content, size);
  (void)syscall(SYS_close, fd);
  return failure;
}

int hki_write_report(const char *path, const char *content, size_t size)
{
  int saved = errno, failure = 0;
  char beside[NAME];
  int fd = open_alike(path, beside);
  if (fd >= 0) {
    failure = fill_beside(fd, beside, content, size);
  }
  if (failure == 0 && (fd < 0 || put_in_place(beside, path) != 0)) {
    failure = write_into(path, content, size);
  }
  errno = saved;
  return failure;
}

HKI_OS_CONST struct hak_os hki_os = {
    .struct_size = sizeof(struct hak_os),
    .mmap = os_mmap,
    .munmap = os_munmap,
    .mprotect = os_mprotect,
    .mremap = os_mremap,
    .madvise = os_madvise,
    .process_madvise = os_process_madvise,
    .mincore = os_mincore,
    .read_file = os_read_file,
    .now = os_now,
    .coarse = os_coarse,
    .write_file = os_write_file,
};

void hki_futex_wait(uint32_t *word, uint32_t seen, uint64_t ns)
{
  const struct timespec limit = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
  int saved = errno;
  (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, ns != 0 ? &limit : NULL, NULL, 0);
  errno = saved;
}

void hki_futex_wake(uint32_t *word)
{
  int saved = errno;
  (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  errno = saved;
}
