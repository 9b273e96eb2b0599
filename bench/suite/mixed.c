/* SPDX-License-Identifier: MIT */
/*
 * mixed.c - large blocks among small objects: of either a random one is replaced, a large one for every 8000 small ones.
 *
 * There is one thread, and no lock.
 */
#include "suite.h"

enum { SMALL = 20000, REPLACED = 3000000, LEAST = 16, MOST = 300, LARGE = 8, EVERY = 8000 };

static const uint32_t large_least = 256 * KIB, large_most = 4 * MIB;

static struct object objects[SMALL], large[LARGE];

static void replace(struct object *object, uint32_t size)
{
  object_free(object);
  *object = object_new(size);
}

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  uint64_t replaced = suite_times(REPLACED);
  random_state random = random_seed(0);
  make_resident(objects, sizeof objects);
  suite_start();
  for (uint64_t i = 0; i < replaced; i++) {
    if (i % EVERY == 0) {
      replace(&large[random_between(&random, 0, LARGE - 1)], random_between(&random, large_least, large_most));
    }
    replace(&objects[random_between(&random, 0, SMALL - 1)], random_between(&random, LEAST, MOST));
  }
  suite_stop(replaced);
  object_free_all(objects, SMALL);
  object_free_all(large, LARGE);
  return suite_end();
}
