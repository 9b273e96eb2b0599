/* SPDX-License-Identifier: MIT */
/*
 * queue.c - objects that are allocated in one thread and freed in another, handed over in batches.
 *
 *   pipe    the main thread allocates, the other one frees
 *   mesh    both do both, each freeing what the other one allocated
 *
 * A queue has one producer and one consumer. `head` is written by the producer, `tail` by the consumer; the batches from tail to
 * head are the consumer's, the others the producer's.
 */
#include "suite.h"

#include <sched.h>

enum { BATCH = 50, BATCHES = 64, HANDED = 40000, LEAST = 16, MOST = 512 };

static struct queue {
  _Alignas(2 * LINE) _Atomic uint64_t head;
  _Alignas(2 * LINE) _Atomic uint64_t tail;
  _Alignas(2 * LINE) struct object batches[BATCHES][BATCH];
} queues[2]; /* by the number of the thread that produces */

/* Allocates a batch and hands it over. False when the queue is full. */
static bool produce(struct queue *queue, random_state *random)
{
  uint64_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
  if (head - atomic_load_explicit(&queue->tail, memory_order_acquire) == BATCHES) {
    return false;
  }
  struct object *batch = queue->batches[head % BATCHES];
  for (unsigned i = 0; i < BATCH; i++) {
    batch[i] = object_new(random_between(random, LEAST, MOST));
  }
  atomic_store_explicit(&queue->head, head + 1, memory_order_release);
  return true;
}

/* Frees a batch. False when the queue is empty. */
static bool consume(struct queue *queue)
{
  uint64_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
  if (atomic_load_explicit(&queue->head, memory_order_acquire) == tail) {
    return false;
  }
  object_free_all(queue->batches[tail % BATCHES], BATCH);
  atomic_store_explicit(&queue->tail, tail + 1, memory_order_release);
  return true;
}

static uint64_t handed[2]; /* batches, by the number of the thread that produces */

static void *work(void *argument)
{
  unsigned number = *(const unsigned *)argument;
  uint64_t to_produce = handed[number], to_consume = handed[1 - number];
  random_state random = random_seed(number);
  while (to_produce + to_consume > 0) {
    bool produced = to_produce > 0 && produce(&queues[number], &random);
    bool consumed = to_consume > 0 && consume(&queues[1 - number]);
    to_produce -= produced;
    to_consume -= consumed;
    if (!produced && !consumed) {
      sched_yield();
    }
  }
  calls_add();
  return NULL;
}

int main(int argc, char **argv)
{
  static const char *const kinds[] = {"pipe", "mesh"};
  suite_begin(argc, argv);
  if (suite.threads != 2) {
    die("-j", "two threads, no more and no less");
  }
  if (suite_kind(kinds, 2) == 0) {
    handed[0] = suite_times(HANDED);
  } else {
    handed[0] = handed[1] = suite_times(HANDED);
  }
  make_resident(queues, sizeof queues);
  suite_start();
  threads_run(work);
  suite_stop((handed[0] + handed[1]) * BATCH);
  return suite_end();
}
