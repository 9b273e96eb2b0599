#!/bin/bash
# SPDX-License-Identifier: MIT
# reentry.sh - libraries that hook what hakmem needs at start, several copies of hakmem, and a library bound to libc's malloc.
. "$(dirname "$0")/lib.sh"
needs_interposing

build reentry "$TESTS/reentry.c"
build linked "$TESTS/reentry.c" -Wl,--no-as-needed -L"$TOP_BUILDDIR/.libs" -lhakmem -Wl,-rpath,"$TOP_BUILDDIR/.libs"
build hooks.so "$TESTS/hooks.c" -shared -fPIC
build deep.so "$TESTS/deep.c" -shared -fPIC
make_inis
cp -L "$LIB" "$WORK/libcopy.so"

preloading() { # LIBRARIES INI COMMAND...
  env LD_PRELOAD="$1" HAKMEM_CONF="$2" HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on" "${@:3}"
}
export -f preloading

for ini in "${INIS[@]}"; do
  conf=$(label "$ini")
  collect "$conf, hooks first" 60 preloading "$WORK/hooks.so:$LIB" "$ini" "$WORK/reentry" hooked
  collect "$conf, hooks last" 60 preloading "$LIB:$WORK/hooks.so" "$ini" "$WORK/reentry" hooked
  # mimalloc calls the hooked mmap, so a malloc arrives inside a callback: served all the same, and said once.
  allowed=$([ "$conf" = library ] && echo 'allocates inside a callback' || echo '^$')
  for order in "$WORK/hooks.so:$LIB" "$LIB:$WORK/hooks.so"; do
    is "$conf, hooked shell" "$(timeout 60 bash -c 'preloading "$@"' - "$order" "$ini" \
      bash -c 'printf "%s\n" b a | sort | tr "\n" -' 2>&1 | grep -v "$allowed")" "a-b-"
  done
  collect "$conf, linked only" 60 preloading "" "$ini" "$WORK/linked" linked
  collect "$conf, linked and preloaded" 60 under "$ini" "" "$WORK/linked" linked
  collect "$conf, second copy" 60 under "$ini" "" "$WORK/reentry" copy "$WORK/libcopy.so"
  collect "$conf, library with RTLD_DEEPBIND" 60 under "$ini" "" "$WORK/reentry" deep "$WORK/deep.so"
  is "$conf, library with RTLD_DEEPBIND: not a word" "$(cat "$WORK/complaints")" ""
  collect "$conf, library bound to libc" 60 under "$ini" "core.deepbind=libc" "$WORK/reentry" bound "$WORK/deep.so"
done

# Where libc's symbols cannot be led here, one line says so, and the library is bound to libc.
collect "sealed" 60 under "$TOP_SRCDIR/etc/hakmem.ini" "" "$WORK/reentry" sealed "$WORK/deep.so"
grep -q '^skip' "$WORK/collected" || is "sealed: said once" "$(grep -c 'RTLD_DEEPBIND: libc.s malloc cannot be redirected: the system does not let us write there' "$WORK/complaints")" 1

# dlopen searches where its caller says: the program's and the library's own paths count, with and without the flag.
mkdir -p "$WORK/of the program" "$WORK/of the library"
build "of the program/second.so" "$TESTS/second.c" -shared -fPIC -DNAME='"third.so"' -Wl,--enable-new-dtags,-rpath,"$WORK/of the library"
build "of the library/third.so" "$TESTS/second.c" -shared -fPIC
build searching "$TESTS/second.c" -DMAIN -DNAME='"second.so"' -Wl,--enable-new-dtags,-rpath,"$WORK/of the program"
for flag in 0 8; do # RTLD_DEEPBIND is 8
  is "dlopen searches its caller's path, flag $flag" "$(under "$TOP_SRCDIR/etc/hakmem.ini" "" "$WORK/searching" "$flag" 2>&1)" "found"
done
finish
