/* SPDX-License-Identifier: MIT */
/*
 * hakmem.c - the `hakmem` command: chooses the subcommand. Owns the help text.
 */
#include "tool.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: hakmem run [-c INI] [-o key=value]... [--stats[=text|json|prometheus]] [--] PROGRAM [ARGUMENT]...\n"
    "       hakmem compare [-n RUNS] [--show] {-c INI [-o key=value]... | --with LIBRARY | --bare}...\n"
    "                      [--] PROGRAM [ARGUMENT]...\n"
    "       hakmem check [-o key=value]... [INI]\n"
    "       hakmem plugins [DIRECTORY|FILE.so]...\n"
    "       hakmem plugins --check [-o key=value]... FILE.so\n"
    "       hakmem stat [--json|--prometheus] [--watch[=SECONDS]] PID\n"
    "       hakmem advise [-c INI] [-o key=value]... PID|STATE_FILE\n"
    "       hakmem set [-t SECONDS] PID key=value\n"
    "       hakmem --version | --help\n"
    "\n"
    "run      runs a program whose memory hakmem manages\n"
    "  -c, --config INI         configuration, instead of $HAKMEM_CONF\n"
    "  -o, --option key=value   one setting, such as core.hardening=full; goes before everything else\n"
    "      --stats[=FORMAT]     statistics on standard error when the program has ended\n"
    "compare  measures a program under several configurations, or other allocators, in turn\n"
    "  -c, --config INI         a configuration; -o behind it adds a setting to this one\n"
    "      --with LIBRARY       another allocator, preloaded\n"
    "      --bare               the program as it is\n"
    "  -n, --runs RUNS          how often each (20)\n"
    "      --show               lets the program write to standard output and error\n"
    "check    validates a configuration and prints what is in force; status 1 when there are mistakes\n"
    "plugins  lists plugins with their options and counters; --check runs the conformance checks on one\n"
    "stat     prints the statistics of a running or stopped process\n"
    "      --watch[=SECONDS]    one line of rates every second, until the process ends\n"
    "advise   what a policy has learned, as an INI without it; -c, -o: the configuration it was learned with\n"
    "set      changes a live option of a running process\n"
    "  -t, --timeout SECONDS    how long to wait for the answer (2)\n"
    "\n"
    "Manual: hakmem(1), hakmem.ini(5), hakmem-plugin(7).\n";

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    int (*command)(int argc, char **argv);
  } commands[] = {
      {"run", run_command},   {"compare", compare_command}, {"check", check_command}, {"plugins", plugins_command},
      {"stat", stat_command}, {"advise", advise_command},   {"set", set_command},     {"--inside-workout", workout_inside},
  };

  if (argc < 2) {
    fputs(help, stderr);
    return TOOL_USAGE;
  }
  bool asked = argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    if (strcmp(argv[1], commands[i].name) == 0) {
      if (asked) {
        fputs(help, stdout);
        return 0;
      }
      argv[1] = tool_text("hakmem: %s", commands[i].name);
      return commands[i].command(argc - 1, argv + 1);
    }
  }
  if (strcmp(argv[1], "--inside-check") == 0) {
    return check_inside();
  }
  if (strcmp(argv[1], "--inside-compare") == 0) {
    return compare_inside();
  }
  if (strcmp(argv[1], "--version") == 0) {
    puts("hakmem " PACKAGE_VERSION);
    return 0;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
    fputs(help, stdout);
    return 0;
  }
  tool_usage("unknown command %s", argv[1]);
}
