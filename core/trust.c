/* SPDX-License-Identifier: MIT */
/* trust.c - owns nothing. [load] only: libc's file functions are allowed here. */
#define _GNU_SOURCE
#include "trust.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "message.h"
#include "os.h"

enum { MAPS_BYTES = 1024 * 1024 };

static uid_t library_owner(void)
{
  Dl_info info;
  struct stat st;
  bool known = dladdr(&hakmem_root, &info) != 0 && info.dli_fname != NULL && stat(info.dli_fname, &st) == 0;
  return known ? st.st_uid : 0;
}

static bool good(const struct stat *st, const char **found, const char **expected)
{
  if (st->st_uid != 0 && st->st_uid != geteuid() && st->st_uid != library_owner()) {
    *found = "it owned by another user";
    *expected = "it, and the directories above it, to belong to root, to you, or to the owner of libhakmem";
    return false;
  }
  /* In a directory with the sticky bit (/tmp) others can add files, but not replace ours. */
  if ((st->st_mode & S_IWOTH) != 0 && !(S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0)) {
    *found = S_ISDIR(st->st_mode) ? "a directory writable by others" : "a file writable by others";
    *expected = "no write permission for others on it and the directories above it";
    return false;
  }
  return true;
}

bool hki_trust_begin(struct hki_trust *trust, const char *path, const char **found, const char **expected)
{
  trust->fd = -1;
  trust->mapping = MAP_FAILED;
  *expected = "a readable plugin file";
  if (realpath(path, trust->path) == NULL) {
    *found = "no such file";
    return false;
  }
  struct stat st;
  trust->fd = open(trust->path, O_RDONLY | O_CLOEXEC);
  if (trust->fd < 0 || fstat(trust->fd, &st) != 0) {
    *found = "a file that cannot be opened";
    return false;
  }
  if (!S_ISREG(st.st_mode)) {
    *found = "something that is not a regular file";
    return false;
  }
  bool ok = good(&st, found, expected);
  char above[sizeof trust->path];
  memcpy(above, trust->path, sizeof above);
  for (char *slash = strrchr(above, '/'); ok && slash != NULL; slash = strrchr(above, '/')) {
    slash[slash == above] = 0; /* the root directory keeps its slash */
    if (stat(above, &st) != 0) {
      *found = "a directory above it that cannot be examined";
      return false;
    }
    ok = good(&st, found, expected);
    if (strcmp(above, "/") == 0) {
      break;
    }
  }
  if (ok) {
    trust->mapping = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, trust->fd, 0);
  }
  return ok;
}

/* The "major:minor inode" column of the line in /proc/self/maps whose range contains the address. */
static bool identity(const char *maps, uintptr_t address, const char **id, size_t *size)
{
  for (const char *line = maps; *line != 0; line += strcspn(line, "\n"), line += *line == '\n') {
    char *end;
    uintptr_t low = strtoul(line, &end, 16);
    uintptr_t high = strtoul(end + 1, &end, 16);
    if (address < low || address >= high) {
      continue;
    }
    const char *at = end;
    for (int column = 0; column < 2; column++) { /* permissions, offset */
      at += strspn(at, " ");
      at += strcspn(at, " \n");
    }
    at += strspn(at, " ");
    *id = at;
    at += strcspn(at, " \n");
    at += strspn(at, " ");
    at += strcspn(at, " \n");
    *size = (size_t)(at - *id);
    return true;
  }
  return false;
}

bool hki_trust_is(const struct hki_trust *trust, const void *address)
{
  long r = hki_os.mmap(NULL, MAPS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(r)) {
    return false;
  }
  char *maps = (char *)r;
  bool same;
  if (trust->mapping != MAP_FAILED && hki_os.read_file("/proc/self/maps", maps, MAPS_BYTES) > 0) {
    const char *a = NULL, *b = NULL;
    size_t n = 0, m = 0;
    same = identity(maps, (uintptr_t)trust->mapping, &a, &n) && identity(maps, (uintptr_t)address, &b, &m) && n == m &&
           memcmp(a, b, n) == 0;
  } else { /* no /proc: at least nobody has replaced the file until now */
    struct stat then, now;
    same = fstat(trust->fd, &then) == 0 && stat(trust->path, &now) == 0 && then.st_dev == now.st_dev && then.st_ino == now.st_ino;
  }
  (void)hki_os.munmap(maps, MAPS_BYTES);
  return same;
}

void hki_trust_end(struct hki_trust *trust)
{
  if (trust->mapping != MAP_FAILED) {
    (void)munmap(trust->mapping, 1);
  }
  if (trust->fd >= 0) {
    (void)close(trust->fd);
  }
}
