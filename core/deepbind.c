/* SPDX-License-Identifier: MIT */
/*
 * deepbind.c - dlopen, for the sake of libraries that a program loads with RTLD_DEEPBIND.
 *
 * Such a library looks names up in itself and in the libraries that it needs before it looks in the program, so its malloc and free are
 * libc's, whatever comes first there. What the program hands it to free is ours, and glibc aborts. So before the first library is
 * loaded that way, libc's own entries for malloc and its relatives are made to lead here: eight bytes of its symbol table each, in
 * this process only. Programs that never ask for RTLD_DEEPBIND keep libc as it is.
 *
 * Owns those entries, under the control lock. Where libc's tables are not as expected, they stay as they are, and one line says so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "boot.h"
#include "lock.h"
#include "message.h"
#include "os.h"
#include "root.h"
#include "settings.h"

#ifdef HKI_INTERPOSE

typedef void function(void);

/* clang-format off */
#define ENTRY(name) {#name, (function *)name}
/* clang-format on */

/* What takes or gives blocks: these are ours, under the names that libc has, too. */
static const struct entry {
  const char *name;
  function *ours;
} entries[] = {
    ENTRY(malloc),        ENTRY(free),           ENTRY(calloc), ENTRY(realloc), ENTRY(reallocarray),      ENTRY(memalign),
    ENTRY(aligned_alloc), ENTRY(posix_memalign), ENTRY(valloc), ENTRY(pvalloc), ENTRY(malloc_usable_size)};

enum { ENTRIES = sizeof entries / sizeof *entries };

/* The tables of a loaded object by which names are found. */
struct names {
  uintptr_t base;
  ElfW(Sym) * symbols;
  const char *strings;
  size_t string_bytes;
  const uint32_t
      *hash; /* DT_GNU_HASH: numbers of buckets, of the first symbol in them, of words of its filter; a shift; all these */
};

static uintptr_t address_in(uintptr_t base, ElfW(Addr) value)
{
  return value < base ? base + value : value; /* the dynamic linker relocates them on most machines */
}

static bool find_names(const struct link_map *map, struct names *names)
{
  *names = (struct names){.base = map->l_addr};
  for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
    if (d->d_tag == DT_SYMTAB) {
      names->symbols = (ElfW(Sym) *)address_in(names->base, d->d_un.d_ptr);
    } else if (d->d_tag == DT_STRTAB) {
      names->strings = (const char *)address_in(names->base, d->d_un.d_ptr);
    } else if (d->d_tag == DT_STRSZ) {
      names->string_bytes = d->d_un.d_val;
    } else if (d->d_tag == DT_GNU_HASH) {
      names->hash = (const uint32_t *)address_in(names->base, d->d_un.d_ptr);
    }
  }
  return names->symbols != NULL && names->strings != NULL && names->hash != NULL;
}

static ElfW(Sym) * find_symbol(const struct names *names, const char *name)
{
  uint32_t hash = 5381;
  for (const char *c = name; *c != '\0'; c++) {
    hash = hash * 33 + (unsigned char)*c;
  }
  uint32_t buckets = names->hash[0], first = names->hash[1];
  const uint32_t *bucket = names->hash + 4 + (size_t)names->hash[2] * sizeof(ElfW(Addr)) / sizeof(uint32_t);
  const uint32_t *chain = bucket + buckets;
  uint32_t i = buckets != 0 ? bucket[hash % buckets] : 0;
  for (bool last = i < first; !last; i++) {
    if ((chain[i - first] | 1) == (hash | 1) && strcmp(names->strings + names->symbols[i].st_name, name) == 0) {
      return &names->symbols[i];
    }
    last = (chain[i - first] & 1) != 0;
  }
  return NULL;
}

/* What stands in the way of leading libc's entries here; NULL when they do. */
static const char *redirect(void)
{
  Dl_info info;
  struct link_map *map = NULL;
  struct names names;
  ElfW(Sym) * found[ENTRIES];
  if (dladdr1((void *)(uintptr_t)__libc_malloc, &info, (void **)&map, RTLD_DL_LINKMAP) == 0 || map == NULL ||
      !find_names(map, &names)) {
    return "its tables of names are not as expected";
  }
  /* No code is in the pages of the symbols, which are about to be writable: a page of names at least lies behind them. */
  if (names.strings <= (const char *)names.symbols || names.string_bytes < getauxval(AT_PAGESZ)) {
    return "its symbols may share a page with code";
  }
  uintptr_t low = UINTPTR_MAX, high = 0; /* where they lie */
  for (int i = 0; i < ENTRIES; i++) {
    found[i] = find_symbol(&names, entries[i].name);
    if (found[i] == NULL || found[i]->st_shndx == SHN_UNDEF || ELF64_ST_TYPE(found[i]->st_info) != STT_FUNC) {
      return "it lacks some of them";
    }
    low = (uintptr_t)found[i] < low ? (uintptr_t)found[i] : low;
    high = (uintptr_t)(found[i] + 1) > high ? (uintptr_t)(found[i] + 1) : high;
  }
  if (names.base + found[0]->st_value != (uintptr_t)__libc_malloc) {
    return "somebody else has redirected it";
  }
  /* All or none: a library with one of them alone would be worse off than before. */
  uintptr_t page = low & ~((uintptr_t)getauxval(AT_PAGESZ) - 1);
  if (hki_os.mprotect((void *)page, high - page, PROT_READ | PROT_WRITE) != 0) {
    return "the system does not let us write there";
  }
  for (int i = 0; i < ENTRIES; i++) {
    __atomic_store_n(&found[i]->st_value, (uintptr_t)entries[i].ours - names.base, __ATOMIC_RELEASE);
  }
  (void)hki_os.mprotect((void *)page, high - page, PROT_READ);
  return NULL;
}

/* A library is about to be loaded with RTLD_DEEPBIND. */
static HKI_COLD void prepare(void)
{
  static bool done;
  hki_lock(&hki_control_lock);
  if (!done) {
    done = true;
    const char *obstacle = redirect();
    if (obstacle != NULL) {
      hki_say("RTLD_DEEPBIND: libc's malloc cannot be redirected: %s; such libraries must not free what the program allocates",
              obstacle);
    }
  }
  hki_unlock(&hki_control_lock);
}

/* The first dlopen in these libraries, of those that are loaded; 0: there is none. */
static uintptr_t dlopen_from(const struct link_map *map, const struct link_map *end)
{
  for (; map != end; map = map->l_next) {
    struct names names;
    const ElfW(Sym) *symbol = find_names(map, &names) ? find_symbol(&names, "dlopen") : NULL;
    if (symbol != NULL && symbol->st_shndx != SHN_UNDEF) {
      return names.base + symbol->st_value;
    }
  }
  return 0;
}

/*
 * The next dlopen in link order, or the first one where libhakmem itself was loaded late. Not by dlsym, which other libraries replace:
 * it would then find ours. No lock: libraries that were there at the start come first and stay, and libc is one of them.
 */
static HKI_COLD uintptr_t find_next(void)
{
  Dl_info info;
  struct link_map *own = NULL, *first;
  if (dladdr1((void *)(uintptr_t)malloc, &info, (void **)&own, RTLD_DL_LINKMAP) == 0 || own == NULL) {
    hki_die("dlopen: the dynamic linker does not know libhakmem");
  }
  for (first = own; first->l_prev != NULL; first = first->l_prev) {
  }
  uintptr_t next = dlopen_from(own->l_next, NULL);
  next = next != 0 ? next : dlopen_from(first, own);
  if (next == 0) {
    hki_die("dlopen: no library has it but libhakmem");
  }
  return next;
}

extern uintptr_t hki_deepbind_next(int mode) HKI_HIDDEN __attribute__((used));

/* Where the dlopen behind ours is, which is about to be called with that mode. */
uintptr_t hki_deepbind_next(int mode)
{
  static uintptr_t next;
  if (HKI_UNLIKELY((mode & RTLD_DEEPBIND) != 0) && hki_settings.deepbind == HKI_DEEPBIND_OURS &&
      HKI_LOAD(&hakmem_root.state) == HKI_STATE_READY) {
    prepare();
  }
  if (HKI_LOAD(&next) == 0) {
    HKI_STORE(&next, find_next());
  }
  return HKI_LOAD(&next);
}

/*
 * dlopen looks at its return address: whose search path and namespace count. So ours leaves no trace on the stack, which only assembly
 * can promise; elsewhere compilers do the same when they optimise.
 */
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl dlopen\n"
        ".type dlopen, @function\n"
        "dlopen:\n"
        ".cfi_startproc\n"
        "endbr64\n"
        "push %rdi\n"
        ".cfi_adjust_cfa_offset 8\n"
        "push %rsi\n"
        ".cfi_adjust_cfa_offset 8\n"
        "sub $8, %rsp\n"
        ".cfi_adjust_cfa_offset 8\n"
        "mov %esi, %edi\n"
        "call hki_deepbind_next\n"
        "add $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "pop %rsi\n"
        ".cfi_adjust_cfa_offset -8\n"
        "pop %rdi\n"
        ".cfi_adjust_cfa_offset -8\n"
        "jmp *%rax\n"
        ".cfi_endproc\n"
        ".size dlopen, . - dlopen\n");
#else
__attribute__((visibility("default"))) void *dlopen(const char *file, int mode)
{
  return ((__typeof__(dlopen) *)hki_deepbind_next(mode))(file, mode);
}
#endif

#endif
