/* SPDX-License-Identifier: MIT */
/*
 * sizes.c - a set of objects of which a random one is replaced, again and again, with sizes drawn from
 *
 *   small     1 to 1000 bytes, each as often as any other
 *   medium    1 to 64 KiB, likewise
 *   power     16 bytes to 64 KiB, twice the size half as often
 *
 * Each thread has a set of its own, and there is no lock.
 */
#include "suite.h"

enum { OBJECTS = 10000, POWER_LEAST = 16, POWER_MOST = 11 /* doublings */ };

static const struct kind {
  unsigned objects, replaced;
  uint32_t least, most; /* bytes; 0: power */
} kinds[] = {
    {10000, 4000000, 1, 1000},
    {600, 200000, KIB, 64 * KIB},
    {10000, 4000000, 0, 0},
};

static const struct kind *kind;
static struct set {
  _Alignas(2 * LINE) struct object objects[OBJECTS];
} sets[THREADS_MAX];

static uint64_t replaced;

static uint32_t draw(random_state *random)
{
  if (kind->most > 0) {
    return random_between(random, kind->least, kind->most);
  }
  unsigned doublings = (unsigned)__builtin_ctzll(random_bits(random));
  uint32_t least = (uint32_t)POWER_LEAST << (doublings < POWER_MOST ? doublings : POWER_MOST);
  return random_between(random, least, 2 * least - 1);
}

static void *work(void *argument)
{
  unsigned number = *(const unsigned *)argument;
  struct object *objects = sets[number].objects;
  random_state random = random_seed(number);
  for (uint64_t i = 0; i < replaced; i++) {
    struct object *object = &objects[random_between(&random, 0, kind->objects - 1)];
    object_free(object);
    *object = object_new(draw(&random));
  }
  calls_add();
  return NULL;
}

int main(int argc, char **argv)
{
  static const char *const names[] = {"small", "medium", "power"};
  suite_begin(argc, argv);
  kind = &kinds[suite_kind(names, 3)];
  replaced = suite_times(kind->replaced);
  make_resident(sets, sizeof sets[0] * suite.threads);
  suite_start();
  threads_run(work);
  suite_stop(replaced * suite.threads);
  for (unsigned i = 0; i < suite.threads; i++) {
    object_free_all(sets[i].objects, kind->objects);
  }
  return suite_end();
}
