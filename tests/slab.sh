#!/bin/bash
# SPDX-License-Identifier: MIT
# slab.sh - small objects under each backend that can serve them: what threads and spans keep is bounded and goes back, live options,
# age, and the statistics of size classes.
. "$(dirname "$0")/lib.sh"
needs_interposing

build slab "$TESTS/slab.c"
build template_class.so "$TOP_SRCDIR/doc/template_class.c" -shared -fPIC -fvisibility=hidden
PLUGINS=$PLUGINS,$WORK
ini=$TOP_SRCDIR/etc/hakmem.ini

serve() { # NAME SETTINGS [ARGUMENT]
  # shellcheck disable=SC2086
  collect "$1" 120 under "$ini" "$2" "$WORK/slab" ${3:-}
}
serve "slab" "" returns
serve "slab, full" "core.hardening=full" returns
serve "slab, off" "core.hardening=off" returns
serve "slab, huge pages" "backend.slab.huge_from=0" returns
serve "slab, no reclaim" "core.reclaim=none;core.cache=none" returns
serve "slab, nothing kept" "backend.slab.keep=0" returns
serve "slab up to 1 KiB" "core.small_max=1K;strategy.default.route=malloc, mmap from 64K"
serve "template_class" "core.small=template_class"
serve "malloc" "core.small=malloc"
serve "none" "core.small=none;strategy.default.route=malloc, mmap from 64K"

# ---- statistics ----------------------------------------------------------------------------------------------------------------

report=$(under "$ini" "stats.exit=text" "$WORK/slab" 2>&1 >/dev/null)
number='[0-9]+'
like "text: a line for each class" "$(grep -E '^class 64 bytes' <<<"$report")" \
  "class 64 bytes: allocs $number, frees $number, live $number, cached $number, allocated $number, span $number, unused $number"
is "text: all classes were used" "$(grep -c '^class ' <<<"$report")" 96
report=$(under "$ini" "stats.exit=prometheus" "$WORK/slab" 2>&1 >/dev/null)
echo "$report" >"$WORK/r.prom"
adds_up "Prometheus is well-formed" prometheus "$WORK/r.prom"
for key in allocs_total frees_total live cached allocated_bytes span_bytes unused_bytes; do
  is "Prometheus: $key of all classes" "$(grep -cE "^hakmem_class_$key\{bytes=\"$number\"\} $number$" <<<"$report")" 96
done
under "$ini" "stats.exit=json;stats.file=$WORK/r.json" "$WORK/slab" >/dev/null
adds_up "JSON adds up" json "$WORK/r.json"
under "$ini" "core.small=template_class;stats.exit=json;stats.file=$WORK/t.json" "$WORK/slab" >/dev/null
adds_up "JSON of another class backend adds up" json "$WORK/t.json"

# ---- time ----------------------------------------------------------------------------------------------------------------------

# Empty spans go when they are old, at some later call of the program; and at once when an option says so.
cat >"$WORK/age.c" <<'C'
#include "probe.h"
#include <time.h>
static uint64_t value(const char *key)
{
  static char text[1 << 18];
  int (*write_to)(int, const char *);
  void *symbol = probe_symbol("hak_stats_write");
  memcpy(&write_to, &symbol, sizeof write_to);
  FILE *file = tmpfile();
  write_to(fileno(file), "text");
  ssize_t size = pread(fileno(file), text, sizeof text - 1, 0);
  fclose(file);
  text[size > 0 ? size : 0] = '\0';
  const char *at = strstr(text, key);
  return at != NULL ? strtoull(at + strlen(key), NULL, 10) : UINT64_MAX;
}
static void use(void)
{
  static void *block[20000];
  for (int i = 0; i < 20000; i++) {
    block[i] = malloc(1024);
  }
  for (int i = 0; i < 20000; i++) {
    free(block[i]);
  }
}
int main(void)
{
  const char *empty = "backend.slab.empty_bytes ";
  use();
  uint64_t kept = value(empty);
  PROBE(kept >= 8 << 20, "empty spans are kept", "found %lu", (unsigned long)kept);
  for (int i = 0; i < 40 && value(empty) > 1 << 20; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    free(malloc(9 << 20));
  }
  kept = value(empty);
  PROBE(kept <= 1 << 20, "and go when they are old", "found %lu", (unsigned long)kept);
  use();
  int (*set)(const char *, const char *, char *, size_t);
  void *symbol = probe_symbol("hak_set");
  memcpy(&set, &symbol, sizeof set);
  int code = set("backend.slab.keep", "256K", NULL, 0);
  kept = value(empty);
  PROBE(code == 0 && kept <= 256 << 10, "or when there may be fewer", "found %d, %lu", code, (unsigned long)kept);
  use();
  kept = value(empty);
  PROBE(kept <= 256 << 10, "from then on", "found %lu", (unsigned long)kept);
  return probe_failures != 0;
}
C
build age "$WORK/age.c"
collect "age" 60 under "$ini" "backend.slab.age=200" "$WORK/age"

# ---- false sharing -------------------------------------------------------------------------------------------------------------

# A thread that begins with the free of another's objects does not get them, or their cache lines, for its own.
cat >"$WORK/lines.c" <<'C'
#include "probe.h"
#include <pthread.h>
enum { FEW = 16 };
static char *kept[FEW], *given[FEW];
static size_t size;
static void *work(void *shared)
{
  char *own[FEW];
  for (int i = 0; i < FEW; i++) {
    free(given[i]);
  }
  for (int i = 0; i < FEW; i++) {
    own[i] = malloc(size);
  }
  for (int i = 0; i < FEW; i++) {
    for (int k = 0; k < FEW; k++) {
      *(int *)shared += (uintptr_t)own[i] / 64 == (uintptr_t)kept[k] / 64;
    }
  }
  for (int i = 0; i < FEW; i++) {
    free(own[i]);
  }
  return NULL;
}
int main(void)
{
  static const size_t sizes[] = {8, 24, 48, 40};
  for (int round = 0; round < 4; round++) { /* later threads get the records of earlier ones */
    int shared = 0;
    pthread_t thread;
    size = sizes[round];
    for (int i = 0; i < FEW; i++) {
      kept[i] = malloc(size);
      given[i] = malloc(size);
    }
    pthread_create(&thread, NULL, work, &shared);
    pthread_join(thread, NULL);
    PROBE(shared == 0, "a thread has cache lines of its own", "found %d shared of %lu bytes", shared, (unsigned long)size);
  }
  return probe_failures != 0;
}
C
build lines "$WORK/lines.c" -pthread
collect "lines" 60 under "$ini" "" "$WORK/lines"

# ---- address space ---------------------------------------------------------------------------------------------------------------

# What is kept in empty spans does not make a large request fail.
cat >"$WORK/short.c" <<'C'
#include "probe.h"
enum { COUNT = 80000 };
static void *block[COUNT];
int main(void)
{
  int count = 0;
  while (count < COUNT && (block[count] = malloc(1024)) != NULL) {
    count++;
  }
  for (int i = 0; i < count; i++) {
    free(block[i]);
  }
  void *large = malloc(90 << 20);
  PROBE(large != NULL, "what is kept gives way", "found %p after %d small blocks", large, count);
  void *again = malloc(1024);
  PROBE(again != NULL, "small blocks after it", "found %p", again);
  return probe_failures != 0;
}
C
build short "$WORK/short.c"
limited() { ulimit -v 170000 && under "$@"; }
export -f limited
collect "address space is short" 60 limited "$ini" "backend.slab.huge=mmap;backend.slab.age=0;backend.slab.keep=1G;backend.mmap.arena=4M" "$WORK/short"

# ---- quarantine ------------------------------------------------------------------------------------------------------------------

# Under hardening = full a freed object is zero, comes back late, and in an order that is another one in each process.
cat >"$WORK/quarantine.c" <<'C'
#include "probe.h"
#include <malloc.h>
#include <pthread.h>
enum { COUNT = 3000, ROUNDS = 2000 };
static char *block[COUNT];
static void *end_with_some(void *argument)
{
  for (int i = 0; i < 100; i++) {
    free(malloc(200));
  }
  return argument;
}
int main(void)
{
  char *first = malloc(40), *second = malloc(40), *third = malloc(40);
  probe_print("order %ld %ld\n", (long)(second - first), (long)(third - second));
  pthread_t thread; /* libc keeps a block of the first one, for the next */
  pthread_create(&thread, NULL, end_with_some, NULL);
  pthread_join(thread, NULL);
  uint64_t before = probe_totals().active;
  int again = 0, dirty = 0;
  for (int i = 0; i < ROUNDS; i++) {
    unsigned char *object = malloc(1000);
    uintptr_t at = (uintptr_t)object;
    memset(object, 7, 1000);
    free(object);
    for (int j = 0; j < 1000; j++) {
      dirty += ((volatile unsigned char *)object)[j] != 0;
    }
    void *next = malloc(1000);
    again += (uintptr_t)next == at;
    free(next);
  }
  probe_equal("a freed object is zero", (uint64_t)dirty, 0);
  PROBE(again < ROUNDS / 50, "it does not come back at once", "found %d times in %d", again, ROUNDS);
  for (int size = 16; size <= 8192; size *= 2) {
    for (int i = 0; i < COUNT; i++) {
      block[i] = malloc((size_t)size);
      memset(block[i], i, (size_t)size);
    }
    int intact = 1;
    for (int i = 0; i < COUNT; i++) {
      intact &= block[i][0] == (char)i && block[i][size - 1] == (char)i;
      free(block[i]);
    }
    PROBE(intact, "blocks have their bytes to themselves", "found others in blocks of %d", size);
  }
  pthread_create(&thread, NULL, end_with_some, NULL);
  pthread_join(thread, NULL);
  probe_equal("what waits counts as free", probe_totals().active, before);
  malloc_trim(0);
  probe_equal("and after it was given back", probe_totals().active, before);
  return probe_failures != 0;
}
C
build quarantine "$WORK/quarantine.c" -pthread
collect "quarantine" 60 under "$ini" "core.hardening=full" "$WORK/quarantine"
orders=$(for i in 1 2 3 4; do under "$ini" "core.hardening=full" "$WORK/quarantine" | grep '^order'; done | sort -u | wc -l)
if [ "$orders" -gt 1 ]; then ok "the order of objects is another in each process"; else
  fail "the order of objects is another in each process" "$orders order in 4 processes" "several"
fi

# ---- bookkeeping -----------------------------------------------------------------------------------------------------------------

# Memory that goes back and forth between classes of longer spans needs start bitmaps under hardening = full, but no new ones each time.
cat >"$WORK/turns.c" <<'C'
#include "probe.h"
enum { COUNT = 60, ROUNDS = 600 };
static void *block[COUNT];
static void some(int from, int to)
{
  static const size_t sizes[] = {49000, 98000, 200000};
  for (int round = from; round < to; round++) {
    for (int i = 0; i < COUNT; i++) {
      block[i] = malloc(sizes[round % 3]);
    }
    for (int i = 0; i < COUNT; i++) {
      free(block[i]);
    }
  }
}
int main(void)
{
  some(0, ROUNDS / 4);
  uint64_t before = probe_totals().metadata;
  some(ROUNDS / 4, ROUNDS);
  uint64_t more = probe_totals().metadata - before;
  PROBE(more < 256 << 10, "bookkeeping does not grow", "found %llu bytes more, expected hardly any", (unsigned long long)more);
  return probe_failures != 0;
}
C
build turns "$WORK/turns.c"
collect "classes take turns" 60 under "$ini" "core.hardening=full" "$WORK/turns"
finish
