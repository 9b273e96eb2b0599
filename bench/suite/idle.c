/* SPDX-License-Identifier: MIT */
/*
 * idle.c - a small program that holds 1 MiB in objects of 16 to 512 bytes: its resident set is the figure, not its time.
 *
 * There is one thread, and no lock.
 */
#include "suite.h"

enum { OBJECTS = 8192, LEAST = 16, MOST = 512 };

static struct object objects[OBJECTS];

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  random_state random = random_seed(0);
  unsigned count = 0;
  make_resident(objects, sizeof objects);
  suite_start();
  for (; count < OBJECTS && suite.live_bytes < MIB; count++) {
    objects[count] = object_new(random_between(&random, LEAST, MOST));
    suite.live_bytes += objects[count].size;
  }
  suite_stop(count);
  object_free_all(objects, count);
  return suite_end();
}
