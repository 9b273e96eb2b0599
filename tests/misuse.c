/* SPDX-License-Identifier: MIT */
/*
 * misuse.c - makes one mistake with memory, after announcing on standard output the line that hakmem must answer with.
 *
 *     misuse [late-]KIND SIZE BACKEND
 *
 * misuse.sh compares standard error with the announcement, word for word. Nothing allocates between the steps of a mistake. After a
 * mistake that is found out late, many blocks of the same size are freed.
 */
#include "probe.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

static size_t size;
static const char *backend;
static const char *const freed = "already freed, or never allocated";
static const char *const foreign = "not memory of hakmem";

static void announce(const char *function, const void *address, const char *what)
{
  probe_print("hakmem: %s(%p): %s\n", function, address, what);
}

static void announce_inside(const char *function, const char *address, const void *block)
{
  probe_print("hakmem: %s(%p): inside a live block of %zu bytes at %p (backend %s)\n", function, (const void *)address, size,
              block, backend);
}

static void misuse_double(char *block)
{
  free(block);
  announce("free", block, freed);
  free(block);
}

static void misuse_written(char *block)
{
  free(block);
  probe_print("hakmem: %p: written to after it was freed, an object of %zu bytes\n", (void *)block, size);
  ((volatile char *)block)[size / 2] = 1;
}

static void misuse_interior(char *block)
{
  announce_inside("free", block + 16, block);
  free(block + 16);
}

static void misuse_middle(char *block)
{
  announce_inside("free", block + size / 32 * 16, block);
  free(block + size / 32 * 16);
}

/* The bytes before the pointer look like the head of one of glibc's chunks. */
static void misuse_forged(char *block)
{
  for (size_t at = 0; at + 8 <= size && at < (1U << 20); at += 8) {
    memcpy(block + at, &(uint64_t){0x31}, 8);
  }
  misuse_middle(block);
}

static void misuse_misaligned(char *block)
{
  announce("free", block + 8, "not aligned to 16 bytes");
  free(block + 8);
}

static void misuse_realloc_freed(char *block)
{
  free(block);
  announce("realloc", block, freed);
  block = realloc(block, size + 100);
}

static void misuse_realloc_interior(char *block)
{
  announce_inside("realloc", block + 16, block);
  block = realloc(block + 16, size + 100);
}

static void misuse_usable_freed(char *block)
{
  free(block);
  announce("malloc_usable_size", block, freed);
  size = malloc_usable_size(block);
}

static void misuse_double_moved(char *block)
{
  char *behind = malloc(size), *moved = realloc(block, size * 4);
  if (behind == NULL || moved == NULL || moved == block) {
    probe_print("skip: the block stayed where it was\n");
    exit(0);
  }
  announce("free", block, freed);
  free(block);
}

static _Atomic int turn;

static void *free_at_turn(void *block)
{
  while (turn == 0) {
    sched_yield();
  }
  free(block);
  return NULL;
}

static void misuse_double_thread(char *block)
{
  pthread_t thread;
  if (pthread_create(&thread, NULL, free_at_turn, block) != 0) {
    exit(3);
  }
  free(block);
  announce("free", block, freed);
  turn = 1;
  pthread_join(thread, NULL);
}

static void misuse_foreign(const char *function, void *address)
{
  announce(function, address, foreign);
  if (strcmp(function, "realloc") == 0) {
    address = realloc(address, 100);
  } else {
    free(address);
  }
}

static void misuse_stack(char *block)
{
  (void)block;
  _Alignas(16) char local[256];
  memset(local, 0, sizeof local);
  misuse_foreign("free", local + 64);
}

static void misuse_static(char *block)
{
  (void)block;
  static _Alignas(16) char data[256];
  misuse_foreign("free", data + 64);
}

static void misuse_mmap(char *block)
{
  (void)block;
  char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  misuse_foreign("free", map + 65536);
}

static void misuse_wild(char *block)
{
  (void)block;
  misuse_foreign("free", (char *)0x12345678900);
}

static void misuse_low(char *block)
{
  (void)block;
  misuse_foreign("free", (char *)0x40);
}

static void misuse_kernel(char *block)
{
  (void)block;
  misuse_foreign("free", (char *)UINTPTR_MAX - 0xfff);
}

static void misuse_realloc_wild(char *block)
{
  (void)block;
  misuse_foreign("realloc", (char *)0x12345678900);
}

static const struct {
  const char *name;
  void (*run)(char *block);
} kinds[] = {{"double", misuse_double},
             {"written", misuse_written},
             {"interior", misuse_interior},
             {"middle", misuse_middle},
             {"forged", misuse_forged},
             {"misaligned", misuse_misaligned},
             {"realloc-freed", misuse_realloc_freed},
             {"realloc-interior", misuse_realloc_interior},
             {"usable-freed", misuse_usable_freed},
             {"double-moved", misuse_double_moved},
             {"double-thread", misuse_double_thread},
             {"stack", misuse_stack},
             {"static", misuse_static},
             {"mmap", misuse_mmap},
             {"wild", misuse_wild},
             {"low", misuse_low},
             {"kernel", misuse_kernel},
             {"realloc-wild", misuse_realloc_wild}};

/* So many blocks that freeing them takes several runs. */
static char *others[70000];

static size_t allocate_others(void)
{
  size_t count = ((size_t)8 << 20) / size + 1000;
  count = count < sizeof others / sizeof *others ? count : sizeof others / sizeof *others;
  for (size_t i = 0; i < count; i++) {
    others[i] = malloc(size);
  }
  return count;
}

int main(int argc, char **argv)
{
  if (argc != 4) {
    return 2;
  }
  size = strtoul(argv[2], NULL, 0);
  backend = argv[3];
  const char *kind = argv[1];
  size_t count = 0;
  if (strncmp(kind, "late-", 5) == 0) {
    kind += 5;
    count = allocate_others();
  }
  char *block = malloc(size);
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    if (strcmp(kinds[i].name, kind) == 0 && block != NULL) {
      block[0] = 1;
      kinds[i].run(block);
      while (count > 0) {
        free(others[--count]);
      }
      malloc_trim(0); /* every free object goes back to its span */
      return 0;
    }
  }
  return 2;
}
