/* SPDX-License-Identifier: MIT */
/*
 * program.c - the program to run: found as a shell would, and looked at for what keeps hakmem out of it.
 */
#include "tool.h"

#include "elf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static bool executable(const char *path)
{
  struct stat status;
  if (access(path, X_OK) != 0) {
    return false;
  }
  if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
    errno = EISDIR;
    return false;
  }
  return true;
}

/* The file that execvp would run, from malloc; NULL with errno. */
static char *resolve(const char *name)
{
  if (strchr(name, '/') != NULL) {
    return executable(name) ? tool_text("%s", name) : NULL;
  }
  const char *path = getenv("PATH"), *end;
  path = path != NULL ? path : "/bin:/usr/bin";
  int error = ENOENT;
  for (; *name != '\0'; path = end + 1) {
    end = strchrnul(path, ':');
    char *file = end > path ? tool_text("%.*s/%s", (int)(end - path), path, name) : tool_text("./%s", name);
    if (executable(file)) {
      return file;
    }
    error = errno == EACCES ? EACCES : error;
    free(file);
    if (*end == '\0') {
      break;
    }
  }
  errno = error;
  return NULL;
}

/* The interpreter that a script names in its first line, from malloc; NULL when it is no script. */
static char *interpreter_of(const char *path)
{
  char line[512];
  if (tool_read(path, line, sizeof line) < 2 || line[0] != '#' || line[1] != '!') {
    return NULL;
  }
  char *name = line + 2 + strspn(line + 2, " \t");
  name[strcspn(name, " \t\n")] = '\0';
  return tool_text("%s", name);
}

/* One line when the dynamic linker will not, or cannot, load hakmem into this program. */
static void warn_of(const char *program, const char *path, const struct elf *library)
{
  static const char consequence[] = "it runs with its own malloc, without hakmem";
  struct elf elf;
  struct stat status;
  if (!elf_read(path, &elf)) {
    return; /* unreadable, or for the shell */
  }
  if (elf.word != library->word || elf.machine != library->machine) {
    tool_say("%s: built for another machine or word size than libhakmem; %s", program, consequence);
  } else if (elf.native && !elf.interpreter) {
    tool_say("%s: statically linked; %s", program, consequence);
  } else if (stat(path, &status) == 0) {
    bool setuid = (status.st_mode & S_ISUID) != 0 && status.st_uid != getuid();
    bool setgid = (status.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && status.st_gid != getgid();
    bool capable = getuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0;
    if (setuid || setgid || capable) {
      tool_say("%s: %s; %s", program, setuid ? "setuid" : setgid ? "setgid" : "has file capabilities", consequence);
    }
  }
}

void program_inspect(const char *program, const char *path)
{
  struct elf library;
  if (!elf_read(place_find()->library, &library)) {
    tool_die(TOOL_USAGE, "%s: not a shared library", place_find()->library);
  }
  char *interpreter = interpreter_of(path);
  warn_of(program, interpreter != NULL ? interpreter : path, &library);
  free(interpreter);
}

int program_status(int error)
{
  return error == ENOENT || error == ENOTDIR ? PROGRAM_NOT_FOUND : PROGRAM_NOT_EXECUTABLE;
}

char *program_find(const char *name)
{
  char *path = resolve(name);
  if (path == NULL) {
    int error = errno;
    tool_die(program_status(error), "%s: %s", name, strerror(error));
  }
  return path;
}
