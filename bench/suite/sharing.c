/* SPDX-License-Identifier: MIT */
/*
 * sharing.c - false sharing: each thread counts in a few small objects of its own, which is slow when objects of two threads are in
 * one cache line.
 *
 *   active     each thread allocates its objects itself
 *   passive    each begins with the free of some that the main thread had allocated in turn with those of the others
 */
#include "suite.h"

enum { FEW = 4, ROUNDS = 20000, COUNTED = 4000, SIZE = 8 };

static struct object given[FEW][THREADS_MAX];
static uint64_t rounds; /* of each thread */

static void count_in(struct object *objects)
{
  for (unsigned i = 0; i < FEW; i++) {
    objects[i] = object_new(SIZE);
    objects[i].at[SIZE / 2] = 0;
  }
  for (unsigned count = 0; count < COUNTED; count++) {
    volatile unsigned char *byte = &objects[count % FEW].at[SIZE / 2];
    (*byte)++;
  }
  for (unsigned i = 0; i < FEW; i++) {
    if (objects[i].at[SIZE / 2] != COUNTED / FEW % 256) {
      die("object", "its bytes were changed");
    }
    objects[i].at[SIZE / 2] = object_mark(SIZE);
    object_free(&objects[i]);
  }
}

static void *work(void *argument)
{
  unsigned number = *(const unsigned *)argument;
  struct object objects[FEW];
  for (unsigned i = 0; i < FEW; i++) {
    object_free(&given[i][number]);
  }
  for (uint64_t i = 0; i < rounds; i++) {
    count_in(objects);
  }
  calls_add();
  return NULL;
}

int main(int argc, char **argv)
{
  static const char *const kinds[] = {"active", "passive"};
  suite_begin(argc, argv);
  bool passive = suite_kind(kinds, 2) == 1;
  rounds = suite_times(ROUNDS);
  suite_start();
  for (unsigned i = 0; passive && i < FEW; i++) {
    for (unsigned number = 0; number < suite.threads; number++) {
      given[i][number] = object_new(SIZE);
    }
  }
  threads_run(work);
  suite_stop(rounds * FEW * suite.threads);
  return suite_end();
}
