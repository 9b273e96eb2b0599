/* SPDX-License-Identifier: MIT */
/*
 * aligned.c - aligned requests: objects of any size up to 2000 bytes at multiples of 16 to 4096, small ones more often.
 *
 * There is one thread, and no lock.
 */
#include "suite.h"

enum { OBJECTS = 4000, REPLACED = 1500000, MOST = 2000, SHIFT_LEAST = 4, SHIFT_MOST = 12 };

static struct object objects[OBJECTS];

/* 16 for half of them, 32 for half of the others, and so on. */
static size_t alignment_of(random_state *random)
{
  unsigned shift = SHIFT_LEAST + (unsigned)__builtin_ctzll(random_bits(random));
  return (size_t)1 << (shift < SHIFT_MOST ? shift : SHIFT_MOST);
}

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  uint64_t replaced = suite_times(REPLACED);
  random_state random = random_seed(0);
  make_resident(objects, sizeof objects);
  suite_start();
  for (uint64_t i = 0; i < replaced; i++) {
    struct object *object = &objects[random_between(&random, 0, OBJECTS - 1)];
    object_free(object);
    uint32_t size = random_between(&random, 1, MOST);
    size_t alignment = alignment_of(&random);
    void *at = NULL;
    int error = posix_memalign(&at, alignment, size);
    if (error != 0) {
      die("posix_memalign", strerror(error));
    }
    suite.misaligned += (uintptr_t)at % alignment != 0;
    *object = object_take(at, size);
  }
  suite_stop(replaced);
  object_free_all(objects, OBJECTS);
  return suite_end();
}
