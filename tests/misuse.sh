#!/bin/bash
# SPDX-License-Identifier: MIT
# misuse.sh - every mistake with memory ends in one line, word for word, and SIGABRT: on each backend, at each hardening level.
. "$(dirname "$0")/lib.sh"
needs_interposing
ulimit -c 0

build misuse "$TESTS/misuse.c"
make_inis

# The backend that the route of a configuration sends a size to.
backend_of() { # INI SIZE
  local entries entry name word from backend
  IFS=, read -ra entries <<<"$(sed -n 's/^route *= *\([^;]*\).*/\1/p' "$1")"
  for entry in "${entries[@]}"; do
    read -r name word from <<<"$entry"
    if [ "$2" -ge "$(numfmt --from=iec "${from:-0}")" ]; then backend=$name; fi
  done
  echo "$backend"
}

# mistake NAME INI SETTINGS KIND SIZE BACKEND
mistake() {
  local status wanted found
  { timeout -k 5 30 env LD_PRELOAD="$LIB" HAKMEM_CONF="$2" HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on;$3" \
    "$WORK/misuse" "$4" "$5" "$6" >"$WORK/out" 2>"$WORK/err"; } 2>/dev/null
  status=$?
  wanted=$(<"$WORK/out") found=$(<"$WORK/err")
  if [[ $wanted == skip:* ]]; then
    skip "$1" "${wanted#skip: }"
  else
    is "$1" "$found, status $status" "$wanted, status 134"
  fi
}

for ini in "${INIS[@]}"; do
  conf=$(label "$ini")
  for hardening in off basic full; do
    for size in 64 65536 2097152 209715200; do
      backend=$(backend_of "$ini" "$size")
      for kind in double interior middle misaligned realloc-freed realloc-interior usable-freed double-moved double-thread; do
        mistake "$conf, $hardening, $size bytes: $kind" "$ini" "core.hardening=$hardening;core.foreign=abort" "$kind" "$size" \
          "$backend"
      done
    done
    for kind in stack static mmap wild low kernel realloc-wild; do
      for foreign in abort libc; do
        mistake "$conf, $hardening, foreign=$foreign: $kind" "$ini" "core.hardening=$hardening;core.foreign=$foreign" \
          "$kind" 64 -
      done
    done
  done
  # The default: libc is only offered what can be libc's, so nothing of ours gets there.
  for size in 64 65536 2097152 209715200; do
    for kind in double interior middle forged misaligned; do
      mistake "$conf, defaults, $size bytes: $kind" "$ini" "" "$kind" "$size" "$(backend_of "$ini" "$size")"
    done
  done
done
finish
