#!/bin/bash
# SPDX-License-Identifier: MIT
# large.sh - large blocks of 8 threads under caches, purges and strategies that change all the time: patterns, zeroes, the cap, and
# that everything goes back; also where address space is short. Then the block that a thread freed last, what blocks hold that are
# hardly used, and what a queue of blocks of many sizes touches anew. `large.sh STEPS` for more than a short run.
. "$(dirname "$0")/lib.sh"
needs_interposing
STEPS=${1:-400}

build large "$TESTS/large.c"
build flip.so "$TESTS/plugins/flip.c" -shared -fPIC -fvisibility=hidden

base="core.plugin_path=$PLUGINS,$WORK;core.strict=on;core.epoch=64;core.cap=64M;cache.bigcache.min=64K;cache.bigcache.floor=8M"
routes="strategy.default.route=malloc, mmap from 64K;strategy.b.route=malloc, hugepage from 512K;strategy.c.route=malloc"
routes="$routes;strategy.d.route=malloc, mmap from 1M;strategy.d.cache=off;strategy.e.route=malloc, hugepage from 256K"
routes="$routes;strategy.e.reclaim=off"

large() { # NAME SETTINGS [SEED]
  collect "$1" 300 env LD_PRELOAD="$LIB" HAKMEM_SET="$base;$routes;$2" "$WORK/large" 8 "$STEPS" "${3:-1}" $((64 << 20))
}
for policy in static flip epsilon-greedy elo; do
  large "policy $policy" "core.policy=$policy"
done
large "no cache" "core.policy=flip;core.cache=none" 2
large "no reclaim" "core.policy=flip;core.reclaim=none" 3
large "neither" "core.policy=flip;core.cache=none;core.reclaim=none" 4
large "basic system calls" "core.policy=flip;core.syscalls=basic" 5
large "plain madvise" "core.policy=flip;reclaim.batch.method=madvise" 6
large "hardening full" "core.policy=flip;core.hardening=full" 7

# Requests fail, and nothing else goes wrong.
collect "address space is short" 300 env FAILURES_EXPECTED=1 LD_PRELOAD="$LIB" HAKMEM_SET="$base;$routes;core.policy=flip" \
  bash -c 'ulimit -v 700000 && exec "$@"' bash "$WORK/large" 8 "$STEPS" 9 $((64 << 20))

# What was measured is possible, and something was.
report=$(env LD_PRELOAD="$LIB" HAKMEM_SET="$base;$routes;core.policy=flip;stats.exit=text" "$WORK/large" 2 "$STEPS" 8 $((64 << 20)) 2>&1)
value() { sed -n "s/^$1 \([0-9]*\).*/\1/p" <<<"$report"; }
is "no impossible trial" "$(value policy.flip.bad_trials)" 0
is "no more blocks of a challenger than it may have" "$(value policy.flip.too_many)" 0
is "strategies that do the same from 256 KiB" "$(value policy.flip.alike18)" 1114
is "from 512 KiB" "$(value policy.flip.alike19)" 1224
is "from 1 MiB" "$(value policy.flip.alike20)" 1234
for key in policy.flip.few_tried policy.flip.trials policy.flip.hits policy.flip.faults policy.flip.released cache.bigcache.hits reclaim.batch.purged; do
  if [ "$(value "$key")" -gt 0 ]; then ok "$key counts"; else fail "$key counts" "$(value "$key")" "more than 0"; fi
done

# A block is not charged with the release of another one that its malloc has to make room for.
build slow.so "$TESTS/plugins/slow.c" -shared -fPIC -fvisibility=hidden
build scenario "$TOP_SRCDIR/bench/scenario.c"
settings="core.policy=flip;core.reclaim=none;strategy.default.route=malloc, slow from 256K;backend.slow.ns=0;backend.slow.free_ns=5000000"
report=$(env LD_PRELOAD="$LIB" HAKMEM_SET="core.plugin_path=$PLUGINS,$WORK;core.strict=on;core.epoch=64;$settings;stats.exit=text" \
  "$WORK/scenario" streaming -t first 2>&1)
trials=$(value policy.flip.trials) dear=$(value policy.flip.dear_trials) released=$(value policy.flip.released)
if [ "$released" -gt 1000000000 ] && [ $((dear * 10)) -le "$trials" ] && [ "$trials" -gt 8 ]; then ok "others' releases are not a block's"; else
  fail "others' releases are not a block's" "$dear of $trials trials with one, $released ns of releases" "at most a tenth"
fi

# A policy that has found out what there was has fewer blocks measured.
build easy.so "$TESTS/plugins/easy.c" -shared -fPIC -fvisibility=hidden
measured() { # EASE
  env LD_PRELOAD="$LIB" HAKMEM_SET="core.plugin_path=$PLUGINS,$WORK;core.strict=on;core.epoch=64;core.policy=easy;policy.easy.ease=$1;stats.exit=text" \
    "$WORK/scenario" streaming 2>&1 | sed -n 's/^policy.easy.trials \([0-9]*\).*/\1/p'
}
often=$(measured 1) seldom=$(measured 1000) # so seldom however long a block takes
if [ "$seldom" -gt 0 ] && [ "$often" -ge $((4 * seldom)) ]; then ok "ease is for trials"; else
  fail "ease is for trials" "$often and $seldom" "some, and a quarter of them at most with an ease of 1000"
fi

# What a decision takes is not the block's in whose malloc or free it falls.
out=$(HAKMEM_SET="core.plugin_path=$PLUGINS,$WORK;core.strict=on;core.epoch=1;core.policy=easy;policy.easy.think=2;stats.exit=text" \
  LD_PRELOAD="$LIB" "$WORK/scenario" vm -t first -n 20 2>&1)
like "measured blocks, and those that took as long as a decision" \
  "$(sed -n 's/^policy\.easy\.\(trials\|thoughtful\) \([0-9]*\).*/\2/p' <<<"$out" | tr '\n' ' ')" '[1-9][0-9]* 0 '

# A free counts where its block was counted, whatever realloc and call sites did in between: else blocks seem to stay for ever.
cat >"$WORK/grow.c" <<'C'
#include <stdlib.h>
int main(void)
{
  static char *volatile live[8];
  for (int i = 0; i < 2000; i++) {
    free(live[i % 8]);
    live[i % 8] = malloc(1200000);
    live[i % 8] = realloc(live[i % 8], i % 3 == 0 ? 5000000 : i % 3 == 1 ? 1300000 : 100000);
  }
  for (int i = 0; i < 8; i++) {
    free(live[i]);
  }
  free(malloc(1200000)); /* and the policy is asked once more */
  return 0;
}
C
build grow "$WORK/grow.c" -fno-builtin
for route in "malloc, mmap from 64K" malloc; do
  astray=$(HAKMEM_SET="core.plugin_path=$PLUGINS,$WORK;core.strict=on;core.epoch=1;core.policy=easy;strategy.default.route=$route;stats.exit=text" \
    LD_PRELOAD="$LIB" "$WORK/grow" 2>&1 | sed -n 's/^policy\.easy\.astray \([0-9]*\).*/\1/p')
  is "route $route: blocks that are live by what the policy sees: the last one" "$astray" 1
done

# Blocks that grow leave their pages to the next ones.
cat >"$WORK/longer.c" <<'C'
#include "probe.h"
#include <sys/resource.h>
int main(void)
{
  static char *live[16];
  for (int i = 0; i < 3000; i++) {
    char *block = malloc(1100000);
    for (int at = 0; at < 1100000; at += 4096) {
      block[at] = 1;
    }
    if (i % 2 == 0) {
      block = realloc(block, 2600000);
      block[2599999] = 1;
    }
    free(live[i % 16]);
    live[i % 16] = block;
  }
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  PROBE(usage.ru_minflt < 100000, "blocks that grow leave their pages", "found %ld page faults, expected fewer than 100000",
        usage.ru_minflt);
  return probe_failures != 0;
}
C
build longer "$WORK/longer.c"
collect "growing blocks" 60 under "$TOP_SRCDIR/etc/hakmem.ini" "" "$WORK/longer"

# The block that a thread freed last.
build last "$TESTS/last.c"
default=$TOP_SRCDIR/etc/hakmem.ini
collect "last block" 60 under "$default" "" "$WORK/last"
collect "last block, no cache" 60 under "$default" "core.cache=none;core.reclaim=none" "$WORK/last" none
collect "last block, cap" 60 under "$default" "core.cap=0" "$WORK/last" none
report=$(under "$default" "stats.exit=text" "$WORK/scenario" vm -t first -n 100 2>&1)
hits=$(value cache.bigcache.hits)
if [ "$hits" -ge 990 ] && [ "$hits" -lt 1000 ]; then ok "what needs no cache are hits"; else
  fail "what needs no cache are hits" "$hits" "one for each of 1000 requests but the first few"
fi

# While a policy learns, too; and what is looked at for a trial is looked at once, however often the block comes back.
if command -v strace >/dev/null; then
  report=$(strace -c -e trace=mincore -o "$WORK/calls" -E LD_PRELOAD="$LIB" -E HAKMEM_CONF="$TOP_SRCDIR/etc/learn.ini" \
    -E HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on;stats.exit=text" "$WORK/scenario" vm -t first -n 100000 2>&1)
  hits=$(value cache.bigcache.hits) trials=$(value policy.elo.trials)
  calls=$(awk '$NF == "mincore" { print $4 }' "$WORK/calls")
  if [ "$hits" -ge 980000 ]; then ok "hits while a policy learns"; else
    fail "hits while a policy learns" "$hits" "nearly 1000000"
  fi
  if [ "$trials" -ge 10 ] && [ "$calls" -le $((16 * trials)) ]; then ok "mincore is for trials"; else
    fail "mincore is for trials" "$calls calls, $trials trials" "10 trials or more, at most 16 calls for each"
  fi
else
  skip "system calls of a policy that learns" "strace is not installed"
fi

# Blocks of challengers take nothing from the champion: its block is still there afterwards.
report=$(under "$TOP_SRCDIR/etc/learn.ini" "stats.exit=text" "$WORK/scenario" vm -t all -n 10000 2>&1)
champion=$(sed -n 's/^strategy default: large blocks \([0-9]*\),.*/\1/p' <<<"$report") evictions=$(value cache.bigcache.evictions)
tried=$((100000 - champion)) # how many depends on what first touches cost
if [ "$tried" -ge 2 ] && [ "$evictions" -le 3 ] && [ $((2 * evictions)) -lt "$tried" ]; then ok "challengers evict nothing"; else
  fail "challengers evict nothing" "$tried blocks of challengers, $evictions evictions" "2 blocks or more, 3 evictions at most, and less than half as many"
fi

# A calloc of memory that was used before reads as zero, and gets no pages for it but those that are there.
cat >"$WORK/zero.c" <<'C'
#include "probe.h"
#include <sys/mman.h>
#include <sys/prctl.h>
enum { SIZE = 48 << 20, PAGE = 4096 };
static unsigned char there[SIZE / PAGE];
static int resident(const char *block)
{
  int pages = 0;
  mincore((void *)(uintptr_t)block, SIZE, there);
  for (int i = 0; i < SIZE / PAGE; i++) {
    pages += there[i] & 1;
  }
  return pages;
}
int main(void)
{
  char *block = NULL;
  int served = 0;
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* pages are counted here: none that nobody asked for */
  for (int round = 0; round < 4; round++) {
    char *before = block;
    block = calloc(1, (size_t)(SIZE - round));
    served += block == before;
    int pages = resident(block), wrong = 0;
    for (int i = 0; i < SIZE - round; i++) { /* a page that is read is there, too: all of them in the last round only */
      wrong += (there[i / PAGE] != 0 || round == 3) && block[i] != 0;
    }
    PROBE(wrong == 0, "it reads as zero", "found %d other bytes in round %d", wrong, round);
    PROBE(pages <= 1000, "with few pages", "found %d in round %d", pages, round);
    for (int i = 0; i < SIZE - round; i += PAGE * (i < SIZE / 2 ? 50 : 3001)) { /* some alone, ... */
      block[i] = 1;
    }
    memset(block + 99999, 2, 3 * PAGE); /* some side by side, ... */
    block[SIZE - round - 1] = 3;        /* and the last one */
    free(block);
  }
  PROBE(served > 0, "memory is used again", "found %d times", served);
  return probe_failures != 0;
}
C
build zero "$WORK/zero.c"
for settings in "" "core.cache=none" "core.reclaim=none"; do
  collect "calloc, $settings" 60 under "$default" "strategy.default.route=mmap;cache.bigcache.limit=64M;$settings" "$WORK/zero"
done

# KiB resident
cat >"$WORK/resident.h" <<'C'
#include "probe.h"
#include <fcntl.h>
static long resident(void)
{
  char text[100] = "";
  int file = open("/proc/self/statm", O_RDONLY);
  ssize_t size = read(file, text, sizeof text - 1);
  close(file);
  char *second = strchr(text, ' ');
  return size > 0 && second != NULL ? strtol(second, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024) : 0;
}
C

# A process that makes no requests gives back what it keeps, when it has a thread for that; and so does its child.
cat >"$WORK/idle.c" <<'C'
#include "resident.h"
#include <sys/wait.h>
#include <time.h>
enum { LARGE = 64, SMALL = 40000 };
static void *large[LARGE], *small[SMALL];
static void use(int count)
{
  for (int i = 0; i < count; i++) {
    large[i] = malloc(300000 + 50000 * (size_t)i);
    memset(large[i], 1, 300000 + 50000 * (size_t)i);
  }
  for (int i = 0; i < SMALL; i++) {
    small[i] = malloc(1000);
    memset(small[i], 1, 1000);
  }
  for (int i = 0; i < count; i++) {
    free(large[i]);
  }
  for (int i = 0; i < SMALL; i++) {
    free(small[i]);
  }
}
static void wait_for_it(const char *who)
{
  long before = resident(), after = before;
  for (int i = 0; i < 100 && after > before / 4; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    after = resident();
  }
  PROBE(before >= 38 * 1024 && after <= before / 4, who, "found %ld KiB, then %ld", before, after);
}
int main(void)
{
  use(LARGE);
  wait_for_it("an idle process gives back what it keeps");
  nanosleep(&(struct timespec){.tv_sec = 3}, NULL); /* until nothing is left to look at */
  use(0);
  wait_for_it("also spans of small objects");
  pid_t child = fork();
  if (child == 0) {
    use(LARGE);
    wait_for_it("an idle child, too");
    _exit(probe_failures != 0);
  }
  int status;
  PROBE(waitpid(child, &status, 0) == child && status == 0, "the child ends", "found status %d", status);
  return probe_failures != 0;
}
C
build idle "$WORK/idle.c"
collect "background" 60 under "$default" "core.background=on" "$WORK/idle"
report=$(under "$default" "core.background=on;stats.exit=text" "$WORK/idle" 2>&1)
is "background: two threads" "$(sed -n 's/^  threads *//p' <<<"$report" | tail -n 1)" 2
report=$(under "$default" "stats.exit=text" "$WORK/scenario" vm 2>&1)
is "no thread unless it is wanted" "$(sed -n 's/^  threads *//p' <<<"$report")" 1

# Blocks of which only the beginning is used hold little more than that, however often they come and go.
cat >"$WORK/sparse.c" <<'C'
#include "resident.h"
enum { LIVE = 64, TURNS = 5000, PAGE = 4096, MIB = 1 << 20 };
int main(void)
{
  static char *block[LIVE];
  uint32_t draw = 1;
  for (int pages = 1; pages <= 16; pages *= 16) {
    for (int i = 0; i < TURNS; i++) {
      draw = draw * 1103515245 + 12345;
      char **at = &block[draw >> 8 & (LIVE - 1)];
      free(*at);
      *at = malloc(4 * MIB + (draw >> 14) % (4 * MIB));
      for (int j = 0; j < pages; j++) {
        (*at)[j * PAGE] = 1;
      }
    }
    long kib = resident(), used = LIVE * pages * PAGE / 1024;
    PROBE(kib <= 16 * 1024 + 8 * used, "sparse blocks hold little", "found %ld KiB, %ld are used", kib, used);
  }
  return probe_failures != 0;
}
C
build sparse "$WORK/sparse.c" -I"$WORK"
for ini in hakmem hugepage mmap; do
  collect "$ini.ini, sparse blocks" 60 under "$TOP_SRCDIR/etc/$ini.ini" "" "$WORK/sparse"
done

# A queue: pages that reclaim releases serve again. Without it they go back at once, and are touched anew.
queue() { # SETTINGS: page faults
  under "$default" "backend.hugepage.mode=thp;$1" "$WORK/scenario" streaming | sed -n 's/.*"faults": \([0-9]*\).*/\1/p'
}
kept=$(queue "stats.exit=text;stats.file=$WORK/queue")
report=$(<"$WORK/queue")
for key in reclaim.batch.batches reclaim.batch.ranges reclaim.batch.released; do
  if [ "$(value "$key")" -gt 100 ]; then ok "queue: $key counts"; else fail "queue: $key counts" "$(value "$key")" "more than 100"; fi
done
for settings in core.reclaim=none backend.hugepage.keep=0; do
  faults=$(queue "$settings")
  if [ $((kept * 3 / 2)) -lt "$faults" ]; then ok "queue: $settings costs faults"; else
    fail "queue: $settings costs faults" "$faults" "many more than $kept"
  fi
done
finish
