#!/bin/bash
# SPDX-License-Identifier: MIT
# secure.sh - a program that belongs to root, is setuid and linked with libhakmem, run by another user: nothing that this user can
# write decides what is loaded or written. Needs root.
. "$(dirname "$0")/lib.sh"
needs_interposing
needs setpriv

if [ "$(id -u)" -ne 0 ]; then
  skip "more rights than the caller" "needs root"
  echo "0 passed, 0 failed, 1 skipped"
  exit 77
fi

# The library has its configuration in $WORK/etc and its plugins in $WORK/plugins. Everybody may write to $WORK/out.
chmod 755 "$WORK"
mkdir -m 755 "$WORK/etc" "$WORK/plugins" "$WORK/theirs"
mkdir -m 1777 "$WORK/out"
cp "$PLUGINS"/*.so "$WORK/plugins"
make -s -C "$TOP_BUILDDIR" PLACE="$WORK" sysconfdir="$WORK/etc" plugindir="$WORK/plugins" placed-core >"$WORK/log" 2>&1
is "the library is built" "$?, $(grep error: "$WORK/log" | head -n 3)" "0, "
build secure "$TESTS/secure.c" -Wl,--no-as-needed "$WORK/libhakmem.so.0" -Wl,-rpath,"$WORK"
build theirs/sound.so "$TESTS/plugins/broken.c" -shared -fPIC -fvisibility=hidden '-DNAME="sound"' \
  '-DLOADED="their file is loaded"'
ini=$WORK/etc/hakmem.ini
reports='[stats]\nexit = text\nfile = '$WORK/out/report'\n'
learns='[core]\npolicy = elo\nepoch = 1\n[policy.elo]\nstate_file = '$WORK/out/state'\n'
loads='[core]\nplugin_path = '$WORK/theirs'\n[strategy.default]\nroute = malloc, sound from 512K\n'

# run [VARIABLE=VALUE...]: the program, by the other user. What it wrote is in $written, what was said in $WORK/err.
run() {
  rm -f "$WORK"/out/*
  output=$(timeout 20 env "$@" setpriv --reuid=65534 --regid=65534 --clear-groups "$WORK/secure" 2>"$WORK/err")
  status=$?
  written=$(find "$WORK/out" -type f -printf '%f\n' | sort | tr '\n' ' ')
}
secure="secure 1, served 1, variables 0"

# ---- an ordinary program: all of this counts ---------------------------------------------------------------------------------
printf '%b' "$reports$learns" >"$ini"
run
is "an ordinary program: the installed file" "$output, $written" "secure 0, served 1, variables 0, report state "
rm "$ini"
printf '%b' "$reports$learns" >"$WORK/their.ini"
run HAKMEM_CONF="$WORK/their.ini"
is "an ordinary program: HAKMEM_CONF" "$output, $written" "secure 0, served 1, variables 1, report state "
printf '%b' "$loads" >"$WORK/load.ini"
run HAKMEM_CONF="$WORK/load.ini" HAKMEM_SET="stats.exit=text;stats.file=$WORK/out/set"
is "an ordinary program: HAKMEM_SET" "$output, $written" "secure 0, served 1, variables 2, set "
is "an ordinary program: a plugin of a directory that a file names" "$(grep -c 'their file is loaded' "$WORK/err")" 1

# ---- setuid: the environment -------------------------------------------------------------------------------------------------
chmod 4755 "$WORK/secure"
run
if [ "$output" = "secure 0, served 1, variables 0" ]; then
  skip "more rights than the caller" "the file system of $WORK is mounted nosuid"
  finish
fi
is "setuid: the program runs" "$output, $(<"$WORK/err")" "$secure, "
nothing() { # NAME VARIABLE=VALUE...: no effect, not even a word
  run "${@:2}"
  is "setuid, $1" "$output, status $status, $(<"$WORK/err")" "$secure, status 0, "
  is "setuid, $1: nothing is written" "$written" ""
}
nothing "HAKMEM_CONF: files to write" HAKMEM_CONF="$WORK/their.ini"
nothing "HAKMEM_CONF: plugin_path" HAKMEM_CONF="$WORK/load.ini"
nothing "HAKMEM_CONF: no such file" HAKMEM_CONF="$WORK/absent.ini"
nothing "HAKMEM_SET: files to write" \
  HAKMEM_SET="stats.exit=text;stats.file=$WORK/out/set;policy.elo.state_file=$WORK/out/state;core.policy=elo"
nothing "HAKMEM_SET: plugin_path" HAKMEM_SET="core.plugin_path=$WORK/theirs;strategy.default.route=malloc, sound from 512K"
nothing "HAKMEM_SET: a plugin by its path" HAKMEM_SET="strategy.default.route=malloc, $WORK/theirs/sound.so from 512K"
nothing "HAKMEM_SET: a library" \
  HAKMEM_SET="core.small=none;backend.malloc.library=$WORK/theirs/sound.so;strategy.default.route=malloc"
nothing "HAKMEM_SET: strict" HAKMEM_SET="core.strict=on;no.such=key"
nothing "HAKMEM_VERBOSE" HAKMEM_VERBOSE=1

# ---- setuid: the installed file ----------------------------------------------------------------------------------------------
printf '%b' "$reports$learns" >"$ini"
run
is "setuid, a trusted file counts" "$output, $(<"$WORK/err"), $written" "$secure, , report state "
printf '%b' "$loads$reports" >"$ini"
run
like "setuid, plugin_path of a trusted file does not" "$(<"$WORK/err")" \
  "hakmem: $ini:4: plugin sound: found no such plugin, expected it in core.plugin_path or $WORK/plugins; not used"
is "setuid, the rest of it does" "$output, $written" "$secure, report "

distrusted() { # NAME FOUND
  run
  like "setuid, $1" "$output, $(<"$WORK/err")" \
    "$secure, hakmem: $ini: found $2, expected .*; ignored in a process with privileges of its own"
  is "setuid, $1: nothing is written" "$written" ""
}
printf '%b' "$reports$learns" >"$ini"
chmod o+w "$ini"
distrusted "a file writable by others" "a file writable by others"
chmod 644 "$ini"
chgrp 65534 "$ini" # the group of the user who starts it
chmod 664 "$ini"
distrusted "a file writable by another group" "a file writable by another group"
chgrp 0 "$ini"
chmod 644 "$ini"
chown 65534 "$ini"
distrusted "a file of another user" "it owned by another user"
chown 0 "$ini"
chmod o+w "$WORK/etc"
distrusted "a directory writable by others" "a directory writable by others"
chmod 755 "$WORK/etc"
mv "$ini" "$WORK/theirs/hakmem.ini"
chown 65534 "$WORK/theirs/hakmem.ini"
ln -s "$WORK/theirs/hakmem.ini" "$ini"
distrusted "a link to a file of another user" "it owned by another user"
rm "$ini"
mkfifo -m 600 "$ini"
distrusted "a pipe" "something that is not a regular file"
rm "$ini"

# A trusted file, and a plugin of its installed directory that is not to be trusted.
printf '%b' '[strategy.default]\nroute = malloc, sound from 512K\n' >"$ini"
cp "$WORK/theirs/sound.so" "$WORK/plugins/sound.so"
run
is "setuid, an installed plugin is loaded" "$output, $(<"$WORK/err")" "$secure, their file is loaded"
chown 65534 "$WORK/plugins/sound.so"
run
like "setuid, a plugin of another user is not" "$output, $(<"$WORK/err")" \
  "$secure, hakmem: $ini:2: plugin $WORK/plugins/sound.so: found it owned by another user, .*"
rm "$ini"

# ---- a link that changes between the check and the reading -------------------------------------------------------------------
if command -v python3 >/dev/null; then
  mkdir -m 755 "$WORK/good"
  printf '%b' "[stats]\nexit = text\nfile = $WORK/out/good\n" >"$WORK/good/hakmem.ini"
  printf '%b' "[stats]\nexit = text\nfile = $WORK/out/bad\n" >"$WORK/theirs/hakmem.ini"
  ln -s "$WORK/good/hakmem.ini" "$ini"
  change_link "$WORK/etc" hakmem.ini "$WORK/good/hakmem.ini" "$WORK/theirs/hakmem.ini"
  good=0 bad=0 refused=0 runs=0
  end=$((SECONDS + 4))
  while [ $SECONDS -lt $end ]; do
    run
    runs=$((runs + 1))
    case $written in *good*) good=$((good + 1)) ;; *bad*) bad=$((bad + 1)) ;; *) refused=$((refused + 1)) ;; esac
  done
  kill "$racer"
  wait "$racer" 2>/dev/null
  is "setuid, a link that changes: used now and then, and refused" "$((good > 0)) $((refused > 0))" "1 1"
  is "setuid, a link that changes: the other file never counts (in $runs runs)" "$bad" 0
else
  skip "setuid, a link that changes" "python3 is not installed"
fi
finish
