#!/bin/bash
# SPDX-License-Identifier: MIT
# fuzz.sh - the fuzz targets, without an engine, with each input in tests/fuzz/seeds: first ones for `make fuzz` to begin with, and
# those that once led to a fault. Runs in every build, sanitizers included.
. "$(dirname "$0")/lib.sh"

build flip.so "$TESTS/plugins/flip.c" -shared -fPIC -fvisibility=hidden
replay() { # NAME TARGET SETTINGS: each input in a process of its own, then all in one
  local seed out
  for seed in "$TESTS/fuzz/seeds/$2"/*; do
    out=$(FUZZ_PLUGINS=$PLUGINS FUZZ_SET=$3 timeout 60 "$TOP_BUILDDIR/tests/fuzz/$2" "$seed" 2>"$WORK/err")
    is "$1, ${seed##*/}: status" "$? $out$(grep -oE 'not so.*|ERROR.*|runtime error.*' "$WORK/err" | head -n 1)" "0 1 inputs"
  done
  set -- "$1" "$2" "$3" "$TESTS/fuzz/seeds/$2"/*
  is "$1, all in one" "$(FUZZ_PLUGINS=$PLUGINS FUZZ_SET=$3 timeout 60 "$TOP_BUILDDIR/tests/fuzz/$2" "${@:4}" 2>/dev/null)" "$(($# - 3)) inputs"
}
replay "ini" ini ""
replay "ops" ops ""
replay "ops, hardening full" ops "core.hardening=full"
replay "ops, another choice every epoch" ops "core.plugin_path=$PLUGINS,$WORK;core.policy=flip"
replay "ops, nothing but the route" ops "core.small=none;core.cache=none;core.reclaim=none"
replay "descriptor" descriptor ""
replay "state" state ""
is "every target has inputs" "$(cd "$TESTS/fuzz" && grep -l LLVMFuzzerTestOneInput\( -- *.c | grep -v replay | sed 's/\.c$//' | tr '\n' ' ')" \
  "$(cd "$TESTS/fuzz/seeds" && echo * '')"

finish
