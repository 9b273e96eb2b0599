#!/bin/bash
# SPDX-License-Identifier: MIT
# fuzz.sh - the fuzz targets, without an engine, with each input in tests/fuzz/seeds: first ones
# for `make fuzz` to begin with, and those that once led to a fault. Runs in every build, sanitizers included.
. "$(dirname "$0")/lib.sh"

export ASAN_OPTIONS=allocator_may_return_null=1 TSAN_OPTIONS="$TSAN_OPTIONS allocator_may_return_null=1" # where the wrapped malloc is theirs
build flip.so "$TESTS/plugins/flip.c" -shared -fPIC -fvisibility=hidden
# run TARGET SETTINGS FILE...
run() { FUZZ_PLUGINS=$PLUGINS FUZZ_SET=$2 timeout 60 "$TOP_BUILDDIR/tests/fuzz/$1" "${@:3}" 2>"$WORK/err"; }

# replay NAME TARGET SETTINGS: each input in a process of its own, then all in one.
replay() {
  local seed seeds=("$TESTS/fuzz/seeds/$2"/*) out
  for seed in "${seeds[@]}"; do
    out=$(run "$2" "$3" "$seed")
    is "$1, ${seed##*/}: status" "$? $out$(grep -oE 'not so.*|ERROR.*|runtime error.*' "$WORK/err" | head -n 1)" "0 1 inputs"
  done
  is "$1, all in one" "$(run "$2" "$3" "${seeds[@]}")" "${#seeds[@]} inputs"
}

replay "ini" ini ""
replay "ops" ops ""
replay "ops, hardening full" ops "core.hardening=full"
replay "ops, another choice every epoch" ops "core.plugin_path=$PLUGINS,$WORK;core.policy=flip"
replay "ops, nothing but the route" ops "core.small=none;core.cache=none;core.reclaim=none"
replay "descriptor" descriptor ""
replay "state" state ""
targets=$(cd "$TESTS/fuzz" && grep -l 'LLVMFuzzerTestOneInput(' -- *.c | grep -vx replay.c | sed 's/\.c$//' | tr '\n' ' ')
is "every target has inputs" "$(cd "$TESTS/fuzz/seeds" && echo * '')" "$targets"
finish
