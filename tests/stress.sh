#!/bin/bash
# SPDX-License-Identifier: MIT
# stress.sh [SECONDS] (or $STRESS_SECONDS; 2) - everything at once, in several configurations for so long each. The seeds follow
# $STRESS_SEED, or are others each time; every line of a run tells its own. Runs in every build, sanitizers included.
. "$(dirname "$0")/lib.sh"
seconds=${1:-${STRESS_SECONDS:-2}}
seed=${STRESS_SEED:-$RANDOM}
echo "STRESS_SEED=$seed has the same seeds"

etc=$TOP_SRCDIR/etc
build flip.so "$TESTS/plugins/flip.c" -shared -fPIC -fvisibility=hidden
build scarce.so "$TESTS/plugins/scarce.c" -shared -fPIC -fvisibility=hidden
if [ "${INTERPOSE:-yes}" = yes ]; then
  build stress "$TESTS/stress.c"
  preload=$LIB
else
  build stress "$TESTS/stress.c" -DDIRECT -Wl,--no-as-needed -L"$TOP_BUILDDIR/.libs" -lhakmem -Wl,-rpath,"$TOP_BUILDDIR/.libs"
  preload=
fi
tool=$TOP_BUILDDIR/tools/hakmem
case ${TEST_CFLAGS:-} in # the sanitizer does not see who of glibc's allocator hands a block to whom
*-fsanitize=*thread*) wrapped=";backend.malloc.library=$(ldd "$WORK/stress" | sed -n 's/^[[:space:]]*\(libtsan[^ ]*\) .*/\1/p')" ;;
*) wrapped= ;;
esac
export preload tool wrapped

# stress INI SETTINGS ARGUMENT...: one run. The process becomes the program.
stress() {
  exec env ${preload:+LD_PRELOAD="$preload"} HAKMEM_CONF="$1" HAKMEM_SET="core.plugin_path=$PLUGINS,$WORK;core.strict=on$wrapped;$2" \
    "$WORK/stress" "${@:3}"
}
export -f stress

# steered INI SETTINGS ARGUMENT...: the same with `hakmem set` and `hakmem stat` from outside all the time; what was set is in
# $WORK/steered.
steered() {
  stress "$@" &
  local pid=$!
  while kill -0 $pid 2>/dev/null; do
    "$tool" set -t 0.5 $pid core.epoch=$((RANDOM % 100 + 1)) >>"$WORK/steered" 2>/dev/null
    "$tool" stat $pid >/dev/null 2>&1
    sleep 0.05
  done
  wait $pid
}
export -f steered

# run NAME INI SETTINGS THREADS [ARGUMENT...]
run() {
  seed=$((seed + 1))
  collect "$1, $4 threads, seed $seed" $((seconds * 5 + 120)) "${how:-stress}" "$2" "$3" -r $seed -j "$4" -t "$seconds" "${@:5}"
  sed -n 's/^# /  /p' "$WORK/collected"
}

run "hakmem.ini" "$etc/hakmem.ini" "" 1
run "hakmem.ini" "$etc/hakmem.ini" "" 64
run "hardening full" "$etc/hakmem.ini" "core.hardening=full" 16
for ini in malloc mmap hugepage; do
  run "$ini.ini" "$etc/$ini.ini" "" 8
done
for policy in static elo epsilon-greedy; do
  run "learn.ini, policy $policy" "$etc/learn.ini" "core.policy=$policy;core.epoch=64" 16
done
run "requests are refused" "$etc/hakmem.ini" "core.epoch=64;strategy.default.route=scarce;backend.slab.pages=scarce" 8 -f
if [[ ${TEST_CFLAGS:-} == *-fsanitize* ]]; then
  skip "memory runs out" "sanitizers need address space themselves"
else
  run "memory runs out" "$etc/hakmem.ini" "" 8 -l
  run "memory runs out, malloc.ini" "$etc/malloc.ini" "" 8 -l
  run "memory runs out, policy flip" "$etc/learn.ini" "core.policy=flip;core.epoch=64" 64 -l
fi
if [ "$EUID" -ne 0 ] && [ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" != 0 ]; then
  skip "steered from outside" "the kernel lets only root look into other processes"
else
  how=steered run "steered from outside" "$etc/hakmem.ini" "" 4
  like "hakmem set was heard" "$(grep -c '^core.epoch = ' "$WORK/steered")" '[1-9][0-9]*'
fi

# digest SEED: what one thread did.
digest() {
  stress "$etc/hakmem.ini" "" -r "$1" -j 1 -n 5000 2>/dev/null | sed -n 's/^# .*, digest //p'
}
first=$(digest $seed)
like "one thread, seed $seed: a digest" "$first" '[0-9a-f]{16}'
is "the same seed, the same operations" "$(digest $seed)" "$first"
is "another seed, others" "$(printf '%s\n' "$first" "$(digest $((seed + 1)))" | sort -u | wc -l)" 2
finish
