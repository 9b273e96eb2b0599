#!/bin/bash
# SPDX-License-Identifier: MIT
# compare.sh - `hakmem compare`, from the outside: what it refuses, that it proves who served, and that it finds a difference that
# was put there. No check depends on how fast the machine is.
. "$(dirname "$0")/lib.sh"
needs_interposing
tool=$TOP_BUILDDIR/tools/hakmem
malloc=$TOP_SRCDIR/etc/malloc.ini mmap=$TOP_SRCDIR/etc/mmap.ini
export TMPDIR=$WORK/tmp
mkdir "$TMPDIR"

# compare ARGUMENT...: its output in $out, its messages in $err, its status in $status.
compare() {
  "$tool" compare "$@" >"$WORK/out" 2>"$WORK/err"
  status=$?
  out=$(cat "$WORK/out") err=$(cat "$WORK/err")
}
# refuses NAME STATUS MESSAGE ARGUMENT...
refuses() {
  compare "${@:4}"
  is "$1: status" $status "$2"
  like "$1: message" "$(grep -m 1 '^hakmem: ' "$WORK/err")" "$3"
}
# line REGEX: the first line of the output that matches.
line() { grep -m 1 -E -- "$1" <<<"$out"; }

# A program that behaves by its argument, and otherwise where it runs without hakmem.
cat >"$WORK/program.c" <<'EOC'
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
  const char *preload = getenv("LD_PRELOAD"), *what = argc > 1 ? argv[1] : "";
  int ours = preload != NULL && strstr(preload, "libhakmem") != NULL;
  for (int i = 0; i < 100; i++) {
    char *volatile block = malloc(200000);
    block[0] = 1;
    free(block);
  }
  if (strcmp(what, "quit") == 0) {
    _exit(0);
  }
  if (strcmp(what, "slow") == 0 && !ours) {
    sleep(1);
  }
  if (strcmp(what, "large") == 0 && !ours) {
    memset(malloc(64 << 20), 1, 64 << 20);
  }
  if (strcmp(what, "talk") == 0) {
    fputs("to standard output\n", stdout);
    fputs("to standard error\n", stderr);
  }
  if (strcmp(what, "read") == 0) {
    return getchar() == EOF ? 0 : 1;
  }
  return strcmp(what, "fail") == 0 || (strcmp(what, "differ") == 0 && ours) ? 3 : 0;
}
EOC
build program "$WORK/program.c"
program=$WORK/program
two=(-n 6 -c "$malloc" -c "$mmap")
bare=(-n 6 -c "$mmap" --bare)

# ---- the command line ----------------------------------------------------------------------------------------------------------

expected='hakmem: compare: expected a configuration, and another one, --with LIBRARY, or --bare'
refuses "nothing to compare" 2 "$expected" -- "$program"
refuses "one configuration" 2 "$expected" -c "$mmap" -- "$program"
refuses "no configuration" 2 "$expected" --bare --bare -- "$program"
refuses "no program" 2 'hakmem: compare: no program named' "${two[@]}"
refuses "setting without configuration" 2 'hakmem: -o a.b=c: expected behind the -c .*' -o a.b=c "${two[@]}" -- "$program"
refuses "setting of another allocator" 2 'hakmem: -o a.b=c: expected behind the -c .*' "${bare[@]}" -o a.b=c -- "$program"
refuses "too few runs" 2 'hakmem: --runs 5: expected a number from 6 to 1000' "${two[@]}" -n 5 -- "$program"
refuses "no such configuration" 2 "hakmem: $WORK/none: No such file or directory" -c "$WORK/none" --bare -- "$program"
refuses "no such program" 127 "hakmem: $WORK/none: No such file or directory" "${two[@]}" -- "$WORK/none"
refuses "no program at all" 126 "hakmem: $mmap: Permission denied" "${two[@]}" -- "$mmap"
refuses "no such allocator" 2 'hakmem: libnone.so: not found by the dynamic linker, or it has no malloc' \
  -c "$mmap" --with libnone.so -- "$program"
refuses "a library without malloc" 2 'hakmem: libm.so.6: not found by the dynamic linker, or it has no malloc' \
  -c "$mmap" --with libm.so.6 -- "$program"

# ---- who served ----------------------------------------------------------------------------------------------------------------

printf '[core]\nepok = 5\n' >"$WORK/mistake.ini"
refuses "a mistake in a configuration" 1 'hakmem: .*mistake\.ini:2: .*epok.*' -n 6 -c "$mmap" -c "$WORK/mistake.ini" -- "$program"
like "a mistake in a configuration: which" "$(tail -n 1 <<<"$err")" 'hakmem: B \(.*mistake\.ini\): not served by hakmem: .*'
refuses "a program without exit handlers" 1 'hakmem: A \(.*mmap\.ini\): not served by hakmem: no process left a report' \
  "${bare[@]}" -- "$program" quit
if ${CC:-cc} -static -o "$WORK/static" "$WORK/program.c" 2>/dev/null; then
  refuses "a static program" 1 "hakmem: $WORK/static: statically linked; .*" "${bare[@]}" -- "$WORK/static"
else
  skip "a static program" "the compiler cannot link one"
fi
compare "${bare[@]}" -- sh -c "$program; exit 0"
like "a program that a shell starts: served" "$(line '^A ')" "A  $mmap; hakmem served [1-9][0-9]{2,} allocations in a run before"

# ---- how the program ends ------------------------------------------------------------------------------------------------------

refuses "the status differs" 1 "hakmem: $program: exit status 0 under B \(--bare\), but exit status 3 under A \($mmap\): .*" \
  "${bare[@]}" -- "$program" differ
compare "${two[@]}" -- "$program" fail
is "the same failure everywhere" "$status $err" "0 hakmem: $program: exit status 3 in every run"
compare "${two[@]}" -- "$program" read <<<"input"
is "standard input is empty" $status 0
compare "${two[@]}" -- "$program" talk
is "the program's output is dropped" "$(grep -c 'to standard' "$WORK/out" "$WORK/err" | tr '\n' ' ')" "$WORK/out:0 $WORK/err:0 "
compare "${two[@]}" --show -- "$program" talk
is "--show" "$(grep -c 'to standard output' "$WORK/out") $(grep -c 'to standard error' "$WORK/err")" "14 12"

# ---- the result ----------------------------------------------------------------------------------------------------------------

cell='+[0-9.]+ \([0-9.]+ to [0-9.]+\)'
compare -n 6 -c "$malloc" -o core.hardening=full -c "$mmap" --bare -- "$program"
is "three competitors: status and messages" "$status $err" "0 "
is "what is compared" "$(head -n 1 <<<"$out")" "6 runs each, in turn, of $program"
like "the first" "$(line '^A  ')" "A  $malloc -o core.hardening=full; hakmem served 1[0-9]{2} allocations in a run before"
is "the last" "$(line '^C  ')" "C  --bare"
for letter in A B C; do
  like "measured: $letter" "$(line "^$letter +[0-9.]+ \(")" "$letter( $cell){4} +[0-9.]+ %"
done
for letter in B C; do
  like "ratios: $letter" "$(line "^$letter/A")" "$letter/A( $cell){4}"
done
is "a sentence for each" "$(grep -cE '^(No difference beyond noise: )?[BC] .* A.*\(95 % interval.*\), and uses .* memory\.$' <<<"$out")" 2
compare "${bare[@]}" -- "$program" slow
like "a slower one is found" "$(line '^B is')" 'B is [0-9.]+ % slower than A \(95 % interval [0-9.]+ to [0-9.]+ %\), and uses .*'
compare "${bare[@]}" -- "$program" large
like "a larger one is found" "$(tail -n 1 <<<"$out")" '.*, and uses [0-9]{3,} % more memory\.'

# ---- interrupted ---------------------------------------------------------------------------------------------------------------

"$tool" compare "${two[@]}" -- sleep 100 >"$WORK/out" 2>"$WORK/err" &
compared=$!
child=
for ((i = 0; i < 200 && ${#child} == 0; i++)); do
  sleep 0.05
  child=$(pgrep -P $compared -x sleep)
done
kill -TERM $compared
for ((i = 0; i < 400; i++)); do
  kill -0 $compared 2>/dev/null || break
  sleep 0.05
done
is "a signal ends the program" "$(kill -0 "$child" 2>&1 | grep -c 'No such process')" 1
kill -KILL "$child" $compared 2>/dev/null
{ wait $compared; } 2>/dev/null
is "a signal ends it" $? 143
is "no file is left" "$(ls "$TMPDIR")" ""
finish
