/* SPDX-License-Identifier: MIT */
/*
 * hooks.c - a library to preload beside hakmem that replaces open, mmap, getenv and dlsym by versions that allocate, as
 * tracers and sandboxes do. A re-entrant hook goes straight to libc. No lock: the counter is atomic.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

_Atomic int hooks_called;

extern char **environ;
static _Thread_local bool inside __attribute__((tls_model("initial-exec")));

static void allocate(void)
{
  hooks_called++;
  if (inside) {
    return;
  }
  inside = true;
  for (size_t size = 10; size < (2U << 20); size *= 8) {
    char *block = calloc(1, size);
    if (block == NULL) {
      abort();
    }
    block[size - 1] = 1;
    block = realloc(block, size + 50);
    free(block);
  }
  inside = false;
}

int open(const char *path, int flags, ...)
{
  va_list arguments;
  va_start(arguments, flags);
  unsigned mode = va_arg(arguments, unsigned);
  va_end(arguments);
  allocate();
  return (int)syscall(SYS_openat, -100, path, flags, mode);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
  allocate();
  return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

char *getenv(const char *name)
{
  allocate();
  size_t length = strlen(name);
  for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
    if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') {
      return *entry + length + 1;
    }
  }
  return NULL;
}

void *dlsym(void *handle, const char *name)
{
  static void *(*real)(void *, const char *);
  allocate();
  if (real == NULL) {
    void *found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
    if (found == NULL) {
      found = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    }
    memcpy(&real, &found, sizeof real);
  }
  return real(handle, name);
}

__attribute__((constructor)) static void start(void)
{
  allocate();
}
