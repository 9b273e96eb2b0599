/* SPDX-License-Identifier: MIT */
/*
 * run.c - `hakmem run`: starts a program under hakmem, by exec; with --stats as a child, whose report it then prints.
 */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- with statistics -------------------------------------------------------------------------------------------------- */

/* Signals that somebody may send to the command and means for the program. */
static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/*
 * Waits for the child. What a process sends to us goes on to the child; what the terminal sends (its si_code is the kernel's)
 * has reached the child already, and a second copy would look like a second key press.
 */
static int wait_for(pid_t child, const sigset_t *signals)
{
  int status = 0;
  while (waitpid(child, &status, WNOHANG) != child) {
    siginfo_t info;
    int signal = sigwaitinfo(signals, &info);
    if (signal > 0 && signal != SIGCHLD && info.si_code <= 0) {
      kill(child, signal);
    }
  }
  return status;
}

/* Copies the report to standard error. False when there is none. */
static bool print_report(const char *path)
{
  FILE *file = fopen(path, "re");
  if (file == NULL) {
    return false;
  }
  char buffer[4096];
  size_t total = 0;
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0; total += n) {
    fwrite(buffer, 1, n, stderr);
  }
  fclose(file);
  return total > 0;
}

/* Ends as the program did, so that whoever waits for us sees the same. */
static int end_as(int status, const sigset_t *signals)
{
  if (WIFEXITED(status)) {
    return WEXITSTATUS(status);
  }
  int signal_number = WTERMSIG(status);
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); /* the program has left the core dump, if any */
  signal(signal_number, SIG_DFL);
  sigprocmask(SIG_UNBLOCK, signals, NULL);
  raise(signal_number);
  return 128 + signal_number;
}

static int run_with_stats(const struct preload *preload, const char *format, const char *path, char **arguments)
{
  sigset_t signals, before;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  for (size_t i = 0; i < sizeof forwarded / sizeof forwarded[0]; i++) {
    sigaddset(&signals, forwarded[i]);
  }
  struct sigaction plain = {.sa_handler = SIG_DFL}, inherited;
  sigaction(SIGCHLD, &plain, &inherited); /* with SIG_IGN there would be nothing to wait for */
  sigprocmask(SIG_BLOCK, &signals, &before);

  char *directory = tool_directory();
  char *report = tool_text("%s/report", directory);
  int failure[2]; /* carries errno when exec fails, and closes with it otherwise */
  pid_t child = -1;
  if (pipe2(failure, O_CLOEXEC) == 0) {
    child = fork();
  }
  if (child < 0) {
    int error = errno;
    rmdir(directory);
    tool_die(TOOL_USAGE, "cannot start a process: %s", strerror(error));
  }
  if (child == 0) {
    struct preload with = *preload;
    char *settings[] = {tool_text("stats.exit=%s", format), tool_text("stats.file=%s", report),
                        tool_text("stats.pid=%ld", (long)getpid())};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
      preload_set(&with, settings[i]);
    }
    preload_enter(&with);
    sigaction(SIGCHLD, &inherited, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    execvp(path, arguments);
    int error = errno;
    tool_say("%s: %s", arguments[0], strerror(error));
    ssize_t told = write(failure[1], &error, sizeof error);
    _exit(told < 0 ? PROGRAM_NOT_EXECUTABLE : program_status(error));
  }

  int error = 0;
  close(failure[1]);
  int status = wait_for(child, &signals);
  bool started = read(failure[0], &error, sizeof error) <= 0;
  if (started && !print_report(report)) {
    if (WIFSIGNALED(status)) {
      tool_say("%s: no statistics: killed by signal %d", arguments[0], WTERMSIG(status));
    } else {
      tool_say("%s: no statistics: it ended without exit handlers, or ran without hakmem", arguments[0]);
    }
  }
  unlink(report);
  rmdir(directory);
  return end_as(status, &signals);
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

int run_command(int argc, char **argv)
{
  static const struct option options[] = {
      {"config", required_argument, NULL, 'c'},
      {"option", required_argument, NULL, 'o'},
      {"stats", optional_argument, NULL, 's'},
      {NULL, 0, NULL, 0},
  };
  struct preload preload = {0};
  const char *format = NULL;
  for (int option; (option = getopt_long(argc, argv, "+c:o:", options, NULL)) != -1;) {
    switch (option) {
    case 'c':
      preload_config(&preload, optarg);
      break;
    case 'o':
      preload_set(&preload, optarg);
      break;
    case 's':
      format = optarg != NULL ? optarg : "text";
      if (strcmp(format, "text") != 0 && strcmp(format, "json") != 0 && strcmp(format, "prometheus") != 0) {
        tool_usage("--stats=%s: expected text, json or prometheus", format);
      }
      break;
    default:
      tool_wrong_option();
    }
  }
  if (optind >= argc) {
    tool_usage("run: no program named");
  }

  char **arguments = argv + optind;
  char *path = program_find(arguments[0]);
  program_inspect(arguments[0], path);
  if (format != NULL) {
    return run_with_stats(&preload, format, path, arguments);
  }
  preload_enter(&preload);
  execvp(path, arguments);
  int error = errno;
  tool_die(program_status(error), "%s: %s", arguments[0], strerror(error));
}
