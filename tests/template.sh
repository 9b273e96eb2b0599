#!/bin/bash
# SPDX-License-Identifier: MIT
# template.sh - the two plugin templates, built out of tree against an installed hakmem, dropped into its plugin directory,
# chosen in an INI, and proved by the statistics to serve and to decide.
#
# Uses the installation in $PREFIX, or installs the build tree below a temporary directory.
. "$(dirname "$0")/lib.sh"
needs_interposing
needs python3
needs pkg-config

if [ -n "${PREFIX:-}" ]; then
  root=
else
  root=$WORK/root
  make -C "$TOP_BUILDDIR" install DESTDIR="$root" >"$WORK/install" 2>&1 ||
    hard_error "make install: $(tail -n 3 "$WORK/install")"
  PREFIX=$root
fi
pc=$(find "$PREFIX/" -name hakmem.pc | head -n 1)
[ -n "$pc" ] || hard_error "no hakmem.pc below $PREFIX"
export PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 # with the prefix /usr, too, the headers are below $root
cflags=$(pkg-config --cflags hakmem | sed "s|-I/|-I$root/|g")
plugindir=$root$(pkg-config --variable=plugindir hakmem)
LIB=$root$(pkg-config --variable=libdir hakmem)/libhakmem.so
PLUGINS=$plugindir
like "hakmem.pc names a version" "$(pkg-config --modversion hakmem)" '[0-9]+\.[0-9]+\.[0-9]+.*'
is "hakmem.pc names the plugin directory" "$([ -d "$plugindir" ] && echo there)" there

for name in template_class template_policy; do
  source=$TOP_SRCDIR/doc/$name.c
  like "$name.c is short" "$(wc -l <"$source")" '[1-9]?[0-9]'
  # shellcheck disable=SC2086
  ${CC:-cc} -std=c11 -O2 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -shared -fPIC -fvisibility=hidden $cflags \
    -o "$WORK/$name.so" "$source" >"$WORK/log" 2>&1
  is "$name.c compiles without warnings" "$?, $(<"$WORK/log")" "0, "
  install -m 644 "$WORK/$name.so" "$plugindir/$name.so"
done

# The same through autoconf: a package of a plugin author, with the installed macro.
if command -v autoreconf libtoolize >/dev/null; then
  mkdir "$WORK/package"
  cp "$TOP_SRCDIR/doc/template_class.c" "$WORK/package/mine.c"
  sed -i 's/"template_class"/"mine"/' "$WORK/package/mine.c"
  cat >"$WORK/package/configure.ac" <<'AC'
AC_INIT([mine], [1.0])
AM_INIT_AUTOMAKE([foreign])
AC_PROG_CC
LT_INIT([disable-static])
HAKMEM_PLUGIN
AC_CONFIG_FILES([Makefile])
AC_OUTPUT
AC
  cat >"$WORK/package/Makefile.am" <<'AM'
hakmemplugin_LTLIBRARIES = mine.la
mine_la_SOURCES = mine.c
mine_la_CFLAGS = $(HAKMEM_CFLAGS)
mine_la_LDFLAGS = $(HAKMEM_PLUGIN_LDFLAGS)
AM
  macros=$root$(pkg-config --variable=prefix hakmem)/share/aclocal
  (cd "$WORK/package" && autoreconf -i -I "$macros" &&
    PKG_CONFIG_SYSROOT_DIR=$root HAKMEM_PLUGINDIR=$plugindir ./configure -q && make install) >"$WORK/log" 2>&1
  is "hakmem.m4: a package of its own builds and installs" "$?, $([ -e "$plugindir/mine.so" ] || tail -n 3 "$WORK/log")" "0, "
  printf '[core]\nsmall = mine\n' >"$WORK/mine.ini"
  like "hakmem.m4: its plugin serves" "$(under "$WORK/mine.ini" "stats.exit=text" bash -c : 2>&1 | grep '^backend mine')" \
    'backend mine \(class\): allocs [1-9].*'
else
  skip "hakmem.m4" "autoconf or libtool is not installed"
fi

for header in plugin hakmem; do
  # shellcheck disable=SC2086
  is "$header.h is C++ as well" "$(echo "#include <hakmem/$header.h>" |
    ${CXX:-c++} -x c++ -std=c++11 -fsyntax-only -Wall -Wextra -Wpedantic $cflags - 2>&1)" ""
done
tool=$TOP_BUILDDIR/tools/hakmem
[ -n "$root" ] || tool=$(pkg-config --variable=prefix hakmem)/bin/hakmem
if [ -x "$tool" ]; then
  for name in template_class template_policy; do
    is "hakmem plugins --check $name" "$("$tool" plugins --check "$plugindir/$name.so" 2>&1 | grep -v '^ok')" ""
  done
fi

cat >"$WORK/class.ini" <<'INI'
[core]
small = template_class
[strategy.default]
route = malloc, mmap from 1M
INI
cat >"$WORK/policy.ini" <<'INI'
[core]
policy = template_policy
epoch  = 64
[policy.template_policy]
above = mapped
from  = 1M
[strategy.default]
route = malloc
[strategy.mapped]
route = malloc, mmap from 64K
INI

build semantics "$TESTS/semantics.c" -D_GNU_SOURCE
build threads "$TESTS/threads.c"
build fork "$TESTS/fork.c"
build limits "$TESTS/limits.c"
report() { python3 "$TESTS/report.py" get "$WORK/report.json" "$@" | tr '\n' ' '; }
reporting() { # INI SETTINGS COMMAND...
  rm -f "$WORK/report.json"
  under "$1" "stats.exit=json;stats.pid=0;stats.file=$WORK/report.json;$2" "${@:3}"
}
export -f reporting

for hardening in off basic full; do
  collect "class template, hardening $hardening" 120 under "$WORK/class.ini" "core.hardening=$hardening" "$WORK/semantics"
done
collect "class template" 120 under "$WORK/class.ini" "" "$WORK/threads"
collect "class template" 300 under "$WORK/class.ini" "" "$WORK/fork" 60
collect "class template" 60 reporting "$WORK/class.ini" "" "$WORK/limits" million
spans=$(report counters/backend.template_class/spans)
like "class template: served the million" "$(report backends/template_class/allocs)" '1[0-9]{6} '
is "class template: granularity" "$(report backends/template_class/granularity)" "class "
is "class template: 16 bytes each, 4096 in a span" "$((spans >= 245 && spans < 400))" 1
adds_up "class template: the report adds up" json "$WORK/report.json"

collect "policy template" 120 under "$WORK/policy.ini" "" "$WORK/semantics"
collect "policy template" 60 reporting "$WORK/policy.ini" "" "$WORK/threads"
is "policy template: in force" "$(report policy/name)" "template_policy "
is "policy template: bins below and above 1 MiB" \
  "$(report policy/champions/64 policy/champions/76 policy/champions/80 policy/champions/120)" "0 0 1 1 "
read -r epochs switches <<<"$(report policy/epochs policy/switches)"
like "policy template: was asked" "$epochs" '[1-9][0-9]+'
like "policy template: both strategies served" "$(report policy/strategies/0/blocks policy/strategies/1/blocks)" \
  '[1-9][0-9]* [1-9][0-9]* '
is "policy template: the upper one from mapped pages" "$(report backends/mmap/allocs)" "$(report policy/strategies/1/blocks)"
collect "policy template, long epochs" 60 reporting "$WORK/policy.ini" "core.epoch=100000" "$WORK/threads"
read -r fewer again <<<"$(report policy/epochs policy/switches)"
is "policy template: asked less often" "$((fewer < epochs))" 1
is "policy template: no bin changes to and fro" "$switches" "$again"
is "policy template: takes a live option" "$(under "$WORK/policy.ini" "" python3 - <<'PY'
import ctypes, json, os
library = ctypes.CDLL(None)
def bins():
    read, write = os.pipe()
    library.hak_stats_write(write, b"json")
    os.close(write)
    return json.loads(os.fdopen(read).read())["policy"]["champions"][76:96:4]
before = bins()
why = ctypes.create_string_buffer(200)
code = library.hak_set(b"policy.template_policy.from", b"4M", why, 200)
print(code, before, bins())
PY
)" "0 [0, 1, 1, 1, 1] [0, 0, 0, 1, 1]"
finish
