/* SPDX-License-Identifier: MIT */
/*
 * scale.c - the same work in each thread, all of it private: what two threads lose to one another is the allocator's doing, or the
 * machine's.
 *
 *   alloc      a random one of a few small objects is replaced
 *   control    the same, with places that never change instead of an allocator: what the machine scales to
 *
 * Each thread has objects of its own, and there is no lock.
 */
#include "suite.h"

enum { OBJECTS = 256, REPLACED = 12000000, LEAST = 16, MOST = 128 };

static struct set {
  _Alignas(4096) struct object objects[OBJECTS];
  _Alignas(4096) unsigned char places[OBJECTS][MOST];
} sets[THREADS_MAX];

static uint64_t replaced;

static void *replace_objects(void *argument)
{
  unsigned number = *(const unsigned *)argument;
  random_state random = random_seed(number);
  for (uint64_t i = 0; i < replaced; i++) {
    struct object *object = &sets[number].objects[random_between(&random, 0, OBJECTS - 1)];
    object_free(object);
    *object = object_new(random_between(&random, LEAST, MOST));
  }
  calls_add();
  return NULL;
}

static void *replace_nothing(void *argument)
{
  unsigned number = *(const unsigned *)argument;
  struct set *set = &sets[number];
  random_state random = random_seed(number);
  for (uint64_t i = 0; i < replaced; i++) {
    uint32_t place = random_between(&random, 0, OBJECTS - 1);
    struct object *object = &set->objects[place];
    if (object->at != NULL) {
      object_check(object);
    }
    *object = (struct object){set->places[place], random_between(&random, LEAST, MOST)};
    object_write(object);
  }
  return NULL;
}

int main(int argc, char **argv)
{
  static const char *const kinds[] = {"alloc", "control"};
  suite_begin(argc, argv);
  bool control = suite_kind(kinds, 2) == 1;
  replaced = suite_times(REPLACED);
  make_resident(sets, sizeof sets[0] * suite.threads);
  suite_start();
  threads_run(control ? replace_nothing : replace_objects);
  suite_stop(replaced * suite.threads);
  for (unsigned i = 0; !control && i < suite.threads; i++) {
    object_free_all(sets[i].objects, OBJECTS);
  }
  return suite_end();
}
