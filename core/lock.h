/* SPDX-License-Identifier: MIT */
/*
 * lock.h - the core's side of hak_lock: 0 free, 1 held, 2 held and somebody may sleep.
 *
 * It spins briefly and then sleeps, because a spinning thread of higher SCHED_FIFO priority would never let the owner run.
 * The algorithm is the second mutex of U. Drepper, "Futexes Are Tricky" (2011).
 */
#ifndef HKI_LOCK_H
#define HKI_LOCK_H

#include "base.h"

void hki_lock_wait(hak_lock *lock);
void hki_lock_wake(hak_lock *lock);

HKI_INLINE void hki_lock(hak_lock *lock)
{
  uint32_t expected = 0;
  if (!__atomic_compare_exchange_n(&lock->word, &expected, 1U, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    hki_lock_wait(lock);
  }
}

/* True when the lock was free, and is the caller's now. */
HKI_INLINE bool hki_try_lock(hak_lock *lock)
{
  uint32_t expected = 0;
  return __atomic_compare_exchange_n(&lock->word, &expected, 1U, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

HKI_INLINE void hki_unlock(hak_lock *lock)
{
  if (__atomic_exchange_n(&lock->word, 0U, __ATOMIC_RELEASE) == 2U) {
    hki_lock_wake(lock);
  }
}

/*
 * Serialises the control plane: everything that changes settings, options, or what is published. It is never waited for on the way
 * to memory; a thread that ends an epoch tries it. Taken around a fork.
 */
extern hak_lock hki_control_lock;

/*
 * For the locks that boot needs. Between fork's handlers the forking thread holds them all, and boot serves what other
 * libraries' handlers allocate: that thread is inside already.
 */
void hki_leaf_lock(hak_lock *lock);
void hki_leaf_unlock(hak_lock *lock);

#endif
