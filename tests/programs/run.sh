#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh [-p PROGRAM,...] [-i INI,...] [-t SECONDS] [-l] - real programs, unchanged, under each shipped configuration.
#
# Each program runs bare once, then under every INI; the output must be the same, no process may complain, and the statistics
# of all processes say how many calls each backend served, boot included, and how many frees were libc's. -l lists programs.
. "$(dirname "$0")/cases.sh"

if [ "${1:-}" = --case ]; then # the part that runs under hakmem
  "case_$2" 2>errors
  exit
fi
. "$(dirname "$0")/../lib.sh"

programs=$CASES inis="" limit=600
while getopts p:i:t:l option; do
  case $option in
  p) programs=${OPTARG//,/ } ;;
  i) inis=${OPTARG//,/ } ;;
  t) limit=$OPTARG ;;
  l) echo "$CASES"; exit 0 ;;
  *) echo "usage: ${0##*/} [-p PROGRAM,...] [-i INI,...] [-t SECONDS] [-l]" >&2; exit 2 ;;
  esac
done
needs_interposing
needs python3

[ -n "$inis" ] || inis=$(cd "$TOP_SRCDIR/etc" && ls ./*.ini)
export SRC=$TOP_SRCDIR PREPARED=$WORK/prepared PORT=$((20000 + $$ % 20000)) TOP_BUILDDIR TOP_SRCDIR
mkdir "$PREPARED"

# run NAME DIRECTORY [VARIABLE=VALUE...]: the program's output and status, in DIRECTORY/out.
run() {
  local name=$1 dir=$2
  shift 2
  mkdir -p "$dir/cwd"
  (cd "$dir/cwd" && timeout -k 5 "$limit" env "$@" bash "$TESTS/programs/run.sh" --case "$name") \
    >"$dir/out" 2>"$dir/err" </dev/null
  echo "status $?" >>"$dir/out"
}

for name in $programs; do
  needs=needs_$name missing=
  for command in ${!needs:-unknown-program-$name}; do
    command -v "$command" >/dev/null || missing+="$command "
  done
  if [ -n "$missing" ]; then skip "$name" "missing: $missing"; continue; fi
  if declare -F "ready_$name" >/dev/null; then
    missing=$("ready_$name")
    if [ -n "$missing" ]; then skip "$name" "$missing"; continue; fi
  fi
  if declare -F "prepare_$name" >/dev/null && ! ("prepare_$name") >"$WORK/log" 2>&1; then
    fail "$name: preparation" "$(tail -n 2 "$WORK/log" | tr '\n' ' ')" "success"
    continue
  fi
  run "$name" "$WORK/bare/$name"
  if ! tail -n 1 "$WORK/bare/$name/out" | grep -qx 'status 0'; then
    fail "$name, bare" "$(tail -n 3 "$WORK/bare/$name/out" "$WORK/bare/$name/cwd/errors" | tr '\n' ' ')" "status 0"
    continue
  fi
  for ini in $inis; do
    ini=${ini##*/}
    small=slab
    ! grep -Eq '^small *= *none' "$TOP_SRCDIR/etc/$ini" || small=malloc
    dir=$WORK/${ini%.ini}/$name
    mkdir -p "$dir/stats"
    started=$SECONDS
    run "$name" "$dir" LD_PRELOAD="$LIB" HAKMEM_CONF="$TOP_SRCDIR/etc/$ini" \
      HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on;stats.exit=json;stats.file=$dir/stats/%p.json"
    served=$(python3 "$TESTS/report.py" sums "$dir"/stats/*.json 2>&1)
    complaints=$(cat "$dir/err" "$dir/cwd/errors" | grep -a '^hakmem:' | sort | uniq -c | head -n 3 | tr '\n' ' ')
    if ! cmp -s "$WORK/bare/$name/out" "$dir/out"; then
      fail "$name in $ini" "$(diff "$WORK/bare/$name/out" "$dir/out" | head -n 4 | tr '\n' '|') $complaints" \
        "the output of the bare run"
    elif [ -n "$complaints" ]; then
      fail "$name in $ini" "$complaints" "no complaint"
    elif ! [[ $served =~ $small=[1-9] ]]; then
      fail "$name in $ini" "$served" "calls served by the backend $small"
    else
      ok "$name in $ini: $served ($((SECONDS - started)) s)"
    fi
    rm -rf "$dir"
  done
done
finish
