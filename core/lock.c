/* SPDX-License-Identifier: MIT */
/* lock.c - the slow halves of hak_lock. Owns the control lock. */
#include "lock.h"

#include "os.h"
#include "thread.h"

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("" ::: "memory")
#endif

enum { SPINS = 100 }; /* about the time of a short critical section; far below a context switch */

hak_lock hki_control_lock;

HKI_SLOW void hki_lock_wait(hak_lock *lock)
{
  for (int i = 0; i < SPINS; i++) {
    uint32_t expected = 0;
    if (HKI_LOAD(&lock->word) == 0 &&
        __atomic_compare_exchange_n(&lock->word, &expected, 1U, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      return;
    }
    PAUSE();
  }
  while (__atomic_exchange_n(&lock->word, 2U, __ATOMIC_ACQUIRE) != 0) {
    hki_futex_wait(&lock->word, 2U, 0);
  }
}

HKI_SLOW void hki_lock_wake(hak_lock *lock)
{
  hki_futex_wake(&lock->word);
}

void hki_leaf_lock(hak_lock *lock)
{
  if (hki_self != &hki_thread_fork) {
    hki_lock(lock);
  }
}

void hki_leaf_unlock(hak_lock *lock)
{
  if (hki_self != &hki_thread_fork) {
    hki_unlock(lock);
  }
}
