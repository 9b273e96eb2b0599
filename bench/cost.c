/* SPDX-License-Identifier: MIT */
/*
 * cost.c - the programs that bench/cost.sh counts and times.
 *
 *   cost pairs N      N times malloc(64) and free
 *   cost blocks N     N times malloc(1 MiB), one touch, free
 *   cost startup N    N pairs of starts of /bin/true, with and without the library in $LD_PRELOAD_UNDER_TEST, in turn; prints the
 *                     median difference and its quartiles
 *   cost dirty        the private dirty KiB of this process
 *   cost served       exit status 0 when hakmem serves this process
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double start_true(const char *preload)
{
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  pid_t pid = vfork();
  if (pid == 0) {
    if (preload != NULL) {
      setenv("LD_PRELOAD", preload, 1);
    } else {
      unsetenv("LD_PRELOAD");
    }
    execl("/bin/true", "true", (char *)NULL);
    _exit(127);
  }
  int status;
  if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
    fprintf(stderr, "cost: /bin/true failed\n");
    exit(1);
  }
  clock_gettime(CLOCK_MONOTONIC, &b);
  return (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
}

static int by_value(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void startup(long n)
{
  const char *library = getenv("LD_PRELOAD_UNDER_TEST");
  double *added = malloc((size_t)n * sizeof *added);
  start_true(NULL);
  start_true(library);
  for (long i = 0; i < n; i++) {
    double without = 0, with = 0;
    if (i % 2 == 0) {
      without = start_true(NULL);
      with = start_true(library);
    } else {
      with = start_true(library);
      without = start_true(NULL);
    }
    added[i] = with - without;
  }
  qsort(added, (size_t)n, sizeof *added, by_value);
  printf("adds %.3f ms (quartiles %.3f to %.3f)\n", added[n / 2], added[n / 4], added[3 * n / 4]);
}

static void dirty(void)
{
  char line[256];
  long sum = 0, kib;
  FILE *f = fopen("/proc/self/smaps_rollup", "r");
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    if (sscanf(line, "Private_Dirty: %ld", &kib) == 1) {
      sum += kib;
    }
  }
  printf("%ld\n", sum);
}

int main(int argc, char **argv)
{
  const char *what = argc > 1 ? argv[1] : "";
  long n = argc > 2 ? atol(argv[2]) : 1;
  if (strcmp(what, "pairs") == 0) {
    for (long i = 0; i < n; i++) {
      void *p = malloc(64);
      __asm__ volatile("" ::"r"(p) : "memory");
      free(p);
    }
  } else if (strcmp(what, "blocks") == 0) {
    for (long i = 0; i < n; i++) {
      volatile char *p = malloc(1 << 20);
      p[0] = 1;
      free((void *)p);
    }
  } else if (strcmp(what, "startup") == 0) {
    startup(n);
  } else if (strcmp(what, "dirty") == 0) {
    dirty();
  } else if (strcmp(what, "served") == 0) {
    return dlsym(RTLD_DEFAULT, "hak_malloc") != NULL ? 0 : 1;
  } else {
    fprintf(stderr, "usage: cost pairs|blocks|startup|dirty|served [N]\n");
    return 2;
  }
  return 0;
}
