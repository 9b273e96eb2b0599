/* SPDX-License-Identifier: MIT */
/*
 * operators.c - the 20 replaceable C++ operators new and delete, under their Itanium ABI names, without libstdc++.
 *
 * A failing throwing new calls the new_handler until it gives up, then throws std::bad_alloc. Both are found at that moment in
 * the libstdc++ of the process: a C program may load C++ extensions at any time, so a weak reference bound at start would be
 * NULL in it. Compiled with -fexceptions, because the exception passes through here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

#include "alloc.h"
#include "free.h"
#include "message.h"

#ifdef HKI_INTERPOSE

typedef void (*new_handler)(void);

static void *from_libstdcxx(const char *symbol)
{
  void *found = dlsym(RTLD_DEFAULT, symbol);
  if (found == NULL) {
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
    found = library != NULL ? dlsym(library, symbol) : NULL;
  }
  return found;
}

static void *allocate(size_t size, size_t align, const void *site)
{
  return align <= HKI_ALIGN ? hki_alloc(size, site) : hki_alloc_slow(size, align, 0, site);
}

static HKI_COLD void *retry(size_t size, size_t align, bool may_throw, const void *site)
{
  void *(*get)(void) = NULL;
  *(void **)&get = from_libstdcxx("_ZSt15get_new_handlerv");
  for (;;) {
    new_handler handler = NULL;
    if (get != NULL) {
      *(void **)&handler = get();
    }
    if (handler == NULL) {
      break;
    }
    handler();
    void *block = allocate(size, align, site);
    if (block != NULL) {
      return block;
    }
  }
  if (may_throw) {
    void (*throw_bad_alloc)(void) = NULL;
    *(void **)&throw_bad_alloc = from_libstdcxx("_ZSt17__throw_bad_allocv");
    if (throw_bad_alloc != NULL) {
      throw_bad_alloc();
    }
    hki_die("operator new: out of memory for %lu bytes, and no libstdc++ to throw", (unsigned long)size);
  }
  return NULL;
}

#define EXPORT __attribute__((visibility("default")))
#define SITE __builtin_return_address(0)
#define NEW(name, parameters, size, align, may_throw)                                                                          \
  EXPORT void *name parameters;                                                                                                \
  EXPORT void *name parameters                                                                                                 \
  {                                                                                                                            \
    void *block = allocate(size, align, SITE);                                                                                 \
    return HKI_LIKELY(block != NULL) ? block : retry(size, align, may_throw, SITE);                                            \
  }
#define DELETE(name, parameters, call)                                                                                         \
  EXPORT void name parameters;                                                                                                 \
  EXPORT void name parameters                                                                                                  \
  {                                                                                                                            \
    call;                                                                                                                      \
  }
#define NOTHROW const void *nothrow __attribute__((unused))
#define ALIGN size_t align __attribute__((unused))

NEW(_Znwm, (size_t n), n, HKI_ALIGN, true)
NEW(_Znam, (size_t n), n, HKI_ALIGN, true)
NEW(_ZnwmRKSt9nothrow_t, (size_t n, NOTHROW), n, HKI_ALIGN, false)
NEW(_ZnamRKSt9nothrow_t, (size_t n, NOTHROW), n, HKI_ALIGN, false)
NEW(_ZnwmSt11align_val_t, (size_t n, size_t align), n, align, true)
NEW(_ZnamSt11align_val_t, (size_t n, size_t align), n, align, true)
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t n, size_t align, NOTHROW), n, align, false)
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t n, size_t align, NOTHROW), n, align, false)

DELETE(_ZdlPv, (void *p), hki_free(p, "delete"))
DELETE(_ZdaPv, (void *p), hki_free(p, "delete[]"))
DELETE(_ZdlPvm, (void *p, size_t n), hki_free_sized(p, n, "delete"))
DELETE(_ZdaPvm, (void *p, size_t n), hki_free_sized(p, n, "delete[]"))
DELETE(_ZdlPvRKSt9nothrow_t, (void *p, NOTHROW), hki_free(p, "delete"))
DELETE(_ZdaPvRKSt9nothrow_t, (void *p, NOTHROW), hki_free(p, "delete[]"))
DELETE(_ZdlPvSt11align_val_t, (void *p, ALIGN), hki_free(p, "delete"))
DELETE(_ZdaPvSt11align_val_t, (void *p, ALIGN), hki_free(p, "delete[]"))
DELETE(_ZdlPvmSt11align_val_t, (void *p, size_t n, ALIGN), hki_free_sized(p, n, "delete"))
DELETE(_ZdaPvmSt11align_val_t, (void *p, size_t n, ALIGN), hki_free_sized(p, n, "delete[]"))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *p, ALIGN, NOTHROW), hki_free(p, "delete"))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *p, ALIGN, NOTHROW), hki_free(p, "delete[]"))

#else
extern int hki_no_operators; /* an empty translation unit is not C */
#endif
