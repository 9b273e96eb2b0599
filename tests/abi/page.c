/* SPDX-License-Identifier: MIT */
/* page.c - a page backend that maps each block, with every operation that the core asks of a page backend. Stateless but for its lock. */
#include "variant.h"

#include <sys/mman.h>

enum { ALLOCS, FREES, RESIZES, BATCHED, EXITS, TRIMS, EXPIRES, CHILDREN, COUNTERS };
static const hak_counter counters[COUNTERS] = {
    [ALLOCS] = COUNTER_ROW("allocs"),   [FREES] = COUNTER_ROW("frees"),      [RESIZES] = COUNTER_ROW("resizes"),
    [BATCHED] = COUNTER_ROW("batched"), [EXITS] = COUNTER_ROW("exits"),      [TRIMS] = COUNTER_ROW("trims"),
    [EXPIRES] = COUNTER_ROW("expires"), [CHILDREN] = COUNTER_ROW("children")};
static const hak_option options[] = {OPTION_ROWS};

static size_t up(size_t size)
{
  return (size + HAK_GRANULE - 1) & ~(HAK_GRANULE - 1);
}

static hak_block map(size_t size, size_t align)
{
  size_t capacity = up(size), length = capacity + align;
  long result = host->os->mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(result)) {
    return HAK_NO_BLOCK;
  }
  size_t before = (align - (size_t)result % align) % align;
  char *base = (char *)result + before;
  if (before != 0) {
    host->os->munmap((void *)result, before);
  }
  host->os->munmap(base + capacity, align - before);
  return hak_block_make(base, capacity, HAK_ZEROED);
}

static hak_block page_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)self;
  *slot = &lock; /* so that the end of the thread is told */
  COUNT(ALLOCS);
  return map(size, align);
}

static void page_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self;
  (void)slot;
  COUNT(FREES);
  host->os->munmap(base, capacity);
}

static hak_block page_resize(void *self, void **slot, void *base, size_t capacity, size_t size)
{
  (void)self;
  (void)slot;
  if (hak_os_failed(host->os->mremap(base, capacity, up(size), 0, NULL))) {
    return HAK_NO_BLOCK;
  }
  COUNT(RESIZES);
  return hak_block_make(base, up(size), HAK_ZEROED);
}

static void page_free_many(void *self, void **slot, const hak_range *chain, const hak_purger *purger)
{
  (void)self;
  (void)slot;
  while (chain != NULL) {
    struct iovec spans[HAK_PURGE_SPANS];
    uint32_t count = 0;
    for (; chain != NULL && count < HAK_PURGE_SPANS; chain = chain->next) {
      spans[count++] = (struct iovec){chain->base, chain->capacity};
      COUNT(BATCHED);
    }
    (void)purger->purge(purger, spans, count);
    for (uint32_t i = 0; i < count; i++) {
      host->os->munmap(spans[i].iov_base, spans[i].iov_len);
    }
  }
}

static void page_thread_exit(void *self, void **slot)
{
  (void)self;
  (void)slot;
  COUNT(EXITS);
}

static size_t page_trim(void *self)
{
  (void)self;
  COUNT(TRIMS);
  return 0;
}

static bool page_expire(void *self)
{
  (void)self;
  COUNT(EXPIRES);
  return false;
}

static void page_fork_child(void *self)
{
  fork_child(self);
  COUNT(CHILDREN);
}

static const hak_backend_ops ops = {.struct_size = OPS_SIZE,
                                    .granularity = HAK_PAGE,
                                    .alloc = page_alloc,
                                    .free = page_free,
                                    .resize = page_resize,
                                    .thread_exit = page_thread_exit,
                                    .trim = page_trim,
                                    .fork_prepare = fork_prepare,
                                    .fork_parent = fork_parent,
                                    .fork_child = page_fork_child,
                                    .free_many = page_free_many,
                                    .expire = page_expire,
                                    FUTURE};

DESCRIBE(HAK_BACKEND, begin);
