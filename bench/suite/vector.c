/* SPDX-License-Identifier: MIT */
/*
 * vector.c - vectors that grow by realloc, by half of their size each time, up to a limit of their own; then they are freed and
 * begin anew. Which one grows next is random. Kinds: small, 16 bytes to 128 KiB; large, 64 KiB to 32 MiB.
 *
 * There is one thread, and no lock.
 */
#include "suite.h"

enum { SMALL, LARGE, KINDS, VECTORS_MOST = 200 };

static const char *const names[KINDS] = {"small", "large"};

static const struct {
  uint32_t vectors, grown;
  uint32_t first;                   /* bytes */
  uint32_t limit_least, limit_most; /* powers of two */
} kinds[KINDS] = {[SMALL] = {VECTORS_MOST, 800000, 16, 9, 17}, [LARGE] = {12, 4000, 64 * KIB, 20, 25}};

static struct vector {
  struct object object;
  uint32_t limit; /* bytes */
} vectors[VECTORS_MOST];

/* A vector in its new size: what was in it must still be there. */
static void vector_grow(struct vector *vector)
{
  struct object *object = &vector->object, old = *object;
  unsigned char mark = object_mark(old.size);
  object_check(object);
  object->size = old.size + old.size / 2;
  object->at = realloc(old.at, object->size);
  calls.resizes++;
  if (object->at == NULL) {
    die("realloc", "no memory");
  }
  for (uint32_t i = 0; i < old.size; i += suite.thorough ? 1 : old.size - 1) {
    if (object->at[i] != mark) {
      die("realloc", "bytes were lost");
    }
  }
  object->at[0] = object_mark(object->size);
  struct object more = {object->at + old.size, object->size - old.size};
  if (suite.thorough) {
    object_write(object);
  } else {
    object_write(&more);
    object->at[object->size - 1] = object_mark(object->size);
  }
}

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  unsigned kind = suite_kind(names, KINDS);
  uint64_t grown = suite_times(kinds[kind].grown);
  random_state random = random_seed(0);
  suite_start();
  for (uint64_t i = 0; i < grown; i++) {
    struct vector *vector = &vectors[random_between(&random, 0, kinds[kind].vectors - 1)];
    if (vector->object.at == NULL) {
      vector->object = object_new(kinds[kind].first);
      vector->limit = (uint32_t)1 << random_between(&random, kinds[kind].limit_least, kinds[kind].limit_most);
    } else if (vector->object.size < vector->limit) {
      vector_grow(vector);
    } else {
      object_free(&vector->object);
    }
  }
  suite_stop(grown);
  for (unsigned i = 0; i < VECTORS_MOST; i++) {
    object_free(&vectors[i].object);
  }
  return suite_end();
}
