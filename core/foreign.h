/* SPDX-License-Identifier: MIT */
/*
 * foreign.h - pointers that the page map does not know: from ld.so or libc before us, from a library that binds its own libc
 * (RTLD_DEEPBIND, __libc_malloc), or from a bug.
 */
#ifndef HKI_FOREIGN_H
#define HKI_FOREIGN_H

#include "base.h"

/*
 * True when the pointer may be handed to libc: the setting allows it, and it looks like a live block of libc's heap. The first
 * such pointer is announced in one line.
 */
bool hki_foreign_is_libc(const char *func, const void *pointer);

void hki_foreign_free(void *pointer);
size_t hki_foreign_size(const void *pointer);

#endif
