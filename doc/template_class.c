/* SPDX-License-Identifier: MIT */
/*
 * template_class.c - a complete class backend to start from. The core keeps free objects for each thread and size class and
 * exchanges many of them at a time with the backend: so nothing here is hot, and one lock is enough. Build it, put it into
 * $(pkg-config --variable=plugindir hakmem), and write `small = template_class` under [core] in hakmem.ini:
 *
 *     cc -O2 -shared -fPIC -fvisibility=hidden $(pkg-config --cflags hakmem) -o template_class.so template_class.c
 */
#include <hakmem/plugin.h>

static const hak_option options[] = {{"pages", HAK_PAGES, 0, "mmap", NULL, NULL, NULL, "page backend that spans come from"}};
static const hak_counter counters[] = {{"spans", HAK_COUNTER, HAK_SUM_NONE, "", "spans taken from the page backend"}};

static const hak_host *host;
static const hak_pages *pages;
static void **free_objects; /* for each class, a chain through the first words of its free objects; under the lock */
static hak_lock lock;       /* what callbacks get as `self` */

/* A new span, announced to the core before its first object is handed out. False when there is no memory. */
static bool grow(uint32_t cls)
{
  size_t size = host->class_bytes[cls], bytes = (4 * size + HAK_GRANULE - 1) / HAK_GRANULE * HAK_GRANULE;
  hak_block span = pages->alloc(pages, bytes, HAK_GRANULE);
  if (span.base == NULL) {
    return false;
  }
  if (host->span_register(host, span.base, bytes, cls, NULL) != HAK_OK) {
    pages->free(pages, span.base, hak_block_capacity(span));
    return false;
  }
  for (size_t i = bytes / size; i > 0; i--) {
    void **object = (void **)((char *)span.base + (i - 1) * size);
    *object = free_objects[cls];
    free_objects[cls] = object;
  }
  hak_count(host, 0, 1);
  return true;
}

static int32_t template_refill(void *self, void **slot, uint32_t cls, void **objects, uint32_t want)
{
  (void)slot;
  uint32_t count = 0;
  hak_lock_acquire(host, self);
  if (free_objects[cls] != NULL || grow(cls)) {
    for (void **object; count < want && (object = free_objects[cls]) != NULL; count++) {
      free_objects[cls] = *object;
      objects[count] = object;
    }
  }
  hak_lock_release(host, self);
  return count != 0 ? (int32_t)count : HAK_NO_MEMORY;
}

static void template_flush(void *self, void **slot, uint32_t cls, void *const *objects, uint32_t count)
{
  (void)slot;
  hak_lock_acquire(host, self);
  for (uint32_t i = 0; i < count; i++) {
    *(void **)objects[i] = free_objects[cls];
    free_objects[cls] = objects[i];
  }
  hak_lock_release(host, self);
}

static int32_t template_start(const hak_host *core, const hak_value *values, void **self)
{
  host = core;
  pages = values[0].pages;
  *self = &lock;
  free_objects = core->meta_alloc(core, core->class_count * sizeof *free_objects, sizeof *free_objects);
  return free_objects != NULL ? HAK_OK : HAK_NO_MEMORY;
}

/* clang-format off */
static void template_fork_prepare(void *self) { hak_lock_acquire(host, self); }
static void template_fork_done(void *self) { hak_lock_release(host, self); } /* which leaves it zero in the child, too */

static const hak_backend_ops ops = {
  .struct_size = sizeof ops, .granularity = HAK_CLASS, .refill = template_refill, .flush = template_flush,
  .fork_prepare = template_fork_prepare, .fork_parent = template_fork_done, .fork_child = template_fork_done,
};

HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
  .struct_size = sizeof hakmem_plugin, .abi_major = HAK_ABI_MAJOR, .abi_minor = HAK_ABI_MINOR, .kind = HAK_BACKEND,
  .name = "template_class", .version = "1.0", .summary = "class backend with one lock, to start from",
  .options = options, .option_count = 1, .option_stride = sizeof *options,
  .counters = counters, .counter_count = 1, .counter_stride = sizeof *counters,
  .start = template_start, .ops = &ops,
};
