/* SPDX-License-Identifier: MIT */
/* backend.c - owns hki_backends; written while loading only. */
#include "backend.h"

#include <string.h>

#include "message.h"
#include "meta.h"

static hak_block no_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)self, (void)slot, (void)size, (void)align;
  return HAK_NO_BLOCK;
}

static hak_block no_resize(void *self, void **slot, void *base, size_t capacity, size_t size)
{
  (void)self, (void)slot, (void)base, (void)capacity, (void)size;
  return HAK_NO_BLOCK;
}

static void no_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self, (void)slot, (void)base, (void)capacity;
}

static int32_t no_refill(void *self, void **slot, uint32_t cls, void **objects, uint32_t want)
{
  (void)self, (void)slot, (void)cls, (void)objects, (void)want;
  return HAK_UNSUPPORTED;
}

static void no_flush(void *self, void **slot, uint32_t cls, void *const *objects, uint32_t count)
{
  (void)self, (void)slot, (void)cls, (void)objects, (void)count;
}

static void no_thread_exit(void *self, void **slot)
{
  (void)self, (void)slot;
}

static size_t no_trim(void *self)
{
  (void)self;
  return 0;
}

static bool no_expire(void *self)
{
  (void)self;
  return false;
}

static void no_fork(void *self)
{
  (void)self;
}

static const char *complete(struct hak_backend_ops *ops)
{
  if (ops->granularity == HAK_CLASS) {
    if (ops->refill == NULL || ops->flush == NULL) {
      return ops->refill == NULL ? "refill" : "flush";
    }
  } else if (ops->granularity == HAK_BYTE || ops->granularity == HAK_PAGE) {
    if (ops->alloc == NULL || ops->free == NULL) {
      return ops->alloc == NULL ? "alloc" : "free";
    }
  } else {
    return "granularity";
  }
  bool some = ops->fork_prepare != NULL || ops->fork_parent != NULL || ops->fork_child != NULL;
  if (some && (ops->fork_prepare == NULL || ops->fork_parent == NULL || ops->fork_child == NULL)) {
    return ops->fork_prepare == NULL ? "fork_prepare" : ops->fork_parent == NULL ? "fork_parent" : "fork_child";
  }
#define DEFAULT(member, refusal)                                                                                               \
  if (ops->member == NULL) {                                                                                                   \
    ops->member = (refusal);                                                                                                   \
  }
  DEFAULT(alloc, no_alloc)
  DEFAULT(alloc_zeroed, no_alloc)
  DEFAULT(free, no_free)
  DEFAULT(resize, no_resize)
  DEFAULT(refill, no_refill)
  DEFAULT(flush, no_flush)
  DEFAULT(thread_exit, no_thread_exit)
  DEFAULT(trim, no_trim)
  DEFAULT(expire, no_expire)
  DEFAULT(fork_prepare, no_fork)
  DEFAULT(fork_parent, no_fork)
  DEFAULT(fork_child, no_fork)
#undef DEFAULT
  ops->run = ops->run < HAK_RUN_MAX ? HAK_RUN_MAX : ops->run > HAK_RUN_LONGEST ? HAK_RUN_LONGEST : ops->run;
  return NULL;
}

struct hki_backend *hki_backend_add(const char *name, const struct hak_backend_ops *ops, const char **lacking)
{
  *lacking = NULL;
  uint32_t index = hakmem_root.backend_count;
  const char *kept = hki_meta_string(name);
  struct hki_thread *inside = hki_thread_inside(kept);
  if (index == HKI_BACKENDS || inside == NULL || kept == NULL) {
    return NULL;
  }
  struct hak_backend_ops own = {0};
  memcpy(&own, ops, ops->struct_size < sizeof own ? ops->struct_size : sizeof own);
  *lacking = complete(&own);
  if (*lacking != NULL) { /* the place stays as it is: a damaged header may name it */
    return NULL;
  }
  struct hki_backend *backend = &hki_backends[index];
  *backend = (struct hki_backend){.ops = own, .inside = inside, .index = index, .granularity = own.granularity, .name = kept};
  struct hki_backend_view *view = &hakmem_root.backend[index];
  struct hki_text text = hki_text(view->name, sizeof view->name);
  hki_append(&text, "%s", name);
  view->granularity = backend->granularity;
  hakmem_root.backend_count = index + 1;
  return backend;
}
