#!/bin/bash
# SPDX-License-Identifier: MIT
#
# tool.sh - the `hakmem` command, from the outside. TOP_BUILDDIR is the build tree; nothing needs to be installed.
# Prints one line for each check and the counts; exits 0 only when nothing failed.

set -u
if [ "${INTERPOSE:-yes}" = no ]; then # nothing to preload
  echo "0 passed, 0 failed, 1 skipped"
  exit 77
fi
top=$(cd "${TOP_BUILDDIR:-.}" && pwd)
hakmem=$top/tools/hakmem
plugins=$top/plugins/.libs
dir=$(mktemp -d)
started=()
passed=0 failed=0 skipped=0
unset HAKMEM_CONF HAKMEM_SET HAKMEM_VERBOSE GLIBC_TUNABLES

finish() {
  for pid in "${started[@]}"; do
    kill -KILL "$pid" 2>/dev/null
  done
  { wait; } 2>/dev/null
  rm -rf "$dir"
}
trap finish EXIT

pass() {
  echo "ok - $1"
  passed=$((passed + 1))
}

fail() { # name, found, expected
  echo "FAIL - $1: found $(head -c 600 <<<"$2"), expected $3"
  failed=$((failed + 1))
}

skip() {
  echo "skip - $1"
  skipped=$((skipped + 1))
}

equal() { # name, found, expected
  if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "$2" "$3"; fi
}

has() { # name, text, extended regular expression
  if grep -qE -- "$3" <<<"$2"; then pass "$1"; else fail "$1" "$2" "a match of $3"; fi
}

lacks() { # name, text, extended regular expression
  if grep -qE -- "$3" <<<"$2"; then fail "$1" "$2" "no match of $3"; else pass "$1"; fi
}

run() { # command...: its output in $out, its messages in $err, its status in $status
  { "$@" >"$dir/out" 2>"$dir/err"; } 2>/dev/null
  status=$?
  out=$(cat "$dir/out")
  err=$(cat "$dir/err")
}

compile() { # output, options...; the source is standard input
  local output=$1
  shift
  "${CC:-cc}" -x c - -o "$dir/$output" "$@" 2>"$dir/cc.err"
}

wait_for() { # command...: up to 10 s
  for ((i = 0; i < 200; i++)); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.05
  done
  return 1
}

# ---- programs to work with ----------------------------------------------------------------------------------------------

compile busy <<'EOC' || { echo "FAIL - no C compiler"; exit 1; }
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
  (void)argv;
  puts("busy");
  fflush(stdout);
  for (unsigned i = 0;; i++) {
    void *volatile small = malloc(100);
    void *volatile large = malloc(2000000);
    free(small);
    free(large);
    if (i % 64 == 0 || argc > 1)
      usleep(1000);
  }
}
EOC
compile idle <<'EOC'
#include <stdlib.h>
#include <unistd.h>
int main(void)
{
  free(malloc(100));
  pause();
  return 0;
}
EOC
compile large <<'EOC'
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(void)
{
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* small pages take long to give up */
  volatile char *block = malloc(200 << 20);
  memset((char *)block, 1, 200 << 20);
  write(1, "there\n", 6);
  pause();
  return 0;
}
EOC
compile exact <<'EOC'
#include <stdlib.h>
int main(void)
{
  for (int i = 0; i < 1000; i++) {
    void *volatile p = malloc(3000000);
    free(p);
  }
  return 7;
}
EOC

# ---- usage --------------------------------------------------------------------------------------------------------------

run "$hakmem"
equal "no command: status" $status 2
run "$hakmem" --help
equal "--help: status" $status 0
has "--help names the commands" "$out" 'hakmem plugins --check'
help=$out
run "$hakmem" check --help
equal "a command's --help is the same" "$status $out$err" "0 $help"
run "$hakmem" --version
has "--version" "$out" '^hakmem [0-9]+\.[0-9]+'
run "$hakmem" frobnicate
equal "unknown command: status" $status 2
has "unknown command: message" "$err" '^hakmem: unknown command frobnicate$'
run "$hakmem" run --frobnicate true
equal "unknown option: status" $status 2

# ---- run ----------------------------------------------------------------------------------------------------------------

run "$hakmem" run -- sh -c 'exit 5'
equal "run: the status of the program" $status 5
run "$hakmem" run no-such-program
equal "run: not found: status" $status 127
has "run: not found: message" "$err" '^hakmem: no-such-program: No such file'
run "$hakmem" run /etc/passwd
equal "run: not executable: status" $status 126
run "$hakmem" run -c "$dir/none.ini" true
equal "run: missing INI: status" $status 2
has "run: missing INI: message" "$err" '^hakmem: .*/none.ini: No such file'
run "$hakmem" run -o novalue true
has "run: -o without =" "$err" '^hakmem: novalue: expected key=value'
equal "run: -o without =: status" $status 2
run "$hakmem" run -o 'a.b=c;d.e=f' true
equal "run: -o with ;: status" $status 2
run "$hakmem" run -o $'a.b=c\nd' true
equal "run: -o with a line break: status" $status 2

printf '[core]\nepoch = 64\n' >"$dir/one.ini"
run env -C "$dir" "$hakmem" run -c one.ini -o core.foreign=abort -- env
has "run: HAKMEM_CONF is absolute" "$out" "^HAKMEM_CONF=$dir/one.ini$"
has "run: HAKMEM_SET has the setting" "$out" '^HAKMEM_SET=core.foreign=abort;'
has "run: the plugins of the build tree" "$out" "^HAKMEM_SET=.*core.plugin_path=$plugins$"
lacks "run: no tunable without a library" "$out" '^GLIBC_TUNABLES='
run env HAKMEM_SET=core.plugin_path=/nowhere LD_PRELOAD=libc.so.6 "$hakmem" run -- env
has "run: keeps the user's plugin path" "$out" "core.plugin_path=/nowhere,$plugins$"
has "run: keeps LD_PRELOAD" "$out" "^LD_PRELOAD=$top/.libs/libhakmem.so.0:libc.so.6$"
printf '[core]\nplugin_path = /nowhere\t; mine\n' >"$dir/tab.ini"
run "$hakmem" run -c "$dir/tab.ini" -- env
has "run: a comment behind a tab is none of the plugin path" "$out" "^HAKMEM_SET=core.plugin_path=/nowhere,$plugins$"
printf '\xef\xbb\xbf[core]\nplugin_path = /nowhere\n\0\nplugin_path = /elsewhere\n' >"$dir/mark.ini"
run "$hakmem" run -c "$dir/mark.ini" -- env
has "run: a byte order mark and a NUL byte are what they are to the library" "$err $out" \
  "^hakmem: $dir/mark.ini:3: found a NUL byte, "
has "run: the plugin path between them" "$out" "^HAKMEM_SET=core.plugin_path=/nowhere,$plugins$"
run env GLIBC_TUNABLES=glibc.malloc.check=0 "$hakmem" run -o backend.malloc.library=libc.so.6 -- env
has "run: room for thread-local storage" "$out" '^GLIBC_TUNABLES=glibc.malloc.check=0:glibc.rtld.optional_static_tls=16384$'
printf '[backend.malloc]\nlibrary = libc.so.6 ; x\n' >"$dir/library.ini"
run "$hakmem" run -c "$dir/library.ini" -- env
has "run: the library of an INI" "$out" '^GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384$'

if compile static -static <<<'int main(void) { return 4; }'; then
  run "$hakmem" run "$dir/static"
  equal "run: static program: status" $status 4
  has "run: static program: warning" "$err" '^hakmem: .*/static: statically linked; it runs with its own malloc'
  printf '#!%s\n' "$dir/static" >"$dir/script"
  chmod +x "$dir/script"
  run "$hakmem" run "$dir/script"
  has "run: script of a static interpreter" "$err" 'script: statically linked;'
  run "$hakmem" run --stats "$dir/static"
  has "run: --stats without a report" "$err" 'static: no statistics: '
else
  skip "run: static program (no static libc)"
fi
run "$hakmem" run true
equal "run: no warning for a dynamic program" "$err" ""
if [ "$(id -u)" = 0 ] && cp /bin/true "$dir/privileged" && chown 65534 "$dir/privileged" && chmod 4755 "$dir/privileged"; then
  run "$hakmem" run "$dir/privileged"
  has "run: setuid program" "$err" 'privileged: setuid; it runs with its own malloc'
else
  skip "run: setuid program (needs root)"
fi

# ---- run --stats --------------------------------------------------------------------------------------------------------

run "$hakmem" run --stats=json -- "$dir/exact"
equal "stats: the status of the program" $status 7
counts=$(python3 -c '
import json, sys
report = json.load(open(sys.argv[1]))
backends = [b for name, b in report["backends"].items() if b["allocs"] >= 1000]
print(len(backends) >= 1 and report["totals"]["allocs"] >= 1000 and report["totals"]["frees"] >= 1000)' "$dir/err" 2>&1)
equal "stats: JSON with the calls made" "$counts" True
printf '[strategy.gr\xf6\xdfe "\xc3\xb6"\xed\xa0\x80\xf0\x9f\x90\x84\xc0\xaf]\nroute = malloc\n' >"$dir/names.ini"
run "$hakmem" run -c "$dir/names.ini" --stats=json -- true
equal "stats: JSON of names that are not UTF-8" "$(python3 -c '
import json, sys
print(ascii(json.load(open(sys.argv[1], encoding="utf-8"))["policy"]["strategies"][1]["name"]))' "$dir/err" 2>&1)" \
  "'gr??e \"\\xf6\"???\\U0001f404??'"
run "$hakmem" run --stats -- "$dir/exact"
has "stats: text" "$err" '^ +allocs +[0-9]{4}'
run "$hakmem" run --stats=prometheus -- "$dir/exact"
has "stats: Prometheus" "$err" '^hakmem_allocs_total [0-9]{4}'
run "$hakmem" run --stats=xml -- true
equal "stats: unknown format: status" $status 2
run "$hakmem" run --stats -- bash -c 'exec 2>&-; exit 3'
equal "stats: a program that closes stderr: status" $status 3
has "stats: a program that closes stderr" "$err" '^ +allocs '
run "$hakmem" run --stats -- bash -c 'kill -KILL $$'
equal "stats: killed program: status" $status 137
has "stats: killed program: message" "$err" 'no statistics: killed by signal 9'
run "$hakmem" run --stats -- bash -c "'$dir/exact'; exit 0"
equal "stats: of one process only" "$(grep -c '^ *allocs ' <<<"$err")" 1
mkdir "$dir/tmp"
run env TMPDIR="$dir/tmp" "$hakmem" run --stats -- true
equal "stats: no temporary file is left" "$(find "$dir/tmp" -mindepth 1)" ""

"$hakmem" run --stats -- bash -c 'trap "exit 9" USR1; while :; do sleep 0.05; done' 2>"$dir/err" &
pid=$!
started+=("$pid")
sleep 0.5
kill -USR1 $pid
wait $pid
equal "stats: signals reach the program" $? 9
"$hakmem" run --stats -- "$dir/idle" 2>"$dir/err" &
pid=$!
started+=("$pid")
sleep 0.5
kill -TERM $pid
wait $pid 2>/dev/null
equal "stats: ends by the signal that ended the program" $? 143

# ---- check --------------------------------------------------------------------------------------------------------------

run "$hakmem" check "$dir/one.ini"
equal "check: clean: status" $status 0
equal "check: clean: no message" "$err" ""
has "check: the value in force" "$out" '^epoch *= *64 *;.*one.ini'
has "check: the machine" "$out" '^; vm.max_map_count +[0-9]+'
equal "check: each section once" "$(grep "^\[" <<<"$out" | sort | uniq -d)" ""
printf '%s\n' "$out" >"$dir/again.ini"
run "$hakmem" check "$dir/again.ini"
equal "check: its output is an INI" "$status$err" 0
printf '[core]\nepoch = 64\nepok = 3\n' >"$dir/bad.ini"
run "$hakmem" check "$dir/bad.ini"
equal "check: mistake: status" $status 1
has "check: mistake: message" "$err" '^hakmem: .*bad.ini:3: unknown key core.epok; did you mean core.epoch\?'
run "$hakmem" check -o core.strict=on "$dir/bad.ini"
equal "check: strict: status" $status 1
has "check: strict: message" "$err" 'core.strict is on: no program would start'
printf '[strategy.default]\nroute = malloc\n[backend.hugepage]\nmode = enormous\nmoed = thp\nzzzzzzz = 1\n' >"$dir/idle.ini"
run "$hakmem" check "$dir/idle.ini"
equal "check: plugin that is not chosen: status" $status 1
has "check: plugin that is not chosen: value" "$err" 'idle.ini:4: backend.hugepage.mode: found "enormous", expected '
has "check: plugin that is not chosen: key" "$err" 'idle.ini:5: unknown key backend.hugepage.moed; did you mean backend.hugepage.mode\?'
has "check: plugin that is not chosen: key without a neighbour" "$err" 'idle.ini:6: unknown key backend.hugepage.zzzzzzz; ignored'
printf '[policy.elo]\nstate_file = state\n' >"$dir/relative.ini"
run "$hakmem" check "$dir/relative.ini"
equal "check: relative path of a plugin that is not chosen" "$status $err" \
  "1 hakmem: $dir/relative.ini:2: policy.elo.state_file: found \"state\", expected absolute path"
printf '[policy.elo]\nk = 16\t; points\nsurvivors ; = 1000\n' >"$dir/tab.ini"
run "$hakmem" check "$dir/tab.ini"
equal "check: comments of a plugin that is not chosen" "$err" \
  "hakmem: $dir/tab.ini:3: found \"survivors \", expected key = value; ignored"
for ((i = 0; i < 64; i++)); do printf '[strategy.s%d]\nroute = malloc\n' $i; done >"$dir/many.ini"
run "$hakmem" check -o core.policy=elo "$dir/many.ini"
equal "check: lists all options of many sections" "$(grep -cE '^(thresholds|survivors) = ' <<<"$out")" 66
run "$hakmem" check "$dir/none.ini"
equal "check: missing file: status" $status 2
run "$hakmem" check -o stats.exit=text
equal "check: asks for no report of itself" "$err" ""

# ---- plugins ------------------------------------------------------------------------------------------------------------

run "$hakmem" plugins
equal "plugins: status" $status 0
for name in malloc mmap hugepage static; do
  has "plugins: lists $name" "$out" "^$name [0-9.]+ \((backend, (byte|page)|policy)\)"
done
has "plugins: options" "$out" '^    mode +auto \| thp \| hugetlb, default auto'
compile not_a_plugin.so -shared -fPIC <<<'int x;'
run "$hakmem" plugins "$dir/not_a_plugin.so"
equal "plugins: not a plugin: status" $status 1
has "plugins: not a plugin: message" "$err" 'not_a_plugin.so: not a plugin: it does not export hakmem_plugin$'
run "$hakmem" plugins "$dir/none"
equal "plugins: no such file: status" $status 1

for name in malloc mmap hugepage static; do
  run "$hakmem" plugins --check "$plugins/$name.so"
  equal "plugins --check $name" "$status:$(grep -c '^FAIL' <<<"$out"):$err" "0:0:"
done
run "$hakmem" plugins --check "$dir/not_a_plugin.so"
equal "plugins --check: not a plugin: status" $status 1
has "plugins --check: not a plugin: line" "$out" '^FAIL exports hakmem_plugin: found no such symbol, expected '

# Page backends with one mistake each, from one source.
include=$(cd "$(dirname "$0")/../include" && pwd)
mistaken() { # file, macro...
  local file=$1
  shift
  compile "$file.so" -std=gnu11 -shared -fPIC -I"$include" "$@" <<'EOC'
#include <hakmem/plugin.h>
#include <sys/mman.h>
#ifndef NAME
#define NAME "mistaken"
#endif
static const hak_host *host;
static const hak_option options[] = {
    {.key = "speed", .type = HAK_INT, .fallback = FALLBACK, .min = "1", .max = "9", .help = "Not used."}};
static hak_block block_alloc(void *self, void **slot, size_t size, size_t align)
{
  (void)self, (void)slot;
  size = (size + HAK_GRANULE - 1) & ~(HAK_GRANULE - 1);
  long got = host->os->mmap(NULL, size + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (hak_os_failed(got))
    return HAK_NO_BLOCK;
  uintptr_t start = ((uintptr_t)got + align - 1) & ~(align - 1), end = (uintptr_t)got + size + align;
  if (start > (uintptr_t)got)
    host->os->munmap((void *)got, start - (uintptr_t)got);
  if (end > start + size)
    host->os->munmap((void *)(start + size), end - start - size);
  ALLOC
  return hak_block_make((void *)start, size, HAK_ZEROED);
}
static void block_free(void *self, void **slot, void *base, size_t capacity)
{
  (void)self, (void)slot;
  FREE
  host->os->munmap(base, capacity);
}
static int32_t start(const hak_host *core, const hak_value *values, void **self)
{
  (void)values, (void)self;
  host = core;
  START
  return HAK_OK;
}
static const hak_backend_ops ops = {
    .struct_size = sizeof ops, .granularity = HAK_PAGE, .alloc = block_alloc, .free = block_free};
HAK_PLUGIN_EXPORT const hak_plugin hakmem_plugin = {
    .struct_size = sizeof(hak_plugin), .abi_major = HAK_ABI_MAJOR, .abi_minor = HAK_ABI_MINOR, .kind = HAK_BACKEND,
    .name = NAME, .version = "1", .summary = "A page backend for a test.", .options = options, .option_count = 1,
    .option_stride = sizeof(hak_option), .start = start, .ops = &ops};
EOC
}
none=(-DFALLBACK='"5"' -DALLOC= -DFREE= -DSTART=)
has_line() { # name, file, regular expression
  run timeout 120 "$hakmem" plugins --check "$dir/$2.so"
  if [ $status != 1 ]; then fail "$1: status" $status 1; else has "$1" "$out" "$3"; fi
}
mistaken mistaken "${none[@]}"
run "$hakmem" plugins --check "$dir/mistaken.so"
equal "plugins --check: a plugin without mistakes" "$status:$(grep -c '^FAIL' <<<"$out")" "0:0"
mistaken named "${none[@]}"
has_line "plugins --check: file name" named '^FAIL file name: found named.so, expected mistaken.so'
mistaken fallback "${none[@]}" -UFALLBACK -DFALLBACK='"10"' -DNAME='"fallback"'
has_line "plugins --check: default out of range" fallback '^FAIL option table: found speed with the default 10'
mistaken tls "${none[@]}" -USTART -DSTART='static __thread int counter; counter++;' -DNAME='"tls"'
has_line "plugins --check: thread-local storage" tls '^FAIL has no thread-local storage: found a PT_TLS segment'
mistaken fails "${none[@]}" -USTART -DSTART='return HAK_FAILED;' -DNAME='"fails"'
has_line "plugins --check: start fails" fails '^FAIL libhakmem uses the plugin: '
mistaken dirty "${none[@]}" -UALLOC -DALLOC='*(char *)start = 1;' -DNAME='"dirty"'
has_line "plugins --check: not zeroed" dirty '^FAIL calloc gives zeros: found a byte that is not 0'
mistaken small "${none[@]}" -UALLOC -DNAME='"small"' \
  -DALLOC='if (size > 4000000) host->os->munmap((char *)start + size - 65536, 65536);'
has_line "plugins --check: crash" small '^FAIL workout: found killed by signal 11'
mistaken callback "${none[@]}" -UFREE -DNAME='"callback"' \
  -DFREE='extern void *malloc(size_t); extern void free(void *); void *volatile p = malloc(1); free(p);'
has_line "plugins --check: malloc in a callback" callback '^FAIL no malloc in callbacks: found [1-9]'

# ---- stat ---------------------------------------------------------------------------------------------------------------

start() { # program...: in $pid, when it runs under hakmem
  "$hakmem" run -- "$@" >/dev/null &
  pid=$!
  started+=("$pid")
  wait_for "$hakmem" stat "$pid"
}
start "$dir/busy" slowly
busy=$pid
run "$hakmem" stat $busy
equal "stat: busy process: status" $status 0
has "stat: busy process" "$out" '^ +allocs +[1-9]'
first=$(awk '$1 == "allocs" { print $2; exit }' <<<"$out")
sleep 0.3
second=$("$hakmem" stat $busy | awk '$1 == "allocs" { print $2; exit }')
if [ "$second" -gt "$first" ]; then pass "stat: numbers rise"; else fail "stat: numbers rise" "$first, then $second" "more"; fi
equal "stat: JSON" "$("$hakmem" stat --json $busy | python3 -c "import json, sys; print(json.load(sys.stdin)['pid'])")" "$busy"
has "stat: Prometheus" "$("$hakmem" stat --prometheus $busy)" '^hakmem_allocs_total [0-9]+$'
run timeout 1 "$hakmem" stat --watch=0.2 $busy
has "stat: --watch: heading" "$out" '^ *allocs/s +frees/s +allocated +mapped +retained +resident'
has "stat: --watch: rates" "$out" '^ +[1-9][0-9]* +[1-9][0-9]* '
kill -STOP $busy
sleep 0.1
run "$hakmem" stat $busy
has "stat: stopped process" "$status $out" '^0 hakmem'

run "$hakmem" stat $$
equal "stat: not under hakmem: status" $status 1
has "stat: not under hakmem: message" "$err" "^hakmem: process $$ does not run under hakmem$"
run "$hakmem" stat 2147483647
has "stat: no such process" "$status $err" '^1 hakmem: no process 2147483647$'
run "$hakmem" stat abc
equal "stat: not a number: status" $status 2
cp "$top/.libs/libhakmem.so" "$dir/gone.so"
LD_PRELOAD=$dir/gone.so HAKMEM_SET=core.plugin_path=$plugins "$dir/idle" &
pid=$!
started+=("$pid")
wait_for "$hakmem" stat "$pid"
rm "$dir/gone.so"
run "$hakmem" stat $pid
equal "stat: deleted library: status" $status 0
nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups)
cp "$hakmem" "$dir/copy"
cp "$top/.libs/libhakmem.so" "$dir/copy.so"
chmod 755 "$dir" "$dir/copy" "$dir/copy.so"
if [ "$(id -u)" = 0 ] && "${nobody[@]}" "$dir/copy" --version >/dev/null 2>&1; then
  run "${nobody[@]}" "$dir/copy" stat $busy
  has "stat: foreign process, as a user" "$status $err" "^1 hakmem: process $busy belongs to root: "
  run "${nobody[@]}" "$dir/copy" set $busy core.epoch=5
  has "set: foreign process, as a user" "$status $err" "^1 hakmem: process $busy belongs to root: "
  "${nobody[@]}" env LD_PRELOAD="$dir/copy.so" "$dir/idle" 2>/dev/null & # without plugins, when nobody cannot read them
  pid=$!
  started+=("$pid")
  wait_for "$hakmem" stat "$pid"
  run "$hakmem" stat $pid
  equal "stat: foreign process, as root: status" $status 0
else
  skip "stat: foreign process (needs root)"
fi

# ---- set ----------------------------------------------------------------------------------------------------------------

run "$hakmem" set -t 0.3 $busy core.epoch=99
equal "set: stopped process: status" $status 3
has "set: stopped process: message" "$err" "^hakmem: process $busy is stopped: it will take core.epoch=99 at its next"
run "$hakmem" set -t 0.3 $busy core.epoch=98
has "set: the first request waits" "$status $err" '^3 hakmem: .* has not taken an earlier request yet, core.epoch=99: nothing'
kill -CONT $busy
sleep 0.3
run "$hakmem" set $busy core.epoch=2048
has "set: the waiting request was taken" "$status $out" '^0 core.epoch = 2048 \(was 99\)$'
run "$hakmem" set $busy core.hardening=full
equal "set: option that cannot change: status" $status 1
has "set: option that cannot change: reason" "$err" '^hakmem: core.hardening cannot change in a running process'
run "$hakmem" set $busy core.epoch=many
has "set: bad value" "$status $err" '^1 hakmem: core.epoch: found "many", expected '
run "$hakmem" set $busy 'core.cap=64 '
has "set: a size with a blank behind it" "$status $err" '^1 hakmem: core.cap: found "64 ", expected a size'
run "$hakmem" set $busy core.epok=5
has "set: unknown key" "$status $err" '^1 hakmem: unknown key core.epok; did you mean core.epoch\?'
run "$hakmem" set $busy core.epoch
equal "set: no value: status" $status 2
for ((i = 0; i < 8; i++)); do
  "$hakmem" set $busy core.epoch=$((100 + i)) >"$dir/set.$i" 2>&1 &
  started+=($!)
  setters[i]=$!
done
wait "${setters[@]}"
good=0
for ((i = 0; i < 8; i++)); do
  grep -q "^core.epoch = $((100 + i)) (was " "$dir/set.$i" && good=$((good + 1))
done
equal "set: eight senders at once" $good 8
start "$dir/idle"
sleep 0.3 # until it has made its only allocation
run "$hakmem" set -t 0.2 "$pid" core.epoch=5
has "set: idle process" "$status $err" "^3 hakmem: process $pid sleeps: it will take core.epoch=5 at its next allocation$"

"$hakmem" stat --watch=0.1 $busy >"$dir/watched" 2>"$dir/err" &
watcher=$!
started+=("$watcher")
for _ in {1..300}; do
  [ -s "$dir/watched" ] && break
  sleep 0.1
done
kill -KILL $busy
{ wait $watcher $busy; } 2>/dev/null
equal "stat: --watch ends with the process" "$(cat "$dir/err")" ""

# The memory of a process goes before the process does, which takes a while when there is much of it.
for round in 1 2 3; do
  rm -f "$dir/there" "$dir/watched"
  "$hakmem" run -- "$dir/large" >"$dir/there" &
  pid=$!
  started+=("$pid")
  wait_for grep -q there "$dir/there"
  "$hakmem" stat --watch=0.01 $pid >"$dir/watched" 2>"$dir/err" &
  watcher=$!
  started+=("$watcher")
  wait_for test -s "$dir/watched"
  kill -KILL $pid
  { wait $watcher; } 2>/dev/null
  equal "stat: --watch ends with a large process ($round)" "$? $(cat "$dir/err")" "0 "
done

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
