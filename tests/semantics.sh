#!/bin/bash
# SPDX-License-Identifier: MIT
# semantics.sh - what malloc and its relatives promise, on every configuration and hardening level.
. "$(dirname "$0")/lib.sh"
needs_interposing

build semantics "$TESTS/semantics.c" -D_GNU_SOURCE
make_inis
for ini in "${INIS[@]}"; do
  collect "$(label "$ini")" 300 under "$ini" "" "$WORK/semantics"
done
collect "hakmem, hardening off" 300 under "$WORK/ini/hakmem.ini" "core.hardening=off" "$WORK/semantics"
collect "mixed, hardening full" 300 under "$WORK/ini/mixed.ini" "core.hardening=full" "$WORK/semantics"
collect "hugepage, mode hugetlb" 300 under "$WORK/ini/hugepage.ini" "backend.hugepage.mode=hugetlb" "$WORK/semantics"
collect "mmap, arena 4M" 300 under "$WORK/ini/mmap.ini" "backend.mmap.arena=4M" "$WORK/semantics"
finish
