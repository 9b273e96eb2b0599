#!/bin/bash
# SPDX-License-Identifier: MIT
# limits.sh - an address space limit, a million small blocks, 200,000 blocks of one granule, in each configuration.
. "$(dirname "$0")/lib.sh"
needs_interposing

build limits "$TESTS/limits.c"
make_inis

limited() { # KIB INI SETTINGS COMMAND...
  ulimit -v "$1"
  shift
  under "$@"
}
export -f limited

for ini in "${INIS[@]}"; do
  conf=$(label "$ini")
  collect "$conf, 256 MiB of address space" 120 limited 262144 "$ini" "" "$WORK/limits" memory
  collect "$conf" 120 under "$ini" "" "$WORK/limits" million
  # In huge pages the 200,000 blocks would be 13 GB of memory, not of address space.
  [ "$conf" = huge64k ] || collect "$conf" 120 under "$ini" "backend.slab.huge=mmap" "$WORK/limits" granules
done
finish
