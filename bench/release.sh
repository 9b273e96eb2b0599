#!/bin/bash
# SPDX-License-Identifier: MIT
# release.sh - what it costs to give memory back, range by range or through the reclaim plugin `batch`. Prints a table.
#
#   bench/release.sh [REPETITIONS]        40 unless told, which take half a minute. Needs nothing built.
set -u
TOP_SRCDIR=$(cd "${TOP_SRCDIR:-$(dirname "$0")/..}" && pwd)
WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT
cd "$TOP_SRCDIR" || exit 1
${CC:-cc} -std=gnu11 -O2 -Wall -Iinclude -Iplugins/backend -o "$WORK/release" bench/release.c plugins/reclaim/batch.c \
  plugins/backend/extent.c plugins/backend/arena.c plugins/backend/space.c -lm -lpthread || exit 1
"$WORK/release" "$@"
