/* SPDX-License-Identifier: MIT */
/*
 * launch.c - runs one program and says what it took.
 *
 *   launch OUTPUT [NAME=VALUE]... COMMAND [ARGUMENT]...
 *
 * The program's output goes to the file OUTPUT; the assignments are added to its environment. Prints one line of JSON: wall time,
 * user and system time, minor faults, peak of the resident set, exit status (128 and more: a signal). The kernel keeps the peak
 * of a process across exec, so the launcher must be smaller than what it launches: it is small, and nothing is ever preloaded
 * into it.
 */
#include "../reading.h"

#include <sys/wait.h>

/* In the child: becomes the program. */
_Noreturn static void become(const char *output, char **arguments)
{
  int fd = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) {
    _exit(126);
  }
  for (; *arguments != NULL && strchr(*arguments, '=') != NULL; arguments++) {
    putenv(*arguments);
  }
  if (*arguments != NULL) {
    execvp(*arguments, arguments);
  }
  dprintf(STDERR_FILENO, "launch: no such program\n");
  _exit(127);
}

int main(int argc, char **argv)
{
  if (argc < 3) {
    die("usage", "launch OUTPUT [NAME=VALUE]... COMMAND [ARGUMENT]...");
  }
  uint64_t start = now();
  pid_t pid = fork();
  if (pid == 0) {
    become(argv[1], argv + 2);
  }
  int status = 0;
  struct rusage used;
  if (pid < 0 || wait4(pid, &status, 0, &used) != pid) {
    die("fork", strerror(errno));
  }
  uint64_t ns = now() - start;
  printf("{\"ns\": %llu, \"cpu_us\": %lld, \"faults\": %ld, \"peak_kib\": %ld, \"status\": %d}\n", (unsigned long long)ns,
         (long long)cpu_us(&used), used.ru_minflt, used.ru_maxrss,
         WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  return 0;
}
