/* SPDX-License-Identifier: MIT */
/* page.h - page blocks: large blocks with a span record, and nothing of ours in their memory. */
#ifndef HKI_PAGE_H
#define HKI_PAGE_H

#include "backend.h"
#include "base.h"
#include "byte.h"
#include "pagemap.h"
#include "want.h"

/* A block from the backend, or from the cache in front of it. NULL when there is none. Counts it. */
void *hki_page_alloc(struct hki_thread *thread, struct hki_backend *backend, struct hki_want *want);

/* A block for a thread with a `last`: that one, when it asks for the same again, or what hki_alloc_long says. */
void *hki_page_again(size_t size, size_t align, uint32_t request, const void *site);

/* Takes a block back, or ends in hki_misuse. */
void hki_page_free(struct hki_thread *thread, void *block, hki_entry entry, const char *func);

/* Takes a freed block out of the page map; its backend gets it next. */
void hki_page_leave(const struct hki_span *span);

/* Resizes a live block, in place or through its backend. NULL when that is refused: the block is as it was. */
void *hki_page_resize(struct hki_thread *thread, void *block, hki_entry entry, size_t size);

/* The span of a live page block that starts at `block`, or NULL. */
struct hki_span *hki_page_live(const void *block, hki_entry entry);

/* Page sources for other backends; see hak_pages. */
struct hki_pages {
  struct hak_pages base; /* first: what the plugin sees */
  struct hki_backend *backend;
};
const struct hak_pages *hki_pages_of(struct hki_backend *backend);

#endif
