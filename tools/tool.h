/* SPDX-License-Identifier: MIT */
/*
 * tool.h - what the files of the `hakmem` command share: messages, where hakmem is installed, and the environment that puts
 * a program under it. Included first, because it chooses the features of libc. The command is single-threaded, except for
 * the workout.
 */
#ifndef TOOL_H
#define TOOL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Exit status of wrong usage, and of everything that keeps a command from starting its work. */
enum { TOOL_USAGE = 2 };

/* ---- messages and small helpers -------------------------------------------------------------------------------------- */

/* One line on standard error, preceded by "hakmem: ". */
void tool_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, then exit. */
_Noreturn void tool_die(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Says that a command line is wrong, where the help is, and exits. */
_Noreturn void tool_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, after getopt has said what is wrong. */
_Noreturn void tool_wrong_option(void);

/* A formatted string, from malloc; exits when there is no memory. */
char *tool_text(const char *format, ...) __attribute__((format(printf, 1, 2), malloc));

/* Reads the start of a small file without its final newline: its length, or -1 with errno. */
ssize_t tool_read(const char *path, char *buffer, size_t size);

/* A process id from the command line; exits when it is not a number. */
pid_t tool_pid(const char *text);

/* Waits for what fork returned: the wait status. Exits when there was no fork. */
int tool_wait(pid_t child);

/* Does a piece of work in a child, so that a crash in it is a result: its wait status. */
int tool_apart(int (*work)(const char *path), const char *path);

/* Seconds of the monotonic clock. */
double tool_now(void);

/* A private temporary directory, from malloc, whose name can stand in HAKMEM_SET. */
char *tool_directory(void);

/* ---- place: where hakmem is ------------------------------------------------------------------------------------------ */

struct place {
  const char *library; /* libhakmem.so.0 */
  const char *plugins; /* directory of the shipped plugins */
  bool build;          /* both lie in the build tree of this binary */
};

/* Exits when there is no library. */
const struct place *place_find(void);

/* ---- preload: the environment of a program under hakmem -------------------------------------------------------------- */

struct preload {
  const char *config; /* INI, absolute; NULL: as inherited */
  char *set;          /* items for HAKMEM_SET, separated by ';'; NULL: none */
};

/* The INI of -c; exits when it cannot be read. */
void preload_config(struct preload *preload, const char *path);

/* One item of -o; exits when it cannot stand in HAKMEM_SET. */
void preload_set(struct preload *preload, const char *item);

/* Changes the environment of this process to the one in which the next program runs under hakmem. */
void preload_enter(const struct preload *preload);

/* Runs this binary under hakmem with these arguments; its wait status. */
int preload_self(const struct preload *preload, char *const argv[]);

/* Puts a library in front of those that the next program preloads. */
void preload_library(const char *path);

/* ---- program: what is to run ----------------------------------------------------------------------------------------- */

/* Exit status when it cannot run, as in a shell. */
enum { PROGRAM_NOT_EXECUTABLE = 126, PROGRAM_NOT_FOUND = 127 };

/* Which of them an errno of exec means. */
int program_status(int error);

/* The file that a shell would run, from malloc; exits when there is none. */
char *program_find(const char *name);

/* One line when the dynamic linker will not, or cannot, load hakmem into the program that was found. */
void program_inspect(const char *name, const char *path);

/* ---- commands -------------------------------------------------------------------------------------------------------- */

/* Each gets the prefix of its messages as argv[0], for getopt, and returns the exit status. */
int run_command(int argc, char **argv);
int compare_command(int argc, char **argv);
int check_command(int argc, char **argv);
int plugins_command(int argc, char **argv);
int stat_command(int argc, char **argv);
int advise_command(int argc, char **argv);
int set_command(int argc, char **argv);

/* `hakmem plugins --check FILE`. */
int conform_check(const char *path, const struct preload *preload);

/* What the command does in a copy of itself that runs under hakmem, or under a library to compare with. */
int check_inside(void);
int compare_inside(void);
int workout_inside(int argc, char **argv);

#endif
