/* SPDX-License-Identifier: MIT */
/*
 * set.c - `hakmem set`: puts a request into the mailbox of another process, closes the gates of its threads so that the next
 * call of any of them looks at it, and waits for the answer.
 *
 * A copy into another process is no compare-and-swap, so senders exclude each other by a file lock on /proc/PID; a request or
 * an answer in the mailbox is then what a sender that did not wait has left behind.
 */
#include "tool.h"

#include "target.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum {
  SET_DONE = 0,
  SET_REFUSED = 1,
  SET_WAITING = 3, /* no answer in time; the request stays */
  TICK_MS = 2      /* between two looks at the mailbox */
};

/* What every access to the process ends with when it fails. */
_Noreturn static void gone(const struct target *target)
{
  target_explain(target->pid, errno == EFAULT ? ESRCH : errno);
  exit(SET_REFUSED);
}

static uint64_t mailbox_address(const struct target *target, size_t member)
{
  return target->root + offsetof(struct hki_root, mailbox) + member;
}

static uint32_t mailbox_state(const struct target *target)
{
  uint32_t state;
  if (!target_read(target, mailbox_address(target, offsetof(struct hki_mailbox, state)), &state, sizeof state)) {
    gone(target);
  }
  return state;
}

static void mailbox_put_state(const struct target *target, uint32_t state)
{
  if (!target_write(target, mailbox_address(target, offsetof(struct hki_mailbox, state)), &state, sizeof state)) {
    gone(target);
  }
}

static void tick(void)
{
  nanosleep(&(struct timespec){0, TICK_MS * 1000000L}, NULL);
}

/* One sender at a time, for as long as this process lives. False when another one is still waiting at the deadline. */
static bool lock_out_others(pid_t pid, double deadline)
{
  char *path = tool_text("/proc/%ld", (long)pid);
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  free(path);
  if (fd < 0) {
    target_explain(pid, errno);
    exit(SET_REFUSED);
  }
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return true; /* a kernel without locks on /proc: one sender at a time is up to the user */
    }
    if (tool_now() >= deadline) {
      return false;
    }
    tick();
  }
  return true;
}

static bool close_gates_of(void *context, const struct target *target, uint64_t address)
{
  static const uint64_t closed[2] = {0, 0};
  static_assert(offsetof(struct hki_thread, direct_end) == offsetof(struct hki_thread, front_end) + sizeof(uint64_t),
                "one write closes both gates");
  (void)context;
  return target_write(target, address + offsetof(struct hki_thread, front_end), closed, sizeof closed);
}

/*
 * Waits while a request is in the mailbox or, as WRITING says, the process is answering it. Every now and then the gates are
 * closed again: a thread may have been about to open its own.
 */
static bool wait_for_answer(const struct target *target, double deadline)
{
  static struct hki_root root;
  uint32_t state;
  for (unsigned round = 0; (state = mailbox_state(target)) == HKI_MAIL_REQUEST || state == HKI_MAIL_SERVING; round++) {
    if (tool_now() >= deadline) {
      return false;
    }
    if (round % 32 == 0) {
      if (!target_root(target, &root)) {
        exit(SET_REFUSED);
      }
      target_threads(target, &root, close_gates_of, NULL);
    }
    tick();
  }
  return true;
}

static int say_waiting(pid_t pid, const char *request)
{
  const char *doing = "runs, but has not allocated since";
  switch (target_state(pid)) {
  case 'T':
  case 't':
    doing = "is stopped";
    break;
  case 'S':
  case 'D':
  case 'I':
    doing = "sleeps";
    break;
  case '\0':
  case 'Z':
  case 'X':
    tool_say("process %ld has ended", (long)pid);
    return SET_REFUSED;
  default:
    break;
  }
  tool_say("process %ld %s: it will take %s at its next allocation", (long)pid, doing, request);
  return SET_WAITING;
}

static int send_request(const struct target *target, const char *request, double deadline)
{
  static struct hki_root root;
  struct hki_mailbox *mailbox = &root.mailbox;
  if (!target_root(target, &root)) {
    return SET_REFUSED;
  }
  while (root.state < HKI_STATE_READY && tool_now() < deadline) {
    tick();
    if (!target_root(target, &root)) {
      return SET_REFUSED;
    }
  }
  if (root.state != HKI_STATE_READY) {
    tool_say("process %ld is %s", (long)target->pid, root.state == HKI_STATE_EXITING ? "about to end" : "still starting");
    return SET_REFUSED;
  }
  if (!wait_for_answer(target, deadline)) {
    /* A sender before us did not wait for the answer. Its request may be read at any moment, so it cannot be replaced. */
    tool_say("process %ld has not taken an earlier request yet, %s: nothing was sent", (long)target->pid, mailbox->request);
    return SET_WAITING;
  }
  if (!target_write(target, mailbox_address(target, offsetof(struct hki_mailbox, request)), request, strlen(request) + 1)) {
    gone(target);
  }
  mailbox_put_state(target, HKI_MAIL_REQUEST);
  if (!wait_for_answer(target, deadline)) {
    return say_waiting(target->pid, request);
  }
  if (!target_root(target, &root)) {
    return SET_REFUSED;
  }
  mailbox_put_state(target, HKI_MAIL_IDLE);
  if (mailbox->result != 0) {
    tool_say("%s", mailbox->answer);
    return SET_REFUSED;
  }
  puts(mailbox->answer);
  return SET_DONE;
}

int set_command(int argc, char **argv)
{
  static const struct option options[] = {{"timeout", required_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
  double seconds = 2;
  for (int option; (option = getopt_long(argc, argv, "t:", options, NULL)) != -1;) {
    char *end = NULL;
    if (option != 't') {
      tool_wrong_option();
    }
    seconds = strtod(optarg, &end);
    if (end == optarg || *end != '\0' || !(seconds >= 0 && seconds <= 86400)) {
      tool_usage("-t %s: expected seconds, from 0 to 86400", optarg);
    }
  }
  if (argc - optind != 2) {
    tool_usage("set: expected a process id and key=value");
  }
  pid_t pid = tool_pid(argv[optind]);
  const char *request = argv[optind + 1];
  const char *equals = strchr(request, '=');
  if (equals == NULL || equals == request || strchr(request, '\n') != NULL || strlen(request) >= HKI_MAIL) {
    tool_usage("%s: expected key=value in one line of at most %d bytes", request, HKI_MAIL - 1);
  }

  double deadline = tool_now() + seconds;
  struct target target;
  if (!target_open(&target, pid)) {
    return SET_REFUSED;
  }
  if (!lock_out_others(pid, deadline)) {
    tool_say("process %ld: another hakmem set is waiting for its answer", (long)pid);
    return SET_WAITING;
  }
  return send_request(&target, request, deadline);
}
