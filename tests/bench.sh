#!/bin/bash
# SPDX-License-Identifier: MIT
# bench.sh - the benchmarks themselves: their statistics on known values, the blocks of each scenario, a short run, and that a run
# that hakmem did not serve is refused. No check depends on a time.
. "$(dirname "$0")/lib.sh"
needs_interposing
needs python3
bench=$TOP_SRCDIR/bench
export TOP_BUILDDIR TOP_SRCDIR PYTHONDONTWRITEBYTECODE=1

# ---- statistics ----------------------------------------------------------------------------------------------------------------

py() { PYTHONPATH=$bench python3 -c "import stats; print($1)" 2>&1 | tail -n 1; } # EXPRESSION

is "median of an odd number" "$(py 'stats.median([5, 1, 9])')" 5.0
is "median of an even number" "$(py 'stats.median([4, 1, 2, 8])')" 3.0
is "quantile between two values" "$(py 'stats.quantile([0, 10], 0.95)')" 9.5
is "quantile at the end" "$(py 'stats.quantile([3, 1, 2], 1)')" 3
is "geometric mean" "$(py 'round(stats.geometric_mean([1, 8, 27]), 9)')" 6.0
is "ratio without noise" "$(py 'stats.paired_ratio([2, 4, 6], [1, 2, 3])')" "2.00 [2.00, 2.00]"
noisy='[100 + 7 * i % 13 for i in range(30)]'
other="list(reversed($noisy))"
is "ratio of equals: 1 is inside" "$(py "stats.paired_ratio($noisy, $other).beyond(1)")" 0
is "ratio: lower" "$(py "stats.paired_ratio([x * 0.8 for x in $noisy], $other).beyond(1)")" -1
is "ratio: higher" "$(py "stats.paired_ratio([x * 1.25 for x in $noisy], $other).beyond(1)")" 1
is "ratio: pairs, not medians" "$(py 'stats.paired_ratio([2, 200, 20], [1, 100, 10]).high')" 2.0
is "ratio: the same data, the same interval" "$(py "str(stats.paired_ratio($noisy, $other)) == str(stats.paired_ratio($noisy, $other))")" True
is "ratio: values without a partner" "$(py 'stats.paired_ratio([1], [1, 2])')" "ValueError: found 1 and 2 values, expected pairs"
contests='[dict(a=1, b=2, c=3), dict(a=3, b=2, c=2)]'
is "points" "$(py "stats.points($contests, 'abc')")" "{'a': 8, 'b': 9, 'c': 8}"
is "points: others take none away" "$(py "stats.points($contests, 'bc')")" "{'b': 10, 'c': 9}"
is "numbers" "$(py '[stats.number(x) for x in (0, 0.123, 9.876, 98.76, 987.6, 98765.4)]')" \
  "['0', '0.12', '9.88', '98.8', '988', '98765']"

# ---- the measured program ------------------------------------------------------------------------------------------------------

build scenario "$bench/scenario.c" -O2 -Werror
field() { sed -n "s/.*\"$1\": \\([0-9]*\\).*/\\1/p"; } # NAME
while read -r blocks arguments; do
  # shellcheck disable=SC2086
  line=$(under "$TOP_SRCDIR/etc/mmap.ini" "" "$WORK/scenario" $arguments)
  is "scenario $arguments: blocks, allocations, frees" \
    "$(field blocks <<<"$line") $(field allocs <<<"$line") $(field frees <<<"$line")" "$blocks $blocks $blocks"
done <<'EOC'
1000 json
100 mir
10 vm
1110 mixed
560 streaming -t first
2000 vm -n 100 -t first -j 2
0 vm -n 0
EOC
line=$(under "$TOP_SRCDIR/etc/mmap.ini" "" "$WORK/scenario" mixed -c small)
is "the control calls nobody" "$(field blocks <<<"$line") $(field allocs <<<"$line") $(field frees <<<"$line")" "1110 0 0"
is "the control of a queue has the same blocks" \
  "$(under "$TOP_SRCDIR/etc/mmap.ini" "" "$WORK/scenario" streaming -t first -c small | field blocks)" 560
like "and goes through it once" "$("$WORK/scenario" streaming -t first -c small -n 50 2>&1; echo "status $?")" '.*the queue only once.*status [1-9].*'
like "one control at a time" "$("$WORK/scenario" vm -j 2 -c huge 2>&1; echo "status $?")" '.*one thread.*status [1-9].*'
if grep -q '\[always\]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null; then
  skip "pages are touched as said" "huge pages everywhere"
else
  for control in "" "-c small"; do
    # shellcheck disable=SC2086
    some=$("$WORK/scenario" vm -t first $control | field faults) all=$("$WORK/scenario" vm $control | field faults)
    if [ "$some" -lt 100 ] && [ "$all" -ge 512 ]; then ok "pages are touched as said $control"; else
      fail "pages are touched as said $control" "$some and $all faults" "less than 100, and 512 or more"
    fi
  done
fi

like "pages of a control" "$("$WORK/scenario" vm -c none 2>&1; echo "status $?")" '.*none.*expected small or huge.*status [1-9].*'
if grep -q '\[never\]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null; then
  skip "a control on a huge page" "no huge pages"
else
  like "a control on a huge page: faults" "$("$WORK/scenario" vm -c huge | field faults)" '[0-9]{1,2}'
fi

# ---- a short run ---------------------------------------------------------------------------------------------------------------

short=("$bench/scenarios.py" --runs 2 --cases 'vm-cold,vm-2threads' --allocators 'glibc,mmap,hugepage' --output "$WORK/out"
  --hakmem mmap=etc/mmap.ini --hakmem 'hugepage=etc/hugepage.ini;core.hardening=full')
is "a short run" "$(python3 "${short[@]}" 2>"$WORK/messages"; echo $?)" "$WORK/out/scenarios.md"$'\n'0
report=$WORK/out/scenarios.md
is "the report says that hakmem served" "$(grep -c '^Proof: .* Under hakmem 120 allocations and as many frees' "$report")" 1
is "the report says that the runs are too few" "$(grep -c 'Only 2 runs: too few' "$report")" 1
is "the report has a section for each case" "$(grep -cE '^### vm-(cold|2threads)$' "$report")" 2
is "the report counts what the backends served" "$(grep -cE '^- hakmem mmap: .*mmap blocks [1-9]' "$report")" 2
is "every run is in the raw data, the controls' of one case too" "$(grep -c '"round"' "$WORK/out/scenarios.jsonl")" 16
is "the report has the controls of one case" "$(grep -cE '^\| vm-cold \| glibc( \| [0-9]+ \| [0-9.]+ \[[^|]*){2}( \| [0-9.]+ \[[^|]*){2}\|' "$report")" 1
is "a plot for each variant where there is gnuplot" "$(find "$WORK/out" -name '*.svg' | wc -l)" \
  "$(command -v gnuplot >/dev/null && echo 2 || echo 0)"
if command -v strace >/dev/null; then
  like "system calls: memory comes from somewhere" "$(grep -m 1 '^- glibc: ' "$report")" '.* (brk|mmap) [1-9].*'
else
  skip "system calls" "strace is not installed"
fi

# ---- giving memory back --------------------------------------------------------------------------------------------------------

released=$("$bench/release.sh" 1 2>&1)
is "release: status" $? 0
is "release: three ways beside 0, 1 and 3 threads" "$(grep -cE '^\| [013] \| (munmap each|madvise each|batch) \| [0-9]+ \(' <<<"$released")" 9
is "release: batch released all that it got" "$(grep -cE '^Counters of the plugin: ranges [1-9][0-9]*, .* unreleased 0, .* pending 0\.$' <<<"$released")" 1

# ---- latency -------------------------------------------------------------------------------------------------------------------

(cd "$WORK" && python3 "$bench/latency.py" --runs 1 --mib 32 --output "$WORK/out") >"$WORK/printed" 2>"$WORK/complaints"
is "latency: status" $? 0
is "a table for each size" "$(grep -c '^## Blocks of ' "$WORK/out/latency.md")" 3
is "hakmem is in each" "$(grep -cE '^\| hakmem default \| [0-9]' "$WORK/out/latency.md")" 3

# ---- runs that hakmem did not serve --------------------------------------------------------------------------------------------

# refused NAME MESSAGE [COMPILER ARGUMENT...]: a library in place of libhakmem.
refused() {
  false_library "${@:3}"
  local message
  message=$(TOP_BUILDDIR=$WORK/false python3 "$bench/scenarios.py" --runs 1 --cases vm-cold --output "$WORK/out" \
    --hakmem false=etc/mmap.ini 2>&1 >/dev/null; echo "status $?")
  like "refused: $1" "$(tail -n 2 <<<"$message" | tr '\n' ' ')" ".*$2, .* status 1 "
}
refused "a library without malloc" 'malloc belongs to [^ ]*libc.so.6'
refused "a library that does not count" 'hakmem counted no allocs' -DSERVES
refused "a library that has not served" 'hakmem counted 0 allocs' -DSERVES -DCOUNTS
is "refused: a configuration with a mistake" "$(python3 "$bench/scenarios.py" --runs 1 --cases vm-cold --output "$WORK/out" \
  --hakmem 'bad=etc/mmap.ini;core.epok=1' 2>&1 >/dev/null | grep -c 'status 78: .*core.epok')" 1
finish
