#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh - `make fuzz`: builds the fuzz targets with clang, libFuzzer and sanitizers, and runs each for FUZZ_SECONDS. Ends with a
# line for each: the executions, and the findings, which are kept as files.
#
# Everything is built in build-fuzz, apart from the ordinary build. What an input grows into stays in build-fuzz/corpus and is
# where the next run begins. The lists of sources come from the Makefile. FUZZ_TARGETS names the targets to run, FUZZ_SANITIZE
# the sanitizers: `undefined` alone is faster, and a target's own checks stay. FUZZ_LENGTH is the most bytes of an input.
#
# Comparisons are not traced, and inputs neither weighed nor shortened: each of these took a quarter to a half of the time, and
# found nothing more, as the words of an INI are in a dictionary.
set -u
cd "$TOP_BUILDDIR" || exit 1
CLANG=${CLANG:-clang} FUZZ_SECONDS=${FUZZ_SECONDS:-60} OUT=$TOP_BUILDDIR/build-fuzz
FUZZ_TARGETS=${FUZZ_TARGETS:-ini ops ops-full ops-flip descriptor state} FUZZ_SANITIZE=${FUZZ_SANITIZE:-address,undefined}
mkdir -p "$OUT/plugins" "$OUT/core" "$OUT/findings" || exit 1
# shellcheck disable=SC2016
if ! echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d == (char *)n; }' |
  "$CLANG" -fsanitize="fuzzer,$FUZZ_SANITIZE" -x c -o "$OUT/probe" - 2>/dev/null; then
  echo "fuzz: found no clang with -fsanitize=fuzzer, expected one; CLANG=... names it (Debian: clang, libclang-rt-14-dev)" >&2
  exit 1
fi

# ---- building --------------------------------------------------------------------------------------------------------

flags=(-std=gnu11 -O1 -g -fno-omit-frame-pointer "-fsanitize=fuzzer-no-link,$FUZZ_SANITIZE" -fno-sanitize-coverage=trace-cmp -fno-sanitize-recover=all
  -I"$TOP_SRCDIR/include" -I"$TOP_SRCDIR/core" -Icore -I"$TOP_SRCDIR/plugins/policy" -DPACKAGE_VERSION='"fuzz"'
  -DHKI_SYSCONFDIR='"/etc"' -DHKI_PLUGINDIR='"/nowhere"' -ftls-model=initial-exec -fno-builtin-malloc -fexceptions)
read -ra inih <<<"$INIH_CFLAGS"

objects() { # DIRECTORY SOURCE...: compiles what is newer; the objects are in OBJECTS
  local directory=$1 source object
  shift
  OBJECTS=()
  for source in "$@"; do
    case $source in
    *.h) continue ;;
    esac
    object=$directory/$(basename "$source" .c).o
    OBJECTS+=("$object")
    "$CLANG" "${flags[@]}" ${inih[@]+"${inih[@]}"} -c -o "$object" "$TOP_SRCDIR/$source" || exit 1
  done
}

plugin() { # NAME SOURCE...
  local name=$1 source sources=()
  shift
  for source in "$@"; do
    case $source in
    *.c) sources+=("$TOP_SRCDIR/$source") ;;
    esac
  done
  "$CLANG" "${flags[@]}" -fPIC -shared -fvisibility=hidden -o "$OUT/plugins/$name.so" "${sources[@]}" || exit 1
}

target() { # NAME OBJECT...
  local name=$1
  shift
  "$CLANG" "${flags[@]}" ${inih[@]+"${inih[@]}"} -fsanitize=fuzzer -o "$OUT/$name" "$TOP_SRCDIR/tests/fuzz/$name.c" "$@" \
    -rdynamic -ldl -lpthread -lm || exit 1
}

# shellcheck disable=SC2086
{
  plugin malloc plugins/backend/malloc.c
  plugin mmap $EXTENT plugins/backend/mmap.c
  plugin hugepage $EXTENT plugins/backend/hugepage.c
  plugin slab $SLAB
  plugin static plugins/policy/static.c
  plugin elo $LEARN plugins/policy/elo.c
  plugin epsilon_greedy $LEARN plugins/policy/epsilon_greedy.c
  plugin bigcache plugins/cache/bigcache.c plugins/cache/call_sites.c
  plugin batch plugins/reclaim/batch.c
  plugin flip tests/plugins/flip.c
  objects "$OUT/core" $CORE
  core=("${OBJECTS[@]}")
  objects "$OUT" $LOADING
  loading=("${OBJECTS[@]}")
  objects "$OUT" $LEARN
  learn=("${OBJECTS[@]}")
}
for policy in elo epsilon_greedy; do
  "$CLANG" "${flags[@]}" -Dhakmem_plugin=${policy%_greedy}_plugin -c -o "$OUT/$policy.o" \
    "$TOP_SRCDIR/plugins/policy/$policy.c" || exit 1
done
target ini "${core[@]}" "$INIH_ARCHIVE"
target descriptor "${core[@]}" "$INIH_ARCHIVE"
target ops "${core[@]}" "${loading[@]}" "$INIH_ARCHIVE"
target state "${learn[@]}" "$OUT/elo.o" "$OUT/epsilon_greedy.o"

# ---- running ---------------------------------------------------------------------------------------------------------

# A variant of `ops` has a name behind a hyphen, and settings of its own.
declare -A settings=([ops-full]="core.hardening=full" [ops-flip]="core.policy=flip")
export FUZZ_PLUGINS=$OUT/plugins FUZZ_SET LC_ALL=C ASAN_OPTIONS=allocator_may_return_null=1
unset HAKMEM_CONF HAKMEM_SET HAKMEM_VERBOSE
status=0 report=()
for name in $FUZZ_TARGETS; do
  FUZZ_SET=${settings[$name]:-}
  program=${name%%-*}
  mkdir -p "$OUT/corpus/$name"
  more=()
  if [ "$program" = ini ]; then # the shipped files, and their words
    grep -ohE '[a-z_]+' "$TOP_SRCDIR"/etc/*.ini | sort -u | sed 's/.*/"&"/' >"$OUT/words"
    more=(-dict="$OUT/words" "$TOP_SRCDIR/etc")
  fi
  "$OUT/$program" -max_total_time="$FUZZ_SECONDS" -max_len="${FUZZ_LENGTH:-8192}" -timeout=20 -rss_limit_mb=3000 \
    -entropic=0 -reduce_inputs=0 -print_final_stats=1 \
    -artifact_prefix="$OUT/findings/$name-" "$OUT/corpus/$name" "$TOP_SRCDIR/tests/fuzz/seeds/$program" \
    ${more[@]+"${more[@]}"} >"$OUT/$name.log" 2>&1
  result=$?
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$OUT/$name.log")
  operations=$(sed -n 's/^stat::operations: *\([0-9]*\)/, \1 operations/p' "$OUT/$name.log")
  covered=$(grep -o 'cov: [0-9]*' "$OUT/$name.log" | tail -n 1)
  if [ $result = 0 ]; then
    report+=("$name: ${executions:-0} executions$operations, ${covered#cov: } edges covered, no findings")
  else
    status=1
    found=$(grep -m 1 -oE 'not so: .*|ERROR: .*|runtime error: .*|SUMMARY: .*' "$OUT/$name.log")
    report+=("$name: ${executions:-0} executions$operations, FOUND ${found:-status $result}; see $OUT/$name.log and $OUT/findings")
  fi
done
printf 'fuzz: %s\n' "${report[@]}"
exit $status
