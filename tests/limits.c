/* SPDX-License-Identifier: MIT */
/*
 * limits.c - much memory, and too much. Run preloaded by limits.sh.
 *
 *     limits memory          under an address space limit of 256 MiB: allocates until NULL, frees, allocates again
 *     limits million         a million live blocks of 16 bytes
 *     limits granules        200,000 live blocks of 64 KiB, freed in random order
 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

/* A block that knows the next one, so that holding them needs no memory. The rest is a pattern. */
struct link {
  struct link *next;
  size_t size;
};

struct fill {
  struct link *blocks;
  size_t count, bytes;
  int code;
};

static struct fill fill_up(size_t size)
{
  struct fill fill = {NULL, 0, 0, 0};
  uint32_t state = 1;
  for (;;) {
    size_t wanted = size != 0 ? size : sizeof(struct link) + (probe_random(&state) >> 12 >> probe_random(&state) % 14);
    errno = 0;
    struct link *block = malloc(wanted);
    if (block == NULL) {
      fill.code = errno;
      return fill;
    }
    block->next = fill.blocks;
    block->size = wanted;
    probe_fill(block + 1, wanted - sizeof *block, fill.count);
    fill.blocks = block;
    fill.bytes += wanted;
    fill.count++;
  }
}

static bool give_back(struct fill fill)
{
  bool intact = true;
  for (struct link *block = fill.blocks, *next; block != NULL; block = next) {
    next = block->next;
    size_t size = block->size - sizeof *block;
    intact = intact && probe_intact(block + 1, size, size, --fill.count);
    free(block);
  }
  return intact && fill.count == 0;
}

static void test_memory(void)
{
  static const size_t sizes[] = {100, 4 * KIB, 64 * KIB, 300 * KIB, MIB, 8 * MIB, 0}; /* 0: mixed, up to 1 MiB */
  char name[64];
  for (int i = 0; i < 7; i++) {
    struct fill first = fill_up(sizes[i]);
    snprintf(name, sizeof name, "blocks of %zu bytes until ENOMEM", sizes[i]);
    PROBE(first.code == ENOMEM && first.bytes >= 80 * MIB, name,
          "found errno %d after %zu bytes, expected ENOMEM after 80 MiB or more", first.code, first.bytes);
    bool intact = give_back(first);
    struct fill second = fill_up(sizes[i]);
    snprintf(name, sizeof name, "blocks of %zu bytes once more", sizes[i]);
    PROBE(second.bytes >= first.bytes / 5 * 4, name, "found %zu bytes, expected four fifths of the first time's %zu or more",
          second.bytes, first.bytes);
    intact = give_back(second) && intact;
    snprintf(name, sizeof name, "blocks of %zu bytes intact", sizes[i]);
    PROBE(intact, name, "found %s, expected own bytes", "others");
  }
}

static void test_million(void)
{
  enum { BLOCKS = 1000000 };
  struct hak_totals before = probe_totals();
  uint64_t **block = malloc(BLOCKS * sizeof *block);
  bool good = true;
  for (size_t i = 0; i < BLOCKS; i++) {
    block[i] = malloc(16);
    if (block[i] == NULL) {
      good = false;
      break;
    }
    block[i][0] = i;
    block[i][1] = ~i;
  }
  for (size_t i = 0; good && i < BLOCKS; i++) {
    good = block[i][0] == i && block[i][1] == ~i;
  }
  struct hak_totals full = probe_totals();
  PROBE(good, "a million blocks of 16 bytes", "found %s, expected own bytes in each", "no memory or others");
  probe_equal("a million allocations counted", full.allocs - before.allocs, BLOCKS + 1);
  for (size_t i = 0; good && i < BLOCKS; i++) {
    free(block[i * 7 % BLOCKS]); /* 7 and the count have no common factor: every block once */
  }
  free(block);
  struct hak_totals after = probe_totals();
  probe_equal("a million frees counted", after.frees - before.frees, BLOCKS + 1);
  probe_equal("nothing stays allocated", after.allocated, before.allocated);
}

static size_t count_vmas(void)
{
  char buffer[4096];
  size_t lines = 0;
  int fd = open("/proc/self/maps", O_RDONLY);
  for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;) {
    for (ssize_t i = 0; i < got; i++) {
      lines += buffer[i] == '\n';
    }
  }
  close(fd);
  return lines;
}

static void test_granules(void)
{
  enum { BLOCKS = 200000, ROOM = 1000 };
  size_t idle = count_vmas(), most = idle;
  uint64_t **block = calloc(BLOCKS, sizeof *block);
  bool good = true;
  uint32_t state = 1;
  for (size_t i = 0; good && i < BLOCKS; i++) {
    block[i] = malloc(64 * KIB);
    good = block[i] != NULL;
    if (good) {
      block[i][0] = i;
    }
  }
  for (size_t i = 0; good && i < BLOCKS; i++) {
    good = block[i][0] == i;
  }
  PROBE(good, "200,000 blocks of 64 KiB", "found %s, expected own bytes in each", "no memory or others");
  most = count_vmas();
  for (size_t left = BLOCKS; good && left > 0; left--) {
    size_t i = probe_random(&state) % left;
    free(block[i]);
    block[i] = block[left - 1];
    if (left % 20000 == 0) {
      size_t now = count_vmas();
      most = now > most ? now : most;
    }
  }
  free(block);
  PROBE(most < idle + ROOM, "few mappings, freed in random order", "found %zu more, expected at most %d", most - idle, ROOM);
  void *later = malloc(64 * KIB);
  PROBE(later != NULL, "one more block", "found %p, expected a block", later);
  free(later);
}

int main(int argc, char **argv)
{
  const char *mode = argc > 1 ? argv[1] : "";
  probe_served();
  if (strcmp(mode, "memory") == 0) {
    test_memory();
  } else if (strcmp(mode, "million") == 0) {
    test_million();
  } else if (strcmp(mode, "granules") == 0) {
    test_granules();
  } else {
    return 2;
  }
  return probe_failures == 0 ? 0 : 1;
}
