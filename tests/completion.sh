#!/bin/bash
# SPDX-License-Identifier: MIT
# completion.sh - what bash offers for the command, held against the tables in its source, the manual and the plugins: a
# subcommand, an option or a setting that is not offered is a failure, and so is one that does not exist.
. "$(dirname "$0")/lib.sh"
needs_interposing
tool=$TOP_BUILDDIR/tools/hakmem
cd "$TOP_SRCDIR" || hard_error "no $TOP_SRCDIR"
. tools/completion/hakmem

is "it is for the command hakmem" "$(complete -p hakmem)" "complete -F _hakmem hakmem"

# offers WORD...: what is offered for the last word, sorted and in one line. A sign of equality is a word, as readline has it.
offers() {
  COMP_WORDS=("$tool" "$@") COMP_CWORD=$#
  _hakmem "$tool"
  [ "${#COMPREPLY[@]}" = 0 ] || printf '%s\n' "${COMPREPLY[@]}" | sort | paste -sd ' '
}
words() { tr ' ' '\n' <<<"$*" | grep . | sort | paste -sd ' '; }

# ---- subcommands and options -------------------------------------------------------------------------------------------------

commands=$(sed -n '/commands\[\] = {/,/^  };/p' tools/hakmem.c | grep -oE '\{"[a-z]+"' | tr -d '{"')
like "there are subcommands" "$(wc -w <<<"$commands")" '[1-9][0-9]*'
# shellcheck disable=SC2086
is "subcommands" "$(offers '')" "$(words $commands --help --version)"
is "one that has begun" "$(offers comp)" compare

mkdir "$WORK/empty"
"$tool" --help | grep -oE '[A-Z][A-Z_]+(\.so)?|key=value' | sort -u >"$WORK/placeholders"
for command in $commands; do
  table=$(sed -n '/struct option options\[\]/,/getopt_long/p' "tools/$command.c")
  long=$(grep -oE '\{"[a-z-]+"' <<<"$table" | sed 's/{"\(.*\)"/--\1/')
  short=$(sed -n 's/.*getopt_long(argc, argv, "\([^"]*\)".*/\1/p' <<<"$table" | grep -o '[a-z]' | sed 's/^/-/')
  like "$command: its source has options" "$long" '--[a-z].*'
  # shellcheck disable=SC2086
  is "$command: options" "$(offers "$command" -)" "$(words $long $short)"
  # A word in capitals of the help has a meaning here; otherwise it would be offered itself.
  for option in '' $long $short; do
    is "$command $option: no placeholder" \
      "$(cd "$WORK/empty" && offers "$command" ${option:+"$option"} '' | tr ' ' '\n' | grep -xFf "$WORK/placeholders")" ""
  done
done
is "behind -- there are no options" "$(offers set -- -)" ""
is "a word that --stats takes" "$(offers run --stats = '')$(offers run --stats = j)" "json prometheus textjson"
is "a number: nothing" "$(offers compare -n '')$(offers compare --runs = '')" ""

# ---- settings ----------------------------------------------------------------------------------------------------------------

# The manual has all of them; docs.sh holds it against the tables. SECTION.KEY and type, separated by a tab.
awk '
  /^\.SS \[/ { section = $2; gsub(/[][]/, "", section); sub(/NAME/, "default", section) }
  /^\.BR [a-z_]+ " = / {
    type = $0; sub(/^[^(]*\(/, "", type); sub(/\)"$/, "", type); sub(/, live$/, "", type)
    print section "." $2 "\t" type
  }' doc/hakmem.ini.5 | sort >"$WORK/settings"
like "the manual has settings" "$(wc -l <"$WORK/settings")" '[1-9][0-9]+'
settings=$(cut -f 1 "$WORK/settings" | sed 's/$/=/' | sort | paste -sd ' ')
for command in run advise check plugins; do
  is "$command -o: every setting" "$(offers "$command" -o '')" "$settings"
done
is "compare -o: every setting" "$(offers compare -c etc/learn.ini --option '')" "$settings"
is "set: every setting, as its second word" "$(offers set -t 1 1 '')" "$settings"
is "a setting behind another" "$(offers run -o core.small = none --stats = json -o core.har)" core.hardening=
is "a setting in one word with its option" "$(offers run --option = core.har)" core.hardening=

# plugins_of KIND...
plugins_of() {
  local file
  for file in "$PLUGINS"/*.so; do
    "$tool" plugins "$file" | sed -nE "1s/^([^ ]+) [^ ]+ \((backend, )?(${*// /|})\) .*/\1/p"
  done
}
# shellcheck disable=SC2046
while IFS=$'\t' read -r setting type; do
  found=$(offers run -o "$setting" = '')
  case $setting=$type in
  core.small=*) expected=$(words none $(plugins_of "class|byte")) ;;
  core.policy=*) expected=$(words $(plugins_of policy)) ;;
  core.cache=* | core.reclaim=*) expected=$(words none $(plugins_of "${setting#core.}")) ;;
  *=bool) expected="off on" ;;
  *" | "*) expected=$(words "${type// | / }") ;;
  *) expected= ;;
  esac
  is "$setting: values" "$found" "$expected"
done <"$WORK/settings"
is "a value that has begun" "$(offers set 1 core.foreign = a)" abort

# ---- files, processes, programs ----------------------------------------------------------------------------------------------

mkdir -p "$WORK/files/below"
touch "$WORK/files/a.ini" "$WORK/files/b.so" "$WORK/files/libc.so.6" "$WORK/files/state"
here=$WORK/files/
# files NAME...: with their directory
files() { local name; for name; do echo "$here$name"; done | sort | paste -sd ' '; }
is "-c: INI files and directories" "$(offers run -c "$here")" "$(files a.ini below)"
is "check: INI files and directories" "$(offers check -o core.cap = 1M "$here")" "$(files a.ini below)"
is "plugins: libraries and directories" "$(offers plugins "$here")" "$(files b.so below libc.so.6)"
is "--with: libraries and directories" "$(offers compare --with "$here")" "$(files b.so below libc.so.6)"
is "advise: any file" "$(offers advise "$here")" "$(files a.ini b.so below libc.so.6 state)"

"$tool" run -- sleep 60 &
pid=$!
for ((i = 0; i < 500; i++)); do
  grep -qs /libhakmem.so "/proc/$pid/maps" && [ "$(tr '\0' ' ' <"/proc/$pid/cmdline")" = "sleep 60 " ] && break
  sleep 0.02
done
sleep 60 &
other=$!
for command in stat set advise; do
  is "$command: the process under hakmem" "$(offers "$command" $pid)" $pid
  is "$command: not the other" "$(offers "$command" $other)" ""
done
kill $pid $other
is "run: a program" "$(offers run -c etc/learn.ini -- "${tool%mem}")" "$tool"
is "run: its argument" "$(offers run ls "$here")" "$(files a.ini b.so below libc.so.6 state)"
is "run: its options are not ours" "$(offers run ls -)" ""
finish
