#!/bin/bash
# SPDX-License-Identifier: MIT
# counters.sh - the totals equal the calls made, through malloc and through hak_malloc; the reports parse and add up.
. "$(dirname "$0")/lib.sh"
make_inis
build direct "$TESTS/counters.c" -DDIRECT -Wl,--no-as-needed -L"$TOP_BUILDDIR/.libs" -lhakmem -Wl,-rpath,"$TOP_BUILDDIR/.libs"
build counters "$TESTS/counters.c"

linked() { # INI COMMAND...
  env HAKMEM_CONF="$1" HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on" "${@:2}"
}
export -f linked

check_reports() { # LABEL
  adds_up "$1: JSON adds up" json "$WORK/r.json"
  adds_up "$1: Prometheus is well-formed" prometheus "$WORK/r.prom"
  like "$1: text" "$(grep -c . "$WORK/r.txt")" '[1-9][0-9]+'
  rm -f "$WORK"/r.*
}

for ini in "${INIS[@]}"; do
  conf=$(label "$ini")
  small=byte
  [ "$(small_of "$ini")" != slab ] || small=class
  reports=(json "$WORK/r.json" prometheus "$WORK/r.prom" text "$WORK/r.txt")
  collect "$conf, hak_malloc" 300 linked "$ini" "$WORK/direct" $small "${reports[@]}"
  check_reports "$conf, hak_malloc"
  [ "${INTERPOSE:-yes}" = yes ] || continue
  collect "$conf, malloc" 300 under "$ini" "" "$WORK/counters" $small "${reports[@]}"
  check_reports "$conf, malloc"
done

# Reports at the end of a process: in a file, on standard error, for one process only.
if [ "${INTERPOSE:-yes}" = yes ]; then
  ini=$WORK/ini/hakmem.ini
  under "$ini" "stats.exit=json;stats.file=$WORK/%p.json" bash -c 'echo $$; ls / | sort >/dev/null' >"$WORK/pid"
  is "stats.file: one report for each process" "$(ls "$WORK"/[0-9]*.json | wc -l)" 3
  adds_up "stats.file: they add up" json "$WORK"/[0-9]*.json
  like "stats.file: %p is the process id" "$(ls "$WORK")" ".*$(<"$WORK/pid").json.*"
  like "stats.exit=text on standard error" "$(under "$ini" "stats.exit=text" /bin/true 2>&1 | head -n 1)" \
    "hakmem [0-9.]+, process [0-9]+"
  like "stats.exit=prometheus" "$(under "$ini" "stats.exit=prometheus" /bin/true 2>&1 | head -n 1)" "# TYPE hakmem_.*"
  is "stats.exit=off is silent" "$(under "$ini" "" /bin/true 2>&1)" ""
  is "stats.pid of another process is silent" "$(under "$ini" "stats.exit=text;stats.pid=1" /bin/true 2>&1)" ""
  # shellcheck disable=SC2016
  like "stats.pid of this process" "$(bash -c 'exec env LD_PRELOAD="$LIB" HAKMEM_SET="$1;stats.pid=$$" /bin/true' - \
    "core.plugin_path=$PLUGINS;stats.exit=text" 2>&1)" "hakmem [0-9].*"
fi
finish
