#!/bin/bash
# SPDX-License-Identifier: MIT
# threads.sh - threads that end, cross and only free, and the end of the process, in each configuration.
. "$(dirname "$0")/lib.sh"
needs_interposing

build threads "$TESTS/threads.c"
make_inis
for ini in "${INIS[@]}"; do
  collect "$(label "$ini")" 120 under "$ini" "" "$WORK/threads"
done
collect "mixed, hardening full" 120 under "$WORK/ini/mixed.ini" "core.hardening=full" "$WORK/threads"

# Threads that have had objects of all sizes, and have nothing to do any more, do not keep some of each.
cat >"$WORK/idle.c" <<'C'
#include "probe.h"
#include <pthread.h>
enum { THREADS = 64 };
static pthread_barrier_t done, end;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
static void *work(void *unused)
{
  pthread_mutex_lock(&turn);
  for (size_t size = 2100; size < 260000; size += size / 16) {
    static char *volatile block[4];
    for (int i = 0; i < 4; i++) {
      block[i] = malloc(size);
      memset(block[i], i, size);
    }
    for (int i = 0; i < 4; i++) {
      free(block[i]);
    }
  }
  pthread_mutex_unlock(&turn);
  pthread_barrier_wait(&done);
  pthread_barrier_wait(&end);
  return unused;
}
int main(void)
{
  pthread_t thread[THREADS];
  pthread_barrier_init(&done, NULL, THREADS + 1);
  pthread_barrier_init(&end, NULL, THREADS + 1);
  uint64_t before = probe_totals().resident;
  for (int i = 0; i < THREADS; i++) {
    pthread_create(&thread[i], NULL, work, NULL);
  }
  pthread_barrier_wait(&done);
  uint64_t held = probe_totals().resident - before;
  PROBE(held < 160 << 20, "idle threads hold little", "found %llu bytes, expected less than 160 MiB", (unsigned long long)held);
  pthread_barrier_wait(&end);
  for (int i = 0; i < THREADS; i++) {
    pthread_join(thread[i], NULL);
  }
  return probe_failures != 0;
}
C
build idle "$WORK/idle.c" -pthread
collect "64 idle threads" 60 under "$WORK/ini/hakmem.ini" "" "$WORK/idle"
finish
