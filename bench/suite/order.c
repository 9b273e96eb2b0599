/* SPDX-License-Identifier: MIT */
/*
 * order.c - batches of objects, allocated one after the other and then freed.
 *
 *   fifo      in the order of their allocation
 *   lifo      the last one first
 *   random    in a random order, the same for each batch
 *
 * There is one thread, and no lock.
 */
#include "suite.h"

enum { BATCH = 20000, BATCHES = 250, LEAST = 16, MOST = 256 };

static struct object objects[BATCH];
static uint32_t order[BATCH];

static void shuffle(void)
{
  random_state random = random_seed(1);
  for (uint32_t i = BATCH - 1; i > 0; i--) {
    uint32_t other = random_between(&random, 0, i), moved = order[i];
    order[i] = order[other];
    order[other] = moved;
  }
}

int main(int argc, char **argv)
{
  static const char *const kinds[] = {"fifo", "lifo", "random"};
  suite_begin(argc, argv);
  unsigned kind = suite_kind(kinds, 3);
  for (uint32_t i = 0; i < BATCH; i++) {
    order[i] = kind == 1 ? BATCH - 1 - i : i;
  }
  if (kind == 2) {
    shuffle();
  }
  make_resident(objects, sizeof objects);
  uint64_t batches = suite_times(BATCHES);
  random_state random = random_seed(0);
  suite_start();
  for (uint64_t batch = 0; batch < batches; batch++) {
    for (uint32_t i = 0; i < BATCH; i++) {
      objects[i] = object_new(random_between(&random, LEAST, MOST));
    }
    for (uint32_t i = 0; i < BATCH; i++) {
      object_free(&objects[order[i]]);
    }
  }
  suite_stop(batches * BATCH);
  return suite_end();
}
