#!/bin/bash
# SPDX-License-Identifier: MIT
# operators.sh - C++'s operator new and delete, in each configuration, and in a program without libstdc++.
. "$(dirname "$0")/lib.sh"
needs_interposing
needs "${CXX:-c++}"

# shellcheck disable=SC2086
${CXX:-c++} -std=gnu++20 -O1 -g -fno-builtin -pthread -Wall -Wextra ${TEST_CFLAGS:-} -I"$TOP_SRCDIR/include" -I"$TESTS" -o "$WORK/operators" \
  "$TESTS/operators.cpp" -ldl || hard_error "cannot compile operators.cpp"
make_inis
for ini in "${INIS[@]}"; do
  conf=$(label "$ini")
  collect "$conf" 60 under "$ini" "" "$WORK/operators"
  collect "$conf, hardening full" 60 under "$ini" "core.hardening=full" "$WORK/operators"
done

# There is nothing to throw with: one line, and the end. And a form that does not throw is quiet there, too.
cat >"$WORK/bare.c" <<'EOC'
#include <stdint.h>
#include <stdlib.h>
extern void *new_(size_t) __asm__("_Znwm");
extern void *new_nothrow(size_t, const void *) __asm__("_ZnwmRKSt9nothrow_t");
extern void delete_(void *) __asm__("_ZdlPv");
int main(int argc, char **argv)
{
  (void)argv;
  delete_(new_(100));
  if (new_nothrow((size_t)PTRDIFF_MAX, NULL) != NULL) {
    return 1;
  }
  return argc > 1 && new_((size_t)PTRDIFF_MAX) != NULL;
}
EOC
build bare "$WORK/bare.c" -Wl,--no-as-needed -L"$TOP_BUILDDIR/.libs" -lhakmem -Wl,-rpath,"$TOP_BUILDDIR/.libs"
ulimit -c 0
said=$(under "$TOP_SRCDIR/etc/hakmem.ini" "" "$WORK/bare" 2>&1)
is "no libstdc++, nothing to throw" "$? $said" "0 "
said=$(under "$TOP_SRCDIR/etc/hakmem.ini" "" "$WORK/bare" throw 2>&1)
like "no libstdc++, too much" "$? $said" "134 hakmem: operator new: out of memory for 9223372036854775807 bytes, and no libstdc\+\+ to throw"
finish
