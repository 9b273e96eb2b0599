/* SPDX-License-Identifier: MIT */
/*
 * quarantine.c - owns the objects that wait, each with the thread that freed it. Random numbers make a heap hard to predict from
 * outside the process; they are not secret from who reads its memory.
 */
#include "quarantine.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "meta.h"
#include "misuse.h"
#include "os.h"

struct hki_quarantine {
  uint64_t random; /* state */
  uint32_t count;
  struct {
    void *object;
    uint32_t cls;
  } place[HKI_QUARANTINE];
};

/* The mixing of splitmix64 by S. Vigna. */
static uint64_t mix(uint64_t x)
{
  x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
  return x ^ x >> 31;
}

static uint32_t draw_below(struct hki_quarantine *quarantine, uint32_t limit)
{
  quarantine->random += UINT64_C(0x9e3779b97f4a7c15);
  return (uint32_t)((mix(quarantine->random) >> 32) * limit >> 32);
}

/* NULL when there is no memory for it. */
static struct hki_quarantine *quarantine_of(struct hki_thread *thread)
{
  if (HKI_UNLIKELY(thread->quarantine == NULL)) {
    struct hki_quarantine *quarantine = hki_meta_alloc(sizeof *quarantine, 64);
    int saved = errno;
    /* Not the bytes at AT_RANDOM: libc makes its guards of them, and the order of objects tells about the state. */
    if (quarantine != NULL && getrandom(&quarantine->random, sizeof quarantine->random, GRND_NONBLOCK) < 0) {
      quarantine->random = mix(hki_os.now()) + (uintptr_t)thread;
    }
    errno = saved;
    thread->quarantine = quarantine;
  }
  return thread->quarantine;
}

/* An object that leaves must be as it was when it came. */
static void *checked(struct hki_thread *thread, void *object, uint32_t cls)
{
  const uint64_t *word = object;
  uint64_t found = 0;
  for (size_t i = 0; i < hakmem_root.class_bytes[cls] / sizeof *word; i++) {
    found |= word[i];
  }
  if (HKI_UNLIKELY(found != 0)) {
    hki_written(object, cls);
  }
  HKI_STORE(&thread->supply[cls].kept, thread->supply[cls].kept - 1);
  return object;
}

void *hki_quarantine_enter(struct hki_thread *thread, void *object, uint32_t *cls)
{
  uint32_t size = hakmem_root.class_bytes[*cls];
  struct hki_quarantine *quarantine = size <= HKI_QUARANTINE_OBJECT ? quarantine_of(thread) : NULL;
  memset(object, 0, size);
  if (quarantine == NULL) {
    return object;
  }
  HKI_STORE(&thread->supply[*cls].kept, thread->supply[*cls].kept + 1);
  bool full = quarantine->count == HKI_QUARANTINE;
  uint32_t at = full ? draw_below(quarantine, HKI_QUARANTINE) : quarantine->count++;
  void *before = quarantine->place[at].object;
  uint32_t before_cls = quarantine->place[at].cls;
  quarantine->place[at].object = object;
  quarantine->place[at].cls = *cls;
  *cls = before_cls;
  return full ? checked(thread, before, before_cls) : NULL;
}

void *hki_quarantine_leave(struct hki_thread *thread, uint32_t *cls)
{
  struct hki_quarantine *quarantine = thread->quarantine;
  if (quarantine == NULL || quarantine->count == 0) {
    return NULL;
  }
  quarantine->count--;
  *cls = quarantine->place[quarantine->count].cls;
  return checked(thread, quarantine->place[quarantine->count].object, *cls);
}

void hki_quarantine_shuffle(struct hki_thread *thread, void **objects, uint32_t count)
{
  struct hki_quarantine *quarantine = quarantine_of(thread);
  for (uint32_t left = count; quarantine != NULL && left > 1;
       left--) { /* R. Fisher, F. Yates (1938), as by R. Durstenfeld (1964) */
    uint32_t other = draw_below(quarantine, left);
    void *object = objects[left - 1];
    objects[left - 1] = objects[other];
    objects[other] = object;
  }
}
