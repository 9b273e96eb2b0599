/* SPDX-License-Identifier: MIT */
/*
 * entry.c - the entry points: hak_malloc and its relatives, and malloc and its relatives as other names of the same functions.
 *
 * Owns nothing. Undefined corners follow glibc 2.36: realloc(p, 0) frees, memalign rounds its alignment up to a power of two,
 * aligned_alloc takes any alignment.
 */
#define _GNU_SOURCE
#include "hakmem/hakmem.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "alloc.h"
#include "control.h"
#include "free.h"
#include "message.h"
#include "report.h"
#include "resize.h"
#include "settings.h"
#include "span.h"

#define SITE __builtin_return_address(0)

#if defined(__has_attribute) && __has_attribute(copy)
#define COPY(name) copy(name) /* gcc warns when an alias lacks an attribute of its target */
#else
#define COPY(name)
#endif
#ifdef HKI_INTERPOSE
#define ALSO(name)                                                                                                             \
  extern __typeof__(hak_##name) name __attribute__((alias("hak_" #name), visibility("default"), COPY(hak_##name)))
#else
#define ALSO(name) _Static_assert(1, "")
#endif

void *hak_malloc(size_t size)
{
  return hki_alloc(size, SITE);
}
ALSO(malloc);

void hak_free(void *block)
{
  hki_free(block, "free");
}
ALSO(free);

/* Zeroing what a fresh mapping has already made zero would touch every page of it: large requests ask their backend. */
void *hak_calloc(size_t count, size_t size)
{
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  struct hki_thread *thread = hki_self;
  if (bytes < HKI_LOAD(&thread->front_end)) {
    void *block = hki_alloc(bytes, SITE);
    return block != NULL ? memset(block, 0, bytes) : NULL;
  }
  if (bytes < HKI_LOAD(&thread->direct_end)) {
    void *block = hki_byte_alloc(thread, thread->direct, bytes, HKI_ALIGN, 0, HKI_ZEROED);
    if (HKI_LIKELY(block != NULL)) {
      return block;
    }
  }
  return hki_alloc_slow(bytes, HKI_ALIGN, HKI_ZEROED, SITE);
}
ALSO(calloc);

void *hak_realloc(void *block, size_t size)
{
  if (block == NULL) {
    return hki_alloc(size, SITE);
  }
  if (size == 0) {
    hki_free(block, "realloc");
    return NULL;
  }
  return hki_resize(block, size, SITE);
}
ALSO(realloc);

void *hak_reallocarray(void *block, size_t count, size_t size)
{
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return NULL;
  }
  return hak_realloc(block, bytes);
}
ALSO(reallocarray);

static void *aligned(size_t alignment, size_t size, const void *site)
{
  if (alignment <= HKI_ALIGN) {
    return hki_alloc(size, site);
  }
  struct hki_thread *thread = hki_self;
  size_t rounded = hki_front_size(size, alignment);
  void *block;
  return HKI_LIKELY(rounded < HKI_LOAD(&thread->front_end)) &&
                 HKI_LIKELY(hki_magazine_pop(hki_magazine_of(thread, rounded), &block))
             ? block
             : hki_alloc_slow(size, alignment, 0, site);
}

int hak_posix_memalign(void **out, size_t alignment, size_t size)
{
  if (!hki_is_power_of_two(alignment) || alignment % sizeof(void *) != 0) {
    return EINVAL;
  }
  int saved = errno;
  void *block = aligned(alignment, size, SITE);
  errno = saved;
  if (block == NULL) {
    return ENOMEM;
  }
  *out = block;
  return 0;
}
ALSO(posix_memalign);

static void *any_alignment(size_t alignment, size_t size, const void *site)
{
  if (alignment > HKI_SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return NULL;
  }
  if (!hki_is_power_of_two(alignment)) {
    alignment = alignment < HKI_ALIGN ? HKI_ALIGN : (size_t)2 << hki_log2(alignment);
  }
  return aligned(alignment, size, site);
}

void *hak_memalign(size_t alignment, size_t size)
{
  return any_alignment(alignment, size, SITE);
}
ALSO(memalign);

void *hak_aligned_alloc(size_t alignment, size_t size)
{
  return any_alignment(alignment, size, SITE);
}
ALSO(aligned_alloc);

void *hak_valloc(size_t size)
{
  return aligned((size_t)sysconf(_SC_PAGESIZE), size, SITE);
}
ALSO(valloc);

void *hak_pvalloc(size_t size)
{
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  if (size > HKI_SIZE_MAX - page) {
    errno = ENOMEM;
    return NULL;
  }
  return aligned(page, size == 0 ? page : hki_round_up(size, page), SITE);
}
ALSO(pvalloc);

/* The size is the caller's word, and a wrong one is a bug: under full it is held against the block. */
void hki_free_sized(void *block, size_t size, const char *func)
{
  if (HKI_UNLIKELY(hki_settings.hardening == HKI_FULL) && block != NULL) {
    size_t usable = hki_usable(block, func);
    if (size > usable) {
      hki_die("%s(%p): size %lu given for a block of %lu bytes", func, block, (unsigned long)size, (unsigned long)usable);
    }
  }
  hki_free(block, func);
}

void hak_free_sized(void *block, size_t size)
{
  hki_free_sized(block, size, "free_sized");
}

void hak_free_aligned_sized(void *block, size_t alignment, size_t size)
{
  (void)alignment;
  hki_free_sized(block, size, "free_aligned_sized");
}

size_t hak_malloc_usable_size(const void *block)
{
  return block != NULL ? hki_usable(block, "malloc_usable_size") : 0;
}

int hak_malloc_trim(size_t pad)
{
  (void)pad;
  return hki_control_trim() > 0;
}
ALSO(malloc_trim);

#ifdef HKI_INTERPOSE

/* Names that libc's headers do not declare, or declare otherwise. */
HAK_API void cfree(void *block) __attribute__((alias("hak_free")));
HAK_API void free_sized(void *block, size_t size) __attribute__((alias("hak_free_sized")));
HAK_API void free_aligned_sized(void *block, size_t alignment, size_t size) __attribute__((alias("hak_free_aligned_sized")));

HAK_API size_t malloc_usable_size(void *block)
{
  return hak_malloc_usable_size(block);
}

HAK_API void malloc_stats(void)
{
  (void)hak_stats_write(STDERR_FILENO, "text");
}

/* There is one heap, and no tuning by numbers: the INI does that. 1 is success, as for glibc's accepted parameters. */
HAK_API int mallopt(int parameter, int value)
{
  (void)parameter, (void)value;
  return 1;
}

/* Sent through the program's own stream, so that it comes in the program's order. */
HAK_API int malloc_info(int options, FILE *stream)
{
  struct hak_totals totals = {.struct_size = sizeof totals};
  if (options != 0) {
    errno = EINVAL;
    return -1;
  }
  (void)hak_stats(&totals);
  int n =
      fprintf(stream,
              "<malloc version=\"hakmem-1\">\n<total type=\"allocated\" size=\"%lu\"/>\n<total type=\"active\" size=\"%lu\"/>\n"
              "<total type=\"mapped\" size=\"%lu\"/>\n<total type=\"retained\" size=\"%lu\"/>\n"
              "<total type=\"metadata\" size=\"%lu\"/>\n</malloc>\n",
              totals.allocated, totals.active, totals.mapped, totals.retained, totals.metadata);
  return n < 0 ? -1 : 0;
}

HAK_API struct mallinfo2 mallinfo2(void)
{
  struct hak_totals totals = {.struct_size = sizeof totals};
  (void)hak_stats(&totals);
  return (struct mallinfo2){.arena = totals.active + totals.retained,
                            .ordblks = 1,
                            .hblkhd = totals.mapped,
                            .uordblks = totals.allocated,
                            .fordblks = totals.active - totals.allocated + totals.retained,
                            .keepcost = totals.retained};
}

static int clamp(size_t n)
{
  return n > INT32_MAX ? INT32_MAX : (int)n;
}

HAK_API struct mallinfo mallinfo(void)
{
  struct mallinfo2 wide = mallinfo2();
  return (struct mallinfo){.arena = clamp(wide.arena),
                           .ordblks = 1,
                           .hblkhd = clamp(wide.hblkhd),
                           .uordblks = clamp(wide.uordblks),
                           .fordblks = clamp(wide.fordblks),
                           .keepcost = clamp(wide.keepcost)};
}

#endif
