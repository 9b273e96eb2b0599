#!/bin/bash
# SPDX-License-Identifier: MIT
# config.sh - bad configurations and broken plugins: one line that says where, what and what instead; the program runs on the
# default; with core.strict=on it ends with status 78 before main. Bare surroundings as well.
. "$(dirname "$0")/lib.sh"
needs_interposing

ini=$WORK/bad.ini
found() { HAKMEM_CONF=$ini HAKMEM_SET="core.plugin_path=$1$2" LD_PRELOAD=$LIB /bin/echo alive 2>"$WORK/err"; } # DIRS MORE


# mistake NAME REGEX [DIRECTORY]: what bad.ini (or $set) says is answered by exactly one line that matches; plugins also come
# from DIRECTORY.
set=
mistake() {
  local out status dirs=${3:+$3,}$PLUGINS
  out=$(found "$dirs" "$set") 2>/dev/null
  status=$?
  is "$1: the program runs" "$out, status $status" "alive, status 0"
  is "$1: one line" "$(wc -l <"$WORK/err")" 1
  like "$1: what it says" "$(<"$WORK/err")" "$2"
  out=$(found "$dirs" ";core.strict=on$set") 2>/dev/null
  status=$?
  is "$1: strict" "$out, status $status" ", status 78"
  like "$1: strict says why" "$(head -n 1 "$WORK/err")" "$2"
}

# bad NAME REGEX TEXT: the INI has this text. In the regex, @ stands for `hakmem: FILE`.
bad() {
  printf '%b\n' "$3" >"$ini"
  mistake "$1" "${2//@/hakmem: $ini}"
}

good() { # NAME TEXT: no line at all
  printf '%b\n' "$2" >"$ini"
  is "$1" "$(found "$PLUGINS" ";core.strict=on$set" 2>&1; cat "$WORK/err")" "alive"
}

long=$(printf 'x%.0s' {1..250})
section=$(printf 's%.0s' {1..60})

# ---- files -------------------------------------------------------------------------------------------------------------
good "empty file" ""
good "comments and spaces" '; one\n# two\n\n  [core]  \n\thardening = full ; three\nforeign=abort\r'
good "long comment" "; $long\n[core]\n;$long"
good "long comment behind a section" "[core] ; $long\nhardening = full"
good "long comment behind a value" "[core]\nhardening = full ; $long"
good "no end of line" '[core]\nhardening = full'
good "indented keys" '[core]\n  hardening = full\n  foreign = abort'
bad "a byte order mark in front of a section" '@:2: core.hardening: found "max", expected .*; using basic' \
  '\xef\xbb\xbf[core]\nhardening = max'
bad "a NUL byte" '@:3: found a NUL byte, expected text; this line and those below it are ignored' \
  '[core]\nhardening = full\nhardening = \0max\nnone = 1'
bad "UTF-16" '@:1: found a NUL byte, expected text; .*' '\xff\xfe[\0c\0o\0r\0e\0]\0\n\0'
bad "unknown section" '@:2: unknown section \[cores\], expected core.*' '[cores]\nhardening = full'
bad "unknown kind of section" '@:2: unknown section \[bakend.mmap\], expected core.*' '[bakend.mmap]\narena = 1G'
bad "section of a missing plugin" '@:2: section \[backend.nmap\]: found no plugin of that name.*' '[backend.nmap]\narena = 1G'
bad "section of a missing plugin, several keys" '@:2: section \[backend.nmap\]: found no plugin of that name.*' \
  '[backend.nmap]\narena = 1G\npopulate = on\nnone = 1'
bad "section of another kind of plugin" '@:2: section \[backend.batch\]: found a plugin of another kind, expected \[reclaim.batch\]; ignored' \
  '[backend.batch]\ncap = 1M'
bad "unknown key" '@:2: unknown key core.hardenin; did you mean core.hardening\?' '[core]\nhardenin = full'
bad "unknown key without a neighbour" '@:2: unknown key core.zzzzzzzzz; ignored' '[core]\nzzzzzzzzz = 1'
bad "out of range" '@:2: core.small_max: found "1M", expected a size.* (to|at most) 256K; using 256K' '[core]\nsmall_max = 1M'
bad "bad number" '@:2: core.epoch: found "-3", expected.*; using 1024' '[core]\nepoch = -3'
bad "bad switch" '@:2: core.verbose: found "maybe", expected on or off; using off' '[core]\nverbose = maybe'
bad "bad word" '@:2: core.hardening: found "max", expected one of off, basic, full; using basic' '[core]\nhardening = max'
bad "over-long line" '@:2: found a line of 26[0-9] characters .*, expected at most [0-9]+; ignored' "[core]\nhardening = $long"
bad "over-long section" '@:1: found a section name of 60 characters, expected at most 49; section ignored' \
  "[$section]\nhardening = max"
bad "missing =" '@:2: found "hardening full", expected key = value; ignored' '[core]\nhardening full'
bad "missing = before a comment" '@:2: found "hardening ", expected key = value; ignored' '[core]\nhardening ; = full'
bad "missing ]" "@:1: found \"\\[core\", expected '\\]' after the section's name; section ignored" '[core\nhardening = max'
bad "# behind a value" "@:2: core.hardening: found \"full # yes\", expected ';' .*; ignored" '[core]\nhardening = full # yes'
bad "unknown strategy" '@:2: policy.static.strategy: found "fast", expected the name of a \[strategy.NAME\]; using default' \
  '[policy.static]\nstrategy = fast'
bad "unknown backend in a route" '@:2: plugin nmap: found no such plugin, expected it in core.plugin_path or /.*; not used' \
  '[strategy.default]\nroute = malloc, nmap from 1M'
bad "route without a start" '@:2: .*found.*expected.*' '[strategy.default]\nroute = malloc from 1M'
bad "route without a backend" '@:2: strategy.default.route: found "", expected BACKEND, BACKEND from SIZE, .*; libc.s allocator serves.*' \
  '[strategy.default]\nroute = ; none'
bad "route that goes back" '@:2: .*found.*expected.*' '[strategy.default]\nroute = malloc, mmap from 8M, hugepage from 1M'
bad "thresholds that are none" '@:2: strategy.default.thresholds: found "x", expected sizes that rise; that one is not used' \
  '[strategy.default]\nthresholds = x'
none='[core]\nsmall = none\n[strategy.default]\nroute ='
bad "page backend for small blocks" '@:4: strategy.default.route: found mmap from 4096, expected a page backend from 64K.*' "$none malloc, mmap from 4K"
bad "page backend for all" '@:4: strategy.default.route: found mmap from 0, expected a page backend from 64K.*' "$none mmap"
bad "page backend below a granule that nobody serves" '@:4: strategy.default.route: found mmap from 0, expected a page backend.*' \
  '[core]\nsmall_max = 4K\n[strategy.default]\nroute = mmap'
good "page backend for all that small does not serve" '[core]\nsmall_max = 64K\n[strategy.default]\nroute = mmap'
bad "class backend in a route" '@:2: strategy.default.route: found slab from 0, expected a class backend in core.small only.*' \
  '[strategy.default]\nroute = slab'
bad "unknown policy" '@:2: .*found.*expected.*' '[core]\npolicy = magic'
bad "unknown small backend" '@:2: plugin tiny: found no such plugin, expected it in .*; not used' '[core]\nsmall = tiny'
bad "page backend as small backend" '@:2: core.small: found the page backend mmap, expected a class or byte backend; not used' \
  '[core]\nsmall = mmap'
bad "byte backend as page source" '@:2: backend.slab.pages: found "malloc", expected the name of a page backend; using mmap' \
  '[backend.slab]\npages = malloc'
bad "unknown page source" '@:2: backend.slab.pages: found "none", expected the name of a page backend; using mmap' \
  '[backend.slab]\npages = none'
bad "unknown library" 'hakmem: .*libnothing.so.9.*' \
  '[core]\nsmall = none\n[strategy.default]\nroute = malloc, mmap from 1M\n[backend.malloc]\nlibrary = libnothing.so.9'

# Options of plugins, which must be in use to be asked.
set=";strategy.default.route=malloc, mmap from 1M, hugepage from 8M"
bad "unknown key of a plugin" '@:2: unknown key backend.mmap.arenas; did you mean backend.mmap.arena\?' \
  '[backend.mmap]\narenas = 1G'
bad "bad size" '@:2: backend.mmap.arena: found "one gig", expected a size.*; using 1G' '[backend.mmap]\narena = one gig'
bad "bad suffix" '@:2: backend.mmap.arena: found "64X", expected a size.*; using 1G' '[backend.mmap]\narena = 64X'
bad "overflowing size" '@:2: backend.mmap.arena: found "99999999999999999999", expected a size.*; using 1G' \
  '[backend.mmap]\narena = 99999999999999999999'
bad "empty size" '@:2: backend.mmap.arena: found "", expected a size.*; using 1G' '[backend.mmap]\narena ='
bad "below the range" '@:3: backend.mmap.arena: found "64K", expected a size.*; using 1G' '\n[backend.mmap]\narena = 64K'
bad "bad word of a plugin" '@:2: backend.hugepage.mode: found "giant", expected one of auto, thp, hugetlb; using auto' \
  '[backend.hugepage]\nmode = giant'
bad "a relative path where one must be absolute" '@:4: policy.elo.state_file: found "state", expected an absolute path; using nothing' \
  '[core]\npolicy = elo\n[policy.elo]\nstate_file = state'
good "an absolute path" "[core]\npolicy = elo\n[policy.elo]\nstate_file = $WORK/state"
set=

# ---- the environment -------------------------------------------------------------------------------------------------------
: >"$ini"
set=";core.hardenin=full"
mistake "HAKMEM_SET: unknown key" 'hakmem: HAKMEM_SET: unknown key core.hardenin; did you mean core.hardening\?'
set=";core.hardening=max"
mistake "HAKMEM_SET: bad word" 'hakmem: HAKMEM_SET: core.hardening: found "max", expected one of off, basic, full; using basic'
set=";nonsense"
mistake "HAKMEM_SET: no key" 'hakmem: HAKMEM_SET: found "nonsense", expected section.key=value; ignored'
set=";core.plugin_path=plugins,$PLUGINS"
mistake "HAKMEM_SET: a relative directory" \
  'hakmem: HAKMEM_SET: core.plugin_path: found "plugins", expected directories with absolute paths; not searched'
set=$';two\nlines'
mistake "HAKMEM_SET: a line break" 'hakmem: HAKMEM_SET: found "two lines", expected section.key=value; ignored'
set=";stats.file=/$(printf '%0600d' 0)"
mistake "HAKMEM_SET: an over-long setting" \
  'hakmem: HAKMEM_SET: found a setting of 612 characters \("stats.file=/0+\.\.\."\), expected at most 511; ignored'
set=
good "HAKMEM_SET overrides the file" "" # strict=on comes from HAKMEM_SET
ini=$WORK/absent.ini
mistake "HAKMEM_CONF: no such file" "hakmem: $ini: cannot be read .*, expected the INI file that HAKMEM_CONF names; ignored"
ini=$WORK
mistake "HAKMEM_CONF: a directory" "hakmem: $ini: cannot be read .*; ignored"
ini=$WORK/bad.ini
: >"$ini"
like "HAKMEM_VERBOSE=1: one line" "$(HAKMEM_VERBOSE=1 found "$PLUGINS" "" >/dev/null; cat "$WORK/err")" 'hakmem[^[:cntrl:]]*'

# ---- plugins ---------------------------------------------------------------------------------------------------------------
dir=$WORK/plugins
mkdir "$dir"
plugin() { build "plugins/$1.so" "$TESTS/plugins/broken.c" -shared -fPIC -fvisibility=hidden "-DNAME=\"$1\"" "${@:2}"; }
backend() { printf '[strategy.default]\nroute = malloc, %s from 64K\n' "$1" >"$ini"; }
broken() { # NAME REGEX [DEFINITION...]
  plugin "$1" "${@:3}"
  backend "$1"
  mistake "plugin $1" "hakmem: $ini:2: plugin $dir/$1.so: found $2; not used" "$dir"
}

plugin sound
backend sound
like "a sound plugin is used in silence" "$(found "$dir,$PLUGINS" ";core.strict=on"; cat "$WORK/err")" "alive"
plugin newer "-DMINOR=(HAK_ABI_MINOR+7)"
backend newer
like "a plugin of a newer minor version is used" "$(found "$dir,$PLUGINS" ";core.strict=on"; cat "$WORK/err")" "alive"

broken wrong_major 'ABI 1.[0-9]+, expected ABI 0.x' "-DMAJOR=(HAK_ABI_MAJOR+1)"
broken no_entry 'no entry symbol, expected the symbol hakmem_plugin' -DENTRY=another_name
broken small_struct 'a descriptor of 16 bytes, expected at least that of ABI 0.1' -DSIZE=16
broken narrow 'an option table of 1 entries with stride 8, expected at most 32 options with their stride' -DSTRIDE=8
broken askew 'an option table of 1 entries with stride 65, expected at most 32 options with their stride' -DSTRIDE=65
broken no_ops 'a descriptor without ops, expected name, start and ops' -DOPS=NULL
broken no_alloc 'no alloc, expected all members that its granularity needs' -DALLOC=NULL
broken half_fork 'no fork_parent, expected all members that its granularity needs' -DHALF_FORK
broken fails_to_start 'its start returned -4, expected a plugin that starts' -DSTART_RESULT=HAK_FAILED
broken is_policy 'a policy, expected a backend' -DPOLICY
broken unresolved '.*undefined symbol: nobody_has_this, expected a shared object that loads' -DUNRESOLVED
plugin bad_default '-DDEFAULT_SIZE="huge"'
backend bad_default
mistake "plugin bad_default" 'hakmem: backend.bad_default.size: its default "huge" is not usable, expected a size.*' "$dir"
echo "no ELF file" >"$dir/text.so"
backend text
mistake "plugin text" "hakmem: $ini:2: plugin $dir/text.so: found .*, expected a shared object that loads; not used" "$dir"
backend absent
mistake "plugin absent" "hakmem: $ini:2: plugin absent: found no such plugin, expected it in .*; not used" "$dir"
plugin no_policy
printf '[core]\npolicy = no_policy\n' >"$ini"
mistake "a backend as policy" "hakmem: $ini:2: plugin $dir/no_policy.so: found a backend, expected a policy; not used" "$dir"

plugin bad_choice -DPOLICY -DBAD_CHOICE
printf '[core]\npolicy = bad_choice\n' >"$ini"
is "a policy that fails: the program runs" "$(found "$dir,$PLUGINS" "")" alive
like "a policy that fails: one line" "$(<"$WORK/err")" 'hakmem: .*bad_choice.*'
plugin bad_arm -DPOLICY -DBAD_ARM
printf '[core]\npolicy = bad_arm\n' >"$ini"
is "a policy that names no strategy: the program runs" "$(found "$dir,$PLUGINS" "")" alive
like "a policy that names no strategy: one line" "$(<"$WORK/err")" 'hakmem: .*bad_arm.*'

plugin allocates -DALLOCATES
backend allocates
build limits "$TESTS/limits.c"
HAKMEM_CONF=$ini HAKMEM_SET="core.plugin_path=$dir,$PLUGINS;stats.exit=json;stats.file=$WORK/allocates.json" LD_PRELOAD=$LIB \
  "$WORK/limits" granules >"$WORK/out" 2>"$WORK/err"
is "a plugin that calls malloc: the program runs" "$?, $(grep -c ^FAIL "$WORK/out")" "0, 0"
like "a plugin that calls malloc: one line" "$(<"$WORK/err")" 'hakmem: plugin allocates allocates inside a callback.*'
command -v python3 >/dev/null && like "a plugin that calls malloc: counted" \
  "$(python3 "$TESTS/report.py" get "$WORK/allocates.json" backends/allocates/mallocs_in_callbacks)" '[1-9][0-9]*'
plugin misaligned -DMISALIGNED
backend misaligned
{
  HAKMEM_CONF=$ini HAKMEM_SET="core.plugin_path=$dir,$PLUGINS" LD_PRELOAD=$LIB \
    "$WORK/limits" granules >"$WORK/out" 2>"$WORK/err"
} 2>/dev/null
like "a plugin with misaligned blocks is told" "$(head -n 1 "$WORK/err")" 'hakmem: .*misaligned.*'

# ---- who may write a plugin --------------------------------------------------------------------------------------------------
refused() { # NAME FOUND DIRECTORY
  mistake "$1" "hakmem: $ini:2: plugin $3/sound.so: found $2, expected .*; not used" "$3"
}
mkdir "$WORK/open"
cp "$dir/sound.so" "$WORK/open/sound.so"
backend sound
chmod o+w "$WORK/open/sound.so"
refused "plugin writable by others" 'a file writable by others' "$WORK/open"
chmod 755 "$WORK/open/sound.so"
chmod o+w "$WORK/open"
refused "directory writable by others" 'a directory writable by others' "$WORK/open"
chmod 775 "$WORK/open" "$WORK/open/sound.so"
like "writable by a group of ours is used" "$(found "$WORK/open,$PLUGINS" ";core.strict=on"; cat "$WORK/err")" "alive"
if [ "$(id -u)" = 0 ]; then
  chgrp 4711 "$WORK/open/sound.so"
  refused "plugin writable by another group" 'a file writable by another group' "$WORK/open"
  chmod 755 "$WORK/open/sound.so"
  chgrp 4711 "$WORK/open"
  refused "directory writable by another group" 'a directory writable by another group' "$WORK/open"
else
  skip "writable by another group" "not root"
fi
mkdir -m 755 "$WORK/odd" "$WORK/odd/sound.so"
refused "a directory in place of a plugin" 'something that is not a regular file' "$WORK/odd"
rmdir "$WORK/odd/sound.so"
mkfifo -m 600 "$WORK/odd/sound.so"
refused "a pipe in place of a plugin" 'something that is not a regular file' "$WORK/odd"
mkdir -m 777 "$WORK/above"
mkdir -m 755 "$WORK/above/below"
cp "$dir/sound.so" "$WORK/above/below/"
refused "directory above writable by others" 'a directory writable by others' "$WORK/above/below"
mkdir -m 755 "$WORK/links"
ln -s "$WORK/above/below/sound.so" "$WORK/links/sound.so"
refused "link into such a directory" 'a directory writable by others' "$WORK/links"
ln -s "$WORK/above/below" "$WORK/alias"
refused "link to such a directory" 'a directory writable by others' "$WORK/alias"
ln -sf "$dir/sound.so" "$WORK/links/sound.so"
like "link into a good directory is used" "$(found "$WORK/links,$PLUGINS" ";core.strict=on"; cat "$WORK/err")" "alive"
ln -sfn "$dir" "$WORK/alias"
like "link to a good directory is used" "$(found "$WORK/alias,$PLUGINS" ";core.strict=on"; cat "$WORK/err")" "alive"
chmod 1777 "$WORK/open"
like "directory with the sticky bit is used" "$(found "$WORK/open,$PLUGINS" ";core.strict=on"; cat "$WORK/err")" "alive"
if [ "$(id -u)" -eq 0 ]; then
  mkdir -m 755 "$WORK/owned"
  cp "$dir/sound.so" "$WORK/owned/"
  chown 65534 "$WORK/owned/sound.so"
  refused "plugin of another owner" 'it owned by another user' "$WORK/owned"
  chown 0 "$WORK/owned/sound.so"
  chown 65534 "$WORK/owned"
  refused "directory of another owner" 'it owned by another user' "$WORK/owned"
else
  skip "plugin or directory of another owner" "needs root"
fi

# A link that changes between a good file and one that is not, all the time: the one that was checked is loaded, or none. The other
# says so itself, before anything of its descriptor is read.
if command -v python3 >/dev/null; then
  mkdir -m 755 "$WORK/race" "$WORK/other"
  plugin sound -DLOADED='"the other file is loaded"'
  mv "$dir/sound.so" "$WORK/other/sound.so"
  plugin sound
  chmod o+w "$WORK/other/sound.so"
  backend sound
  ln -s "$dir/sound.so" "$WORK/race/sound.so"
  change_link "$WORK/race" sound.so "$dir/sound.so" "$WORK/other/sound.so"
  : >"$WORK/outcomes"
  end=$((SECONDS + 4))
  while [ $SECONDS -lt $end ]; do
    found "$WORK/race,$PLUGINS" "" >>"$WORK/outcomes"
    cat "$WORK/err" >>"$WORK/outcomes"
  done
  kill "$racer"
  wait "$racer" 2>/dev/null
  runs=$(grep -c '^alive$' "$WORK/outcomes")
  refusals=$(grep -c 'found a file writable by others' "$WORK/outcomes")
  is "a link that changes: refused now and then, and used" "$((refusals > 0)) $((refusals < runs))" "1 1"
  is "a link that changes: the other file is never loaded" "$(grep -c 'the other file is loaded' "$WORK/outcomes")" 0
  is "a link that changes: nothing else goes wrong" "$(grep -vE '^alive$|found a file writable by others' "$WORK/outcomes" | head -n 3)" ""
else
  skip "a link that changes" "python3 is not installed"
fi

# ---- bare surroundings -------------------------------------------------------------------------------------------------------
is "no environment" "$(env -i LD_PRELOAD="$LIB" /bin/echo alive 2>/dev/null), $?" "alive, 0"
echo data >"$WORK/source"
for conf in "" "$TOP_SRCDIR/etc/mmap.ini"; do
  rm -f "$WORK/target"
  (HAKMEM_CONF=$conf HAKMEM_SET="core.plugin_path=$PLUGINS" LD_PRELOAD=$LIB exec cp "$WORK/source" "$WORK/target" <&- >&- 2>&-)
  is "no descriptors 0 to 2 (${conf##*/})" "$?, $(cat "$WORK/target")" "0, data"
  rm -rf "$WORK/three"
  (
    exec <&- >&- 2>&-
    ulimit -n 3
    HAKMEM_CONF=$conf HAKMEM_SET="core.plugin_path=$PLUGINS" LD_PRELOAD=$LIB exec mkdir "$WORK/three"
  )
  is "three descriptors in all (${conf##*/})" "$?, $([ -d "$WORK/three" ] && echo made)" "0, made"
done
build nofile.so "$TESTS/nofile.c" -shared -fPIC
is "no descriptor at all" "$(LD_PRELOAD=$LIB:$WORK/nofile.so /bin/echo alive 2>/dev/null), $?" "alive, 0"
if unshare -m true 2>/dev/null && unshare -m umount -l /proc 2>/dev/null; then
  is "no /proc" "$(HAKMEM_SET="core.plugin_path=$PLUGINS;core.strict=on" unshare -m sh -c \
    'umount -l /proc; HAKMEM_CONF=$1 LD_PRELOAD=$2 exec /bin/echo alive' - \
    "$TOP_SRCDIR/etc/mmap.ini" "$LIB" 2>&1), $?" "alive, 0"
else
  skip "no /proc" "needs root and mount namespaces"
fi
finish
