/* SPDX-License-Identifier: MIT */
/*
 * fragment.c - what stays resident when nine of ten objects are free: a table is filled, then nine tenths of it are freed in a
 * random order; then the same with other sizes, those that were left staying where they are. What is live at the stop is the tenth
 * that each round has left.
 *
 * There is one thread, and no lock.
 */
#include "suite.h"

enum { OBJECTS = 120000, ROUNDS = 8, LEFT = OBJECTS / 10 };

static const struct {
  uint32_t least, most;
} sizes[ROUNDS] = {{16, 128}, {64, 512}, {16, 64}, {200, 1000}, {16, 400}, {500, 2000}, {32, 100}, {16, 1000}};

static struct object objects[OBJECTS], kept[ROUNDS][LEFT];

/* Moves a random object of the first `count` to the end of them, and returns it. */
static struct object *pick(uint32_t count, random_state *random)
{
  struct object *picked = &objects[random_between(random, 0, count - 1)], *last = &objects[count - 1], object = *picked;
  *picked = *last;
  *last = object;
  return last;
}

static void run_round(unsigned round, uint32_t count, random_state *random)
{
  for (uint32_t i = 0; i < count; i++) {
    objects[i] = object_new(random_between(random, sizes[round].least, sizes[round].most));
  }
  uint32_t left = count / 10;
  for (uint32_t i = count; i > left; i--) {
    object_free(pick(i, random));
  }
  for (uint32_t i = 0; i < left; i++) {
    kept[round][i] = objects[i];
    suite.live_bytes += objects[i].size;
  }
}

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  if (suite.percent > 100) {
    die("-n", "no more than 100");
  }
  uint32_t count = (uint32_t)suite_times(OBJECTS);
  random_state random = random_seed(0);
  make_resident(objects, sizeof objects);
  make_resident(kept, sizeof kept);
  suite_start();
  for (unsigned round = 0; round < ROUNDS; round++) {
    run_round(round, count, &random);
  }
  suite_stop((uint64_t)count * ROUNDS);
  object_free_all(kept[0], (size_t)ROUNDS * LEFT);
  return suite_end();
}
