/* SPDX-License-Identifier: MIT */
/*
 * boot.c - owns backend HKI_BOOT and the first contents of hki_backends. Both are initialised data, so that the first
 * instruction of a process may allocate.
 */
#define _GNU_SOURCE
#include "boot.h"

#include <errno.h>
#include <link.h>
#include <unistd.h>

#include "backend.h"
#include "misuse.h"

static hak_block boot_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)self, (void)slot, (void)align;
  return hak_block_make(__libc_malloc(size), size, 0);
}

static hak_block boot_alloc_zeroed(void *self, void **slot, size_t size, size_t align)
{
  (void)self, (void)slot, (void)align;
  return hak_block_make(__libc_calloc(1, size), size, HAK_ZEROED);
}

static void boot_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self, (void)slot, (void)capacity;
  __libc_free(base);
}

static hak_block boot_resize(void *self, void **slot, void *base, size_t capacity, size_t size)
{
  (void)self, (void)slot, (void)capacity;
  return hak_block_make(__libc_realloc(base, size), size, 0);
}

/* A header that names a backend nobody made has been written over by the program. */
static HKI_COLD void damaged_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self, (void)slot, (void)capacity;
  hki_die("free: the header of the block behind %p is damaged", base);
}

static HKI_COLD hak_block damaged_resize(void *self, void **slot, void *base, size_t capacity, size_t size)
{
  (void)size;
  damaged_free(self, slot, base, capacity);
  return HAK_NO_BLOCK;
}

#define NOBODY                                                                                                                 \
  {                                                                                                                            \
    .ops = {.free = damaged_free, .resize = damaged_resize}, .inside = &hki_thread_load, .granularity = HAK_BYTE,              \
    .name = "unknown"                                                                                                          \
  }

_Static_assert(HKI_BACKENDS == 16, "every index that a header can name has operations");

struct hki_backend hki_backends[HKI_BACKENDS] = {
    [HKI_BOOT] =
        {
            .ops =
                {
                    .struct_size = sizeof(struct hak_backend_ops),
                    .granularity = HAK_BYTE,
                    .alloc = boot_alloc,
                    .alloc_zeroed = boot_alloc_zeroed,
                    .free = boot_free,
                    .resize = boot_resize,
                },
            .inside = &hki_thread_load,
            .index = HKI_BOOT,
            .granularity = HAK_BYTE,
            .name = "boot",
        },
    [1] = NOBODY,
    [2] = NOBODY,
    [3] = NOBODY,
    [4] = NOBODY,
    [5] = NOBODY,
    [6] = NOBODY,
    [7] = NOBODY,
    [8] = NOBODY,
    [9] = NOBODY,
    [10] = NOBODY,
    [11] = NOBODY,
    [12] = NOBODY,
    [13] = NOBODY,
    [14] = NOBODY,
    [15] = NOBODY,
};

static uintptr_t executable_end;

static int first_object(struct dl_phdr_info *info, size_t size, void *end)
{
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    uintptr_t after = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    if (info->dlpi_phdr[i].p_type == PT_LOAD && after > *(uintptr_t *)end) {
      *(uintptr_t *)end = after;
    }
  }
  return 1; /* the executable comes first */
}

void hki_boot_start(void)
{
  int saved = errno;
  uintptr_t brk = (uintptr_t)sbrk(0);
  errno = saved;
  (void)dl_iterate_phdr(first_object, &executable_end);
  if (executable_end > brk) { /* started through ld.so: the heap does not follow the executable */
    executable_end = brk;
  }
}

uintptr_t hki_boot_brk(void)
{
  return executable_end;
}
