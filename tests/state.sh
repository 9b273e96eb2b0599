#!/bin/bash
# SPDX-License-Identifier: MIT
# state.sh - the state file of the policies that learn, in processes: who writes it, and what is never written over. That it can be
# used again is a matter of tests/test_learn.c, and of tests/advise.sh.
. "$(dirname "$0")/lib.sh"
needs_interposing

cat >"$WORK/work.c" <<'EOC'
/* work BLOCKS [HOW [FILE]]: so many blocks of 1 MiB; HOW says in which process. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void work(int blocks)
{
  for (int i = 0; i < blocks; i++) {
    char *volatile block = malloc(1 << 20);
    block[0] = 1;
    free(block);
  }
}

static void wait_until_gone(pid_t parent)
{
  while (getppid() == parent) {
    usleep(1000);
  }
}

/* The parent goes, and the child goes on. */
static void leave(void (*end)(int))
{
  pid_t parent = getpid();
  if (fork() > 0) {
    end(0);
  }
  wait_until_gone(parent);
}

int main(int argc, char **argv)
{
  int blocks = argc > 1 ? atoi(argv[1]) : 0;
  const char *how = argc > 2 ? argv[2] : "";
  pid_t first = getpid();
  if (strcmp(how, "daemon") == 0) {
    if (daemon(1, 1) != 0) {
      return 1;
    }
    wait_until_gone(first);
  } else if (strcmp(how, "daemon by hand") == 0) {
    leave(exit);
    setsid();
    leave(_exit);
  } else if (strcmp(how, "child") == 0) {
    if (fork() > 0) {
      wait(NULL);
      _exit(0);
    }
  } else if (strcmp(how, "idle daemon") == 0) {
    work(blocks);
    leave(exit);
    return argc < 4 || unlink(argv[3]) != 0; /* what the parent has written */
  }
  work(blocks);
  return 0;
}
EOC
build work "$WORK/work.c"
: >"$WORK/none.ini"
state=$WORK/state
settings="core.epoch=1;core.policy=elo"
learn() { # FILE COMMAND...: what it says
  under "$WORK/none.ini" "$settings;policy.elo.state_file=$1" "${@:2}" 2>&1
}
stays="the file stays as it is, and what is learned ends with the process"
# kept NAME FILE FOUND: the file is told in one line, and is as it was.
kept() {
  local before
  before=$(sha256sum "$2" 2>&1; stat -c '%i %F' "$2" 2>&1)
  is "$1: one line" "$(learn "$2" "$WORK/work" 10)" "hakmem: elo: state_file: found $3; $stays"
  is "$1: as it was" "$(sha256sum "$2" 2>&1; stat -c '%i %F' "$2" 2>&1)" "$before"
}

# ---- what is never written over ------------------------------------------------------------------------------------------------

is "a file that is not there" "$(learn "$state" "$WORK/work" 10), $(head -n 1 "$state"), $(stat -c %a "$state")" ", hakmem-learn 3, 600"
is "the same again" "$(learn "$state" "$WORK/work" 10), $(head -n 1 "$state")" ", hakmem-learn 3"
rm "$state"
is "no large blocks" "$(learn "$state" "$WORK/work" 0; ls "$state" 2>/dev/null)" ""
: >"$state"
is "an empty file" "$(learn "$state" "$WORK/work" 10), $(head -n 1 "$state")" ", hakmem-learn 3"

echo "Milk, bread, eggs" >"$WORK/notes.txt"
kept "a file of something else" "$WORK/notes.txt" "another format or version, expected hakmem-learn 3"
settings="core.epoch=1;core.policy=elo;policy.elo.scope=site"
kept "another scope" "$state" "another policy or scope"
settings="core.epoch=1;core.policy=elo;strategy.more.route=malloc"
kept "another strategy" "$state" "other strategies or another baseline"
settings="core.epoch=1;core.policy=elo"
sed -i '$d' "$state"
kept "an early end" "$state" "a text that is damaged or ends early"
mkdir "$WORK/directory"
kept "a directory" "$WORK/directory" "a directory"
if [ "$(id -u)" -ne 0 ]; then
  chmod 0 "$state"
  kept "a file without rights" "$state" "that it may not be read"
else
  skip "a file without rights" "root may read it"
fi
rm -f "$state"
kept "a name in a file" "$WORK/notes.txt/state" "that it cannot be read"

unwritable="hakmem: elo: the state file cannot be written; what is learned ends with the process"
ln -s "$state" "$WORK/link"
is "a link" "$(learn "$WORK/link" "$WORK/work" 10), $(readlink "$WORK/link"), $(ls "$state" 2>/dev/null)" "$unwritable, $state, "
if mknod "$WORK/device" c 1 3 2>/dev/null && : 2>/dev/null >"$WORK/device"; then
  is "a device" "$(learn "$WORK/device" "$WORK/work" 10), $(stat -c %F "$WORK/device")" "$unwritable, character special file"
else
  skip "a device" "none can be made"
fi
is "no directory" "$(learn "$WORK/absent/state" "$WORK/work" 10)" "$unwritable"

# ---- processes that fork ---------------------------------------------------------------------------------------------------------

# Output ends with the last process that has it.
rm -f "$state"
is "a child whose parent waits leaves it" "$(learn "$state" "$WORK/work" 10 child | cat; ls "$state" 2>/dev/null)" ""
is "a daemon writes it" "$(learn "$state" "$WORK/work" 10 daemon | cat; head -n 1 "$state")" "hakmem-learn 3"
rm -f "$state"
is "a daemon of two forks writes it" "$(learn "$state" "$WORK/work" 10 "daemon by hand" | cat; head -n 1 "$state")" "hakmem-learn 3"
rm -f "$state"
is "a daemon that has no blocks leaves it" "$(learn "$state" "$WORK/work" 10 "idle daemon" "$state" | cat; ls "$state" 2>/dev/null)" ""
finish
