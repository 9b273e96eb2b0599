#!/bin/bash
# SPDX-License-Identifier: MIT
# dispatch.sh - what it costs that the class backend is a plugin: two builds of this tree, one that loads slab and calls it through
# its table, one that is linked with it and calls it directly (./configure --enable-bound-slab), on programs of the suite.
#
#   bench/dispatch.sh [RUNS]    from a git checkout. Needs valgrind, python3 and what the build needs.
#
# Instructions are those of the whole process. Times are of the timed part; the builds run in turn, and the ratio is the median of
# the pairs, with their quartiles.
set -u
TOP_SRCDIR=$(cd "${TOP_SRCDIR:-$(dirname "$0")/..}" && pwd)
RUNS=${1:-30}
WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT
unset HAKMEM_CONF HAKMEM_SET HAKMEM_VERBOSE LD_PRELOAD

for build in plugin bound; do
  mkdir "$WORK/$build"
  git -C "$TOP_SRCDIR" archive HEAD | tar -x -C "$WORK/$build"
  option=$([ $build = bound ] && echo --enable-bound-slab)
  # shellcheck disable=SC2086
  (cd "$WORK/$build" && ./bootstrap && ./configure -q $option && make -s -j2) >"$WORK/$build.log" 2>&1 ||
    { echo "$build: cannot build: $(tail -n 2 "$WORK/$build.log")" >&2; exit 1; }
done
for program in order pair server sizes tiny; do
  ${CC:-cc} -std=c11 -O2 -fno-builtin -pthread -I"$TOP_SRCDIR/include" -o "$WORK/$program" "$TOP_SRCDIR/bench/suite/$program.c" -ldl || exit 1
done

# as BUILD COMMAND...
as() {
  env LD_PRELOAD="$WORK/$1/.libs/libhakmem.so" HAKMEM_CONF="$WORK/$1/etc/hakmem.ini" \
    HAKMEM_SET="core.plugin_path=$WORK/$1/plugins/.libs;core.strict=on;core.syscalls=basic" "${@:2}"
}

instructions() { # BUILD COMMAND...
  as "$1" valgrind --tool=callgrind --soname-synonyms=somalloc=NONE --callgrind-out-file=/dev/null "${@:2}" 2>&1 >/dev/null |
    sed -n 's/.*Collected : //p'
}

echo "machine: $(uname -sr), $(nproc) processors, $(getconf GNU_LIBC_VERSION); $(date -u +%F); $RUNS pairs"
for command in "pair" "tiny" "sizes small" "order fifo" "order random" "server" "server -j 2"; do
  read -ra words <<<"$command"
  echo -n "$command: instructions $(instructions plugin "$WORK/${words[0]}" "${words[@]:1}" -n 2) / $(instructions bound "$WORK/${words[0]}" \
    "${words[@]:1}" -n 2); "
  for ((run = 0; run < RUNS; run++)); do
    for build in plugin bound; do
      as $build "$WORK/${words[0]}" "${words[@]:1}" -n 25
    done
  done | python3 -c '
import json, statistics, sys
runs = [json.loads(line) for line in sys.stdin]
for run in runs:
    if run.get("allocs") != run["blocks"]:
        sys.exit("hakmem did not serve the calls")
ratios = [plugin["ns"] / bound["ns"] for plugin, bound in zip(runs[::2], runs[1::2])]
low, middle, high = statistics.quantiles(ratios, n=4)
print(f"time of the plugin over that of the bound one {middle:.3f} ({low:.3f} to {high:.3f})")'
done
