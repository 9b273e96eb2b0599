#!/bin/bash
# SPDX-License-Identifier: MIT
# coverage.sh - `make coverage`, in a build with --enable-coverage: runs `make check`, and ends with the lines and branches that ran,
# for each directory. The lines themselves are in build-coverage/index.html.
#
# A process that a signal ends takes its counts with it. Two tests fail in such a build: that the library names no path of the
# build (its counts have one), and the late kinds of misuse, where writing the counts uses the memory that was misused.
set -u
cd "$TOP_BUILDDIR" || exit 1
export LC_ALL=C
if [ -z "$COVERAGE" ]; then
  echo "coverage: found a build without counts, expected ./configure --enable-coverage" >&2
  exit 1
fi
if ! command -v lcov >/dev/null; then
  echo "coverage: found no lcov, expected it (Debian: lcov)" >&2
  exit 1
fi
branches=(--rc lcov_branch_coverage=1)
mkdir -p build-coverage || exit 1
lcov -q -z -d . 2>/dev/null
"$MAKE" -k check || echo "coverage: checks failed; what they ran is counted"
lcov -q -c -d . --no-external -b "$TOP_SRCDIR" "${branches[@]}" -o build-coverage/all.info 2>build-coverage/lcov.log || exit 1
genhtml -q build-coverage/all.info "${branches[@]}" -o build-coverage 2>>build-coverage/lcov.log || exit 1
for directory in core plugins/backend plugins/cache plugins/policy plugins/reclaim tools; do
  lcov -q -e build-coverage/all.info "${branches[@]}" "*/$directory/*" -o build-coverage/part.info 2>>build-coverage/lcov.log || exit 1
  lcov --summary build-coverage/part.info "${branches[@]}" 2>&1 | sed -En "s#^ *(lines|branches)\.*: #$directory: \1 #p"
done
