/* SPDX-License-Identifier: MIT */
/*
 * boot.h - the built-in backend: libc's own allocator under its internal names, complete before anything is loaded and for ever.
 *
 * It serves every call of a detached thread: before the constructor, while plugins load, inside callbacks and fork handlers,
 * and after thread exit; and everything when no plugin loads.
 */
#ifndef HKI_BOOT_H
#define HKI_BOOT_H

#include "base.h"

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);

/* Finds the end of the executable. Once. */
void hki_boot_start(void);

/* A lower bound of the heap segment, in which libc's main arena lies. */
uintptr_t hki_boot_brk(void);

#endif
