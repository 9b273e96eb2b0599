/* SPDX-License-Identifier: MIT */
/*
 * reading.h - what a measured program says about itself, read without allocating: the clock, page faults, CPU time, lines of
 * /proc, the object that malloc belongs to, hakmem's own count of calls. Owns the address of hak_stats, which never
 * changes after the start. A program includes it first.
 */
#ifndef BENCH_READING_H
#define BENCH_READING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "hakmem/hakmem.h"

_Noreturn static inline void die(const char *what, const char *why)
{
  dprintf(STDERR_FILENO, "%s: %s: %s\n", program_invocation_short_name, what, why);
  exit(2);
}

/* ns of the monotonic clock. */
static inline uint64_t now(void)
{
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

static inline struct rusage usage(void)
{
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage;
}

/* User and system time, in us. */
static inline int64_t cpu_us(const struct rusage *usage)
{
  return (int64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 + usage->ru_utime.tv_usec +
         usage->ru_stime.tv_usec;
}

/* ---- lines of /proc -------------------------------------------------------------------------------------------------- */

/* A file, byte by byte. */
struct reader {
  int fd;
  ssize_t at, length; /* in the buffer */
  char buffer[4096];
};

static inline int next_byte(struct reader *reader)
{
  if (reader->at == reader->length) {
    reader->at = 0;
    reader->length = read(reader->fd, reader->buffer, sizeof reader->buffer);
    if (reader->length <= 0) {
      reader->length = 0;
      return -1;
    }
  }
  return (unsigned char)reader->buffer[reader->at++];
}

/* Reads up to the end of the line. The sum of the numbers in it. */
static inline int64_t sum_numbers(struct reader *reader)
{
  int64_t sum = 0, number = 0;
  for (int byte = ' '; byte >= 0 && byte != '\n';) {
    byte = next_byte(reader);
    if (byte >= '0' && byte <= '9') {
      number = number * 10 + byte - '0';
    } else {
      sum += number;
      number = 0;
    }
  }
  return sum;
}

/* The sum of the numbers in the line of a file that begins with `key`, after blanks; -1 when there is none. */
static inline int64_t sum_of_line(const char *path, const char *key)
{
  struct reader reader = {.fd = open(path, O_RDONLY | O_CLOEXEC)};
  int64_t sum = -1;
  bool start = true;  /* nothing but blanks and the key so far */
  size_t matched = 0; /* characters of the key */
  for (int byte; reader.fd >= 0 && sum < 0 && (byte = next_byte(&reader)) >= 0;) {
    if (byte == '\n') {
      start = true;
      matched = 0;
    } else if (start && byte == key[matched]) {
      matched++;
      if (key[matched] == '\0') {
        sum = sum_numbers(&reader);
      }
    } else {
      start = start && matched == 0 && byte == ' ';
    }
  }
  if (reader.fd >= 0) {
    close(reader.fd);
  }
  return sum;
}

static inline int64_t peak_kib(void)
{
  return sum_of_line("/proc/self/status", "VmHWM:");
}

/* ---- who served ------------------------------------------------------------------------------------------------------ */

/* The file of the object that malloc belongs to; empty when it is not known. */
static inline const char *malloc_object(void)
{
  Dl_info info = {0};
  void *symbol = dlsym(RTLD_DEFAULT, "malloc");
  return symbol != NULL && dladdr(symbol, &info) != 0 && info.dli_fname != NULL ? info.dli_fname : "";
}

/* hak_stats of this process; NULL when it does not run under hakmem. Looked up before main, because a search in vain allocates. */
static int (*hakmem_stats)(struct hak_totals *);

__attribute__((constructor)) static inline void find_hakmem(void)
{
  void *symbol = dlsym(RTLD_DEFAULT, "hak_stats");
  memcpy(&hakmem_stats, &symbol, sizeof hakmem_stats);
}

/* What hakmem has counted so far; all 0 when it is not there. */
static inline struct hak_totals hakmem_totals(void)
{
  struct hak_totals totals = {.struct_size = sizeof totals};
  if (hakmem_stats != NULL && hakmem_stats(&totals) != 0) {
    die("hak_stats", strerror(errno));
  }
  return totals;
}

#endif
