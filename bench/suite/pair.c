/* SPDX-License-Identifier: MIT */
/* pair.c - 64 bytes, allocated and freed at once, again and again. There is one thread, and no lock. */
#include "suite.h"

enum { SIZE = 64, PAIRS = 20000000 };

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  uint64_t pairs = suite_times(PAIRS);
  suite_start();
  for (uint64_t i = 0; i < pairs; i++) {
    struct object object = object_new(SIZE);
    object_free(&object);
  }
  suite_stop(pairs);
  return suite_end();
}
