/* SPDX-License-Identifier: MIT */
/*
 * tool.c - messages of the `hakmem` command and the small helpers that all its files use.
 */
#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void say(const char *format, va_list arguments) __attribute__((format(printf, 1, 0)));

static void say(const char *format, va_list arguments)
{
  fflush(stdout); /* both may be the same terminal or file */
  fputs("hakmem: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
}

void tool_say(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  say(format, arguments);
  va_end(arguments);
}

void tool_die(int status, const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  say(format, arguments);
  va_end(arguments);
  exit(status);
}

void tool_usage(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  say(format, arguments);
  va_end(arguments);
  tool_wrong_option();
}

void tool_wrong_option(void)
{
  fputs("hakmem: see hakmem --help\n", stderr);
  exit(TOOL_USAGE);
}

char *tool_text(const char *format, ...)
{
  char *text = NULL;
  va_list arguments;
  va_start(arguments, format);
  if (vasprintf(&text, format, arguments) < 0) {
    text = NULL;
  }
  va_end(arguments);
  if (text == NULL) {
    tool_die(TOOL_USAGE, "no memory");
  }
  return text;
}

ssize_t tool_read(const char *path, char *buffer, size_t size)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return -1;
  }
  ssize_t length = read(fd, buffer, size - 1);
  int error = errno;
  close(fd);
  errno = error;
  if (length >= 0) {
    if (length > 0 && buffer[length - 1] == '\n') {
      length--;
    }
    buffer[length] = '\0';
  }
  return length;
}

pid_t tool_pid(const char *text)
{
  char *end = NULL;
  errno = 0;
  long pid = strtol(text, &end, 10);
  if (errno != 0 || end == text || *end != '\0' || pid <= 0 || pid > INT_MAX) {
    tool_usage("%s: expected a process id", text);
  }
  return (pid_t)pid;
}

int tool_wait(pid_t child)
{
  int status = 0;
  if (child < 0) {
    tool_die(TOOL_USAGE, "cannot start a process: %s", strerror(errno));
  }
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

int tool_apart(int (*work)(const char *path), const char *path)
{
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int result = work(path);
    fflush(stdout);
    _exit(result);
  }
  return tool_wait(child);
}

double tool_now(void)
{
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

char *tool_directory(void)
{
  const char *parent = getenv("TMPDIR");
  if (parent == NULL || parent[0] != '/' || strpbrk(parent, ";,%\n") != NULL) {
    parent = "/tmp";
  }
  char *path = tool_text("%s/hakmem-XXXXXX", parent);
  if (mkdtemp(path) == NULL) {
    tool_die(TOOL_USAGE, "%s: %s", path, strerror(errno));
  }
  return path;
}
