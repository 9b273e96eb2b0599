#!/bin/bash
# SPDX-License-Identifier: MIT
# core.sh - the tests from the inside, under several routes and with a class backend. Runs in every build, sanitizers included.
. "$(dirname "$0")/lib.sh"

settings="core.plugin_path=$PLUGINS,$WORK;core.strict=on;backend.mmap.arena=16M;backend.hugepage.arena=16M"
inside() { # NAME SETTINGS
  local out
  out=$(HAKMEM_SET="$settings;$2" "$TOP_BUILDDIR/tests/test_core" 2>&1)
  like "core, $1" "$out" '(.*[^0-9])?100%: Checks: [1-9][0-9]*, Failures: 0, Errors: 0.*'
}

for route in "malloc" "malloc, mmap from 64K" "malloc, mmap from 256K, hugepage from 2M" "malloc, hugepage from 64K"; do
  inside "route $route" "strategy.default.route=$route"
done
build template_class.so "$TOP_SRCDIR/doc/template_class.c" -shared -fPIC -fvisibility=hidden
for hardening in off basic full; do
  inside "class backend, hardening $hardening" \
    "core.small=template_class;core.hardening=$hardening;strategy.default.route=malloc, mmap from 64K"
done
finish
