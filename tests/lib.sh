# SPDX-License-Identifier: MIT
# lib.sh - shared by the test scripts: where things are, how a program runs under hakmem, one line per check, the total.
#
# A script sources it first and ends with `finish`. Environment: TOP_BUILDDIR and TOP_SRCDIR (default: the current
# directory), CC and TEST_CFLAGS for the test programs, INTERPOSE=no when the library was configured without interposing.

set -u
TOP_BUILDDIR=$(cd "${TOP_BUILDDIR:-.}" && pwd)
TOP_SRCDIR=$(cd "${TOP_SRCDIR:-.}" && pwd)
TESTS=$TOP_SRCDIR/tests
LIB=$TOP_BUILDDIR/.libs/libhakmem.so
PLUGINS=$TOP_BUILDDIR/plugins/.libs
WORK=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-test.XXXXXX") || exit 99
trap 'rm -rf "$WORK"' EXIT
unset HAKMEM_CONF HAKMEM_SET HAKMEM_VERBOSE LD_PRELOAD LD_LIBRARY_PATH
export TSAN_OPTIONS="${TSAN_OPTIONS:+$TSAN_OPTIONS }suppressions=$TESTS/tsan.supp"
export LC_ALL=C LIB PLUGINS WORK PATH=$PATH:/usr/sbin:/sbin

passed=0 failed=0 skipped=0

ok()   { passed=$((passed + 1)); echo "ok $1"; }
fail() { failed=$((failed + 1)); echo "FAIL $1: found $2, expected $3"; } # NAME FOUND EXPECTED
skip() { skipped=$((skipped + 1)); echo "skip $1: $2"; }                  # NAME REASON

# is NAME FOUND EXPECTED: both are equal.
is() { if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "'$2'" "'$3'"; fi; }

# like NAME FOUND REGEX: the whole of FOUND matches the extended regular expression.
like() { if [[ $2 =~ ^($3)$ ]]; then ok "$1"; else fail "$1" "'$2'" "a match of '$3'"; fi; }

finish() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
  exit
}

hard_error() { echo "ERROR $1" >&2; exit 99; }

[ -e "$LIB" ] || hard_error "no $LIB: build first"

# needs_interposing: the whole script is about a library that replaces malloc.
needs_interposing() {
  [ "${INTERPOSE:-yes}" = yes ] && return
  skip "${0##*/}" "the library was configured with --disable-interpose"
  echo "0 passed, 0 failed, 1 skipped"
  exit 77
}

# needs COMMAND: the whole script is skipped without it.
needs() {
  command -v "$1" >/dev/null && return
  skip "${0##*/}" "$1 is not installed"
  echo "$passed passed, $failed failed, $skipped skipped"
  exit 77
}

# adds_up NAME FORMAT FILE...: the reports are well-formed and add up.
adds_up() {
  if command -v python3 >/dev/null; then
    is "$1" "$(python3 "$TESTS/report.py" "${@:2}" 2>&1 | tail -n 3)" ""
  else
    skip "$1" "python3 is not installed"
  fi
}

# build OUTPUT SOURCE [FLAG...]: compiles one test program or library to $WORK/OUTPUT.
build() {
  # shellcheck disable=SC2086
  ${CC:-cc} -std=gnu11 -O1 -g -fno-builtin -pthread -Wall -Wextra -Wpedantic -Wshadow -Wconversion ${TEST_CFLAGS:-} \
    -I"$TOP_SRCDIR/include" -I"$TESTS" -o "$WORK/$1" "$2" "${@:3}" -ldl || hard_error "cannot compile $2"
}

# false_library [COMPILER ARGUMENT...]: a library that is not hakmem, as that of the build tree $WORK/false. SERVES: it has malloc.
# COUNTS: it has hak_stats. TWICE: its malloc hands out small blocks two times, and its free keeps them.
false_library() {
  mkdir -p "$WORK/false/.libs"
  ln -sf libhakmem.so "$WORK/false/.libs/libhakmem.so.0"
  ${CC:-cc} -shared -fPIC -fno-builtin -I"$TOP_SRCDIR/include" -x c -o "$WORK/false/.libs/libhakmem.so" - "$@" <<'EOC' || hard_error "no compiler"
#include "hakmem/hakmem.h"
#ifdef SERVES
extern void *__libc_malloc(size_t);
void *malloc(size_t size) { return __libc_malloc(size); }
#endif
#ifdef COUNTS
int hak_stats(struct hak_totals *totals) { totals->allocs = totals->frees = 0; return 0; }
#endif
#ifdef TWICE
extern void *__libc_malloc(size_t);
void *malloc(size_t size)
{
  static void *last;
  void *again = last;
  last = again == NULL && size <= 4096 ? __libc_malloc(4096) : NULL;
  return again != NULL && size <= 4096 ? again : last != NULL ? last : __libc_malloc(size);
}
void free(void *block) { (void)block; }
#endif
EOC
}

# The configurations under test, as files: those that are shipped, and two that cross between backends at small sizes.
make_inis() {
  mkdir -p "$WORK/ini"
  cp "$TOP_SRCDIR"/etc/*.ini "$WORK/ini"
  printf '[core]\nsmall = none\n[strategy.default]\nroute = malloc, hugepage from 64K\n' >"$WORK/ini/huge64k.ini"
  printf '[core]\nsmall = none\n[strategy.default]\nroute = malloc, mmap from 64K, hugepage from 128K, mmap from 16M\n' >"$WORK/ini/mixed.ini"
  local ini library
  INIS=()
  for ini in "$WORK"/ini/*.ini; do
    library=$(sed -n 's/^library *= *\([^ ;]*\).*/\1/p' "$ini")
    if [ -n "$library" ] && ! ldconfig -p | grep -q "$library"; then
      skip "${ini##*/}" "$library is not installed"
    else
      INIS+=("$ini")
    fi
  done
}

# small_of INI: its backend for small requests; "none" when the route serves them.
small_of() {
  local name
  name=$(sed -n 's/^small *= *\([^ ;]*\).*/\1/p' "$1" "$TOP_SRCDIR/etc/hakmem.ini" | head -n 1)
  echo "$name"
}

label() { basename "$1" .ini; }

# under INI SETTINGS COMMAND...: runs a command under hakmem. A mistake in the configuration ends it with status 78.
under() {
  env LD_PRELOAD="$LIB" HAKMEM_CONF="$1" HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on;$2" "${@:3}"
}

# change_link DIRECTORY NAME FILE...: lets the link NAME change from one file to the next, until $racer is killed. Needs python3.
change_link() {
  python3 - "$@" <<'PY' &
import os, sys
os.chdir(sys.argv[1])
while True:
    for file in sys.argv[3:]:
        os.symlink(file, "next")
        os.rename("next", sys.argv[2])
PY
  racer=$!
}

# collect LABEL SECONDS COMMAND...: runs a test program that prints `ok NAME` and `FAIL NAME: ...` lines, counts them, and takes
# any end but exit(0) and exit(1) for a failure of its own.
collect() {
  local name=$1 seconds=$2 status line
  shift 2
  export -f under 2>/dev/null
  timeout -k 5 "$seconds" bash -c '"$@"' bash "$@" >"$WORK/collected" 2>"$WORK/complaints"
  status=$?
  while IFS= read -r line; do
    case $line in
    "ok "*) ok "$name: ${line#ok }" ;;
    "FAIL "*) failed=$((failed + 1)); echo "FAIL $name: ${line#FAIL }" ;;
    "skip "*) skipped=$((skipped + 1)); echo "skip $name: ${line#skip }" ;;
    esac
  done <"$WORK/collected"
  case $status in
  0 | 1) ;;
  124 | 137) fail "$name: ends" "no end after $seconds s" "an end" ;;
  *)
    fail "$name: ends" "status $status, $(head -n 3 "$WORK/complaints" | tr '\n' '|')" "status 0"
    head -n 40 "$WORK/complaints" | sed 's/^/  /'
    ;;
  esac
  if ! grep -q . "$WORK/collected"; then fail "$name: reports" "no output" "a line per check"; fi
}
