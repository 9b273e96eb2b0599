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

# Blocks of a class backend: under full every mistake at once, under basic what is no start of an object when its run goes back.
build template_class.so "$TOP_SRCDIR/doc/template_class.c" -shared -fPIC -fvisibility=hidden
printf '[core]\nsmall = template_class\n[strategy.default]\nroute = malloc, mmap from 512K\n' >"$WORK/class.ini"
PLUGINS=$PLUGINS,$WORK
for size in 64 65536; do
  for kind in double interior middle misaligned realloc-freed realloc-interior usable-freed double-moved double-thread; do
    mistake "class, full, $size bytes: $kind" "$WORK/class.ini" "core.hardening=full;core.foreign=abort" "$kind" "$size" template_class
  done
done
cat >"$WORK/flushed.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
int main(void)
{
  static char *block[1000];
  for (int i = 0; i < 1000; i++) {
    block[i] = malloc(64);
  }
  printf("hakmem: free(%p): inside a live block of 64 bytes at %p (backend template_class)", (void *)(block[0] + 32), (void *)block[0]);
  fflush(stdout);
  for (int i = 0; i < 1000; i++) {
    free(block[i] + (i == 0 ? 32 : 0));
  }
  return 0;
}
C
build misuse "$WORK/flushed.c"
mistake "class, basic: interior, when its run goes back" "$WORK/class.ini" "core.hardening=basic" - - -
finish
