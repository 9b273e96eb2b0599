#!/bin/bash
# SPDX-License-Identifier: MIT
# symbols.sh - libhakmem exports exactly the entry points it should, and each plugin exactly one symbol.
. "$(dirname "$0")/lib.sh"

expected() {
  grep -oE '\bhak_[a-z_]+\(' "$TOP_SRCDIR/include/hakmem/hakmem.h" | tr -d '('
  echo hakmem_root
  [ "${INTERPOSE:-yes}" = yes ] || return
  printf '%s\n' malloc free calloc realloc reallocarray memalign aligned_alloc posix_memalign valloc pvalloc \
    malloc_usable_size cfree free_sized free_aligned_sized dlopen \
    malloc_trim malloc_stats malloc_info mallinfo mallinfo2 mallopt \
    _Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t \
    _ZnwmSt11align_val_t _ZnamSt11align_val_t \
    _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t \
    _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t \
    _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t \
    _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t
}

exported() { nm -D --defined-only "$1" | awk '$2 != "A" && $3 !~ /^__odr_asan/ { sub(/@.*/, "", $3); print $3 }' | sort -u; }

expected | sort -u >"$WORK/expected"
exported "$LIB" >"$WORK/found"
while read -r symbol; do
  if grep -qx -- "$symbol" "$WORK/found"; then ok "exports $symbol"; else fail "exports $symbol" "no such symbol" "it"; fi
done <"$WORK/expected"
is "exports nothing else" "$(comm -13 "$WORK/expected" "$WORK/found" | tr '\n' ' ')" ""

for plugin in "$PLUGINS"/*.so; do
  is "${plugin##*/} exports one symbol" "$(exported "$plugin")" hakmem_plugin
done
is "needs libc alone" "$(objdump -p "$LIB" | awk '$1 == "NEEDED" && $2 !~ /^(libc|ld-linux.*|lib(a|ub|t)san|libgcc_s)\.so/ { print $2 }')" ""
finish
