/* SPDX-License-Identifier: MIT */
/*
 * tiny.c - tiny objects that do not live long: the oldest of a few is replaced, again and again.
 *
 * Each thread has objects of its own, and there is no lock.
 */
#include "suite.h"

enum { LIVE = 32, REPLACED = 16000000, LEAST = 8, MOST = 64 };

static struct ring {
  _Alignas(2 * LINE) struct object objects[LIVE];
} rings[THREADS_MAX];

static uint64_t replaced;

static void *work(void *argument)
{
  unsigned number = *(const unsigned *)argument;
  struct object *objects = rings[number].objects;
  random_state random = random_seed(number);
  for (uint64_t i = 0; i < replaced; i++) {
    object_free(&objects[i % LIVE]);
    objects[i % LIVE] = object_new(random_between(&random, LEAST, MOST));
  }
  calls_add();
  return NULL;
}

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  replaced = suite_times(REPLACED);
  suite_start();
  threads_run(work);
  suite_stop(replaced * suite.threads);
  for (unsigned i = 0; i < suite.threads; i++) {
    object_free_all(rings[i].objects, LIVE);
  }
  return suite_end();
}
