#!/bin/bash
# SPDX-License-Identifier: MIT
# advise.sh - `hakmem advise`, from the outside: that its INI is valid and chooses what was learned, from a process and from a state
# file; what it says when nothing was learned; and what it refuses. That a learner plays games at all is a check of its own.
#
# What is to be learned does not depend on the machine: the baseline is a backend that spends milliseconds on each block.
. "$(dirname "$0")/lib.sh"
needs_interposing
tool=$TOP_BUILDDIR/tools/hakmem
mkdir -p "$WORK/plugins"
build plugins/slow.so "$TESTS/plugins/slow.c" -shared -fPIC -fvisibility=hidden

cat >"$WORK/work.c" <<'EOC'
/* Blocks of 1 and 3 MiB, four of them live, all pages written; then "ready", and a wait when there is a second argument. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
  char *live[4] = {NULL};
  int blocks = argc > 1 ? atoi(argv[1]) : 0;
  for (int i = 0; i < blocks; i++) {
    size_t size = (i % 2 == 0 ? 3U : 1U) * 1024 * 1024 + 4096;
    char *volatile block = malloc(size);
    for (size_t at = 0; at < size; at += 4096) {
      block[at] = 1;
    }
    free(live[i % 4]);
    live[i % 4] = block;
  }
  if (argc > 2) {
    puts("ready");
    fflush(stdout);
    pause();
  }
  return 0;
}
EOC
build work "$WORK/work.c"

# ini FILE POLICY: a learner with a bad baseline, and a strategy to be preferred.
ini() {
  local file=$1 policy=$2
  {
    printf '[core]\ncache = none\npolicy = %s\nplugin_path = %s\n' "$policy" "$WORK/plugins"
    printf '[policy.%s]\nbaseline = bad\narms = good\nstate_file = %s\n' "$policy" "$WORK/state-$policy"
    printf '[backend.slow]\nns = 9000000\n[strategy.bad]\nroute = malloc, slow from 512K\n'
    printf '[strategy.good]\nroute = malloc, mmap from 512K, hugepage from 16M\n'
  } >"$file"
}
# advise ARGUMENT...: its output in $out, its messages in $err, its status in $status.
advise() {
  "$tool" advise "$@" >"$WORK/out" 2>"$WORK/err"
  status=$?
  out=$(cat "$WORK/out") err=$(cat "$WORK/err")
}
# refuses NAME STATUS MESSAGE ARGUMENT...
refuses() {
  advise "${@:4}"
  is "$1: status" $status "$2"
  like "$1: message" "$(head -n 1 <<<"$err")" "$3"
  is "$1: no output" "$out" ""
}
# checked NAME: the output is a configuration without mistakes.
checked() {
  printf '%s\n' "$out" >"$WORK/advice.ini"
  is "$1: hakmem check" "$("$tool" check "$WORK/advice.ini" 2>&1 >/dev/null; echo $?)" 0
}
# in_force SECTION KEY: the value under the advice.
in_force() { "$tool" check "$WORK/advice.ini" 2>/dev/null | sed -n "/^\[$1\]/,/^\$/s/^$2 = \(.*\) ;.*/\1/p"; }
# start INI [BLOCKS]: a process that has done its work and waits, in $pid.
start() {
  : >"$WORK/ready" # the process empties it, too, but only once it runs
  "$tool" run -c "$1" -- "$WORK/work" "${2:-2000}" wait >"$WORK/ready" 2>"$WORK/complaints" &
  pid=$!
  for ((i = 0; i < 600; i++)); do
    grep -q ready "$WORK/ready" && return
    sleep 0.05
  done
  hard_error "no end of the work: $(head -n 3 "$WORK/complaints")"
}
stop() { { kill -KILL "$pid" && wait "$pid"; } 2>/dev/null; }

# ---- usage ---------------------------------------------------------------------------------------------------------------------

refuses "nothing named" 2 'hakmem: advise: expected a process id or a state file'
refuses "two things named" 2 'hakmem: advise: expected a process id or a state file' 1 2
refuses "no such file" 2 "hakmem: $WORK/none: No such file or directory" "$WORK/none"
refuses "no such process" 1 'hakmem: no process 4194300' 4194300
refuses "no such configuration" 2 "hakmem: $WORK/none: No such file or directory" -c "$WORK/none" 1

# ---- a running learner, and its state file -------------------------------------------------------------------------------------

for policy in elo epsilon-greedy; do
  ini "$WORK/$policy.ini" $policy
  "$tool" run -c "$WORK/$policy.ini" -o stats.exit=json -o "stats.file=$WORK/report" -- "$WORK/work" 2000
  like "$policy plays games" "$(sed -n "s/.*\"policy.$policy\":{\"games\":\([0-9]*\).*/\1/p" "$WORK/report")" '[1-9][0-9]*'
  advise -c "$WORK/$policy.ini" "$WORK/state-$policy"
  is "$policy, state file: status and messages" "$status $err" "0 "
  checked "$policy, state file"
  route=$(in_force strategy.good route)
  is "$policy, state file: the choice" "$(in_force core policy) $(in_force policy.static strategy) $route" \
    "static good malloc, mmap from 512K, hugepage from 16M"
  like "$policy, state file: evidence" "$(grep '^; 2M to 4M: ' <<<"$out")" \
    '; 2M to 4M: good, score 0\.[0-9]{3} of bad.s, [0-9]+ trials; tried:.* bad \(won [0-9]+, lost [1-9][0-9]*, .*'
  rm "$WORK/state-$policy"

  start "$WORK/$policy.ini"
  advise $pid
  is "$policy, process: status and messages" "$status $err" "0 "
  checked "$policy, process"
  is "$policy, process: the choice" "$(in_force core policy) $(in_force policy.static strategy)" "static good"
  like "$policy, process: evidence" "$(grep '^; 2M to 4M: ' <<<"$out")" '; 2M to 4M: good, 1000 blocks; tried: .*bad [1-9][0-9]*.*'
  like "$policy, process: games" "$(head -n 1 <<<"$out")" \
    "; Learned by the policy $policy, read from process $pid: [1-9][0-9]* games, [1-9][0-9]* measured blocks\."
  stop
done

# ---- state files ---------------------------------------------------------------------------------------------------------------

# state NAME: a state file of the strategies below, with standard input as its contests.
cat >"$WORK/many.ini" <<'EOC'
[strategy.uncached]
route = malloc, mmap from 512K
cache = off
[strategy.late]
route = malloc, hugepage from 16M
[strategy.huge]
route = malloc, hugepage from 1M
thresholds = 512K, 3M
EOC
state() {
  { printf 'hakmem-learn 3\npolicy elo\nscope %s\narms 5 baseline 0\n' "${2:-bin}"
    printf 'arm 1 %s\n' default uncached late huge-512K huge-3M
    cat
    echo end; } >"$WORK/$1"
}
stand() { # ARM COST TRIALS WINS LOSSES
  echo "stand $1 cost $2 spread 100 weight 64 trials $3 games $(($4 + $5)) wins $4 losses $5 draws 0 rating 1500000 out 0"
}
contest() { echo "contest $1 ${4:-4} champion $2 runner-up - score 800 trials $3"; } # ROW CHAMPION TRIALS [ROWS]
# says NAME STRATEGY ROUTE CACHE
says() {
  advise -c "$WORK/many.ini" "$WORK/$1"
  is "$1: status and messages" "$status $err" "0 "
  checked "$1"
  is "$1: the choice" "$(in_force policy.static strategy)" "$2"
  is "$1: the route" "$(in_force "strategy.$2" route)" "$3"
  is "$1: the cache" "$(in_force "strategy.$2" cache)" "$4"
}

{ contest 80 4 300; stand 0 1200 50 0 1; stand 4 1000 250 1 0; contest 84 4 100; stand 4 1000 100 0 0; } | state one-winner
says one-winner huge-3M "malloc, hugepage from 3M" on
{ contest 72 0 120 120; stand 0 1000 60 1 0; stand 1 1300 60 0 1; } | state everywhere global
says everywhere default "mmap, hugepage from 1M" on
{ contest 80 1 300; stand 1 1000 250 1 0; stand 0 1200 50 0 1; } | state words
sed -i 's/^cache = off/cache = no/' "$WORK/many.ini"
says words uncached "malloc, mmap from 512K" off
sed -i 's/^cache = no/cache = yes\nreclaim = 1/' "$WORK/many.ini"
{ contest 80 1 200; stand 1 1000 150 1 0; contest 88 4 100; stand 4 1000 100 1 0; } | state words
says words learned "mmap, hugepage from 2M" on
is "words: all is said" "$(grep -c '^; Not said' <<<"$out")" 0
sed -i '/^reclaim/d; s/^cache = yes/cache = off/' "$WORK/many.ini"
{ contest 80 3 100; stand 3 1000 60 1 0; stand 0 1000 40 0 1; contest 84 0 100; stand 0 1000 60 1 0; } | state duplicates
says duplicates default "mmap, hugepage from 1M" on
{ contest 76 3 100; stand 3 1000 90 1 0; stand 0 1300 10 0 1; contest 80 2 100; stand 2 1000 90 1 0; contest 84 4 50
  stand 4 1000 50 1 0; } | state by-size
says by-size learned "mmap, hugepage from 512K, malloc from 1M, hugepage from 3M" on
like "by-size: evidence of each part" "$(grep '^; 1M to 3M' <<<"$out")" \
  '; 1M to 3M, malloc: late from 1M \(100 trials\), huge-3M from 2M \(50 trials\)'
{ contest 80 2 300; stand 2 1000 290 1 0; contest 88 1 100; stand 1 1000 60 2 0; stand 0 1300 30 0 1; stand 2 1100 30 0 1; } | state switches
says switches late "malloc, hugepage from 16M" on
like "switches: what is not said" "$(grep '^; Not said' <<<"$out")" \
  '; Not said here: 4M to 8M would be served best with cache = off, reclaim = on \(uncached\); .* the route of late\.'
{ contest 88 2 30 1; stand 2 1000 30 1 0; contest 91 4 70 1; stand 4 1000 70 1 0; } | state sites site
says sites default "mmap, hugepage from 1M" on
like "sites: what is not said" "$(grep '^; Not said' <<<"$out")" '; Not said here: 4M to 8M, new sites would be served best by late; .*'
{ for bin in 20 22 24 26 28 30 32; do contest $((bin * 4)) 2 $bin; stand 2 1000 $bin 1 0; done
  for bin in 19 21 23 25 27 29 31; do contest $((bin * 4)) 1 $((bin * 10)); stand 1 1000 200 1 0; done | sort -n -k 2; } |
  awk '/^contest/ { row = $2 } { print row, NR, $0 }' | sort -n -k 1,1 -k 2,2 | cut -d ' ' -f 3- | state crowd
advise -c "$WORK/many.ini" "$WORK/crowd"
checked "more changes than a route has room for"
like "more changes than a route has room for: backends" "$(in_force strategy.learned route | tr ',' '\n' | wc -l)" '[78]'

# Routes that have no first part: told by libhakmem, and libc's allocator serves.
for route in "" "mmap from 1M" "," ; do
  printf '[strategy.bare]\nroute = %s\n' "$route" >"$WORK/bare.ini"
  { printf 'hakmem-learn 3\npolicy elo\nscope bin\narms 2 baseline 0\narm 1 default\narm 1 bare\n'
    contest 80 1 300; stand 1 1000 250 1 0; stand 0 1200 50 0 1; echo end; } >"$WORK/bare"
  advise -c "$WORK/bare.ini" "$WORK/bare"
  like "route '$route': status and messages" "$status $err" "0 hakmem: $WORK/bare.ini:2: strategy.bare.route: found .*"
  checked "route '$route'"
  is "route '$route': the choice" "$(in_force policy.static strategy) $(in_force strategy.bare route)" "bare malloc"
done

# ---- what is no advice ---------------------------------------------------------------------------------------------------------

contest 80 0 20 | { cat; echo "stand 0 cost 0 spread 0 weight 0 trials 20 games 0 wins 0 losses 0 draws 0 rating 1500000 out 0"; } | state idle
refuses "no games" 1 "hakmem: $WORK/idle: nothing was learned: 20 measured blocks, no games" -c "$WORK/many.ini" "$WORK/idle"
sed "1s/3/4/" "$WORK/by-size" >"$WORK/version"
refuses "another version" 1 "hakmem: $WORK/version:1: found \"hakmem-learn 4\", expected hakmem-learn 3, .*" "$WORK/version"
refuses "another text" 1 "hakmem: $WORK/many.ini:1: found \"\[strategy.uncached\]\", expected hakmem-learn 3, .*" "$WORK/many.ini"
refuses "other strategies" 1 "hakmem: $WORK/by-size: found the strategy uncached, expected those of the configuration; .*" "$WORK/by-size"
size=$(stat -c %s "$WORK/by-size") bad=0
for ((cut = 0; cut < size; cut += 7)); do
  head -c "$cut" "$WORK/by-size" >"$WORK/cut"
  advise -c "$WORK/many.ini" "$WORK/cut"
  like "cut at $cut" "$status $out $err" "1  hakmem: $WORK/cut:[0-9]+: found .*, expected .*" >"$WORK/line"
  grep -q '^ok' "$WORK/line" || { bad=$((bad + 1)); cat "$WORK/line"; }
done
is "truncated anywhere" $bad 0
{ cat "$WORK/by-size"; echo; } >"$WORK/behind"
refuses "text behind the end" 1 "hakmem: $WORK/behind:[0-9]*: found .*, expected nothing behind the end" "$WORK/behind"
sed 's/champion 2/champion 5/' "$WORK/by-size" >"$WORK/forged"
refuses "a strategy that is none" 1 "hakmem: $WORK/forged:[0-9]+: found \"contest .*\", expected contest, champion, .*" "$WORK/forged"
rm "$WORK"/state-*
ini "$WORK/few.ini" elo
start "$WORK/few.ini" 1
refuses "a process without games" 1 "hakmem: process $pid: nothing was learned: [0-9]* measured blocks, no games" $pid
stop
start "$TOP_SRCDIR/etc/mmap.ini" 1
refuses "a process without a learner" 1 "hakmem: process $pid: its policy static does not learn" $pid
stop
finish
