/* SPDX-License-Identifier: MIT */
/*
 * space.c - mapping and unmapping of address space for the extent allocator.
 *
 * It owns the list of unmappings that failed and are to be tried again; space->lock guards it, and is taken last.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "space.h"

#include <errno.h>
#include <sys/mman.h>

#include "extent.h"

char *space_reserve(struct space *space, size_t size, size_t align)
{
  const hak_os *os = space->host->os;
  long at = os->mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(at)) {
    return NULL;
  }
  if ((uintptr_t)at % align != 0) { /* rarely: the kernel lays mappings side by side */
    space_unmap(space, (char *)at, size);
    size_t slack = align - space->host->page_size;
    at = os->mmap(NULL, size + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (hak_os_failed(at)) {
      return NULL;
    }
    size_t head = round_up((uintptr_t)at, align) - (uintptr_t)at;
    if (head > 0) {
      space_unmap(space, (char *)at, head);
    }
    at += (long)head;
    if (head < slack) {
      space_unmap(space, (char *)at + size, slack - head);
    }
  }
  return (char *)at;
}

char *space_move(struct space *space, char *from, size_t old, size_t size, size_t align, int flags)
{
  const hak_os *os = space->host->os;
  char *target = space_reserve(space, size, align);
  if (target == NULL) {
    return NULL;
  }
  long result = os->mremap(from, old, size, MREMAP_MAYMOVE | MREMAP_FIXED | flags, target);
  if (!hak_os_failed(result)) {
    return target;
  }
  /*
   * The kernel may have unmapped the target before it refused, and another thread may have mapped something there since. So
   * the target is ours only if it can be taken again, or if nothing has been unmapped: after EFAULT something has.
   */
  long again = os->mmap(target, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (!hak_os_failed(again)) {
    space_unmap(space, (char *)again, size);
  } else if (again == -EEXIST && result != -EFAULT) {
    space_unmap(space, target, size);
  }
  return NULL;
}

void space_unmap(struct space *space, char *base, size_t size)
{
  const hak_host *host = space->host;
  if (!hak_os_failed(host->os->munmap(base, size))) {
    return;
  }
  host->os->madvise(base, size, MADV_DONTNEED);
  hak_count(host, EXTENT_UNRELEASED, size);
  hak_lock_acquire(host, &space->lock);
  if (space->late_count < SPACE_LATE) {
    space->late[space->late_count] = (struct iovec){base, size};
    __atomic_store_n(&space->late_count, space->late_count + 1, __ATOMIC_RELAXED);
  }
  hak_lock_release(host, &space->lock);
}

void space_retry(struct space *space)
{
  const hak_host *host = space->host;
  if (__atomic_load_n(&space->late_count, __ATOMIC_RELAXED) == 0) {
    return;
  }
  hak_lock_acquire(host, &space->lock);
  for (uint32_t i = space->late_count; i-- > 0;) {
    if (!hak_os_failed(host->os->munmap(space->late[i].iov_base, space->late[i].iov_len))) {
      space->late[i] = space->late[space->late_count - 1];
      __atomic_store_n(&space->late_count, space->late_count - 1, __ATOMIC_RELAXED);
    }
  }
  hak_lock_release(host, &space->lock);
}
