/* SPDX-License-Identifier: MIT */
/*
 * probe.h - shared by the test programs: one line per check, byte patterns, and the proof that hakmem serves the process.
 *
 * Output goes through write(2) from a stack buffer, so that a report never allocates between two steps of a test. The totals
 * come from hak_stats of the preloaded library. No lock: checks are printed by one thread at a time. C and C++ both.
 */
#ifndef HAKMEM_TESTS_PROBE_H
#define HAKMEM_TESTS_PROBE_H

#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

static int probe_failures;

/* Writes one formatted line to standard output. */
__attribute__((format(printf, 1, 2), unused)) static void probe_print(const char *format, ...)
{
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  size_t left = (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
  if (write(STDOUT_FILENO, text, left) < 0) {
    _exit(2);
  }
}

/* One check. The format after the name says what was found and what was expected. */
#define PROBE(good, name, format, ...)                                                                                         \
  do {                                                                                                                         \
    if (good) {                                                                                                                \
      probe_print("ok %s\n", name);                                                                                            \
    } else {                                                                                                                   \
      probe_failures++;                                                                                                        \
      probe_print("FAIL %s: " format "\n", name, __VA_ARGS__);                                                                 \
    }                                                                                                                          \
  } while (0)

__attribute__((unused)) static void probe_equal(const char *name, uint64_t found, uint64_t expected)
{
  PROBE(found == expected, name, "found %llu, expected %llu", (unsigned long long)found, (unsigned long long)expected);
}

__attribute__((unused)) static void probe_null(const char *name, void *block, int code, int expected)
{
  PROBE(block == NULL && code == expected, name, "found %p with errno %d, expected NULL with errno %d", block, code, expected);
}

/* A function of the preloaded library, or NULL. */
__attribute__((unused)) static void *probe_symbol(const char *name)
{
  return dlsym(RTLD_DEFAULT, name);
}

__attribute__((unused)) static struct hak_totals probe_totals(void)
{
  static int (*stats)(struct hak_totals *);
  struct hak_totals totals;
  memset(&totals, 0, sizeof totals);
  totals.struct_size = sizeof totals;
  if (stats == NULL) {
    void *symbol = probe_symbol("hak_stats");
    memcpy(&stats, &symbol, sizeof stats);
  }
  if (stats != NULL && stats(&totals) != 0) {
    probe_print("FAIL hak_stats: found an error, expected 0\n");
    probe_failures++;
  }
  return totals;
}

/* Proves that malloc and free of this thread are hakmem's: the totals count exactly the calls made. */
__attribute__((unused)) static void probe_served(void)
{
  enum { CALLS = 1000 };
  void *blocks[CALLS];
  free(malloc(1)); /* with what a first call may set off */
  struct hak_totals before = probe_totals();
  for (int i = 0; i < CALLS; i++) {
    blocks[i] = malloc((size_t)(i % 20) * (size_t)(i % 20) * 100U);
  }
  for (int i = 0; i < CALLS; i++) {
    free(blocks[i]);
  }
  struct hak_totals after = probe_totals();
  probe_equal("served by hakmem: allocations counted", after.allocs - before.allocs, CALLS);
  probe_equal("served by hakmem: frees counted", after.frees - before.frees, CALLS);
}

/* A pattern of `size` bytes that depends on `seed` and on the position. */
__attribute__((unused)) static void probe_fill(void *block, size_t size, uint64_t seed)
{
  unsigned char *bytes = (unsigned char *)block;
  size_t at = 0;
  for (; at + 8 <= size; at += 8) {
    uint64_t word = (seed + at) * UINT64_C(0x9e3779b97f4a7c15);
    memcpy(bytes + at, &word, 8);
  }
  for (; at < size; at++) {
    bytes[at] = (unsigned char)(seed + at);
  }
}

/* The first `size` bytes are those of a pattern of `filled` bytes. */
__attribute__((unused)) static bool probe_intact(const void *block, size_t size, size_t filled, uint64_t seed)
{
  const unsigned char *bytes = (const unsigned char *)block;
  size_t at = 0, words = size < filled / 8 * 8 ? size / 8 * 8 : filled / 8 * 8;
  for (; at < words; at += 8) {
    uint64_t word = (seed + at) * UINT64_C(0x9e3779b97f4a7c15);
    if (memcmp(bytes + at, &word, 8) != 0) {
      return false;
    }
  }
  for (; at < size && at >= filled / 8 * 8; at++) {
    if (bytes[at] != (unsigned char)(seed + at)) {
      return false;
    }
  }
  return true;
}

/* A small generator of pseudo-random numbers; state must not be 0. */
__attribute__((unused)) static uint32_t probe_random(uint32_t *state)
{
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

#endif
