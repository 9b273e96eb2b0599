#!/bin/bash
# SPDX-License-Identifier: MIT
# install.sh - make install and uninstall: what lands where, an edited INI stays, DESTDIR, a linked program, also under valgrind.
. "$(dirname "$0")/lib.sh"
needs_interposing

# Staged from the build as it is configured; the directories come from its Makefile.
stage=$WORK/stage
# shellcheck disable=SC2016
value() { printf 'include Makefile\nvalue-of:\n\t@echo $(%s)\n' "$1" | MAKEFLAGS='' make -s --no-print-directory -C "$TOP_BUILDDIR" -f - value-of; }
bin=$(value bindir) lib=$(value libdir) include=$(value includedir) etc=$(value sysconfdir) share=$(value datadir) man=$(value mandir)
quiet_make() { make -s -C "$TOP_BUILDDIR" "$@" >"$WORK/make.out" 2>&1; }

quiet_make install DESTDIR="$stage"
is "install with DESTDIR" $? 0
is "nothing outside of it" "$(find "$stage" -type f | sed "s|^$stage||" | grep -vE "^($bin|$lib|$include|$etc|$share|$man)/")" ""
for file in "$bin/hakmem" "$lib/libhakmem.so" "$lib/pkgconfig/hakmem.pc" "$include/hakmem/plugin.h" "$include/hakmem/hakmem.h" \
  "$etc/hakmem.ini" "$share/aclocal/hakmem.m4" "$share/bash-completion/completions/hakmem" \
  "$man/man1/hakmem.1" "$man/man5/hakmem.ini.5" "$man/man7/hakmem-plugin.7" \
  "$lib/hakmem/plugins/"{malloc,mmap,hugepage,slab,static,elo,epsilon_greedy,bigcache,batch}.so; do
  is "installed: $file" "$(test -s "$stage$file" && echo yes)" yes
done
is "no libtool files among the plugins" "$(find "$stage" -path '*plugins*' -name '*.la' | wc -l)" 0
if [ -z "$(value PATH_MAP)" ]; then
  skip "no path of the build" "the compiler does not know -ffile-prefix-map"
elif [[ $lib/ == "$TOP_BUILDDIR"/* || $lib/ == "$TOP_SRCDIR"/* ]]; then
  skip "no path of the build" "it is to be installed in there"
else
  is "no path of the build" "$(grep -rlF -e "$TOP_BUILDDIR" -e "$TOP_SRCDIR" "$stage" | sed "s|^$stage||")" ""
fi

ini=$stage$etc/hakmem.ini
quiet_make install DESTDIR="$stage"
is "an untouched INI is replaced" "$(ls "$ini".new 2>/dev/null)" ""
echo '; edited' >>"$ini"
quiet_make install DESTDIR="$stage"
is "an edited INI stays" "$(tail -n 1 "$ini")" "; edited"
is "the new one lands beside it" "$(cmp "$ini.new" "$TOP_SRCDIR/etc/hakmem.ini" && echo same)" same
like "and that is said" "$(grep 'kept' "$WORK/make.out")" 'hakmem: kept .*hakmem.ini; the new one is .*hakmem.ini.new'

# The command finds the library where it will be, and without the link that is there for those who compile.
rm "$stage$lib/libhakmem.so"
library=$(grep -ao "$lib/libhakmem[.a-z0-9]*" "$stage$bin/hakmem" | head -n 1)
is "the command needs no file for development" "$([ -f "$stage${library:-/none}" ] && echo there)" there
ln -s libhakmem.so.0 "$stage$lib/libhakmem.so"

# A program that is linked, not preloaded.
cat >"$WORK/linked.c" <<'C'
#include <stdlib.h>
#include <string.h>
#include "hakmem/hakmem.h"
int main(void)
{
  struct hak_totals before = {.struct_size = sizeof before}, after = {.struct_size = sizeof after};
  hak_stats(&before);
  for (int i = 0; i < 100; i++) {
    char *p = malloc((size_t)i * 20000);
    memset(p, i, (size_t)i * 20000);
    free(p);
  }
  hak_stats(&after);
  return after.allocs - before.allocs == 100 && after.frees - before.frees == 100 ? 0 : 1;
}
C
build linked "$WORK/linked.c" -L"$stage$lib" -Wl,-rpath,"$stage$lib" -lhakmem
settings="core.plugin_path=$stage$lib/hakmem/plugins;core.strict=on"
HAKMEM_SET=$settings "$WORK/linked"
is "a linked program is served" $? 0
if command -v valgrind >/dev/null; then
  # Memcheck would replace our malloc; told to look for it elsewhere, it watches us as it watches any library. Older ones end at what
  # newer compilers write for debuggers.
  strip --strip-debug "$WORK/linked" "$stage$lib"/libhakmem.so.?.*.* "$stage$lib"/hakmem/plugins/*.so
  HAKMEM_SET="$settings;core.syscalls=basic" valgrind -q --error-exitcode=9 --soname-synonyms=somalloc=nouserintercepts "$WORK/linked" 2>"$WORK/valgrind"
  is "a linked program under valgrind" "$? $(head -n 3 "$WORK/valgrind")" "0 "
else
  skip "a linked program under valgrind" "no valgrind"
fi

quiet_make uninstall DESTDIR="$stage"
is "uninstall leaves the edited INI alone" "$(find "$stage" -type f | sed "s|^$stage||")" "$etc/hakmem.ini"
finish
