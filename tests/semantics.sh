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
# A library whose free, as that of several does, changes errno where glibc's does not.
cat >"$WORK/careless.c" <<'C'
#include <errno.h>
#include <stddef.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
void *malloc(size_t size) { return __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, size); }
void free(void *block) { __libc_free(block); errno = EINVAL; }
C
build careless.so "$WORK/careless.c" -shared -fPIC -fno-builtin
collect "malloc, another library" 300 under "$WORK/ini/malloc.ini" "backend.malloc.library=$WORK/careless.so" "$WORK/semantics"
collect "mmap, arena 4M" 300 under "$WORK/ini/mmap.ini" "backend.mmap.arena=4M" "$WORK/semantics"
finish
