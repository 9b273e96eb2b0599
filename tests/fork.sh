#!/bin/bash
# SPDX-License-Identifier: MIT
# fork.sh [FORKS] (or $FORKS; 60) - forking while threads allocate, in each configuration, also beside a library whose handlers
# allocate.
. "$(dirname "$0")/lib.sh"
needs_interposing
forks=${1:-${FORKS:-60}}

build fork "$TESTS/fork.c"
build atfork.so "$TESTS/atfork.c" -shared -fPIC
make_inis

# beside ORDER INI COMMAND...: hakmem and the other library; constructors run from the last to the first.
beside() {
  local order=$1 ini=$2
  shift 2
  env LD_PRELOAD="$order" HAKMEM_CONF="$ini" HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on" "$@"
}
export -f beside

for ini in "${INIS[@]}"; do
  conf=$(label "$ini")
  collect "$conf" 900 under "$ini" "" "$WORK/fork" "$forks"
  collect "$conf, handlers registered before" 900 beside "$LIB:$WORK/atfork.so" "$ini" "$WORK/fork" $((forks / 4))
  collect "$conf, handlers registered after" 900 beside "$WORK/atfork.so:$LIB" "$ini" "$WORK/fork" $((forks / 4))
done
collect "a background thread" 900 under "$TOP_SRCDIR/etc/hakmem.ini" "core.background=on" "$WORK/fork" "$forks"
finish
