/* SPDX-License-Identifier: MIT */
/*
 * descriptor.c - reads plugin descriptors, and values written as in an INI.
 */
#include "tool.h"

#include "../core/syntax.h"
#include "descriptor.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copies a struct of the plugin whose true size is `given`. */
static void take(void *to, size_t size, const void *from, size_t given)
{
  memset(to, 0, size);
  memcpy(to, from, given < size ? given : size);
}

static size_t smaller(size_t a, size_t b)
{
  return a < b ? a : b;
}

const char *descriptor_read(const char *path, struct descriptor *descriptor)
{
  char *file = realpath(path, NULL);
  if (file == NULL) {
    return strerror(errno);
  }
  void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  free(file);
  if (library == NULL) {
    return dlerror();
  }
  const void *symbol = dlsym(library, HAK_PLUGIN_SYMBOL);
  Dl_info info;
  const ElfW(Sym) *entry = NULL;
  if (symbol == NULL || dladdr1(symbol, &info, (void **)&entry, RTLD_DL_SYMENT) == 0 || entry == NULL) {
    return "it does not export " HAK_PLUGIN_SYMBOL;
  }

  memset(descriptor, 0, sizeof *descriptor);
  descriptor->symbol_size = entry->st_size;
  const size_t head = offsetof(hak_plugin, kind);
  if (entry->st_size < head) {
    return HAK_PLUGIN_SYMBOL " is too small for a descriptor";
  }
  take(&descriptor->plugin, head, symbol, head);
  if (descriptor->plugin.abi_major != HAK_ABI_MAJOR) {
    static char why[80];
    snprintf(why, sizeof why, "its ABI is %u.%u, not %d.x", descriptor->plugin.abi_major, descriptor->plugin.abi_minor,
             HAK_ABI_MAJOR);
    return why;
  }
  take(&descriptor->plugin, sizeof descriptor->plugin, symbol, smaller(entry->st_size, descriptor->plugin.struct_size));

  const hak_plugin *plugin = &descriptor->plugin;
  if (plugin->option_count > DESCRIPTOR_ROWS || plugin->counter_count > DESCRIPTOR_ROWS ||
      (plugin->option_count != 0 && (plugin->options == NULL || plugin->option_stride == 0)) ||
      (plugin->counter_count != 0 && (plugin->counters == NULL || plugin->counter_stride == 0))) {
    return "a count or stride of its tables is out of range";
  }
  for (uint32_t i = 0; i < plugin->option_count; i++) {
    const char *row = (const char *)plugin->options + (size_t)i * plugin->option_stride;
    take(&descriptor->options[i], sizeof descriptor->options[i], row, plugin->option_stride);
  }
  for (uint32_t i = 0; i < plugin->counter_count; i++) {
    const char *row = (const char *)plugin->counters + (size_t)i * plugin->counter_stride;
    take(&descriptor->counters[i], sizeof descriptor->counters[i], row, plugin->counter_stride);
  }
  if (plugin->ops != NULL) {
    uint32_t size;
    memcpy(&size, plugin->ops, sizeof size);
    if (plugin->kind == HAK_BACKEND) {
      take(&descriptor->backend, sizeof descriptor->backend, plugin->ops, size);
    } else if (plugin->kind == HAK_POLICY) {
      take(&descriptor->policy, sizeof descriptor->policy, plugin->ops, size);
    } else if (plugin->kind == HAK_CACHE) {
      take(&descriptor->cache, sizeof descriptor->cache, plugin->ops, size);
    } else if (plugin->kind == HAK_RECLAIM) {
      take(&descriptor->reclaim, sizeof descriptor->reclaim, plugin->ops, size);
    }
  }
  return NULL;
}

bool same_name(const char *a, const char *b)
{
  for (; *a != '\0' && (*a == *b || ((*a == '-' || *a == '_') && (*b == '-' || *b == '_'))); a++, b++) {
  }
  return *a == *b;
}

const char *descriptor_section(uint32_t kind)
{
  static const char *const sections[] = {
      [HAK_BACKEND] = "backend", [HAK_POLICY] = "policy", [HAK_CACHE] = "cache", [HAK_RECLAIM] = "reclaim"};
  return kind < sizeof sections / sizeof *sections ? sections[kind] : NULL;
}

const char *descriptor_kind(const struct descriptor *descriptor)
{
  if (descriptor->plugin.kind != HAK_BACKEND) {
    const char *section = descriptor_section(descriptor->plugin.kind);
    return section != NULL ? section : "unknown kind";
  }
  switch (descriptor->backend.granularity) {
  case HAK_BYTE:
    return "backend, byte";
  case HAK_PAGE:
    return "backend, page";
  case HAK_CLASS:
    return "backend, class";
  default:
    return "backend, unknown granularity";
  }
}

const char *option_type(uint32_t type)
{
  static const char *const names[] = {
      [HAK_SIZE] = "size",     [HAK_BOOL] = "bool", [HAK_INT] = "int",     [HAK_FLOAT] = "float", [HAK_ENUM] = "enum",
      [HAK_STRING] = "string", [HAK_LIST] = "list", [HAK_PAGES] = "pages", [HAK_ARM] = "arm",
  };
  return type < sizeof names / sizeof names[0] ? names[type] : NULL;
}

/* Bytes, with an optional power of 1024. */
static bool size_number(const char *text, long double *number)
{
  static const char units[] = "KMGT";
  char *end = NULL;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (errno != 0 || !isdigit((unsigned char)text[0])) {
    return false;
  }
  if (*end != '\0') {
    const char *unit = strchr(units, toupper((unsigned char)*end));
    unsigned shift = unit != NULL ? 10U * (unsigned)(unit - units + 1) : 64U;
    if (shift >= 64U || end[1] != '\0' || value > UINT64_MAX >> shift) {
      return false;
    }
    value <<= shift;
  }
  *number = (long double)value;
  return true;
}

bool option_number(uint32_t type, const char *text, long double *number)
{
  char *end = NULL;
  if (type == HAK_SIZE) {
    return size_number(text, number);
  }
  /* No more than libhakmem understands: no blanks, '+' or exponents. */
  if (!isdigit((unsigned char)text[text[0] == '-']) || text[strspn(text, "-.0123456789")] != '\0') {
    return false;
  }
  errno = 0;
  if (type == HAK_INT) {
    *number = (long double)strtoll(text, &end, 10);
  } else if (type == HAK_FLOAT) {
    *number = (long double)strtod(text, &end);
  }
  return errno == 0 && end != NULL && *end == '\0';
}

static bool one_of(const char *const *words, const char *text)
{
  for (; words != NULL && *words != NULL; words++) {
    if (strcmp(*words, text) == 0) {
      return true;
    }
  }
  return false;
}

bool option_accepts(const hak_option *option, const char *text)
{
  long double number, bound;
  bool flag;
  switch (option->type) {
  case HAK_SIZE:
  case HAK_INT:
  case HAK_FLOAT:
    return option_number(option->type, text, &number) &&
           (option->min == NULL || !option_number(option->type, option->min, &bound) || number >= bound) &&
           (option->max == NULL || !option_number(option->type, option->max, &bound) || number <= bound);
  case HAK_BOOL:
    return hki_parse_bool(text, &flag);
  case HAK_ENUM:
    return one_of(option->choices, text);
  case HAK_STRING:
    return (option->flags & HAK_ABSOLUTE) == 0 || text[0] == '\0' || text[0] == '/';
  case HAK_PAGES:
  case HAK_ARM:
    return text[0] != '\0';
  default:
    return true;
  }
}

char *option_expects(const hak_option *option)
{
  bool path = option->type == HAK_STRING && (option->flags & HAK_ABSOLUTE) != 0;
  const char *type = path ? "absolute path" : option_type(option->type);
  char *text = tool_text("%s", type != NULL ? type : "another type");
  for (const char *const *choice = option->choices; option->type == HAK_ENUM && choice != NULL && *choice != NULL; choice++) {
    char *more = tool_text("%s%s%s", choice == option->choices ? "" : text, choice == option->choices ? "" : " | ", *choice);
    free(text);
    text = more;
  }
  if (option->min != NULL || option->max != NULL) {
    char *more = tool_text("%s%s%s%s%s", text, option->min != NULL ? " from " : "", option->min != NULL ? option->min : "",
                           option->max != NULL ? " up to " : "", option->max != NULL ? option->max : "");
    free(text);
    text = more;
  }
  return text;
}
