/* SPDX-License-Identifier: MIT */
/*
 * template_class.c - a complete class backend to start from. The core keeps free objects for each thread and size class and
 * exchanges whole runs of them with the backend: so nothing here is hot, and one lock is enough. Build it, put it into
 * $(pkg-config --variable=plugindir hakmem), and write `small = template_class` under [core] in hakmem.ini:
 *
 *     cc -O2 -shared -fPIC -fvisibility=hidden $(pkg-config --cflags hakmem) -o template_class.so template_class.c
 */
#include <hakmem/plugin.h>

static const hak_option options[] = {{"pages", HAK_PAGES, 0, "mmap", NULL, NULL, NULL, "page backend that spans come from"}};
static const hak_counter counters[] = {{"spans", HAK_COUNTER, HAK_SUM_NONE, "", "spans taken from the page backend"}};

struct object {
  struct object *next, *next_run; /* in its run; of the first object of a run: the next run */
};

static const hak_host *host;
static const hak_pages *pages;
static struct object **runs; /* for each class, the runs that wait to be handed out; under the lock */
static hak_lock lock;        /* what callbacks get as `self` */

/* A new span as one long run, announced to the core before its first object is handed out. NULL when there is no memory. */
static struct object *grow(uint32_t cls)
{
  size_t size = host->class_bytes[cls], bytes = (4 * size + HAK_GRANULE - 1) / HAK_GRANULE * HAK_GRANULE;
  hak_block span = pages->alloc(pages, bytes, HAK_GRANULE);
  if (span.base != NULL && host->span_register(host, span.base, bytes, cls, NULL) != HAK_OK) {
    pages->free(pages, span.base, hak_block_capacity(span));
    span.base = NULL;
  }
  struct object *head = NULL;
  for (size_t i = span.base != NULL ? bytes / size : 0; i > 0; i--) {
    struct object *object = (struct object *)((char *)span.base + (i - 1) * size);
    *object = (struct object){head, NULL};
    head = object;
  }
  hak_count(host, 0, head != NULL);
  return head;
}

static int32_t template_refill(void *self, void **slot, uint32_t cls, uint32_t want, hak_run *run)
{
  (void)slot;
  hak_lock_acquire(host, self);
  struct object *head = runs[cls] != NULL ? runs[cls] : grow(cls), *last = head;
  *run = (hak_run){head, head != NULL};
  if (head != NULL) {
    for (runs[cls] = head->next_run; run->count < want && last->next != NULL; run->count++) {
      last = last->next;
    }
    if (last->next != NULL) { /* longer than wanted: the rest goes back */
      last->next->next_run = runs[cls];
      runs[cls] = last->next;
      last->next = NULL;
    }
  }
  hak_lock_release(host, self);
  return head != NULL ? HAK_OK : HAK_NO_MEMORY;
}

static void template_flush(void *self, void **slot, uint32_t cls, hak_run run)
{
  (void)slot;
  struct object *head = run.head;
  hak_lock_acquire(host, self);
  head->next_run = runs[cls]; /* nobody walks the run before it is wanted again */
  runs[cls] = head;
  hak_lock_release(host, self);
}

static int32_t template_start(const hak_host *core, const hak_value *values, void **self)
{
  host = core;
  pages = values[0].pages;
  *self = &lock;
  runs = core->meta_alloc(core, core->class_count * sizeof *runs, sizeof *runs);
  return runs != NULL ? HAK_OK : HAK_NO_MEMORY;
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
