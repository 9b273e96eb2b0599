#!/bin/bash
# SPDX-License-Identifier: MIT
# faults.sh - surroundings in which allocators break, brought about for real, in each shipped configuration and with each policy
# that learns: filters for system calls, no more mappings or memory, no descriptors, nothing in /proc and /sys, locked pages,
# exceptions that trap, purges beside requests, a child beside its parent, no huge pages, threads of unequal priority. What each
# of them does is in faults/faults.c; doc/reliability.md says which ways to break are looked at elsewhere.
. "$(dirname "$0")/lib.sh"
needs_interposing
ulimit -c 0

build faults "$TESTS/faults/faults.c" -lm
build filtered "$TESTS/faults/filtered.c"
build trap.so "$TESTS/faults/trap.c" -shared -fPIC -lm
make_inis

# Those of etc/, and the other policy that learns. LABEL=INI=SETTINGS
configurations=()
for ini in "${INIS[@]}"; do
  if [ -e "$TOP_SRCDIR/etc/${ini##*/}" ]; then configurations+=("$(label "$ini")=$ini="); fi
done
configurations+=("learn, epsilon-greedy=$WORK/ini/learn.ini=core.policy=epsilon-greedy;")
like "configurations" "${#configurations[@]}" '[6-9]'

# under_with FAULT INI SETTINGS COMMAND...: as `under`, with a fault that is there when the process starts.
under_with() {
  local fault=$1 lib=$LIB
  shift
  case $fault in
  filter-*) set -- env LD_PRELOAD="$lib" HAKMEM_CONF="$1" HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on;$2" "${@:3}"
    exec "$WORK/filtered" "${fault#filter-}" "$@" ;;
  trap) LIB=$lib:$WORK/trap.so under "$@" ;;
  closed) under "$@" 9>&1 <&- >&- 2>&- ;;
  no-proc) exec unshare -m bash -c 'mount -t tmpfs -o ro none /proc && mount -t tmpfs -o ro none /sys && under "$@"' - "$@" ;;
  esac
}
export -f under under_with

# Whether the file systems can be rearranged for one process.
proc=
if unshare -m mount -t tmpfs -o ro none /proc 2>/dev/null; then proc=yes; fi

for configuration in "${configurations[@]}"; do
  IFS='=' read -r name ini settings <<<"$configuration"
  settings="${settings}core.epoch=16;stats.exit=text;stats.file=$WORK/report.%p"
  fault() { collect "$name: $1" 60 under "$ini" "$settings;$2" "$WORK/faults" "${@:3}"; }
  fault_at_start() { collect "$name: $1" 60 under_with "$2" "$ini" "$settings;$3" "$WORK/faults" "${@:4}"; }

  for answer in EPERM ENOSYS; do
    fault_at_start "$answer at the start" "filter-$answer" "" plain
    fault "$answer later" "" filter $answer
  done
  fault_at_start "process_madvise and mincore kill" filter-kill "core.syscalls=basic" plain
  fault "no more mappings" "" mappings
  fault "no more memory" "" memory
  fault_at_start "no descriptors" closed "" descriptors 9
  if [ -n "$proc" ]; then
    fault_at_start "nothing in /proc and /sys" no-proc "" plain
  else
    skip "$name: nothing in /proc and /sys" "needs root and mount namespaces"
  fi
  fault "locked pages" "" locked
  fault "trapping exceptions" "" trapping
  fault_at_start "exceptions that trap from the start" trap "" trapping start
  fault "a storm of purges" "reclaim.batch.count=2" storm
  fault "a storm of lazy purges" "reclaim.batch.count=2;reclaim.batch.advice=free" storm
  fault "a child that purges" "reclaim.batch.bytes=1G;reclaim.batch.cap=1G" child
  fault "huge pages switched off" "" huge off
  fault "no huge pages reserved" "backend.hugepage.mode=hugetlb" huge
  fault "threads of two priorities" "" priority
done
finish
