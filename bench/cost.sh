#!/bin/bash
# SPDX-License-Identifier: MIT
# cost.sh - what hakmem adds, in units that do not depend on the machine's mood where there are such: instructions, system calls,
# private dirty pages; and for start-up, paired times.
#
#   bench/cost.sh [RUNS]        from the build directory, after make. Needs valgrind and strace.
set -u
TOP_BUILDDIR=$(cd "${TOP_BUILDDIR:-.}" && pwd)
TOP_SRCDIR=$(cd "${TOP_SRCDIR:-$(dirname "$0")/..}" && pwd)
RUNS=${1:-200}
LIB=$TOP_BUILDDIR/.libs/libhakmem.so
WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT
unset HAKMEM_CONF HAKMEM_VERBOSE LD_PRELOAD
PLUGINS="core.plugin_path=$TOP_BUILDDIR/plugins/.libs;core.strict=on"
[ -e "$LIB" ] || { echo "no $LIB: build first" >&2; exit 1; }

${CC:-cc} -O2 -fno-builtin -o "$WORK/cost" "$TOP_SRCDIR/bench/cost.c" -ldl || exit 1

# hak INI SETTINGS COMMAND...
hak() { env LD_PRELOAD="$LIB" HAKMEM_CONF="$1" HAKMEM_SET="$PLUGINS;$2" "${@:3}"; }

# collected PAIRS [env assignments]: instructions of a run with so many pairs.
collected() {
  env "${@:2}" valgrind --tool=callgrind --soname-synonyms=somalloc=NONE --callgrind-out-file=/dev/null "$WORK/cost" pairs "$1" 2>&1 |
    sed -n 's/.*Collected : //p'
}
per_pair() {
  local few many
  few=$(collected 1000 "$@") many=$(collected 11000 "$@")
  echo $(((many - few) / 10000))
}

echo "machine: $(uname -sr), $(nproc) processors, $(getconf GNU_LIBC_VERSION); $(date -u +%F)"
echo
echo "## Instructions of malloc(64) + free"
bare=$(per_pair UNUSED=1)
ours=$(per_pair "LD_PRELOAD=$LIB" "HAKMEM_CONF=$TOP_SRCDIR/etc/malloc.ini" "HAKMEM_SET=$PLUGINS")
echo "glibc alone: $bare"
echo "glibc behind hakmem's malloc backend: $ours (added: $((ours - bare)))"
for peer in mimalloc.so.2 jemalloc.so.2 tcmalloc_minimal.so.4; do
  path=$(ldconfig -p | sed -n "s/.*lib$peer .*=> //p" | head -n 1)
  echo "${peer%%.*}: $([ -n "$path" ] && per_pair "LD_PRELOAD=$path" || echo "not installed")"
done
for hardening in off basic full; do
  echo "hakmem, hardening $hardening: $(per_pair "LD_PRELOAD=$LIB" "HAKMEM_CONF=$TOP_SRCDIR/etc/hakmem.ini" \
    "HAKMEM_SET=$PLUGINS;core.hardening=$hardening;core.syscalls=basic")"
done
echo
echo "## System calls of 1000 fresh 1 MiB blocks: malloc, one touch, free"
for n in 0 1000; do
  strace -f -c -o "$WORK/calls.$n" env "LD_PRELOAD=$LIB" "HAKMEM_CONF=$TOP_SRCDIR/etc/mmap.ini" "HAKMEM_SET=$PLUGINS" "$WORK/cost" blocks "$n"
done
total() { awk '$NF == "total" { print $4 }' "$WORK/calls.$1"; }
a=$(total 0) b=$(total 1000)
echo "per block: $(awk -v d=$((b - a)) 'BEGIN { printf "%.3f", d / 1000 }')"
echo
echo "## Start-up of /bin/true over no preload, $RUNS pairs; private dirty pages of an idle process"
for ini in "$TOP_SRCDIR"/etc/*.ini; do
  hak "$ini" "" "$WORK/cost" served >/dev/null 2>&1 || { echo "$(basename "$ini"): not usable here"; continue; }
  times=$(env "LD_PRELOAD_UNDER_TEST=$LIB" "HAKMEM_CONF=$ini" "HAKMEM_SET=$PLUGINS" "$WORK/cost" startup "$RUNS")
  dirty=$(hak "$ini" "" "$WORK/cost" dirty)
  without=$("$WORK/cost" dirty)
  echo "$(basename "$ini"): $times; private dirty $dirty KiB (without hakmem $without KiB)"
done
