#!/bin/bash
# SPDX-License-Identifier: MIT
# threads.sh - threads that end, cross and only free, and the end of the process, in each configuration.
. "$(dirname "$0")/lib.sh"
needs_interposing

build threads "$TESTS/threads.c"
make_inis
for ini in "${INIS[@]}"; do
  collect "$(label "$ini")" 120 under "$ini" "" "$WORK/threads"
done
collect "mixed, hardening full" 120 under "$WORK/ini/mixed.ini" "core.hardening=full" "$WORK/threads"
finish
