#!/bin/bash
# SPDX-License-Identifier: MIT
# core.sh - the tests from the inside, under several routes. Runs in every build, sanitizers included.
. "$(dirname "$0")/lib.sh"

for route in "malloc" "malloc, mmap from 64K" "malloc, mmap from 256K, hugepage from 2M" "malloc, hugepage from 64K"; do
  out=$(HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on;strategy.default.route=$route;backend.mmap.arena=16M;backend.hugepage.arena=16M" "$TOP_BUILDDIR/tests/test_core" 2>&1)
  like "core, route $route" "$out" '(.*[^0-9])?100%: Checks: [1-9][0-9]*, Failures: 0, Errors: 0.*'
done
finish
