#!/bin/bash
# SPDX-License-Identifier: MIT
# abi.sh - the plugin interface between versions: the layout of everything public; plugins of ABI 0.1, built against a frozen copy
# of its header, under this core and under one whose structures have all grown; plugins of such a later version under this core; and
# operations that lack their last members. Counters prove that each plugin served.
. "$(dirname "$0")/lib.sh"
needs_interposing
needs python3

frozen=$TESTS/abi/plugin-0.1.h
header=$TOP_SRCDIR/include/hakmem/plugin.h
mkdir -p "$WORK/first/hakmem" "$WORK/later/hakmem"
cp "$frozen" "$WORK/first/hakmem/plugin.h"
# A later version: the next minor number, and a member more in every structure that can grow.
grows=$(sed -n 's/^ *GROWS(\(hak_[a-z_]*\),.*/\1/p' "$TESTS/abi/layout.c" | grep -vx hak_totals)
minor=$(sed -n 's/^#define HAK_ABI_MINOR //p' "$header")
# shellcheck disable=SC2086
sed "s/^#define HAK_ABI_MINOR .*/#define HAK_ABI_MINOR $((minor + 1))/
$(printf 's/^} %s;/  uint64_t later[2];\\n&/\n' $grows)" "$header" >"$WORK/later/hakmem/plugin.h"
is "a later version has more in every structure that grows" "$(grep -c 'uint64_t later\[2\];' "$WORK/later/hakmem/plugin.h")" \
  "$(wc -w <<<"$grows")"

# ---- layout ------------------------------------------------------------------------------------------------------------------------

if [ "$(${CC:-cc} -dM -E - </dev/null | grep -c '#define __LP64__ 1')" = 1 ]; then
  for version in current first later; do
    ${CC:-cc} -std=c11 -Wall -Wextra -I"$WORK/$version" -I"$TOP_SRCDIR/include" -o "$WORK/layout-$version" "$TESTS/abi/layout.c" ||
      hard_error "cannot compile layout.c"
  done
  collect "layout" 10 "$WORK/layout-current"
  collect "layout of the frozen header" 10 "$WORK/layout-first"
  is "the table sees what it does not list" "$("$WORK/layout-later" | sed -n 's/^FAIL \(hak_[a-z_]*\): .*/\1/p' | sort | tr '\n' ' ')" \
    "$(sort <<<"$grows" | tr '\n' ' ')"
else
  skip "layout" "no machine of 64-bit longs"
fi

# Everything that the frozen header declares is in this one, in the same words and order. What is new since is listed here.
since='0.5 HAK_TRIED = 8
0.4 const uint64_t *spans
0.5 const uint64_t *tried
0.6 HAK_ABSOLUTE = 2
0.3 uint32_t reserved
0.3 uint32_t run
0.5 uint32_t flags
0.5 uint32_t reserved
0.2 uint64_t life_ns
0.2 uint64_t cpu_ns
0.4 uint32_t ease'
defined='#define HAK_RUN_LONGEST 256'
words() { ${CC:-cc} -std=gnu11 -E -P "$1" | tr ';,{}' '\n' | tr -s ' \t\n' | sed 's/^ //; s/ $//; /^$/d'; }
macros() { ${CC:-cc} -std=gnu11 -E -dM "$1" | grep -E '^#define (HAK_|hak_)' | grep -v HAK_ABI_MINOR | sort; }
words "$frozen" >"$WORK/words"
diff "$WORK/words" <(words "$header") >"$WORK/changes"
like "the frozen header has words" "$(grep -c hak_ "$WORK/words")" '[1-9][0-9]+'
is "what 0.1 declares is as it was" "$(grep '^<' "$WORK/changes")" ""
is "nothing is new without a new minor number" "$(sed -n 's/^> //p' "$WORK/changes")" "$(cut -d ' ' -f 2- <<<"$since")"
is "the minor number is that of the newest word" "$(cut -d ' ' -f 1 <<<"$since" | sort -V | tail -n 1)" "0.$minor"
is "what 0.1 defines is as it was" "$(comm -23 <(macros "$frozen") <(macros "$header"))" ""
is "nothing more is defined than what is listed" "$(comm -13 <(macros "$frozen") <(macros "$header"))" "$defined"
is "the frozen header is of 0.1" "$(sed -n 's/^#define HAK_ABI_M[A-Z]* //p' "$frozen" | tr '\n' .)" "0.1."

# ---- plugins -----------------------------------------------------------------------------------------------------------------------

build_as() { # VARIANT HEADERS KIND FLAG...: one plugin, VARIANT_KIND.so
  ${CC:-cc} -std=gnu11 -O1 -Wall -Wextra -Wpedantic -Wno-missing-field-initializers -shared -fPIC -fvisibility=hidden -I"$2" \
    -DNAME="\"$1_$3\"" "${@:4}" -o "$WORK/$1_$3.so" "$TESTS/abi/$3.c" >"$WORK/log" 2>&1
  is "$1_$3 compiles without warnings" "$?, $(<"$WORK/log")" "0, "
}
for kind in page class cache reclaim policy; do
  build_as old "$WORK/first" $kind
  build_as new "$WORK/later" $kind -DLATER
done
for kind in page class cache reclaim policy; do build_as other "$WORK/first" $kind -DMAJOR=7; done
# Behind the struct_size are the members all the same: nobody must call them.
build_as short "$WORK/first" page '-DOPS_SIZE=offsetof(hak_backend_ops, free_many)'
build_as short "$WORK/first" class '-DOPS_SIZE=offsetof(hak_backend_ops, looks)'
build_as short "$WORK/first" cache '-DOPS_SIZE=offsetof(hak_cache_ops, reused)'
build_as short "$WORK/first" policy '-DOPS_SIZE=offsetof(hak_policy_ops, finish)'
cp "$WORK/old_reclaim.so" "$WORK/short_reclaim.so" # it needs them all

build large "$TESTS/large.c"
build scenario "$TOP_SRCDIR/bench/scenario.c"
build order "$TOP_SRCDIR/bench/suite/order.c"
build fork "$TESTS/fork.c"

counter() { python3 "$TESTS/report.py" get "$WORK/$1.json" "counters/$2" 2>/dev/null; }
counts() { # VARIANT KEY...
  local key
  for key in "${@:2}"; do like "$1: $key counts" "$(counter "$1" "$key")" '[1-9][0-9]*'; done
}
zeros() { # VARIANT KEY...
  local key
  for key in "${@:2}"; do is "$1: $key is zero" "$(counter "$1" "$key")" 0; done
}

reporting() { # VARIANT SETTINGS COMMAND...
  under "$WORK/$1.ini" "stats.exit=json;stats.pid=0;stats.file=$WORK/$1.json;$2" "${@:3}"
}
export -f reporting

# choose VARIANT PREFIX: the configuration that has the plugins of all kinds.
choose() {
  sed "s/@/$2/" >"$WORK/$1.ini" <<'INI'
[core]
small = @_class
cache = @_cache
reclaim = @_reclaim
policy = @_policy
epoch = 64
[strategy.default]
route = malloc, @_page from 64K
[strategy.other]
route = malloc, mmap from 64K
INI
}
PLUGINS=$WORK,$TOP_BUILDDIR/plugins/.libs

# serve VARIANT PREFIX LIBRARY LINE: plugins of all kinds in one process, and what they say they did; LINE is all that comes on
# standard error.
serve() {
  local p=$2 LIB=$3
  choose "$1" "$p"
  collect "$1, forks" 120 under "$WORK/$1.ini" "core.policy=none" "$WORK/fork" 10
  collect "$1, large blocks" 120 reporting "$1" "" "$WORK/large" 4 200 1 $((1 << 30))
  is "$1: its only line" "$(<"$WORK/complaints")" "$4"
  adds_up "$1: the report adds up" json "$WORK/$1.json"
  counts "$1" backend."${p}"_page/{allocs,resizes,exits,trims} backend."${p}"_class/{spans,refills,flushes,tagged} \
    cache."${p}"_cache/{takes,hits,puts,victims} reclaim."${p}"_reclaim/{puts,releases,drains} \
    policy."${p}"_policy/{trials,cells,standings}
  zeros "$1" backend."${p}"_class/wrong_tags policy."${p}"_policy/wrong
}

# last VARIANT PREFIX REGEX: how often the cache hears of blocks that a thread got again at once.
last() {
  rm "$WORK/$1.json"
  reporting "$1" "core.policy=none" "$WORK/scenario" vm -t first -n 100 >/dev/null
  like "$1: blocks that were had again" "$(counter "$1" "cache.$2_cache/reused")" "$3"
}

# runs PREFIX: the runs of a program that allocates and frees in batches.
runs() {
  rm "$WORK/$1.json"
  reporting "$1" "core.policy=none" "$WORK/order" fifo -n 5 >/dev/null
  zeros "$1" backend."$1"_class/too_long
}

serve old old "$LIB" "hakmem: old_policy: has finished"
counts old backend.old_page/{batched,expires} reclaim.old_reclaim/purged
last old old '[1-9][0-9]*'
runs old
zeros old backend.old_class/long
serve new new "$LIB" "hakmem: new_policy: has finished"
counts new backend.new_page/{batched,expires} reclaim.new_reclaim/purged
last new new '[1-9][0-9]*'
runs new
counts new backend.new_class/long
serve short short "$LIB" ""
zeros short backend.short_page/{batched,expires}
counts short backend.short_page/frees
last short short 0

# Another major number is refused, whatever the kind.
choose other other
is "another major number: the program runs" "$(under "$WORK/other.ini" "core.strict=off" /bin/echo alive 2>"$WORK/err")" alive
for kind in page class cache reclaim policy; do
  is "another major number: $kind" "$(grep -c "plugin $WORK/other_$kind.so: found ABI 7.1, expected ABI 0.x; not used" "$WORK/err")" 1
  like "another major number: hakmem plugins --check other_$kind" \
    "$("$TOP_BUILDDIR/tools/hakmem" plugins --check "$WORK/other_$kind.so" | grep '^FAIL')" 'FAIL descriptor: found that its ABI is 7.1, not 0.x, .*'
done
is "another major number: a line for each" "$(wc -l <"$WORK/err")" 5

# check LABEL PREFIX COMMAND
check() {
  local kind
  for kind in page class cache reclaim policy; do
    is "$1: hakmem plugins --check $2_$kind" "$("$3" plugins --check "$WORK/$2_$kind.so" 2>/dev/null | grep -v '^ok ')" ""
  done
}
check "this core" old "$TOP_BUILDDIR/tools/hakmem"
check "this core" new "$TOP_BUILDDIR/tools/hakmem"

# ---- a later core --------------------------------------------------------------------------------------------------------------------

mkdir -p "$WORK/tree/.libs" "$WORK/tree/tools" "$WORK/tree/plugins"
ln -s "$TOP_BUILDDIR/plugins/.libs" "$WORK/tree/plugins/.libs"
# It looks at the new members of each row, which a plugin of 0.1 does not have: they are zero, whatever lies there in its table.
reads() { # FILE LINE-PATTERN ROW
  local say='hki_say("a row of ABI 0.1 has what it cannot have")'
  sed "s/^ *$2.*/&\n if (($3->later[0] | $3->later[1]) != 0) $say;/" "$TOP_SRCDIR/core/$1" >"$WORK/later/$1"
  is "the later core reads rows in $1" "$(grep -c 'it cannot have' "$WORK/later/$1")" 1
}
reads option.c 'const char \*text = option->fallback;' option
reads host.c 'struct hki_row_view \*row = &hakmem_root.row\[first + i\];' counter
make -s -C "$TOP_BUILDDIR" LATER="$WORK" later-core >"$WORK/log" 2>&1
is "a later core compiles" "$?, $(grep error: "$WORK/log" | head -n 3)" "0, "
serve later old "$WORK/tree/.libs/libhakmem.so" "hakmem: old_policy: has finished"
counts later backend.old_page/{batched,expires} reclaim.old_reclaim/purged
last later old '[1-9][0-9]*'
check "a later core" old "$WORK/tree/tools/hakmem"
# It is a later one indeed: a plugin of that version finds all that this core lacks, and says so.
for library in "$LIB" "$WORK/tree/.libs/libhakmem.so"; do
  printf '[core]\nsmall = none\n[strategy.default]\nroute = malloc, new_page from 64K\n' >"$WORK/new.ini"
  LIB=$library under "$WORK/new.ini" "" /bin/echo alive >"$WORK/out" 2>&1
  echo "$?" >>"$WORK/out"
  [ "$library" = "$LIB" ] && expected="alive 0 " || expected='hakmem: .*/new_page.so: found a core that claims members .* 78 '
  like "a later plugin under ${library#"$WORK"/}" "$(tr '\n' ' ' <"$WORK/out")" "$expected"
done
finish
