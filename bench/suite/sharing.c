/* SPDX-License-Identifier: MIT */
/*
 * sharing.c - false sharing: each thread writes many times to a small object of its own, which is slow when objects of two
 * threads are in one cache line.
 *
 *   active     each thread allocates its objects itself
 *   passive    each begins with the free of one that the main thread had allocated together with those of the others
 */
#include "suite.h"

enum { OBJECTS = 300000, WRITES = 2000, SIZE = 8 };

static struct object given[THREADS_MAX];
static uint64_t objects; /* of each thread */

static void *work(void *argument)
{
  unsigned number = *(const unsigned *)argument;
  object_free(&given[number]);
  for (uint64_t i = 0; i < objects; i++) {
    struct object object = object_new(SIZE);
    volatile unsigned char *byte = object.at + SIZE / 2;
    for (unsigned write = 0; write < WRITES; write++) {
      *byte = (unsigned char)write;
    }
    *byte = object_mark(SIZE);
    object_free(&object);
  }
  calls_add();
  return NULL;
}

int main(int argc, char **argv)
{
  static const char *const kinds[] = {"active", "passive"};
  suite_begin(argc, argv);
  bool passive = suite_kind(kinds, 2) == 1;
  objects = suite_times(OBJECTS);
  suite_start();
  for (unsigned i = 0; passive && i < suite.threads; i++) {
    given[i] = object_new(SIZE);
  }
  threads_run(work);
  suite_stop(objects * suite.threads);
  return suite_end();
}
