/* SPDX-License-Identifier: MIT */
/*
 * elf.h - what the `hakmem` command wants to know of an ELF file. Stateless.
 */
#ifndef ELF_FILE_H
#define ELF_FILE_H

#include <stdbool.h>
#include <stdint.h>

struct elf {
  uint8_t word;      /* ELFCLASS32 or ELFCLASS64 */
  uint16_t machine;  /* EM_... */
  bool native;       /* the word size and byte order of this binary: only then the members below are known */
  bool interpreter;  /* has PT_INTERP: runs through the dynamic linker */
  bool thread_local; /* has PT_TLS */
};

/* False when the file cannot be read or is no ELF file. */
bool elf_read(const char *path, struct elf *elf);

/* Calls `visit` for each symbol that a native shared object exports. False when the file has no usable table of them. */
bool elf_exports(const char *path, void (*visit)(void *context, const char *name), void *context);

#endif
