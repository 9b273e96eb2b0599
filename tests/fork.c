/* SPDX-License-Identifier: MIT */
/*
 * fork.c - forks while eight threads allocate. Every child frees what it inherited, allocates, starts a thread and exits; one
 * in twenty forks again. A child that is not done after 20 seconds is killed by its alarm and counted as hung.
 *
 *     fork [FORKS]
 */
#include "probe.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

enum { THREADS = 8, SLOTS = 64, INHERITED = 40 };

static _Atomic bool stop;
static _Atomic int spoilt;

static size_t pick_size(uint32_t *state)
{
  uint32_t draw = probe_random(state);
  return (draw >> 11 >> draw % 18) + 1; /* up to 2 MiB, mostly small */
}

static void *churn(void *seed)
{
  void *block[SLOTS] = {NULL};
  size_t size[SLOTS] = {0}; /* of the pattern */
  uint32_t state = (uint32_t)(uintptr_t)seed;
  while (!stop) {
    uint32_t slot = probe_random(&state) % SLOTS;
    if (block[slot] != NULL) {
      spoilt += !probe_intact(block[slot], size[slot], size[slot], slot);
      free(block[slot]);
    }
    size_t whole = pick_size(&state);
    size[slot] = whole < 256 ? whole : 256;
    block[slot] = malloc(whole);
    probe_fill(block[slot], size[slot], slot);
  }
  for (int i = 0; i < SLOTS; i++) {
    free(block[i]);
  }
  return NULL;
}

static void *work(void *seed)
{
  uint32_t state = (uint32_t)(uintptr_t)seed;
  for (int i = 0; i < 12; i++) {
    size_t size = pick_size(&state);
    unsigned char *block = calloc(1, size);
    if (block == NULL || block[0] != 0 || block[size - 1] != 0) {
      _exit(4);
    }
    block[size - 1] = 1;
    block = realloc(block, size * 2);
    if (block == NULL || block[size - 1] != 1) {
      _exit(5);
    }
    free(block);
  }
  return NULL;
}

static _Noreturn void child(int number, void **inherited)
{
  alarm(20);
  pthread_t thread;
  for (int i = 0; i < INHERITED; i++) {
    if (!probe_intact(inherited[i], 16, 16, (uint64_t)i)) {
      _exit(6);
    }
    free(inherited[i]);
  }
  work((void *)(uintptr_t)(number + 1));
  if (pthread_create(&thread, NULL, work, (void *)(uintptr_t)(number + 99)) != 0 || pthread_join(thread, NULL) != 0) {
    _exit(7);
  }
  if (number % 20 == 0) {
    int status = 0;
    pid_t grandchild = fork();
    if (grandchild == 0) {
      alarm(20);
      work((void *)(uintptr_t)(number + 7));
      _exit(0);
    }
    if (grandchild < 0 || waitpid(grandchild, &status, 0) != grandchild || status != 0) {
      _exit(8);
    }
  }
  if (number % 2 == 0) {
    exit(0);
  }
  _exit(0);
}

int main(int argc, char **argv)
{
  int forks = argc > 1 ? atoi(argv[1]) : 700, hung = 0, broken = 0, last = 0;
  pthread_t thread[THREADS];
  void *inherited[INHERITED];
  probe_served();
  for (int i = 0; i < INHERITED; i++) {
    inherited[i] = malloc((size_t)16 << (i / 2));
    probe_fill(inherited[i], 16, (uint64_t)i);
  }
  for (uintptr_t i = 0; i < THREADS; i++) {
    if (pthread_create(&thread[i], NULL, churn, (void *)(i + 1)) != 0) {
      return 2;
    }
  }
  for (int i = 0; i < forks; i++) {
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
      child(i, inherited);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (pid < 0 || status != 0) {
      last = pid < 0 ? -errno : status;
      if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        hung++;
      } else {
        broken++;
      }
    }
  }
  stop = true;
  for (int i = 0; i < THREADS; i++) {
    pthread_join(thread[i], NULL);
  }
  for (int i = 0; i < INHERITED; i++) {
    free(inherited[i]);
  }
  PROBE(hung == 0, "no child hangs", "found %d of %d hung, expected 0", hung, forks);
  PROBE(broken == 0, "every child ends well", "found %d of %d with another end (last wait status %#x), expected 0", broken,
        forks, (unsigned)last);
  probe_equal("the parent's blocks are intact", (uint64_t)spoilt, 0);
  int *handlers = dlsym(RTLD_DEFAULT, "atfork_prepares");
  if (handlers != NULL) {
    probe_equal("the other library's handlers ran", (uint64_t)*handlers, (uint64_t)forks);
  }
  return probe_failures == 0 ? 0 : 1;
}
