/* SPDX-License-Identifier: MIT */
/* plugin.c - owns the table of loaded plugins; while loading only, by one thread. */
#define _GNU_SOURCE
#include "plugin.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "abi.h"
#include "backend.h"
#include "epoch.h"
#include "host.h"
#include "message.h"
#include "meta.h"
#include "option.h"
#include "page.h"
#include "range.h"
#include "settings.h"
#include "trust.h"

enum { PLUGINS = 24, PATH = 4096, OPTIONS = 32 };

struct plugin {
  uint32_t kind;                /* enum hak_plugin_kind */
  const char *name;             /* as the configuration says it: a name or a path */
  const char *section;          /* "backend.mmap"; NULL when its file was refused */
  struct hak_plugin descriptor; /* completed copy */
  void *self;
  struct hki_backend *backend; /* of a backend; NULL while it is being loaded, and when it was refused */
  struct hki_thread *inside;   /* what a thread is while it runs a callback; NULL likewise */
};

static struct plugin plugins[PLUGINS];
static uint32_t plugin_count;

/* What sections and messages call each kind; by enum hak_plugin_kind. */
static const struct {
  const char *prefix, *name;
} kinds[] = {{"", "an unknown kind of plugin"},
             {"backend.", "a backend"},
             {"policy.", "a policy"},
             {"cache.", "a cache"},
             {"reclaim.", "a reclaim plugin"}};

enum { KINDS = sizeof kinds / sizeof *kinds };

static const char *kind_prefix(uint32_t kind)
{
  return kinds[kind < KINDS ? kind : 0].prefix;
}

/* ---- finding --------------------------------------------------------------------------------------------------------- */

static bool candidate(char path[PATH], const char *directory, const char *name)
{
  struct hki_text text = hki_text(path, PATH);
  hki_append(&text, "%s/", directory);
  char *file = text.at;
  hki_append(&text, "%s.so", name);
  for (; *file != 0; file++) {
    *file = *file == '-' ? '_' : *file;
  }
  return access(path, F_OK) == 0;
}

/* The file of a plugin: an absolute path as it is, a name in the directories of the INI and in the installed one. */
static bool find(char path[PATH], const char *name)
{
  if (*name == '/') {
    struct hki_text text = hki_text(path, PATH);
    hki_append(&text, "%s", name);
    return access(path, F_OK) == 0;
  }
  if (strchr(name, '/') != NULL) {
    return false;
  }
  bool secure = getauxval(AT_SECURE) != 0;
  for (const char *const *d = hki_settings.plugin_path; !secure && d != NULL && *d != NULL; d++) {
    if (**d == '/' && candidate(path, *d, name)) {
      return true;
    }
  }
  return candidate(path, HKI_PLUGINDIR, name);
}

enum hki_section hki_plugin_section(const char *section, const char **right)
{
  const char *dot = strchr(section, '.');
  const char *other = NULL;
  for (uint32_t i = 0; i < plugin_count; i++) {
    if (plugins[i].section != NULL && strcmp(plugins[i].section, section) == 0) {
      return HKI_SECTION_LOADED;
    }
    if (plugins[i].section != NULL && dot != NULL && strcmp(strchr(plugins[i].section, '.'), dot) == 0) {
      other = plugins[i].section;
    }
  }
  char path[PATH];
  bool known_kind = false;
  for (uint32_t kind = 1; dot != NULL && dot[1] != 0 && kind < KINDS; kind++) {
    known_kind = known_kind || strncmp(section, kinds[kind].prefix, strlen(kinds[kind].prefix)) == 0;
  }
  if (!known_kind) {
    return HKI_SECTION_UNKNOWN;
  }
  if (other != NULL) {
    *right = other;
    return HKI_SECTION_OTHER;
  }
  return find(path, dot + 1) ? HKI_SECTION_IDLE : HKI_SECTION_MISSING;
}

/* ---- checking -------------------------------------------------------------------------------------------------------- */

struct complaint {
  char found[400];
  const char *expected;
};

static bool complain(struct complaint *c, const char *expected, const char *format, ...) __attribute__((format(printf, 3, 4)));
static bool complain(struct complaint *c, const char *expected, const char *format, ...)
{
  struct hki_text text = hki_text(c->found, sizeof c->found);
  va_list args;
  va_start(args, format);
  hki_vappend(&text, format, args);
  va_end(args);
  c->expected = expected;
  return false;
}

/* Rows have the members that we know, and are aligned. */
static bool good_stride(uint32_t stride, size_t size)
{
  return stride >= size && stride % _Alignof(struct hak_option) == 0;
}

static bool check(const struct hak_plugin *p, uint32_t kind, struct complaint *c)
{
  if (p->struct_size < HKI_PLUGIN_FIRST) {
    return complain(c, "at least that of ABI 0.1", "a descriptor of %u bytes", p->struct_size);
  }
  if (p->abi_major != HAK_ABI_MAJOR) {
    char *expected = hki_meta_alloc(32, 1);
    if (expected != NULL) {
      struct hki_text text = hki_text(expected, 32);
      hki_append(&text, "ABI %d.x", HAK_ABI_MAJOR);
    }
    return complain(c, expected != NULL ? expected : "another", "ABI %u.%u", p->abi_major, p->abi_minor);
  }
  if (p->kind != kind) {
    return complain(c, kinds[kind].name, "%s", kinds[p->kind < KINDS ? p->kind : 0].name);
  }
  if (p->name == NULL || p->name[0] == 0 || p->start == NULL || p->ops == NULL) {
    return complain(c, "name, start and ops", "a descriptor without %s",
                    p->start == NULL ? "start"
                    : p->ops == NULL ? "ops"
                                     : "name");
  }
  if ((p->option_count > 0 && (p->options == NULL || !good_stride(p->option_stride, HKI_OPTION_FIRST))) ||
      p->option_count > OPTIONS) {
    return complain(c, "at most 32 options with their stride", "an option table of %u entries with stride %u", p->option_count,
                    p->option_stride);
  }
  if (p->counter_count > 0 && (p->counters == NULL || !good_stride(p->counter_stride, HKI_COUNTER_FIRST))) {
    return complain(c, "a table with its stride", "a counter table of %u entries with stride %u", p->counter_count,
                    p->counter_stride);
  }
  for (uint32_t i = 0; i < p->option_count; i++) {
    const struct hak_option *o =
        (const struct hak_option *)(const void *)((const char *)p->options + (size_t)i * p->option_stride);
    if (o->key == NULL || o->fallback == NULL || (o->type == HAK_ENUM && o->choices == NULL)) {
      return complain(c, "key, default and, for an enum, choices", "an incomplete option %u", i);
    }
    if ((o->flags & HAK_LIVE) != 0 && p->set == NULL) {
      return complain(c, "a set function", "the live option %s", o->key);
    }
  }
  return true;
}

/* ---- loading --------------------------------------------------------------------------------------------------------- */

static int32_t set_option(void *owner, uint32_t index, hak_value value)
{
  struct plugin *plugin = owner;
  struct hki_thread *caller = hki_self;
  hki_self = plugin->inside;
  int32_t result = plugin->descriptor.set(plugin->self, index, value);
  hki_self = caller;
  if (result == HAK_OK && plugin->kind == HAK_POLICY) {
    hki_epoch_again();
  }
  return result;
}

/* Takes a started plugin into service. */
static bool serve(struct plugin *plugin, const char *name, struct complaint *c)
{
  const struct hak_plugin *d = &plugin->descriptor;
  const char *lacking = NULL;
  if (d->kind == HAK_BACKEND) {
    plugin->backend = hki_backend_add(name, d->ops, &lacking);
    if (plugin->backend == NULL) {
      return complain(c, lacking != NULL ? "all members that its granularity needs" : "fewer", "%s%s",
                      lacking != NULL ? "no " : "too many backends", lacking != NULL ? lacking : "");
    }
    plugin->backend->self = plugin->self;
    plugin->inside = plugin->backend->inside;
    return true;
  }
  const char *kept = hki_meta_string(name);
  plugin->inside = hki_thread_inside(kept);
  if (plugin->inside == NULL || kept == NULL) {
    return complain(c, "some", "no memory for it");
  }
  char *shown;
  if (d->kind == HAK_POLICY) {
    const char *refusal = hki_epoch_start(d->ops, plugin->self, plugin->inside);
    if (refusal != NULL) {
      return complain(c, "a policy that chooses among the strategies", "%s", refusal);
    }
    shown = hakmem_root.policy;
  } else {
    bool cache = d->kind == HAK_CACHE;
    lacking =
        cache ? hki_range_cache(d->ops, plugin->self, plugin->inside) : hki_range_reclaim(d->ops, plugin->self, plugin->inside);
    if (lacking != NULL) {
      return complain(c, "all members that are not optional", "no %s", lacking);
    }
    shown = cache ? hakmem_root.cache : hakmem_root.reclaim;
  }
  struct hki_text text = hki_text(shown, HKI_NAME);
  hki_append(&text, "%s", name);
  return true;
}

static bool start(struct plugin *plugin, const char *name, struct complaint *c)
{
  struct hak_plugin *d = &plugin->descriptor;
  hak_value values[OPTIONS];
  for (uint32_t i = 0; i < d->option_count; i++) {
    const struct hak_option *option =
        (const struct hak_option *)(const void *)((const char *)d->options + (size_t)i * d->option_stride);
    values[i] = hki_option_read(plugin->section, option, i, set_option, plugin);
  }
  struct hki_host *host = hki_host_new(plugin->section, name, d);
  if (host == NULL) {
    return complain(c, "fewer", "no room for its %u counters", d->counter_count);
  }
  hki_host_hold();
  int32_t result = d->start(&host->base, values, &plugin->self);
  const char *why = hki_host_let_go(&host->base, result == HAK_OK);
  if (result != HAK_OK) {
    return why != NULL ? complain(c, "a plugin that starts", "%s", why)
                       : complain(c, "a plugin that starts", "its start returned %d", result);
  }
  return serve(plugin, name, c);
}

/* The descriptor to use in place of a file's: its own, but in a build that measures what plugins cost. */
static const struct hak_plugin *bound(const struct hak_plugin *exported)
{
#ifdef HKI_BOUND
  if (strcmp(exported->name, hki_bound.name) == 0) {
    return &hki_bound;
  }
#endif
  return exported;
}

/* The checked and loaded file's descriptor; NULL and *c when something is wrong with it. */
static const struct hak_plugin *open_file(const char *path, uint32_t kind, struct complaint *c)
{
  struct hki_trust trust;
  const struct hak_plugin *exported = NULL;
  const char *found, *expected;
  bool ok = hki_trust_begin(&trust, path, &found, &expected);
  if (!ok) {
    (void)complain(c, expected, "%s", found);
  } else {
    void *handle = dlopen(trust.path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const char *why = handle == NULL ? dlerror() : NULL;
    exported = handle != NULL ? dlsym(handle, HAK_PLUGIN_SYMBOL) : NULL;
    if (handle == NULL) {
      ok = complain(c, "a shared object that loads", "%s", why != NULL ? why : "an unloadable file");
    } else if (exported == NULL) {
      ok = complain(c, "the symbol " HAK_PLUGIN_SYMBOL, "no entry symbol");
    } else if (!hki_trust_is(&trust, exported)) {
      ok = complain(c, "the file that was checked", "another file loaded in its place");
    } else {
      ok = check(exported, kind, c);
    }
  }
  hki_trust_end(&trust);
  return ok ? bound(exported) : NULL;
}

/* Makes the rows of a table as long as the core's: those of an older plugin are copied, what they lack being zero. */
static bool widen(const void **table, uint32_t *stride, uint32_t count, size_t row)
{
  if (count == 0 || *stride >= row) {
    return true;
  }
  char *rows = hki_meta_alloc(count * row, sizeof(void *));
  for (uint32_t i = 0; rows != NULL && i < count; i++) {
    memcpy(rows + i * row, (const char *)*table + (size_t)i * *stride, *stride);
  }
  *table = rows;
  *stride = (uint32_t)row;
  return rows != NULL;
}

/* The core's copy of a checked descriptor and its tables. */
static bool copy(struct hak_plugin *d, const struct hak_plugin *exported, struct complaint *c)
{
  memcpy(d, exported, exported->struct_size < sizeof *d ? exported->struct_size : sizeof *d);
  const void *option_rows = d->options, *counter_rows = d->counters;
  bool ok = widen(&option_rows, &d->option_stride, d->option_count, sizeof(struct hak_option)) &&
            widen(&counter_rows, &d->counter_stride, d->counter_count, sizeof(struct hak_counter));
  d->options = option_rows;
  d->counters = counter_rows;
  return ok || complain(c, "some", "no memory for its tables");
}

/* Everything between a name and a running plugin. A refused one stays in the table, so that it is reported once. */
static struct plugin *load(uint32_t kind, const char *name, const struct hki_item *where)
{
  char path[PATH];
  struct complaint c;
  if (plugin_count == PLUGINS) {
    hki_mistake(where, "plugin %s: found too many plugins, expected at most %d; not used", name, PLUGINS);
    return NULL;
  }
  struct plugin *plugin = &plugins[plugin_count++];
  *plugin = (struct plugin){.kind = kind, .name = hki_meta_string(name)};
  if (!find(path, name)) {
    hki_mistake(where, "plugin %s: found no such plugin, expected it in core.plugin_path or " HKI_PLUGINDIR "; not used", name);
    return plugin;
  }
  const struct hak_plugin *exported = open_file(path, kind, &c);
  bool ok = exported != NULL && copy(&plugin->descriptor, exported, &c);
  if (ok) {
    const char *instance = *name == '/' ? plugin->descriptor.name : name;
    ok = strlen(instance) + strlen(kind_prefix(HAK_BACKEND)) < HKI_NAME ||
         complain(&c, "at most 23 characters", "the name %s", instance);
  }
  if (ok) {
    const char *instance = *name == '/' ? plugin->descriptor.name : name;
    char section[HKI_NAME + 16];
    struct hki_text text = hki_text(section, sizeof section);
    hki_append(&text, "%s%s", kind_prefix(kind), instance);
    plugin->section = hki_meta_string(section);
    ok = (plugin->section != NULL || complain(&c, "memory for its name", "none")) && start(plugin, instance, &c);
  }
  if (!ok) {
    const struct hki_item *own = plugin->section != NULL ? hki_config_last(plugin->section) : NULL;
    hki_mistake(own != NULL ? own : where, "plugin %s: found %s, expected %s; not used", path, c.found, c.expected);
  }
  return plugin;
}

static struct plugin *known(uint32_t kind, const char *name)
{
  for (uint32_t i = 0; i < plugin_count; i++) {
    struct plugin *p = &plugins[i];
    bool same = p->name != NULL && strcmp(p->name, name) == 0;
    same = same || (p->section != NULL && strcmp(strchr(p->section, '.') + 1, name) == 0);
    if (p->kind == kind && same) {
      return p;
    }
  }
  return NULL;
}

struct hki_backend *hki_plugin_backend(const char *name, const struct hki_item *where)
{
  struct plugin *plugin = known(HAK_BACKEND, name);
  if (plugin == NULL) {
    plugin = load(HAK_BACKEND, name, where);
  }
  return plugin != NULL ? plugin->backend : NULL;
}

void hki_plugin_optional(uint32_t kind, const char *name, const struct hki_item *where)
{
  if (strcmp(name, "none") != 0) {
    (void)load(kind, name, where);
  }
}

const struct hak_pages *hki_plugin_pages(const char *name)
{
  char path[PATH];
  if (known(HAK_BACKEND, name) == NULL && !find(path, name)) {
    return NULL; /* the option that names it says so, with its line */
  }
  struct hki_backend *backend = hki_plugin_backend(name, NULL);
  return backend != NULL && backend->granularity == HAK_PAGE ? hki_pages_of(backend) : NULL;
}
