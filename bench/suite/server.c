/* SPDX-License-Identifier: MIT */
/*
 * server.c - a server's way with memory: a set of objects of many sizes, of which one after the other is replaced at random; after
 * some replacements the thread ends and hands the set to the next one, so that most objects are freed by a thread that did not
 * allocate them.
 *
 * Each of the suite's threads has a set, which belongs to the thread that it has started last and waits for.
 */
#include "suite.h"

enum { OBJECTS = 5000, TURNS = 160, REPLACED = 30000, LEAST = 8, MOST = 1000 };

static struct set {
  random_state random;
  uint64_t turns; /* threads that have served it */
  struct object objects[OBJECTS];
} sets[THREADS_MAX];

/* The life of one thread of the server. */
static void *serve(void *argument)
{
  struct set *set = argument;
  random_state random = set->random;
  for (unsigned i = 0; i < REPLACED; i++) {
    struct object *object = &set->objects[random_between(&random, 0, OBJECTS - 1)];
    object_free(object);
    *object = object_new(random_between(&random, LEAST, MOST));
  }
  set->random = random;
  calls_add();
  return NULL;
}

static uint64_t turns;

static void *keep_serving(void *argument)
{
  const unsigned *number = argument;
  struct set *set = &sets[*number];
  while (suite.time > 0 ? !suite_expired() : set->turns < turns) {
    pthread_join(thread_start(serve, set), NULL);
    set->turns++;
  }
  calls_add();
  return NULL;
}

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  suite.helpers = 2 * suite.threads - 1;
  turns = suite_times(TURNS);
  make_resident(sets, sizeof sets[0] * suite.threads);
  for (unsigned i = 0; i < suite.threads; i++) {
    sets[i].random = random_seed(i);
  }
  suite_start();
  threads_run(keep_serving);
  suite_stop(0);
  for (unsigned i = 0; i < suite.threads; i++) {
    suite.operations += sets[i].turns * REPLACED;
    object_free_all(sets[i].objects, OBJECTS);
  }
  return suite_end();
}
