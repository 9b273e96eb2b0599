/* SPDX-License-Identifier: MIT */
/*
 * hakmem/hakmem.h - the program's interface.
 *
 * A program needs none of this: preloaded or linked, libhakmem serves malloc and its relatives. These functions are for
 * programs that want to name the allocator explicitly, read its statistics or steer it. All are thread-safe.
 *
 * The hak_ allocation functions behave as the libc functions of the same name in glibc 2.36, errno included, with blocks that
 * can be mixed freely with those from malloc and free where libhakmem interposes.
 */
#ifndef HAKMEM_HAKMEM_H
#define HAKMEM_HAKMEM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HAK_API __attribute__((visibility("default")))

HAK_API void *hak_malloc(size_t size) __attribute__((malloc, alloc_size(1)));
HAK_API void *hak_calloc(size_t count, size_t size) __attribute__((malloc, alloc_size(1, 2)));
HAK_API void *hak_realloc(void *block, size_t size) __attribute__((alloc_size(2)));
HAK_API void *hak_reallocarray(void *block, size_t count, size_t size) __attribute__((alloc_size(2, 3)));
HAK_API void hak_free(void *block);
HAK_API void hak_free_sized(void *block, size_t size);
HAK_API void hak_free_aligned_sized(void *block, size_t alignment, size_t size);
HAK_API int hak_posix_memalign(void **out, size_t alignment, size_t size);
HAK_API void *hak_aligned_alloc(size_t alignment, size_t size) __attribute__((malloc, alloc_align(1), alloc_size(2)));
HAK_API void *hak_memalign(size_t alignment, size_t size) __attribute__((malloc, alloc_align(1), alloc_size(2)));
HAK_API void *hak_valloc(size_t size) __attribute__((malloc, alloc_size(1)));
HAK_API void *hak_pvalloc(size_t size) __attribute__((malloc));

/* Bytes that may be written at `block`; constant while the block lives; 0 for NULL. */
HAK_API size_t hak_malloc_usable_size(const void *block);

/* Gives unused memory back to the system, beyond `pad` bytes. 1 if any was given back, else 0. */
HAK_API int hak_malloc_trim(size_t pad);

/* The totals of hak_stats. Every number is bytes unless the name says otherwise. */
struct hak_totals {
  uint32_t struct_size; /* set by the caller to sizeof(struct hak_totals); the library fills no more than that */
  uint32_t threads;     /* threads attached now */
  uint64_t allocs;      /* blocks handed out since the start, by whatever entry point */
  uint64_t frees;       /* blocks taken back */
  uint64_t resizes;     /* blocks resized in place or moved by their backend */
  uint64_t foreign;     /* frees of memory that was not hakmem's, handed to libc */
  uint64_t allocated;   /* requested by the program and not freed */
  uint64_t active;      /* in blocks that hold it, rounding included */
  uint64_t mapped;      /* address space that may hold pages */
  uint64_t retained;    /* free, but not given back to the system */
  uint64_t metadata;    /* bookkeeping of core and plugins */
  uint64_t resident;    /* of the whole process, as the kernel says; 0 when it does not say */
  uint64_t held;        /* of retained: freed large blocks in cache and reclaim, never above core.cap */
};

/*
 * Fills *totals with one consistent reading. 0, or -1: with EINVAL when struct_size is unusable, with ENOMEM when the system has no
 * memory for it.
 */
HAK_API int hak_stats(struct hak_totals *totals);

/* Writes the full report to a file descriptor: format "text", "json" or "prometheus". 0, or -1 with errno. */
HAK_API int hak_stats_write(int fd, const char *format);

/*
 * Sets one live option, `key` being its full name, such as "policy.static.strategy". 0 when it is in force; -1 with EINVAL
 * when the key or value is not usable, EPERM when the key cannot change in a running process, ENOMEM when there is no memory to
 * keep the value. `why`, when not NULL, gets one line of at most why_size - 1 characters in either case.
 */
HAK_API int hak_set(const char *key, const char *value, char *why, size_t why_size);

/*
 * Writes the effective configuration to a file descriptor, an INI with the origin of each value as a comment. Returns the
 * number of mistakes that were reported when it was read: 0 when it is clean.
 */
HAK_API int hak_config_write(int fd);

/* "MAJOR.MINOR.PATCH" */
HAK_API const char *hak_version(void);

#ifdef __cplusplus
}
#endif

#endif
