/* SPDX-License-Identifier: MIT */
/* trust.c - owns a descriptor of /proc/self/maps. [load] only, one thread: libc's file functions are allowed here. */
#define _GNU_SOURCE
#include "trust.h"

#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "message.h"
#include "meta.h"
#include "os.h"

#define MAPS "/proc/self/maps"
enum { MAPS_BYTES = 1024 * 1024 };

static int maps = -1; /* MAPS, open while plugins are loaded: it is dear to open */

/* Who can replace libhakmem: root, when it is in no file of its own. */
struct ours {
  uid_t owner;
  gid_t group, directory_group;
};

static int stat_ours(struct dl_phdr_info *info, size_t size, void *result)
{
  struct ours *ours = result;
  struct stat st;
  char directory[PATH_MAX];
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    if (info->dlpi_phdr[i].p_type == PT_LOAD && (uintptr_t)&hakmem_root - start < info->dlpi_phdr[i].p_memsz) {
      const char *slash = strrchr(info->dlpi_name, '/');
      if (slash != NULL && slash - info->dlpi_name < PATH_MAX - 1 && stat(info->dlpi_name, &st) == 0) {
        ours->owner = st.st_uid;
        ours->group = st.st_gid;
        size_t length = (size_t)(slash - info->dlpi_name) + 1;
        memcpy(directory, info->dlpi_name, length);
        directory[length] = 0;
        ours->directory_group = stat(directory, &st) == 0 ? st.st_gid : ours->group;
      }
      return 1;
    }
  }
  return 0;
}

/* Not by dladdr, which compares the address with every symbol. */
static struct ours library(void)
{
  struct ours ours = {0};
  (void)dl_iterate_phdr(stat_ours, &ours);
  return ours;
}

/* In a process with privileges of its own, its group may be that of anybody who started it. */
static bool group_is_ours(gid_t group)
{
  struct ours ours = library();
  return group == 0 || group == ours.group || group == ours.directory_group ||
         (group == getegid() && getauxval(AT_SECURE) == 0);
}

static bool good(const struct stat *st, const char **found, const char **expected)
{
  if (st->st_uid != 0 && st->st_uid != geteuid() && st->st_uid != library().owner) {
    *found = "it owned by another user";
    *expected = "it, and the directories above it, to belong to root, to you, or to the owner of libhakmem";
    return false;
  }
  bool directory = S_ISDIR(st->st_mode);
  if (directory && (st->st_mode & S_ISVTX) != 0) { /* /tmp: others can add files, but not replace ours */
    return true;
  }
  if ((st->st_mode & S_IWOTH) != 0) {
    *found = directory ? "a directory writable by others" : "a file writable by others";
    *expected = "no write permission for others on it and the directories above it";
    return false;
  }
  if ((st->st_mode & S_IWGRP) != 0 && !group_is_ours(st->st_gid)) {
    *found = directory ? "a directory writable by another group" : "a file writable by another group";
    *expected = "write permission on it and the directories above it for no group but root's, yours, and that of libhakmem or "
                "of its directory";
    return false;
  }
  return true;
}

/*
 * Every directory above a path. Plugins mostly share theirs, so the last good one is remembered. When one of them is a symbolic
 * link, *link says so, and the real path is the one to check.
 */
static bool directories_good(const char *path, bool *link, const char **found, const char **expected)
{
  static const char *last;
  char above[PATH_MAX];
  struct stat st;
  strcpy(above, path);
  *strrchr(above, '/') = 0;
  if (last != NULL && strcmp(above, last) == 0) {
    return true;
  }
  const char *lowest = hki_meta_string(above);
  for (bool root = false; !root;) {
    char *slash = strrchr(above, '/');
    root = slash == NULL;
    if (lstat(root ? "/" : above, &st) != 0) {
      *found = "a directory above it that cannot be examined";
      return false;
    }
    *link = S_ISLNK(st.st_mode);
    if (*link || !good(&st, found, expected)) {
      return false;
    }
    if (!root) {
      *slash = 0;
    }
  }
  last = lowest;
  return true;
}

/* The file at trust->path, which is absolute; *link as above. */
static bool file_good(struct hki_trust *trust, bool *link, const char **found, const char **expected)
{
  struct stat st;
  /* Without waiting: a pipe in the file's place would have no writer. */
  trust->fd = open(trust->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (trust->fd < 0 || fstat(trust->fd, &st) != 0) {
    *link = true; /* if it is one, or there is none; else its real path is as good */
    *found = "a file that cannot be opened";
    return false;
  }
  if (!S_ISREG(st.st_mode)) {
    *found = "something that is not a regular file";
    return false;
  }
  bool ok = good(&st, found, expected);
  trust->inode = st.st_ino;
  trust->device = (uint64_t)major(st.st_dev) << 32 | minor(st.st_dev);
  return ok && directories_good(trust->path, link, found, expected);
}

bool hki_trust_begin(struct hki_trust *trust, const char *path, const char **found, const char **expected)
{
  bool link = false;
  struct hki_text text = hki_text(trust->path, sizeof trust->path);
  hki_append(&text, "%s", path);
  *expected = "a readable plugin file";
  bool ok = file_good(trust, &link, found, expected);
  if (link) { /* the usual path has none, and realpath asks for each part of it */
    hki_trust_end(trust);
    trust->fd = -1;
    *found = "no such file";
    ok = realpath(path, trust->path) != NULL && file_good(trust, &link, found, expected);
  }
  return ok;
}

/* What the kernel says of the file behind a mapping. It need not be what stat says: overlay file systems differ. */
struct identity {
  uint64_t inode;
  uint64_t device;
};

/* From Linux 6.11 one ioctl on /proc/self/maps answers for one address; the structure is in linux/fs.h from there on. */
struct map_query {
  uint64_t size, flags, address;
  uint64_t start, end, vma_flags, page_size, offset, inode;
  uint32_t device_major, device_minor, name_size, build_id_size;
  uint64_t name, build_id;
};
#define MAP_QUERY _IOWR('f', 17, struct map_query)

static bool ask_kernel(uintptr_t address, struct identity *id)
{
  struct map_query query = {.size = sizeof query, .address = address};
  if (ioctl(maps, MAP_QUERY, &query) != 0) {
    return false;
  }
  *id = (struct identity){query.inode, (uint64_t)query.device_major << 32 | query.device_minor};
  return true;
}

/* The same from the text, for older kernels: "start-end perms offset major:minor inode path". */
static bool ask_text(const char *text, uintptr_t address, struct identity *id)
{
  for (const char *line = text; *line != 0; line = strchrnul(line, '\n'), line += *line == '\n') {
    char *at;
    uintptr_t low = strtoul(line, &at, 16);
    uintptr_t high = strtoul(at + 1, &at, 16);
    if (address >= low && address < high) {
      at = strchrnul(at + 1, ' '); /* behind the permissions */
      (void)strtoul(at, &at, 16);  /* offset */
      uint64_t major = strtoul(at, &at, 16);
      uint64_t minor = strtoul(at + 1, &at, 16);
      *id = (struct identity){strtoul(at, &at, 10), major << 32 | minor};
      return true;
    }
  }
  return false;
}

/* Compares the mapping with one of the checked file itself, since only like can be compared with like. */
static bool same_as_mapped(const struct hki_trust *trust, uintptr_t address)
{
  struct identity x, y;
  void *page = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, trust->fd, 0);
  long r = hki_os.mmap(NULL, MAPS_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  bool known = page != MAP_FAILED && ask_kernel(address, &x) && ask_kernel((uintptr_t)page, &y);
  if (!known && page != MAP_FAILED && !hak_os_failed(r)) {
    char *text = (char *)r;
    known = hki_os.read_file(MAPS, text, MAPS_BYTES) > 0 && ask_text(text, address, &x) && ask_text(text, (uintptr_t)page, &y);
  }
  if (page != MAP_FAILED) {
    (void)munmap(page, 1);
  }
  if (!hak_os_failed(r)) {
    (void)hki_os.munmap((void *)r, MAPS_BYTES);
  }
  return known && x.inode == y.inode && x.device == y.device;
}

bool hki_trust_is(const struct hki_trust *trust, const void *address)
{
  struct identity id;
  maps = maps < 0 ? open(MAPS, O_RDONLY | O_CLOEXEC) : maps;
  if (maps >= 0) {
    bool same = ask_kernel((uintptr_t)address, &id) && id.inode == trust->inode && id.device == trust->device;
    return same || same_as_mapped(trust, (uintptr_t)address);
  }
  /* No /proc: at least nobody has replaced the file until now. */
  struct stat now;
  return stat(trust->path, &now) == 0 && trust->inode == now.st_ino &&
         trust->device == ((uint64_t)major(now.st_dev) << 32 | minor(now.st_dev));
}

void hki_trust_end(struct hki_trust *trust)
{
  if (trust->fd >= 0) {
    (void)close(trust->fd);
  }
}

void hki_trust_stop(void)
{
  if (maps >= 0) {
    (void)close(maps);
    maps = -1;
  }
}
