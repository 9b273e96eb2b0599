/* SPDX-License-Identifier: MIT */
/*
 * broken.c - a page backend, or a policy with -DPOLICY, that is correct unless a definition on the command line breaks it.
 * config.sh builds each variant. NAME is the name in the descriptor. Blocks come straight from the kernel; no lock is needed.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hakmem/plugin.h"

#ifndef MAJOR
#define MAJOR HAK_ABI_MAJOR
#endif
#ifndef MINOR
#define MINOR HAK_ABI_MINOR
#endif
#ifndef SIZE
#define SIZE sizeof(hak_plugin)
#endif
#ifndef START_RESULT
#define START_RESULT HAK_OK
#endif
#ifndef OPS
#define OPS &ops
#endif
#ifndef STRIDE
#define STRIDE sizeof(hak_option)
#endif
#ifndef ENTRY
#define ENTRY hakmem_plugin
#endif

static int32_t broken_start(const hak_host *host, const hak_value *values, void **self)
{
  (void)values;
  *self = (void *)(uintptr_t)host;
  return START_RESULT;
}

#ifdef POLICY

static int32_t broken_choose(void *self, const hak_sample *sample, hak_choice *choice)
{
  (void)self;
  (void)sample;
#ifdef BAD_ARM
  choice->champion[20] = 200;
#endif
  (void)choice;
#ifdef BAD_CHOICE
  return HAK_FAILED;
#else
  return HAK_OK;
#endif
}

static const hak_policy_ops ops = {.struct_size = sizeof ops, .choose = broken_choose};
enum { KIND = HAK_POLICY };

#else

__attribute__((unused)) static hak_block broken_alloc(void *self, void **slot, size_t size, size_t align)
{
  const hak_host *host = self;
  (void)slot;
#ifdef ALLOCATES
  free(malloc(100));
#endif
  size_t length = (size + align + HAK_GRANULE - 1) & ~(HAK_GRANULE - 1);
  long map = host->os->mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(map)) {
    return HAK_NO_BLOCK;
  }
  uintptr_t base = ((uintptr_t)map + align - 1) & ~(align - 1);
#ifdef MISALIGNED
  base += 4096;
#endif
  return hak_block_make((void *)base, (size + 4095) & ~(size_t)4095, HAK_ZEROED);
}

static void broken_free(void *self, void **slot, void *base, size_t capacity)
{
  const hak_host *host = self;
  (void)slot;
  host->os->madvise(base, capacity, MADV_DONTNEED);
}

#ifndef ALLOC
#define ALLOC broken_alloc
#endif

static const hak_backend_ops ops = {
    .struct_size = sizeof ops,
    .granularity = HAK_PAGE,
    .alloc = ALLOC,
    .free = broken_free,
#ifdef HALF_FORK
    .fork_prepare = free,
#endif
};
enum { KIND = HAK_BACKEND };

#endif

#ifndef DEFAULT_SIZE
#define DEFAULT_SIZE "1M"
#endif

static const hak_option options[] = {{"size", HAK_SIZE, 0, DEFAULT_SIZE, "4K", "1G", NULL, "of no use"}};

HAK_PLUGIN_EXPORT extern const hak_plugin ENTRY;
const hak_plugin ENTRY = {.struct_size = SIZE,
                          .abi_major = MAJOR,
                          .abi_minor = MINOR,
                          .kind = KIND,
                          .name = NAME,
                          .version = "1.0",
                          .summary = "broken on purpose",
                          .options = options,
                          .option_count = 1,
                          .option_stride = STRIDE,
                          .start = broken_start,
                          .ops = OPS};

#ifdef LOADED
__attribute__((constructor)) static void broken_say(void)
{
  static const char text[] = LOADED "\n";
  (void)!write(2, text, sizeof text - 1);
}
#endif

#ifdef UNRESOLVED
extern void nobody_has_this(void);
HAK_PLUGIN_EXPORT void (*broken_pull)(void);
void (*broken_pull)(void) = nobody_has_this;
#endif
