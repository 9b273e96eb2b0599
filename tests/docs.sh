#!/bin/bash
# SPDX-License-Identifier: MIT
# docs.sh - holds the documents and the program together: options and their defaults, the examples, the names of files, functions
# and constants, the quick start, the manual pages' markup.
#
# The truth about options is in the tables that the library and the plugins are built from. A table here has a line for each option:
# SECTION.KEY, its default, its type and range as `hakmem plugins` prints them, and whether it is live; separated by tabs.
. "$(dirname "$0")/lib.sh"
needs_interposing

tool=$TOP_BUILDDIR/tools/hakmem
manual=$TOP_SRCDIR/doc/hakmem.ini.5
cd "$TOP_SRCDIR" || hard_error "no $TOP_SRCDIR"
pages=(doc/hakmem.1 doc/hakmem.ini.5 doc/hakmem-plugin.7)
texts=(README.md doc/design.md doc/reliability.md doc/walk.md)
for file in "${pages[@]}" "${texts[@]}"; do
  if [ -s "$file" ]; then ok "$file is there"; else fail "$file is there" "nothing" "a text"; fi
done

# ---- the tables --------------------------------------------------------------------------------------------------------------

# core_table FILE TABLE SECTION: the options of one table in the source.
core_table() {
  awk -v table="$2" -v section="$3" '
    /^static const char \*const [a-z_]+\[\] = / {
      name = $5; sub(/\[\]/, "", name)
      text = $0; sub(/^[^{]*\{/, "", text); sub(/, NULL\};.*/, "", text); gsub(/"/, "", text); gsub(/, /, " | ", text)
      words[name] = text
    }
    index($0, " " table) && /= *\{/ { inside = 1 }
    inside {
      line = $0
      while (match(line, /\.(key|type|flags|fallback|min|max|choices|help) = ("[^"]*"|[A-Za-z_]+)/)) {
        item = substr(line, RSTART + 1, RLENGTH - 1); line = substr(line, RSTART + RLENGTH)
        name = item; sub(/ = .*/, "", name)
        value = item; sub(/^[a-z]+ = /, "", value); gsub(/"/, "", value)
        has[name] = value
        if (name == "help") {
          type = tolower(substr(has["type"], 5))
          if (type == "enum") type = words[has["choices"]]
          if ("min" in has) type = type " from " has["min"]
          if ("max" in has) type = type " up to " has["max"]
          print section "." has["key"] "\t" has["fallback"] "\t" type "\t" (has["flags"] == "HAK_LIVE" ? "live" : "")
          split("", has)
        }
      }
    }
    inside && /^[^ ].*;$|\};$/ { inside = 0 }' "$1"
}

# plugin_table KIND-OF-LINE: options as above, or counters as SECTION.KEY alone, from the descriptors of the shipped plugins.
plugin_table() {
  "$tool" plugins "$PLUGINS" | awk -v wanted="$1" '
    /^[a-z]/ { kind = $3; gsub(/[(),]/, "", kind); section = kind "." $1 }
    /^  [a-z]/ { part = $1 }
    /^    [a-z]/ && part == wanted && wanted == "counters" { print section "." $1 }
    /^    [a-z]/ && part == wanted && wanted == "options" {
      key = $1; text = $0; sub(/^ *[^ ]+ +/, "", text)
      live = sub(/, live$/, "", text) ? "live" : ""
      type = text; sub(/, default [^,]*$/, "", type)
      sub(/.*, default /, "", text)
      print section "." key "\t" (text == "empty" ? "" : text) "\t" type "\t" live
    }'
}

{
  core_table core/start.c 'core_options[' core
  core_table core/start.c 'stats_options[' stats
  core_table core/strategy.c 'strategy_options[' strategy.NAME
  plugin_table options
} | sort >"$WORK/table"

awk '
  /^\[/ { section = $0; gsub(/[][]| .*/, "", section) }
  /^[a-z]/ {
    key = $1; value = $0; comment = value
    sub(/^[^=]*= */, "", value); sub(/ *;.*/, "", value)
    print section "." key "\t" value "\t\t" (comment ~ /\[live\]/ ? "live" : "")
  }' etc/hakmem.ini | sort >"$WORK/ini"

awk '
  /^\.SS \[/ { section = $2; gsub(/[][]/, "", section) }
  /^\.BR [a-z_]+ " = / {
    key = $2; value = $0; sub(/^[^=]*= */, "", value); type = value
    sub(/ *\(.*/, "", value); sub(/^[^(]*\(/, "", type); sub(/\)"$/, "", type)
    live = sub(/, live$/, "", type) ? "live" : ""
    print section "." key "\t" value "\t" type "\t" live
  }' "$manual" | sort >"$WORK/manual"

# column NUMBER FILE KEY
column() { awk -F '\t' -v n="$1" -v key="$3" '$1 == key { print $n }' "$2"; }

# The core names no plugin: which of those that are shipped are in use is said by the INI alone.
for key in core.small core.policy core.cache core.reclaim; do
  is "the core chooses no plugin for $key" "$(awk -F '\t' -v key="$key" '$1 == key { print $2 }' "$WORK/table")" none
  chosen=$(awk -F '\t' -v key="$key" '$1 == key { print $2 }' "$WORK/ini")
  sed -i "s/^$key\tnone\t/$key\t$chosen\t/" "$WORK/table"
done

like "the tables have options" "$(wc -l <"$WORK/table")" '[1-9][0-9]+'
cut -f 1 "$WORK/table" >"$WORK/known"
while IFS= read -r key; do
  row=$(grep "^$key"$'\t' "$WORK/table" | tr '\t' '|')
  is "hakmem.ini(5): $key" "$(grep "^$key"$'\t' "$WORK/manual" | tr '\t' '|')" "$row"
  [ "$key" = strategy.NAME.route ] && continue
  default=$(column 2 "$WORK/table" "$key") line=${key/#strategy.NAME/strategy.default}
  is "etc/hakmem.ini: $key" "$(grep -c "^$line"$'\t' "$WORK/ini") $(column 2 "$WORK/ini" "$line")" "1 $default"
  is "etc/hakmem.ini: $key, live or not" "$(column 4 "$WORK/ini" "$line")" "$(column 4 "$WORK/table" "$key")"
done <"$WORK/known"
is "hakmem.ini(5) has no other key" "$(cut -f 1 "$WORK/manual" | grep -vxFf "$WORK/known")" ""
is "etc/hakmem.ini has no other key" "$(cut -f 1 "$WORK/ini" | sed 's/^strategy\.default\./strategy.NAME./' | grep -vxFf "$WORK/known")" ""
route=$(column 2 "$WORK/ini" strategy.default.route)
is "hakmem.ini(5) has the default route" "$(grep -cF "\"route = $route\"" "$manual")" 1

# What the library says it has, with all plugins in use, is what the tables say.
for policy in static elo epsilon-greedy; do
  "$tool" check -o core.plugin_path="$PLUGINS" -o "strategy.default.route=malloc, mmap from 64K, hugepage from 2M" \
    -o core.policy=$policy etc/hakmem.ini | sed '/^; this machine/,$d' | awk '
    /^\[/ { section = $0; gsub(/[][]/, "", section) }
    /^[a-z]/ { print section "." $1 }' | sed 's/^strategy\.default\./strategy.NAME./'
done | sort -u >"$WORK/in_force"
is "hakmem check lists these options" "$(diff "$WORK/in_force" "$WORK/known" | tr '\n' '|')" ""

# ---- keys that the documents name ----------------------------------------------------------------------------------------------

plugin_table counters >>"$WORK/known"
for file in "${pages[@]}" "${texts[@]}" etc/*.ini doc/template_*.c include/hakmem/*.h; do
  grep -oE '\b(core|stats|backend\.[a-z_]+|policy\.[a-z_]+|cache\.[a-z_]+|reclaim\.[a-z_]+)\.[a-z_]+\b' "$file" | grep -vE '^(core|stats)\.(c|h|sh)$|\.template_' | sort -u |
    grep -vxFf "$WORK/known" >"$WORK/unknown"
  is "$file names no unknown key" "$(tr '\n' ' ' <"$WORK/unknown")" ""
done

# ---- examples ------------------------------------------------------------------------------------------------------------------

plugin() { # NAME SOURCE: a third-party plugin in $WORK
  is "$1 compiles" "$(${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -shared -fPIC -fvisibility=hidden -Iinclude \
    -o "$WORK/$1.so" -x c "$2" 2>&1 | head -n 3)" ""
}

# blocks FILE PREFIX: writes each example block of the file to PREFIX.1, PREFIX.2, ...
blocks() {
  case $1 in
  *.md) awk -v p="$2" '/^```/ { inside = $0 == "```ini"; if (inside) n++; next } inside { print >(p "." n) }' "$1" ;;
  *) awk -v p="$2" '/^\.EX/ { inside = 1; n++; next } /^\.EE/ { inside = 0 } inside { gsub(/\\-/, "-"); gsub(/\\e/, "\\"); print >(p "." n) }' "$1" ;;
  esac
}

plugin template_class doc/template_class.c
plugin template_policy doc/template_policy.c
blocks doc/hakmem-plugin.7 "$WORK/plain"
plugin plain "$(grep -l plain_alloc "$WORK"/plain.*)"
is "the example of hakmem-plugin(7) conforms" "$("$tool" plugins --check "$WORK/plain.so" 2>&1 | grep -v '^ok ')" ""

for file in README.md doc/design.md doc/hakmem.ini.5 doc/hakmem-plugin.7; do
  blocks "$file" "$WORK/block"
  for block in "$WORK"/block.*; do
    [ -e "$block" ] || continue
    if head -n 1 "$block" | grep -qE '^\[(core|stats|strategy|backend|policy|cache|reclaim)'; then
      library=$(sed -n 's/^library *= *\([^ ;]*\).*/\1/p' "$block")
      if [ -n "$library" ] && ! ldconfig -p | grep -q "$library"; then
        skip "$file, example ${block##*.}" "$library is not installed"
      else
        is "$file, example ${block##*.} is valid" \
          "$("$tool" check -o core.plugin_path="$WORK" -o core.strict=off "$block" 2>&1 >/dev/null; echo $?)" 0
      fi
    fi
    rm "$block"
  done
done

# ---- names ---------------------------------------------------------------------------------------------------------------------

sources=(core/*.[ch] plugins/*/*.[ch] include/hakmem/*.h doc/*.c)
for file in "${texts[@]}" "${pages[@]}"; do
  missing=
  while IFS= read -r name; do
    [ -e "$name" ] || missing+="$name "
  done < <(grep -oE '(^|[^A-Za-z0-9_./-])(core|plugins|include|etc|doc|tests|tools|m4)/[A-Za-z0-9_./-]+\.(c|h|ini|md|sh|m4|[157])\b' "$file" |
    sed 's/^[^a-z]//' | sort -u)
  is "$file: files are there" "$missing" ""
  missing=
  while IFS= read -r name; do
    grep -qw -- "$name" "${sources[@]}" || missing+="$name "
  done < <(grep -oE '\bH(AK|KI)_[A-Z][A-Z0-9_]*' "$file" | sort -u)
  is "$file: constants are there" "$missing" ""
done

# defined NAME FILE...: a line that begins in the first column declares or defines the function.
defined() { grep -qE "^[A-Za-z].*[ *]$1\(" "${@:2}"; }

for file in doc/walk.md doc/design.md; do
  missing=
  while IFS= read -r name; do
    defined "$name" "${sources[@]}" || missing+="$name "
  done < <(grep -oE '[`][a-z_]+\(\)[`]' "$file" | tr -d '`()' | sort -u)
  is "$file: functions are there" "$missing" ""
done
steps=0
while IFS=: read -r path names; do
  steps=$((steps + 1))
  missing=
  for name in ${names//,/ }; do
    defined "$name" "$path" 2>/dev/null || missing+="$name "
  done
  is "doc/walk.md: $path" "$missing" ""
done < <(sed -n 's/^### //p' doc/walk.md)
like "doc/walk.md has steps" "$steps" '[1-9][0-9]+'

# ---- ways to break -------------------------------------------------------------------------------------------------------------

grep -E '^\| [0-9]+ \|' doc/reliability.md >"$WORK/rows"
is "doc/reliability.md: a row for each way to break" "$(cut -d '|' -f 2 "$WORK/rows" | tr -d '\n')" "$(seq -f ' %g ' 20 | tr -d '\n')"
while IFS='|' read -r _ number _ _ tests rest; do
  missing="" named=0
  for name in $(grep -oE '[`][^`]+[`]' <<<"$tests" | tr -d '`'); do
    named=$((named + 1))
    grep -E '^ *(tests/|TESTS \+= )' tests/tests.am | grep -qw -- "${name%.c}" && [ -s "$name" ] || missing+="$name "
  done
  is "doc/reliability.md, row$number: tests that make check runs" "$missing$((named > 0))" 1
  is "doc/reliability.md, row$number: nothing is empty" "$(grep -c '| *|' <<<"|$tests|$rest")" 0
done <"$WORK/rows"

# ---- the quick start -----------------------------------------------------------------------------------------------------------

mapfile -t quick < <(awk '/^## / { inside = $0 == "## Quick start" } /^```/ { code = $0 == "```sh"; next } inside && code' README.md)
is "README: two lines" "${#quick[@]}" 2
like "README: the first ends with a program" "${quick[0]:-}" '\./bootstrap && \./configure && make && tools/hakmem run -c etc/[a-z]*\.ini --stats -- .*'
is "README: the second ends with the tests" "${quick[1]:-}" "./bootstrap && ./configure && make && make check"
program=${quick[0]##*&& }
if command -v perl >/dev/null; then
  mkdir "$WORK/clone" && ln -s "$TOP_BUILDDIR/tools" "$TOP_SRCDIR/etc" "$WORK/clone" # a build may be apart from its source
  is "README: the program runs" "$(cd "$WORK/clone" && eval "$program" 2>"$WORK/report"; echo $?)" $'6888895\n0'
  is "README: its statistics" "$(grep -cE '^backend (slab|hugepage) \([a-z]+\): allocs [1-9]' "$WORK/report")" 2
else
  skip "README: the program runs" "no perl"
fi
if [ -e .ci/run ]; then
  # It takes the line from the README, by this pattern.
  pattern=$(sed -n "s/.*grep -m 1 '\([^']*\)' README.md.*/\1/p" .ci/run)
  is ".ci/run runs the second line" "$(grep -m 1 -- "${pattern:-no pattern}" README.md)" "${quick[1]}"
else
  skip ".ci/run runs the second line" "not in this tree"
fi

# ---- markup --------------------------------------------------------------------------------------------------------------------

for file in "${pages[@]}"; do
  if command -v groff >/dev/null; then
    is "$file: markup" "$(groff -mandoc -ww -Tutf8 -z "$file" 2>&1 | head -n 3)" ""
  else
    skip "$file: markup" "no groff"
  fi
done
is "fences come in pairs" "$(for f in "${texts[@]}"; do [ $(($(grep -c '^```' "$f") % 2)) = 0 ] || echo "$f"; done)" ""
finish
