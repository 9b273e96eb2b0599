/* SPDX-License-Identifier: MIT */
/*
 * target.c - finds hakmem_root in another process and copies what hangs from it. The symbol is looked up in the mapped image,
 * not in a file: that works for deleted libraries and across mount namespaces alike. Whatever is read may be garbage.
 */
#include "tool.h"

#include "target.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
  SEGMENTS_MAX = 64,     /* program headers of an image */
  DYNAMIC_MAX = 256,     /* entries of its dynamic section */
  CHAIN_MAX = 100000,    /* symbols in one chain of its hash table */
  THREADS_MAX = 1000000, /* records, so that a damaged list ends */
  READINGS = 200         /* of a root that keeps changing, 1 ms apart */
};

/* ---- memory ---------------------------------------------------------------------------------------------------------- */

bool target_read(const struct target *target, uint64_t address, void *to, size_t size)
{
  struct iovec local = {to, size}, remote = {(void *)(uintptr_t)address, size};
  ssize_t done = process_vm_readv(target->pid, &local, 1, &remote, 1, 0);
  if (done >= 0 && (size_t)done != size) {
    errno = EFAULT;
  }
  return done >= 0 && (size_t)done == size;
}

bool target_write(const struct target *target, uint64_t address, const void *from, size_t size)
{
  struct iovec local = {(void *)(uintptr_t)from, size}, remote = {(void *)(uintptr_t)address, size};
  ssize_t done = process_vm_writev(target->pid, &local, 1, &remote, 1, 0);
  if (done >= 0 && (size_t)done != size) {
    errno = EFAULT;
  }
  return done >= 0 && (size_t)done == size;
}

/* ---- refusals -------------------------------------------------------------------------------------------------------- */

char target_state(pid_t pid)
{
  char text[512];
  char *path = tool_text("/proc/%ld/stat", (long)pid);
  ssize_t length = tool_read(path, text, sizeof text);
  free(path);
  const char *name_end = length > 0 ? strrchr(text, ')') : NULL; /* the name may contain anything */
  return name_end != NULL && name_end[1] == ' ' ? name_end[2] : '\0';
}

static void explain_permission(pid_t pid)
{
  struct stat status;
  char *path = tool_text("/proc/%ld", (long)pid);
  bool known = stat(path, &status) == 0;
  free(path);
  if (known && geteuid() != 0 && status.st_uid != geteuid()) {
    const struct passwd *owner = getpwuid(status.st_uid);
    char *number = tool_text("%lu", (unsigned long)status.st_uid);
    tool_say("process %ld belongs to %s%s: run this as that user or as root", (long)pid, owner != NULL ? "" : "user ",
             owner != NULL ? owner->pw_name : number);
    free(number);
    return;
  }
  char scope[16];
  if (geteuid() != 0 && tool_read("/proc/sys/kernel/yama/ptrace_scope", scope, sizeof scope) > 0 && scope[0] != '0') {
    tool_say("process %ld: kernel.yama.ptrace_scope is %s, so only %s may read it: run this as root, or set it to 0", (long)pid,
             scope,
             scope[0] == '3'   ? "nobody"
             : scope[0] == '2' ? "a holder of CAP_SYS_PTRACE"
                               : "its parent");
    return;
  }
  tool_say("process %ld: the kernel refuses access to its memory: CAP_SYS_PTRACE is needed", (long)pid);
}

void target_explain(pid_t pid, int error)
{
  switch (error) {
  case EPERM:
  case EACCES:
    explain_permission(pid);
    break;
  case ESRCH:
  case ENOENT:
    tool_say("no process %ld", (long)pid);
    break;
  case ENOSYS:
    tool_say("process %ld: this kernel or sandbox has no process_vm_readv", (long)pid);
    break;
  default:
    tool_say("process %ld: %s", (long)pid, strerror(error));
  }
}

/* ---- the symbol ------------------------------------------------------------------------------------------------------ */

struct image {
  const struct target *target;
  uint64_t bias; /* what is added to the addresses in the file */
  uint64_t symbols, strings, hash;
};

/* The dynamic linker has turned these addresses into absolute ones, except on some machines. */
static uint64_t absolute(const struct image *image, uint64_t address)
{
  return address < image->bias ? address + image->bias : address;
}

static bool read_dynamic(struct image *image, uint64_t address)
{
  for (int i = 0; i < DYNAMIC_MAX; i++) {
    ElfW(Dyn) entry;
    if (!target_read(image->target, address + (uint64_t)i * sizeof entry, &entry, sizeof entry) || entry.d_tag == DT_NULL) {
      break;
    }
    if (entry.d_tag == DT_SYMTAB) {
      image->symbols = absolute(image, entry.d_un.d_ptr);
    } else if (entry.d_tag == DT_STRTAB) {
      image->strings = absolute(image, entry.d_un.d_ptr);
    } else if (entry.d_tag == DT_GNU_HASH) {
      image->hash = absolute(image, entry.d_un.d_ptr);
    }
  }
  return image->symbols != 0 && image->strings != 0 && image->hash != 0;
}

/* The image whose ELF header is mapped at `base`. */
static bool read_image(struct image *image, uint64_t base)
{
  ElfW(Ehdr) header;
  ElfW(Phdr) segments[SEGMENTS_MAX];
  if (!target_read(image->target, base, &header, sizeof header) || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) || header.e_phentsize != sizeof segments[0] ||
      header.e_phnum > SEGMENTS_MAX ||
      !target_read(image->target, base + header.e_phoff, segments, header.e_phnum * sizeof segments[0])) {
    return false;
  }
  uint64_t dynamic = 0;
  bool loaded = false;
  for (unsigned i = 0; i < header.e_phnum; i++) {
    if (segments[i].p_type == PT_LOAD && !loaded) {
      image->bias = base - (segments[i].p_vaddr - segments[i].p_offset);
      loaded = true;
    } else if (segments[i].p_type == PT_DYNAMIC) {
      dynamic = segments[i].p_vaddr;
    }
  }
  return loaded && dynamic != 0 && read_dynamic(image, image->bias + dynamic);
}

static uint32_t gnu_hash(const char *name)
{
  uint32_t hash = 5381;
  for (; *name != '\0'; name++) {
    hash = hash * 33 + (unsigned char)*name;
  }
  return hash;
}

/* The address of a symbol that the image defines, or 0. */
static uint64_t find_symbol(const struct image *image, const char *name)
{
  struct {
    uint32_t buckets, first, bloom_words, bloom_shift;
  } head;
  uint32_t wanted = gnu_hash(name), index;
  if (!target_read(image->target, image->hash, &head, sizeof head) || head.buckets == 0) {
    return 0;
  }
  uint64_t buckets = image->hash + sizeof head + (uint64_t)head.bloom_words * sizeof(ElfW(Addr));
  uint64_t chains = buckets + (uint64_t)head.buckets * sizeof(uint32_t);
  if (!target_read(image->target, buckets + (uint64_t)(wanted % head.buckets) * sizeof index, &index, sizeof index) ||
      index < head.first) {
    return 0;
  }
  for (int i = 0; i < CHAIN_MAX; i++, index++) {
    uint32_t hash;
    if (!target_read(image->target, chains + (uint64_t)(index - head.first) * sizeof hash, &hash, sizeof hash)) {
      return 0;
    }
    if ((hash | 1U) == (wanted | 1U)) {
      ElfW(Sym) symbol;
      char found[32] = "";
      if (target_read(image->target, image->symbols + (uint64_t)index * sizeof symbol, &symbol, sizeof symbol) &&
          target_read(image->target, image->strings + symbol.st_name, found, strlen(name) + 1) && strcmp(found, name) == 0 &&
          symbol.st_shndx != SHN_UNDEF) {
        return image->bias + symbol.st_value;
      }
    }
    if ((hash & 1U) != 0) {
      break;
    }
  }
  return 0;
}

/* What the head of a root says; enough to know whether it is one. */
static bool read_head(const struct target *target, uint64_t address, struct hki_root *root)
{
  return target_read(target, address, root, offsetof(struct hki_root, backend_count)) && root->magic == HKI_ROOT_MAGIC;
}

/*
 * Looks in every image for a hakmem_root. A process may have two, when it is preloaded and linked to another copy: the one
 * with threads serves.
 */
static uint64_t find_root(const struct target *target, FILE *maps)
{
  uint64_t found = 0;
  char line[8192];
  while (fgets(line, sizeof line, maps) != NULL) {
    uint64_t base, offset;
    int name = 0;
    if (sscanf(line, "%" SCNx64 "-%*x r%*3s %" SCNx64 " %*x:%*x %*u %n", &base, &offset, &name) != 2 || name == 0 ||
        offset != 0 || line[name] != '/') {
      continue;
    }
    struct image image = {.target = target};
    struct hki_root root;
    uint64_t address = read_image(&image, base) ? find_symbol(&image, "hakmem_root") : 0;
    if (address != 0 && read_head(target, address, &root)) {
      if (root.threads != NULL) {
        return address;
      }
      found = address;
    }
  }
  return found;
}

bool target_open(struct target *target, pid_t pid)
{
  *target = (struct target){.pid = pid};
  char *path = tool_text("/proc/%ld/maps", (long)pid);
  FILE *maps = fopen(path, "re");
  int error = errno;
  free(path);
  if (maps == NULL) {
    target_explain(pid, error);
    return false;
  }
  char probe;
  bool empty = fgetc(maps) == EOF; /* a kernel thread, or a process that has ended */
  rewind(maps);
  if (!empty && !target_read(target, 0, &probe, 1) && errno != EFAULT) {
    target_explain(pid, errno);
  } else if ((target->root = empty ? 0 : find_root(target, maps)) == 0) {
    tool_say("process %ld does not run under hakmem", (long)pid);
  }
  fclose(maps);
  return target->root != 0;
}

/* ---- the root -------------------------------------------------------------------------------------------------------- */

static void end_name(char *name, size_t size)
{
  name[size - 1] = '\0';
}

static void limit(uint32_t *count, uint32_t most)
{
  *count = *count < most ? *count : most;
}

/* Makes a copied root safe to use, whatever the process has done to it. */
static void tame(struct hki_root *root)
{
  limit(&root->backend_count, HKI_BACKENDS);
  limit(&root->arm_count, HKI_ARMS);
  limit(&root->row_count, HKI_ROWS);
  limit(&root->small, HKI_BACKENDS - 1);
  end_name(root->version_text, sizeof root->version_text);
  end_name(root->policy, sizeof root->policy);
  end_name(root->cache, sizeof root->cache);
  end_name(root->reclaim, sizeof root->reclaim);
  end_name(root->mailbox.request, sizeof root->mailbox.request);
  end_name(root->mailbox.answer, sizeof root->mailbox.answer);
  for (size_t i = 0; i < HKI_BACKENDS; i++) {
    end_name(root->backend[i].name, sizeof root->backend[i].name);
  }
  for (size_t i = 0; i < HKI_ARMS; i++) {
    end_name(root->arm[i], sizeof root->arm[i]);
  }
  limit(&root->cell_count, HKI_CELLS);
  for (size_t i = 0; i < HAK_ROWS; i++) {
    root->champion[i] %= HKI_ARMS;
    root->challenger[i] %= HKI_ARMS;
  }
  for (size_t i = 0; i < HKI_CHANGES; i++) {
    root->change[i].row %= HAK_ROWS;
    root->change[i].rows %= HAK_ROWS + 1;
  }
  for (size_t i = 0; i < HKI_ROWS; i++) {
    end_name(root->row[i].plugin, sizeof root->row[i].plugin);
    end_name(root->row[i].key, sizeof root->row[i].key);
    end_name(root->row[i].unit, sizeof root->row[i].unit);
  }
}

/* Memory that cannot be reached any more was that of a program that was replaced; ESRCH: that ended. */
static void explain(const struct target *target, int error)
{
  if (error == ESRCH && target->may_end) {
    errno = ESRCH;
  } else {
    target_explain(target->pid, error == EFAULT ? ESRCH : error);
  }
}

bool target_root(const struct target *target, struct hki_root *root)
{
  if (!read_head(target, target->root, root)) {
    explain(target, errno);
    return false;
  }
  if (root->version != HKI_ROOT_VERSION || root->size != sizeof *root || root->thread_size != sizeof(struct hki_thread)) {
    tool_say("process %ld runs another version of hakmem (statistics version %u; this command reads %u)", (long)target->pid,
             root->version, HKI_ROOT_VERSION);
    return false;
  }
  for (int i = 0; i < READINGS; i++) {
    uint32_t after;
    if (!target_read(target, target->root, root, sizeof *root) ||
        !target_read(target, target->root + offsetof(struct hki_root, sequence), &after, sizeof after)) {
      explain(target, errno);
      return false;
    }
    if (root->sequence % 2 == 0 && root->sequence == after) {
      tame(root);
      return true;
    }
    nanosleep(&(struct timespec){0, 1000000}, NULL);
  }
  tool_say("process %ld is changing its configuration, and does not finish; try again", (long)target->pid);
  return false;
}

void target_threads(const struct target *target, const struct hki_root *root,
                    bool (*visit)(void *context, const struct target *target, uint64_t address), void *context)
{
  uint64_t address = (uintptr_t)root->threads;
  for (int i = 0; i < THREADS_MAX && address != 0 && visit(context, target, address); i++) {
    uintptr_t next;
    if (!target_read(target, address + offsetof(struct hki_thread, next), &next, sizeof next)) {
      break;
    }
    address = next;
  }
}

static bool add_thread(void *context, const struct target *target, uint64_t address)
{
  struct hki_thread thread;
  if (!target_read(target, address, &thread, sizeof thread)) {
    return false;
  }
  hki_snapshot_add_thread(context, &thread);
  return true;
}

static uint64_t resident_bytes(pid_t pid)
{
  char text[128];
  char *path = tool_text("/proc/%ld/statm", (long)pid);
  ssize_t length = tool_read(path, text, sizeof text);
  free(path);
  return length > 0 ? hki_resident_bytes(text, (uint32_t)sysconf(_SC_PAGESIZE)) : 0;
}

bool target_snapshot(const struct target *target, struct hki_snapshot *snapshot)
{
  static struct hki_root root;
  if (!target_root(target, &root)) {
    return false;
  }
  hki_snapshot_from_root(snapshot, &root);
  target_threads(target, &root, add_thread, snapshot);
  hki_snapshot_finish(snapshot, resident_bytes(target->pid));
  return true;
}
