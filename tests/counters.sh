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

  # Several processes that end together, with one file: whoever looks sees the whole report of one of them.
  cat >"$WORK/together.c" <<'EOC'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* together [FILE]: eight children that end at the same moment, twenty times, and how often FILE was torn when it was read meanwhile. */
static int torn(const char *path)
{
  static char text[1 << 20];
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    return 0; /* there is none yet */
  }
  size_t size = fread(text, 1, sizeof text, file);
  fclose(file);
  return size < 3 || text[0] != '{' || memcmp(text + size - 2, "}\n", 2) != 0;
}

int main(int argc, char **argv)
{
  int bad = 0;
  for (int round = 0; round < 20; round++) {
    int barrier[2];
    if (pipe(barrier) != 0) {
      return 1;
    }
    for (int i = 0; i < 8; i++) {
      if (fork() == 0) {
        char c;
        close(barrier[1]);
        exit(read(barrier[0], &c, 1) != 0);
      }
    }
    close(barrier[0]);
    close(barrier[1]);
    while (waitpid(-1, NULL, WNOHANG) >= 0) {
      bad += argc > 1 && torn(argv[1]);
    }
    bad += argc > 1 && torn(argv[1]);
  }
  printf("torn %d\n", bad);
  return 0;
}
EOC
  build together "$WORK/together.c"
  file=$WORK/all/report
  mkdir "$WORK/all"
  is "stats.file of processes that end together" \
    "$(under "$ini" "stats.exit=json;stats.file=$file" "$WORK/together" "$file" 2>&1)" "torn 0"
  adds_up "stats.file of processes that end together: adds up" json "$file"
  is "stats.file of processes that end together: nothing is left beside it" "$(ls "$WORK/all")" "report"
  under "$ini" "stats.exit=text" "$WORK/together" 2>&1 >/dev/null | cat >"$WORK/lines"
  grep -A 1 '^hakmem' "$WORK/lines" | grep -vE '^(hakmem [0-9.]+, process [0-9]+|  allocated +[0-9]+|--)$' >"$WORK/broken"
  is "reports on standard error: one behind the other" \
    "$(grep -cE '^hakmem [0-9.]+, process [0-9]+$' "$WORK/lines"), $(<"$WORK/broken")" "161, "

  # What was there keeps its owner, mode and names; what is no file stays what it is.
  reports_to() { under "$ini" "stats.exit=json;stats.file=$1" /bin/true 2>&1; }
  chmod 640 "$file"
  [ "$(id -u)" -ne 0 ] || chown 65534:65534 "$file"
  before=$(stat -c '%a %u %g' "$file") inode=$(stat -c %i "$file")
  is "stats.file that is there: owner and mode" "$(reports_to "$file"), $(stat -c '%a %u %g' "$file")" ", $before"
  is "stats.file that is there: it is another file" "$(($(stat -c %i "$file") != inode))" 1
  if command -v strace >/dev/null; then
    # It lost its name after it was found: statx tells of no links then, as it does here.
    inode=$(stat -c %i "$file")
    strace -o "$WORK/statx" -e trace=statx \
      -e inject=statx:poke_exit=@arg5=ff07000000100000000000000000000000000000 -E LD_PRELOAD="$LIB" -E HAKMEM_CONF="$ini" \
      -E "HAKMEM_SET=core.plugin_path=$PLUGINS;stats.exit=json;stats.file=$file" /bin/true
    like "stats.file that has just been replaced: statx tells of it" "$(<"$WORK/statx")" ".*INJECTED.*"
    is "stats.file that has just been replaced: it is another file" "$(($(stat -c %i "$file") != inode))" 1
  else
    skip "stats.file that has just been replaced" "strace is not installed"
  fi
  is "stats.file that is new: its mode" "$(umask 027; reports_to "$WORK/all/new"; stat -c %a "$WORK/all/new")" 640
  ln "$file" "$WORK/all/name"
  : >"$file"
  is "stats.file with two names" "$(reports_to "$file"; tail -c 2 "$WORK/all/name")" "}"
  long=$WORK/all/$(printf 'x%.0s' {1..255})
  is "stats.file beside which there can be none" "$(reports_to "$long"; tail -c 2 "$long")" "}"
  adds_up "stats.file beside which there can be none: adds up" json "$long"
  ln -s "$WORK/all/other" "$WORK/all/link"
  is "stats.file that is a link" "$(reports_to "$WORK/all/link")" \
    "hakmem: stats.file: cannot write $WORK/all/link (error 40)"
  mkfifo "$WORK/all/pipe"
  cat "$WORK/all/pipe" >"$WORK/piped" &
  is "stats.file that is a pipe" "$(reports_to "$WORK/all/pipe")" ""
  wait $!
  adds_up "stats.file that is a pipe: adds up" json "$WORK/piped"
  is "stats.file that is a device" "$(reports_to /dev/null; stat -c %F /dev/null)" "character special file"
  is "stats.file in no directory" "$(reports_to "$WORK/none/report")" \
    "hakmem: stats.file: cannot write $WORK/none/report (error 2)"
fi
finish
