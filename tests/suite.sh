#!/bin/bash
# SPDX-License-Identifier: MIT
# suite.sh - the benchmark suite: its programs keep their data intact, alone and under hakmem, and notice when they do not; the calls
# that they count are those that hakmem counts; the report has all programs; what was not served as said is refused. No check depends
# on a time.
. "$(dirname "$0")/lib.sh"
needs python3
bench=$TOP_SRCDIR/bench
export TOP_BUILDDIR TOP_SRCDIR PYTHONDONTWRITEBYTECODE=1
py() { PYTHONPATH=$bench python3 -c "$1" 2>&1 | tail -n 1; } # CODE

# ---- the programs --------------------------------------------------------------------------------------------------------------

PYTHONPATH=$bench python3 -c 'import suite; print("\n".join(" ".join([name, *words]) for name, _, words in suite.OWN))' >"$WORK/own"
while read -r _ program _; do echo "$program"; done <"$WORK/own" | sort -u >"$WORK/programs"
while read -r program; do build "$program" "$bench/suite/$program.c" -O2 -Werror; done <"$WORK/programs"
is "every program is in the suite" "$(cd "$bench/suite" && grep -l '^int main' -- *.c | sed 's/\.c$//' | grep -vx launch | tr '\n' ' ')" \
  "$(tr '\n' ' ' <"$WORK/programs")"

field() { sed -n "s/.*\"$1\": \\([0-9]*\\).*/\\1/p"; } # NAME
while read -r name arguments; do
  # shellcheck disable=SC2086
  set -- $arguments
  line=$("$WORK/$1" "${@:2}" -c -n 1 2>&1)
  bare=$?
  blocks=$(field blocks <<<"$line")
  is "$name: status, objects not aligned" "$bare $(field misaligned <<<"$line")" "0 0"
  [ "${INTERPOSE:-yes}" = yes ] || continue
  line=$(under "$TOP_SRCDIR/etc/hakmem.ini" "" "$WORK/$1" "${@:2}" -c -n 1 2>&1)
  is "$name under hakmem: status, objects not aligned" "$? $(field misaligned <<<"$line")" "0 0"
  made=$(field blocks <<<"$line") allocs=$(field allocs <<<"$line") frees=$(field frees <<<"$line")
  reallocs=$(field reallocs <<<"$line")
  case $name in
  graph-2) ;; # two threads in one graph: other calls each time
  *) is "$name under hakmem: the calls of the bare run" "$made" "$blocks" ;;
  esac
  is "$name under hakmem: as many frees as allocations" "$frees" "$allocs"
  if [ "$allocs" -ge "$made" ] && [ "$allocs" -le $((made + reallocs)) ]; then ok "$name under hakmem: allocations"; else
    fail "$name under hakmem: allocations" "$allocs" "$made to $((made + reallocs))"
  fi
done <"$WORK/own"
while read -r blocks arguments; do
  # shellcheck disable=SC2086
  is "$arguments: blocks" "$("$WORK/"$arguments | field blocks)" "$blocks"
done <<'EOC'
200000 pair -n 1
100000 order lifo -n 2
9600 fragment -n 1
320000 tiny -n 1 -j 2 -c
0 scale control -n 1
EOC
line=$("$WORK/server" -j 2 -t 1)
is "server for a second: each replacement is one block" "$(field operations <<<"$line")" "$(field blocks <<<"$line")"
if [ "${INTERPOSE:-yes}" != yes ]; then
  skip "under hakmem" "the library was configured with --disable-interpose"
  finish
fi

false_library -DTWICE
for program in tiny "sizes small" "vector small" graph fragment; do
  # shellcheck disable=SC2086
  like "$program: a block that was handed out twice is noticed" \
    "$(LD_PRELOAD=$WORK/false/.libs/libhakmem.so "$WORK/"$program -n 1 2>&1 | head -n 1)" '.*its bytes were changed'
done

# ---- the distribution ----------------------------------------------------------------------------------------------------------

listed=$(sed -n '/^EXTRA_DIST/,$p' "$TESTS/tests.am" | tr -d '\\' | tr ' ' '\n' | grep '^bench' | sort | tr '\n' ' ')
is "every file of the benchmarks is distributed" "$listed" \
  "$(cd "$TOP_SRCDIR" && find bench -type f ! -path '*/__pycache__/*' ! -name '*.o' | sort | tr '\n' ' ')"

# ---- the proof -----------------------------------------------------------------------------------------------------------------

proof() { # RESULT
  py "
import lab
try:
  lab.prove(lab.Allocator('x', '/nowhere/x.so', {}, True, ''), dict(malloc='/nowhere/x.so', $1))
  print('served')
except lab.Failure as failure: print(failure)"
}
is "proof: as many as calls" "$(proof 'blocks=5, allocs=5, frees=5')" served
is "proof: one too few" "$(proof 'blocks=5, allocs=5, frees=4')" "hakmem counted 4 frees, expected 5, the calls made"
is "proof: one too many" "$(proof 'blocks=5, allocs=6, frees=5')" "hakmem counted 6 allocs, expected 5, the calls made"
is "proof: blocks that moved" "$(proof 'blocks=5, reallocs=3, allocs=8, frees=8')" served
is "proof: more than can have moved" "$(proof 'blocks=5, reallocs=3, allocs=9, frees=9')" \
  "hakmem counted 9 allocs, expected 5 to 8, the calls made"
is "proof: not all are free" "$(proof 'blocks=5, reallocs=3, allocs=8, frees=7')" \
  "hakmem counted 8 allocs and 7 frees, expected as many"

# ---- a short run ---------------------------------------------------------------------------------------------------------------

real=$(python3 "$bench/suite.py" --list | awk '{ print $1 }' | grep -m 1 -xE 'perl|sqlite3' | tr '\n' ' ') # one stands for all
own=$(cut -d ' ' -f 1 "$WORK/own" | tr '\n' ' ')
names=$own$real
is "a short run" "$(python3 "$bench/suite.py" --runs 1 --percent 1 --programs "$(echo "${names% }" | tr ' ' ',')" --output "$WORK/out" \
  --allocators glibc,small --hakmem 'small=etc/malloc.ini;core.hardening=full' 2>"$WORK/messages" | tail -n 1)" "$WORK/out/suite.md"
report=$WORK/out/suite.md
is "the report has all programs" "$(sed -n 's/^### //p' "$report" | tr '\n' ' ')" "$names"
for part in "Medians, own programs" "Geometric means, own programs" "hakmem over the best peer" "Peak RSS" "RSS after freeing" \
  "RSS after malloc_trim" "What two threads get done"; do
  is "the report has: $part" "$(grep -c "^## $part" "$report")" 1
done
count=$(wc -w <<<"$names")
is "a median of each program" "$(grep -cE "^\| ($(echo "${names% }" | tr ' ' '|')) \| [*0-9.]+ \|" <(sed -n '/^## Medians/,/^## hakmem/p' "$report"))" \
  "$count"
is "every run is in the raw data" "$(grep -c '"round"' "$WORK/out/suite.jsonl")" $((2 * count - 2))
like "the report says that hakmem served" "$(grep '^Proof: ' "$report")" '.* Under hakmem [1-9][0-9]* blocks .*'
is "the checks are in the report" "$(grep -cE '^- hakmem small: (worst of the own programs|geometric mean of time)' "$report")" 2
is "plots where there is gnuplot" "$(find "$WORK/out" -name '*.svg' | wc -l)" \
  "$(command -v gnuplot >/dev/null && { [ -n "$real" ] && echo 4 || echo 3; } || echo 0)"
like "a soak" "$(python3 "$bench/suite.py" --soak 2 --hakmem small=etc/malloc.ini 2>/dev/null)" \
  'hakmem small: after 1 s [0-9]+ KiB, then .* (stays|does not stay) within 5 %; [1-9][0-9]* replacements'

# ---- what was not served as said -----------------------------------------------------------------------------------------------

# refused NAME PROGRAM MESSAGE [COMPILER ARGUMENT...]: a library in place of libhakmem.
refused() {
  false_library "${@:4}"
  local message
  message=$(TOP_BUILDDIR=$WORK/false python3 "$bench/suite.py" --runs 1 --percent 1 --programs "$2" --output "$WORK/out" \
    --allocators glibc,false --hakmem false=etc/malloc.ini 2>&1 >/dev/null; echo "status $?")
  like "refused: $1" "$(tail -n 2 <<<"$message" | tr '\n' ' ')" "suite: hakmem false: .*$3.* status 1 "
}
refused "a library without malloc" pair 'malloc belongs to [^ ]*libc.so.6'
refused "a library that does not count" pair 'hakmem counted no allocs' -DSERVES
refused "a library that has not served" pair 'hakmem counted 0 allocs' -DSERVES -DCOUNTS
for program in $real; do
  refused "$program: a library without malloc" "$program" 'malloc belongs to [^ ]*libc.so.6'
  refused "$program: a library that does not report" "$program" 'hakmem counted no allocs' -DSERVES
done
finish
