/* SPDX-License-Identifier: MIT */
/*
 * elf.c - reads the headers and the dynamic symbols of an ELF file. Nothing in the file is trusted.
 */
#include "tool.h"

#include "elf.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TABLE_MAX = 64 << 20 }; /* bytes of a table that are still plausible */

static bool read_at(int fd, void *to, size_t size, uint64_t offset)
{
  return pread(fd, to, size, (off_t)offset) == (ssize_t)size;
}

/* A table of the file, from malloc, with a NUL behind it; NULL when it is not there. */
static void *read_table(int fd, uint64_t offset, uint64_t size)
{
  if (size == 0 || size > TABLE_MAX) {
    return NULL;
  }
  char *table = malloc(size + 1);
  if (table != NULL && !read_at(fd, table, size, offset)) {
    free(table);
    return NULL;
  }
  if (table != NULL) {
    table[size] = '\0';
  }
  return table;
}

static bool is_native(const unsigned char *ident)
{
  const uint16_t one = 1;
  bool little = *(const unsigned char *)&one == 1;
  return ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) &&
         ident[EI_DATA] == (little ? ELFDATA2LSB : ELFDATA2MSB);
}

static bool read_header(int fd, ElfW(Ehdr) * header)
{
  return read_at(fd, header, sizeof *header, 0) && memcmp(header->e_ident, ELFMAG, SELFMAG) == 0;
}

bool elf_read(const char *path, struct elf *elf)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  ElfW(Ehdr) header;
  bool good = read_header(fd, &header);
  if (good) {
    /* e_machine lies at the same place in both word sizes. */
    *elf = (struct elf){.word = header.e_ident[EI_CLASS], .machine = header.e_machine, .native = is_native(header.e_ident)};
    ElfW(Phdr) *segments = NULL;
    if (elf->native && header.e_phentsize == sizeof *segments) {
      segments = read_table(fd, header.e_phoff, (uint64_t)header.e_phnum * sizeof *segments);
    }
    for (unsigned i = 0; segments != NULL && i < header.e_phnum; i++) {
      elf->interpreter |= segments[i].p_type == PT_INTERP;
      elf->thread_local |= segments[i].p_type == PT_TLS;
    }
    free(segments);
  }
  close(fd);
  return good;
}

bool elf_exports(const char *path, void (*visit)(void *context, const char *name), void *context)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  ElfW(Ehdr) header;
  ElfW(Shdr) *sections = NULL;
  if (read_header(fd, &header) && is_native(header.e_ident) && header.e_shentsize == sizeof *sections) {
    sections = read_table(fd, header.e_shoff, (uint64_t)header.e_shnum * sizeof *sections);
  }
  bool found = false;
  for (unsigned i = 0; sections != NULL && i < header.e_shnum; i++) {
    if (sections[i].sh_type != SHT_DYNSYM || sections[i].sh_link >= header.e_shnum) {
      continue;
    }
    const ElfW(Shdr) *strings = &sections[sections[i].sh_link];
    ElfW(Sym) *symbols = read_table(fd, sections[i].sh_offset, sections[i].sh_size);
    char *names = read_table(fd, strings->sh_offset, strings->sh_size);
    if (symbols != NULL && names != NULL) {
      found = true;
      for (size_t s = 0; s < sections[i].sh_size / sizeof *symbols; s++) {
        unsigned binding = ELF64_ST_BIND(symbols[s].st_info);
        unsigned visibility = ELF64_ST_VISIBILITY(symbols[s].st_other);
        if (symbols[s].st_shndx != SHN_UNDEF && binding != STB_LOCAL &&
            (visibility == STV_DEFAULT || visibility == STV_PROTECTED) && symbols[s].st_name < strings->sh_size) {
          visit(context, names + symbols[s].st_name);
        }
      }
    }
    free(symbols);
    free(names);
  }
  free(sections);
  close(fd);
  return found;
}
