/* SPDX-License-Identifier: MIT */
/* host.c - what plugins may ask of the core. Owns the allotment of counters; while loading only. */
#define _GNU_SOURCE
#include "host.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/auxv.h>

#include "lock.h"
#include "message.h"
#include "meta.h"
#include "misuse.h"
#include "os.h"
#include "pagemap.h"
#include "range.h"
#include "route.h"
#include "settings.h"
#include "span.h"
#include "strategy.h"

static void *host_meta_alloc(const struct hak_host *host, size_t size, size_t align)
{
  (void)host;
  return hki_meta_alloc(size, align);
}

static bool held;      /* a plugin starts */
static char said[400]; /* its last words */

static void host_log(const struct hak_host *host, const char *text)
{
  if (held) {
    if (said[0] != 0) {
      hki_say("%s: %s", host->name, said);
    }
    struct hki_text last = hki_text(said, sizeof said);
    hki_append(&last, "%s", text);
  } else {
    hki_say("%s: %s", host->name, text);
  }
}

void hki_host_hold(void)
{
  held = true;
  said[0] = 0;
}

const char *hki_host_let_go(const struct hak_host *host, bool started)
{
  held = false;
  if (started && said[0] != 0) {
    hki_say("%s: %s", host->name, said);
  }
  return !started && said[0] != 0 ? said : NULL;
}

static void log_format(const struct hak_host *host, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void log_format(const struct hak_host *host, const char *format, ...)
{
  char line[sizeof said];
  struct hki_text text = hki_text(line, sizeof line);
  va_list args;
  va_start(args, format);
  hki_vappend(&text, format, args);
  va_end(args);
  host_log(host, line);
}

/*
 * "The next one in link order" may come back as our own, where another library replaces dlsym and so asks on its own behalf. libc's
 * is then the one that is certainly not ours.
 */
static void *not_ours(void *found, const char *symbol)
{
  extern const char __ehdr_start[] HKI_HIDDEN, _end[] HKI_HIDDEN; /* this library, from the linker */
  if ((uintptr_t)found >= (uintptr_t)__ehdr_start && (uintptr_t)found < (uintptr_t)_end) {
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    found = libc != NULL ? dlsym(libc, symbol) : NULL;
  }
  return found;
}

static void *host_symbol(const struct hak_host *host, const char *library, const char *symbol)
{
  void *handle = RTLD_NEXT;
  if (library != NULL) {
    handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle == NULL) {
      const char *why = dlerror();
      log_format(host, "%s", why != NULL ? why : "a library that cannot be loaded");
      return NULL;
    }
  }
  void *found = not_ours(dlsym(handle, symbol), symbol);
  if (found == NULL) {
    log_format(host, "no %s in %s", symbol, library != NULL ? library : "the libraries after libhakmem");
  }
  return found;
}

static void host_lock_wait(const struct hak_host *host, hak_lock *lock)
{
  (void)host;
  hki_lock_wait(lock);
}

static void host_lock_wake(const struct hak_host *host, hak_lock *lock)
{
  (void)host;
  hki_lock_wake(lock);
}

static uint32_t backend_of(const struct hak_host *host)
{
  return ((const struct hki_host *)(const void *)host)->backend;
}

static int32_t host_span_register(const struct hak_host *host, void *base, size_t bytes, uint32_t cls, void *tag)
{
  return hki_span_register(backend_of(host), base, bytes, cls, tag);
}

static void host_span_tags(const struct hak_host *host, uint32_t cls, void *const *objects, uint32_t count, void **tags)
{
  hki_span_tags(backend_of(host), cls, objects, count, tags);
}

static void host_misuse(const struct hak_host *host, const void *object)
{
  (void)host;
  hki_misuse("free", object, hki_pagemap_get((uintptr_t)object));
}

static uint32_t host_arm_alike(const struct hak_host *host, uint32_t bin, uint32_t arm)
{
  (void)host;
  return hki_route_alike(bin, arm);
}

static void host_span_unregister(const struct hak_host *host, void *base)
{
  (void)host;
  hki_span_unregister(base);
}

/* Writes, so that the pages are there: of the page map, in which nothing is entered yet, and of the records. */
static void host_expect(const struct hak_host *host, const void *base)
{
  (void)host;
  hki_entry *slot = hki_pagemap_slot((uintptr_t)base);
  if (slot != NULL) {
    HKI_STORE(slot, HKI_NONE);
  }
  struct hki_span *span = hki_span_get();
  if (span != NULL) {
    hki_span_put(span);
  }
}

static void name(char to[HKI_NAME], const char *from)
{
  struct hki_text text = hki_text(to, HKI_NAME);
  hki_append(&text, "%s", from);
}

struct hki_host *hki_host_new(const char *section, const char *plugin_name, const struct hak_plugin *plugin)
{
  struct hki_host *host = hki_meta_alloc(sizeof *host, _Alignof(struct hki_host));
  const char *kept = hki_meta_string(plugin_name);
  uint32_t first = hakmem_root.row_count;
  if (host == NULL || kept == NULL || plugin->counter_count > HKI_ROWS - first) {
    return NULL;
  }
  for (uint32_t i = 0; i < plugin->counter_count; i++) {
    const struct hak_counter *counter =
        (const struct hak_counter *)(const void *)((const char *)plugin->counters + (size_t)i * plugin->counter_stride);
    struct hki_row_view *row = &hakmem_root.row[first + i];
    name(row->plugin, section);
    name(row->key, counter->key);
    struct hki_text unit = hki_text(row->unit, sizeof row->unit);
    hki_append(&unit, "%s", counter->unit);
    row->kind = (uint16_t)counter->kind;
    row->sum = (uint16_t)counter->sum;
  }
  hakmem_root.row_count = first + plugin->counter_count;
  bool policy = plugin->kind == HAK_POLICY;
  host->backend = hakmem_root.backend_count;
  host->base = (struct hak_host){
      .struct_size = sizeof(struct hak_host),
      .abi_major = HAK_ABI_MAJOR,
      .abi_minor = HAK_ABI_MINOR,
      .name = kept,
      .os = &hki_os,
      .counters = &hakmem_root.values[first],
      .active = &hakmem_root.active_bytes,
      .page_size = (uint32_t)getauxval(AT_PAGESZ),
      .class_count = HKI_CLASSES,
      .class_bytes = hakmem_root.class_bytes,
      .arm_count = policy ? hakmem_root.arm_count : 0,
      .arm_name = policy ? hki_strategy_names : NULL,
      .hardened = hki_settings.hardening,
      .basic_syscalls = hki_settings.basic_syscalls,
      .meta_alloc = host_meta_alloc,
      .log = host_log,
      .symbol = host_symbol,
      .lock_wait = host_lock_wait,
      .lock_wake = host_lock_wake,
      .span_register = host_span_register,
      .span_unregister = host_span_unregister,
      .release = plugin->kind == HAK_RECLAIM ? hki_range_release : NULL,
      .span_tags = host_span_tags,
      .misuse = host_misuse,
      .expect = host_expect,
      .arm_alike = policy ? host_arm_alike : NULL,
      .spans = &hakmem_root.span_bytes,
      .tried = &hakmem_root.tried_bytes,
  };
  return host;
}
