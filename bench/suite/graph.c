/* SPDX-License-Identifier: MIT */
/*
 * graph.c - a graph of live objects under constant change. A node is one object with its edges in it; it grows by an edge, is put
 * in another's place, or is dropped with all that it points to. Threads take turns: each lives for a part of the work only.
 *
 * Edges are numbers of places in a table. A thread takes a node out of its place with one exchange, and it is its own until it
 * puts it back, so threads need no lock and never read what another one frees.
 */
#include "suite.h"

enum { PLACES = 20000, TURNS = 100, STEPS = 60000, EDGES_MOST = 12, PAYLOAD_MOST = 300 };

struct node {
  uint32_t size, edges; /* size: 0 in a node that was dropped */
  uint32_t edge[];      /* and the payload behind them */
};

static struct node *_Atomic places[PLACES];
static random_state states[THREADS_MAX];

static struct node *node_take(uint32_t place)
{
  return atomic_exchange_explicit(&places[place], NULL, memory_order_acq_rel);
}

static void node_drop(struct node *node)
{
  if (node != NULL) {
    const unsigned char *at = (unsigned char *)node;
    if (node->size < sizeof *node || at[node->size - 1] != object_mark(node->size)) {
      die("node", "its bytes were changed");
    }
    node->size = 0;
    free(node);
    calls.frees++;
  }
}

static void node_put(uint32_t place, struct node *node)
{
  node_drop(atomic_exchange_explicit(&places[place], node, memory_order_acq_rel));
}

static struct node *node_new(uint32_t edges, uint32_t payload)
{
  uint32_t size = (uint32_t)(sizeof(struct node) + edges * sizeof(uint32_t)) + payload;
  struct node *node = (struct node *)(void *)object_new(size).at;
  node->size = size;
  node->edges = edges;
  return node;
}

static struct node *node_random(random_state *random)
{
  struct node *node = node_new(random_between(random, 0, EDGES_MOST / 2), random_between(random, 1, PAYLOAD_MOST));
  for (uint32_t i = 0; i < node->edges; i++) {
    node->edge[i] = random_between(random, 0, PLACES - 1);
  }
  return node;
}

/* The same node with one edge more, in an object of its own. */
static struct node *node_grown(const struct node *old, uint32_t place)
{
  uint32_t payload = old->size - (uint32_t)(sizeof *old + old->edges * sizeof(uint32_t));
  struct node *node = node_new(old->edges + 1, payload);
  memcpy(node->edge, old->edge, old->edges * sizeof(uint32_t));
  node->edge[old->edges] = place;
  return node;
}

static void change(random_state *random)
{
  uint32_t place = random_between(random, 0, PLACES - 1), what = random_between(random, 0, 7);
  struct node *node = node_take(place);
  if (node == NULL) {
    node_put(place, node_random(random));
  } else if (what == 0) {
    for (uint32_t i = 0; i < node->edges; i++) {
      node_drop(node_take(node->edge[i]));
    }
    node_drop(node);
  } else if (what < 5 && node->edges < EDGES_MOST) {
    node_put(place, node_grown(node, random_between(random, 0, PLACES - 1)));
    node_drop(node);
  } else {
    node_put(random_between(random, 0, PLACES - 1), node);
  }
}

static void *turn(void *argument)
{
  random_state *state = argument, random = *state;
  for (unsigned i = 0; i < STEPS; i++) {
    change(&random);
  }
  *state = random;
  calls_add();
  return NULL;
}

static uint64_t turns;

static void *take_turns(void *argument)
{
  const unsigned *number = argument;
  for (uint64_t i = 0; i < turns; i++) {
    pthread_join(thread_start(turn, &states[*number]), NULL);
  }
  calls_add();
  return NULL;
}

int main(int argc, char **argv)
{
  suite_begin(argc, argv);
  suite.helpers = 2 * suite.threads - 1;
  turns = suite_times(TURNS);
  make_resident(places, sizeof places);
  for (unsigned i = 0; i < suite.threads; i++) {
    states[i] = random_seed(i);
  }
  suite_start();
  threads_run(take_turns);
  suite_stop(turns * STEPS * suite.threads);
  for (uint32_t i = 0; i < PLACES; i++) {
    node_drop(node_take(i));
  }
  return suite_end();
}
