/* SPDX-License-Identifier: MIT */
/* misuse.h - what happens to pointers that are not live blocks, and to plugins that break their word: one line, and abort. */
#ifndef HKI_MISUSE_H
#define HKI_MISUSE_H

#include "base.h"
#include "message.h"
#include "pagemap.h"

/* `func` was called with a pointer that is no live block, although its granule is (or was) ours. Says what it is and aborts. */
_Noreturn void hki_misuse(const char *func, const void *pointer, hki_entry entry);

/* True when the address lies in a live page block or byte block, the first byte included. For messages only: slow. */
bool hki_in_live_block(const void *pointer);

/* A freed object of that class was written to. Aborts. */
_Noreturn void hki_written(const void *object, uint32_t cls);

/* Backend `name` handed out memory that is live, or does not belong to it. Aborts. */
_Noreturn void hki_broken(const char *name, const void *pointer);

#endif
