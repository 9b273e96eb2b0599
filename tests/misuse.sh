#!/bin/bash
# SPDX-License-Identifier: MIT
# misuse.sh - every mistake with memory ends in one line, word for word, and SIGABRT: on each backend, at each hardening level.
. "$(dirname "$0")/lib.sh"
needs_interposing
ulimit -c 0

build misuse "$TESTS/misuse.c"
make_inis

# The backend that a configuration sends a size to.
backend_of() { # INI SIZE
  local entries entry name word from backend
  backend=$(small_of "$1")
  if [ "$backend" != none ] && [ "$2" -le 262144 ]; then
    echo "$backend"
    return
  fi
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

every="double interior middle misaligned realloc-freed realloc-interior usable-freed double-moved double-thread"

# Objects of a class backend: under full every mistake is found out at once. Below, free finds out when the run of the object goes
# back to its spans; but basic looks whether an object starts there as soon as the run leaves the thread, and at realloc and
# malloc_usable_size, of which it cannot tell whether the object is live.
objects() { # NAME INI SETTINGS SIZE BACKEND
  local kind
  for kind in $every; do
    mistake "$1, full, $4 bytes: $kind" "$2" "core.hardening=full;$3" "$kind" "$4" "$5"
  done
  for kind in written late-written; do # when it leaves the quarantine
    if [ "$4" -le 4096 ]; then mistake "$1, full, $4 bytes: $kind" "$2" "core.hardening=full;$3" "$kind" "$4" "$5"; fi
  done
  mistake "$1, basic, $4 bytes: realloc-interior" "$2" "core.hardening=basic;$3" realloc-interior "$4" "$5"
  for kind in double interior middle misaligned double-thread; do
    mistake "$1, basic, $4 bytes: $kind, late" "$2" "core.hardening=basic;$3" "late-$kind" "$4" "$5"
  done
}

for ini in "${INIS[@]}"; do
  conf=$(label "$ini")
  for size in 64 65536 2097152 209715200; do
    backend=$(backend_of "$ini" "$size")
    if [ "$backend" = slab ]; then
      objects "$conf" "$ini" "core.foreign=abort" "$size" slab
      for kind in double interior middle misaligned double-thread; do
        mistake "$conf, off, $size bytes: $kind, late" "$ini" "core.hardening=off;core.foreign=abort" "late-$kind" "$size" slab
        # The default: libc is only offered what can be libc's, so nothing of ours gets there.
        mistake "$conf, defaults, $size bytes: $kind, late" "$ini" "" "late-$kind" "$size" slab
      done
    else
      for kind in $every; do
        for hardening in off basic full; do
          mistake "$conf, $hardening, $size bytes: $kind" "$ini" "core.hardening=$hardening;core.foreign=abort" "$kind" "$size" \
            "$backend"
        done
      done
      for kind in double interior middle forged misaligned; do
        mistake "$conf, defaults, $size bytes: $kind" "$ini" "" "$kind" "$size" "$backend"
      done
    fi
  done
  for hardening in off basic full; do
    for kind in stack static mmap wild low kernel realloc-wild; do
      for foreign in abort libc; do
        mistake "$conf, $hardening, foreign=$foreign: $kind" "$ini" "core.hardening=$hardening;core.foreign=$foreign" \
          "$kind" 64 -
      done
    done
  done
done

# The same promises hold with another class backend, but for what only its own bookkeeping finds out.
build template_class.so "$TOP_SRCDIR/doc/template_class.c" -shared -fPIC -fvisibility=hidden
printf '[core]\nsmall = template_class\n[strategy.default]\nroute = malloc, mmap from 512K\n' >"$WORK/class.ini"
PLUGINS=$PLUGINS,$WORK
for size in 64 65536; do
  for kind in $every; do
    mistake "class, full, $size bytes: $kind" "$WORK/class.ini" "core.hardening=full;core.foreign=abort" "$kind" "$size" template_class
  done
  if [ "$size" -le 4096 ]; then
    mistake "class, full, $size bytes: written" "$WORK/class.ini" "core.hardening=full" written "$size" template_class
  fi
  for kind in interior middle misaligned; do
    mistake "class, basic, $size bytes: $kind, late" "$WORK/class.ini" "core.hardening=basic" "late-$kind" "$size" template_class
  done
done
finish
