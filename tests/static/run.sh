#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh - `make check-static`: clang-tidy, cppcheck and gcc's -fanalyzer on the library, the plugins and the command. Prints what
# they find, and a line for each checker; ends with status 1 when one finds something, or is not installed.
#
# STATIC_CHECKERS names those to run. What clang-tidy looks for is in .clang-tidy; what cppcheck is told about functions, and the
# findings that are none, each with its reason, are beside this file.
set -u
cd "$TOP_SRCDIR" || exit 1
CLANG_TIDY=${CLANG_TIDY:-clang-tidy} CPPCHECK=${CPPCHECK:-cppcheck} GCC=${GCC:-gcc}
STATIC_CHECKERS=${STATIC_CHECKERS:-cppcheck analyzer tidy}
OUT=$(mktemp -d "${TMPDIR:-/tmp}/hakmem-static.XXXXXX") || exit 1
trap 'rm -rf "$OUT"' EXIT
export LC_ALL=C OUT GCC CLANG_TIDY

sources=(core/*.c plugins/*/*.c tools/*.c)
defines=(-DHKI_INTERPOSE '-DPACKAGE_VERSION="0"' '-DHKI_LIBDIR="/lib"' '-DHKI_PLUGINDIR="/lib"' '-DHKI_SYSCONFDIR="/etc"')
includes=(-Iinclude -Icore "-I$TOP_BUILDDIR/core")
read -ra inih <<<"$INIH_CFLAGS"
compile=(-std=gnu11 "${includes[@]}" "${defines[@]}" ${inih[@]+"${inih[@]}"} -fno-builtin-malloc)
status=0

installed() { # COMMAND: says so when it is not, with status 1
  command -v "$1" >/dev/null && return
  echo "check-static: found no $1, expected it (Debian: clang-tidy, cppcheck, gcc)"
  status=1
  return 1
}

close() { # NAME STATUS: what the checker printed, and its line
  cat "$OUT/found"
  if [ "$2" = 0 ] && ! [ -s "$OUT/found" ]; then
    echo "check-static: $1: nothing found in ${#sources[@]} files"
  else
    echo "check-static: $1: findings"
    status=1
  fi
}

# each COMMAND...: runs it for one source at a time on every processor, with its output in $OUT/found.
each() {
  printf '%s\0' "${sources[@]}" | xargs -0 -n 1 -P "$(nproc)" "$@" >"$OUT/found" 2>"$OUT/errors"
}

for checker in $STATIC_CHECKERS; do
  case $checker in
  tidy)
    installed "$CLANG_TIDY" || continue
    # Counts of what is left out go to the standard error.
    each bash -c '"$CLANG_TIDY" --quiet "${@: -1}" -- "${@:1:$#-1}" >"$OUT/tidy.$$" 2>"$OUT/tidy.$$.error"; result=$?
      [ -s "$OUT/tidy.$$" ] || [ $result = 0 ] || cat "$OUT/tidy.$$.error"; cat "$OUT/tidy.$$"; exit $result' bash "${compile[@]}"
    close clang-tidy $?
    ;;
  cppcheck)
    installed "$CPPCHECK" || continue
    "$CPPCHECK" --quiet --std=c11 --enable=warning,performance,portability --library=tests/static/cppcheck.cfg \
      --suppressions-list=tests/static/cppcheck.suppressions --error-exitcode=1 --template='{file}:{line}: {severity}: {message} [{id}]' \
      -D__linux__ -D__x86_64__ "${includes[@]}" "${defines[@]}" "${sources[@]}" >"$OUT/found" 2>&1
    close cppcheck $?
    ;;
  analyzer)
    installed "$GCC" || continue
    # -Wno-analyzer-malloc-leak: what the command allocates ends with its process, and the library's memory is not malloc's.
    # -Wno-analyzer-use-of-uninitialized-value: gcc 12 loses sight of a structure that a function returns and a branch assigns;
    # the compilers' own -Wuninitialized and clang-analyzer hold the same.
    each bash -c '"$GCC" -O1 -fanalyzer -Werror -Wno-analyzer-malloc-leak -Wno-analyzer-use-of-uninitialized-value "$@" -c -o "$OUT/$$.o" \
      2>&1' bash "${compile[@]}"
    close "gcc -fanalyzer" $?
    ;;
  *)
    echo "check-static: found checker $checker, expected tidy, cppcheck or analyzer"
    status=1
    ;;
  esac
done
exit $status
