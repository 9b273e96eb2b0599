/* SPDX-License-Identifier: MIT */
/*
 * compare.c - `hakmem compare`: a program of the user's, run in turn under several configurations of hakmem, under other
 * allocators, or as it is; and what of the differences is beyond noise.
 *
 * The first competitor is what the others are compared with. Environments are made before anything is timed. A first, untimed run
 * of each warms the caches, has the exit status that all runs must have, and, under hakmem, leaves the reports that prove who served.
 */
#include "tool.h"

#include "pairs.h"

#include <dirent.h>
#include <dlfcn.h>
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

enum { COMPETITORS_MOST = 26, RUNS_DEFAULT = 20 };

/* What is measured of a run. */
enum metric { WALL, CPU, FAULTS, MEMORY, METRICS };

static const char *const metric_name[METRICS] = {
    [WALL] = "wall ms", [CPU] = "CPU ms", [FAULTS] = "minor faults", [MEMORY] = "peak RSS MiB"};

struct competitor {
  char letter;            /* its name in the output */
  char *text;             /* as on the command line */
  bool hakmem;            /* with `preload`; else with `library` */
  struct preload preload; /* the configuration */
  const char *library;    /* another allocator; NULL: none */
  char **environment;     /* of the timed runs */
  unsigned long long allocs;
  double value[METRICS][PAIRS_MOST]; /* of each round */
};

struct comparison {
  struct competitor *competitors[COMPETITORS_MOST];
  size_t count;  /* of competitors */
  unsigned runs; /* timed, of each competitor */
  bool show;     /* the program writes to where we write */
  char *program; /* its file */
  char **arguments;
};

extern char **environ;

/* ---- the command line ------------------------------------------------------------------------------------------------ */

static struct competitor *add(struct comparison *comparison, char *text)
{
  if (comparison->count == COMPETITORS_MOST) {
    tool_usage("compare: more than %d competitors", COMPETITORS_MOST);
  }
  struct competitor *competitor = calloc(1, sizeof *competitor);
  if (competitor == NULL) {
    tool_die(TOOL_USAGE, "no memory");
  }
  competitor->letter = (char)('A' + comparison->count);
  competitor->text = text;
  comparison->competitors[comparison->count++] = competitor;
  return competitor;
}

/* A mistake in a configuration must not be measured as what it falls back to. */
static void add_config(struct comparison *comparison, const char *path)
{
  struct competitor *competitor = add(comparison, tool_text("%s", path));
  competitor->hakmem = true;
  preload_config(&competitor->preload, path);
  preload_set(&competitor->preload, "core.strict=on");
}

static void add_option(struct comparison *comparison, const char *item)
{
  struct competitor *last = comparison->count > 0 ? comparison->competitors[comparison->count - 1] : NULL;
  if (last == NULL || !last->hakmem) {
    tool_usage("-o %s: expected behind the -c that it belongs to", item);
  }
  preload_set(&last->preload, item);
  char *text = tool_text("%s -o %s", last->text, item);
  free(last->text);
  last->text = text;
}

static unsigned runs_of(const char *text)
{
  char *end = NULL;
  unsigned long runs = strtoul(text, &end, 10);
  if (end == text || *end != '\0' || runs < PAIRS_LEAST || runs > PAIRS_MOST) {
    tool_usage("--runs %s: expected a number from %d to %d", text, PAIRS_LEAST, PAIRS_MOST);
  }
  return (unsigned)runs;
}

static void parse(struct comparison *comparison, int argc, char **argv)
{
  static const struct option options[] = {
      {"config", required_argument, NULL, 'c'},
      {"option", required_argument, NULL, 'o'},
      {"with", required_argument, NULL, 'w'},
      {"bare", no_argument, NULL, 'b'},
      {"runs", required_argument, NULL, 'n'},
      {"show", no_argument, NULL, 's'},
      {NULL, 0, NULL, 0},
  };
  bool hakmem = false;
  for (int option; (option = getopt_long(argc, argv, "+c:o:n:", options, NULL)) != -1;) {
    switch (option) {
    case 'c':
      add_config(comparison, optarg);
      hakmem = true;
      break;
    case 'o':
      add_option(comparison, optarg);
      break;
    case 'w':
      add(comparison, tool_text("--with %s", optarg))->library = optarg;
      break;
    case 'b':
      add(comparison, tool_text("--bare"));
      break;
    case 'n':
      comparison->runs = runs_of(optarg);
      break;
    case 's':
      comparison->show = true;
      break;
    default:
      tool_wrong_option();
    }
  }
  if (!hakmem || comparison->count < 2) {
    tool_usage("compare: expected a configuration, and another one, --with LIBRARY, or --bare");
  }
  if (optind >= argc) {
    tool_usage("compare: no program named");
  }
  comparison->arguments = argv + optind;
}

/* ---- environments ---------------------------------------------------------------------------------------------------- */

static char **copy_of(char *const *environment)
{
  size_t count = 0;
  while (environment[count] != NULL) {
    count++;
  }
  char **copy = calloc(count + 1, sizeof *copy);
  if (copy == NULL) {
    tool_die(TOOL_USAGE, "no memory");
  }
  for (size_t i = 0; i < count; i++) {
    copy[i] = tool_text("%s", environment[i]);
  }
  return copy;
}

static void enter(const struct competitor *competitor)
{
  if (competitor->hakmem) {
    preload_enter(&competitor->preload);
  } else if (competitor->library != NULL) {
    preload_library(competitor->library);
  }
}

/* Makes the environments now: what the tool does for it would count as the program's time. */
static void prepare(struct comparison *comparison)
{
  char **inherited = copy_of(environ);
  for (size_t i = 0; i < comparison->count; i++) {
    environ = copy_of(inherited); /* setenv changes it in place */
    enter(comparison->competitors[i]);
    comparison->competitors[i]->environment = copy_of(environ);
  }
  environ = inherited;
}

/* In a copy of this binary that a library is preloaded into: 0 when malloc is not libc's. */
int compare_inside(void)
{
  Dl_info ours = {0}, libc = {0};
  bool known = dladdr(dlsym(RTLD_DEFAULT, "malloc"), &ours) != 0 && dladdr(dlsym(RTLD_DEFAULT, "getenv"), &libc) != 0;
  return known && ours.dli_fbase != libc.dli_fbase ? 0 : 1;
}

/* The dynamic linker goes on without a library that it does not find, and libc would be measured in its place. */
static void require_allocator(const struct competitor *competitor)
{
  char *const arguments[] = {(char *)"hakmem", (char *)"--inside-compare", NULL};
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    execve("/proc/self/exe", arguments, competitor->environment);
    _exit(TOOL_USAGE);
  }
  int status = tool_wait(child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    tool_die(TOOL_USAGE, "%s: not found by the dynamic linker, or it has no malloc", competitor->library);
  }
}

/* ---- one run --------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t child_now; /* process to end when a signal comes; 0: none */
static volatile sig_atomic_t ended_by;  /* signal that came; 0: none */

static void on_signal(int signal_number)
{
  int error = errno;
  ended_by = signal_number;
  if (child_now > 0) {
    kill((pid_t)child_now, SIGTERM);
  }
  errno = error;
}

static void catch_signals(void)
{
  static const int signals[] = {SIGHUP, SIGINT, SIGTERM};
  struct sigaction action = {.sa_handler = on_signal}, before;
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
    if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
      sigaction(signals[i], &action, NULL);
    }
  }
  signal(SIGCHLD, SIG_DFL); /* with SIG_IGN there would be nothing to wait for */
}

/* Standard streams of the program. `messages`, when not NULL, is a file that gets its standard error. */
static void redirect(bool show, const char *messages)
{
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  int errors = messages != NULL ? open(messages, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : null;
  if (null < 0 || errors < 0 || dup2(null, STDIN_FILENO) < 0 || (!show && dup2(null, STDOUT_FILENO) < 0) ||
      ((!show || messages != NULL) && dup2(errors, STDERR_FILENO) < 0)) {
    _exit(TOOL_USAGE);
  }
}

/* Waits for the child and fills value[]. Its wait status. */
static int take(pid_t child, double began, double value[METRICS])
{
  struct rusage usage;
  int status = 0;
  if (child < 0) {
    tool_die(TOOL_USAGE, "cannot start a process: %s", strerror(errno));
  }
  while (wait4(child, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  child_now = 0;
  double seconds =
      (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
  value[WALL] = (tool_now() - began) * 1e3;
  value[CPU] = seconds * 1e3;
  value[FAULTS] = (double)usage.ru_minflt;
  value[MEMORY] = (double)usage.ru_maxrss / 1024;
  return status;
}

static int run_timed(const struct comparison *comparison, const struct competitor *competitor, double value[METRICS])
{
  double began = tool_now();
  pid_t child = fork();
  if (child == 0) {
    redirect(comparison->show, NULL);
    environ = competitor->environment;
    execvp(comparison->program, comparison->arguments);
    _exit(program_status(errno));
  }
  child_now = child;
  return take(child, began, value);
}

/* ---- the untimed run ------------------------------------------------------------------------------------------------- */

/* The child of an untimed run: hakmem is asked for a report of each process. */
_Noreturn static void run_reported(const struct comparison *comparison, const struct competitor *competitor,
                                   const char *directory, const char *messages)
{
  struct preload with = competitor->preload;
  preload_set(&with, "stats.exit=json");
  preload_set(&with, tool_text("stats.file=%s/%%p", directory));
  preload_enter(&with);
  redirect(comparison->show, messages);
  execvp(comparison->program, comparison->arguments);
  _exit(program_status(errno));
}

/* The number of allocations in a report; 0 when it is none. */
static unsigned long long allocs_in(const char *path)
{
  static char text[65536];
  const char *key = "\"allocs\":", *totals = tool_read(path, text, sizeof text) > 0 ? strstr(text, "\"totals\"") : NULL;
  const char *found = totals != NULL ? strstr(totals, key) : NULL;
  return found != NULL ? strtoull(found + strlen(key), NULL, 10) : 0;
}

/* Adds up the reports in a directory, and removes it. */
static unsigned long long collect(char *path)
{
  unsigned long long allocs = 0;
  DIR *directory = opendir(path);
  for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
    char *file = tool_text("%s/%s", path, entry->d_name);
    if (entry->d_name[0] != '.') {
      allocs += allocs_in(file);
      unlink(file);
    }
    free(file);
  }
  if (directory != NULL) {
    closedir(directory);
  }
  rmdir(path);
  return allocs;
}

/* What hakmem said to the program's standard error. */
static void repeat_messages(const char *path)
{
  char line[1024];
  FILE *file = fopen(path, "re");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "hakmem", 6) == 0) {
      fputs(line, stderr);
    }
  }
  if (file != NULL) {
    fclose(file);
  }
}

/* Runs the program once under hakmem; its wait status. False when hakmem did not serve it; that is said. */
static bool prove(const struct comparison *comparison, struct competitor *competitor, int *status)
{
  double unused[METRICS];
  char *directory = tool_directory(), *messages = tool_text("%s/.messages", directory);
  pid_t child = fork();
  if (child == 0) {
    run_reported(comparison, competitor, directory, messages);
  }
  child_now = child;
  *status = take(child, tool_now(), unused);
  bool quiet = ended_by != 0;
  if (!quiet) {
    repeat_messages(messages);
  }
  unlink(messages);
  competitor->allocs = collect(directory);
  if (competitor->allocs == 0 && !quiet) {
    tool_say("%c (%s): not served by hakmem: no process left a report", competitor->letter, competitor->text);
  }
  free(messages);
  free(directory);
  return competitor->allocs > 0;
}

/* ---- all runs -------------------------------------------------------------------------------------------------------- */

static char *status_text(int status)
{
  return WIFEXITED(status) ? tool_text("exit status %d", WEXITSTATUS(status)) : tool_text("signal %d", WTERMSIG(status));
}

/* Goes on only when the run ended as the very first one did. */
static bool same_end(const struct comparison *comparison, const struct competitor *competitor, int status, int expected)
{
  if (status != expected && ended_by == 0) {
    tool_say("%s: %s under %c (%s), but %s under A (%s): nothing to compare", comparison->arguments[0], status_text(status),
             competitor->letter, competitor->text, status_text(expected), comparison->competitors[0]->text);
  }
  return status == expected && ended_by == 0;
}

/* The untimed runs. False when there is nothing to compare; that is said. */
static bool run_first(const struct comparison *comparison, int *expected)
{
  for (size_t i = 0; i < comparison->count; i++) {
    struct competitor *competitor = comparison->competitors[i];
    double unused[METRICS];
    int status;
    if (!competitor->hakmem) {
      status = run_timed(comparison, competitor, unused);
    } else if (!prove(comparison, competitor, &status)) {
      return false;
    }
    *expected = i == 0 ? status : *expected;
    if (!same_end(comparison, competitor, status, *expected)) {
      return false;
    }
  }
  if (*expected != 0) {
    tool_say("%s: %s in every run", comparison->arguments[0], status_text(*expected));
  }
  return true;
}

/* A new order for each round, always the same ones. */
static void shuffle(size_t *order, size_t count)
{
  static uint32_t random = 2463534242U; /* never 0 */
  for (size_t i = count - 1; i > 0; i--) {
    random ^= random << 13;
    random ^= random >> 17;
    random ^= random << 5;
    size_t other = random % (i + 1), kept = order[i];
    order[i] = order[other];
    order[other] = kept;
  }
}

static bool run_rounds(const struct comparison *comparison, int expected)
{
  size_t order[COMPETITORS_MOST];
  bool terminal = isatty(STDERR_FILENO) == 1 && !comparison->show;
  for (size_t i = 0; i < comparison->count; i++) {
    order[i] = i;
  }
  for (unsigned round = 0; round < comparison->runs; round++) {
    shuffle(order, comparison->count);
    for (size_t i = 0; i < comparison->count; i++) {
      struct competitor *competitor = comparison->competitors[order[i]];
      double value[METRICS];
      int status = run_timed(comparison, competitor, value);
      if (!same_end(comparison, competitor, status, expected)) {
        return false;
      }
      for (size_t m = 0; m < METRICS; m++) {
        competitor->value[m][round] = value[m];
      }
    }
    if (terminal) {
      fprintf(stderr, "\rround %u of %u%s", round + 1, comparison->runs, round + 1 < comparison->runs ? "" : "\n");
    }
  }
  return true;
}

/* ---- the result ------------------------------------------------------------------------------------------------------ */

/* Three significant digits, and all of those before the point. From malloc. */
static char *number(double value)
{
  return tool_text("%.*f", value < 10 ? 2 : value < 100 ? 1 : 0, value);
}

static char *between(struct middle middle, const char *format)
{
  return tool_text(format, number(middle.median), number(middle.low), number(middle.high));
}

static void print_heading(const char *title)
{
  printf("\n%s\n\n   ", title);
  for (size_t m = 0; m < METRICS; m++) {
    printf("%26s", metric_name[m]);
  }
}

static void print_measured(const struct comparison *comparison)
{
  print_heading("Medians (quartiles); noise is the distance of the quartiles of wall time");
  puts("     noise");
  for (size_t i = 0; i < comparison->count; i++) {
    const struct competitor *competitor = comparison->competitors[i];
    printf("%-3c", competitor->letter);
    for (size_t m = 0; m < METRICS; m++) {
      printf("%26s", between(pairs_quartiles(competitor->value[m], comparison->runs), "%s (%s to %s)"));
    }
    struct middle wall = pairs_quartiles(competitor->value[WALL], comparison->runs);
    printf("%8.1f %%\n", wall.median > 0 ? (wall.high - wall.low) / wall.median * 100 : 0);
  }
}

/* What every competitor but the first did, over what the first did in the same round. */
static struct middle ratio(const struct comparison *comparison, size_t i, size_t metric)
{
  double *base = comparison->competitors[0]->value[metric];
  return pairs_ratio(comparison->competitors[i]->value[metric], base, comparison->runs);
}

static void print_ratios(const struct comparison *comparison)
{
  print_heading("Ratios within the rounds: medians (95 % confidence intervals)");
  putchar('\n');
  for (size_t i = 1; i < comparison->count; i++) {
    printf("%c/A", comparison->competitors[i]->letter);
    for (size_t m = 0; m < METRICS; m++) {
      printf("%26s", between(ratio(comparison, i, m), "%s (%s to %s)"));
    }
    putchar('\n');
  }
}

/* A share in percent, from malloc. */
static char *percent(double share)
{
  double value = share * 100;
  return tool_text("%.*f", value < 9.95 && value > -9.95 ? 1 : 0, value);
}

static char *time_text(char letter, struct middle time)
{
  if (time.high < 1) {
    return tool_text("%c is %s %% faster than A (95 %% interval %s to %s %%)", letter, percent(1 - time.median),
                     percent(1 - time.high), percent(1 - time.low));
  }
  if (time.low > 1) {
    return tool_text("%c is %s %% slower than A (95 %% interval %s to %s %%)", letter, percent(time.median - 1),
                     percent(time.low - 1), percent(time.high - 1));
  }
  return tool_text("No difference beyond noise: %c takes %s to %s %% of A's time (95 %% interval)", letter, percent(time.low),
                   percent(time.high));
}

static char *memory_text(struct middle memory)
{
  bool differs = memory.high < 1 || memory.low > 1;
  double more = memory.median - 1;
  if (!differs || (more < 0.0005 && more > -0.0005)) {
    return tool_text("as much memory");
  }
  return tool_text("%s %% %s memory", percent(more > 0 ? more : -more), more > 0 ? "more" : "less");
}

static void print_result(const struct comparison *comparison)
{
  print_measured(comparison);
  print_ratios(comparison);
  putchar('\n');
  for (size_t i = 1; i < comparison->count; i++) {
    printf("%s, and uses %s.\n", time_text(comparison->competitors[i]->letter, ratio(comparison, i, WALL)),
           memory_text(ratio(comparison, i, MEMORY)));
  }
}

static void print_competitors(const struct comparison *comparison)
{
  printf("%u runs each, in turn, of %s\n", comparison->runs, comparison->arguments[0]);
  for (size_t i = 0; i < comparison->count; i++) {
    const struct competitor *competitor = comparison->competitors[i];
    printf("%-3c%s", competitor->letter, competitor->text);
    if (competitor->hakmem) {
      printf("; hakmem served %llu allocations in a run before", competitor->allocs);
    }
    putchar('\n');
  }
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

int compare_command(int argc, char **argv)
{
  struct comparison comparison = {.runs = RUNS_DEFAULT};
  parse(&comparison, argc, argv);
  comparison.program = program_find(comparison.arguments[0]);
  program_inspect(comparison.arguments[0], comparison.program);
  prepare(&comparison);
  for (size_t i = 0; i < comparison.count; i++) {
    if (comparison.competitors[i]->library != NULL) {
      require_allocator(comparison.competitors[i]);
    }
  }

  int expected = 0;
  catch_signals();
  bool complete = run_first(&comparison, &expected) && run_rounds(&comparison, expected);
  if (ended_by != 0) {
    signal(ended_by, SIG_DFL);
    raise(ended_by);
  }
  if (complete) {
    print_competitors(&comparison);
    print_result(&comparison);
  }
  return complete ? 0 : 1;
}
