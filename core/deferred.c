/* SPDX-License-Identifier: MIT */
/* deferred.c - owns a lock-free stack of blocks, made of nodes from libc; whoever takes it takes all of it. */
#include "deferred.h"

#include "boot.h"
#include "free.h"
#include "thread.h"

struct node {
  struct node *next;
  void *block;
};

static struct node *waiting;

HKI_COLD void hki_defer(void *block)
{
  struct node *node = __libc_malloc(sizeof *node);
  if (node == NULL) {
    return; /* the block is lost, which is better than a deadlock */
  }
  node->block = block;
  node->next = __atomic_load_n(&waiting, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&waiting, &node->next, node, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
  }
  hki_gates_close();
}

bool hki_deferred_waiting(void)
{
  return HKI_LOAD(&waiting) != NULL;
}

HKI_COLD void hki_deferred_free(void)
{
  struct node *node = __atomic_exchange_n(&waiting, NULL, __ATOMIC_ACQUIRE);
  while (node != NULL) {
    struct node *next = node->next;
    hki_free(node->block, "free");
    __libc_free(node);
    node = next;
  }
}
