/* SPDX-License-Identifier: MIT */
/*
 * quarantine.h - hardening = full: a freed object is cleared, and waits among others for a random time before it may be handed out
 * again. Whoever writes to it meanwhile is found out when it leaves.
 */
#ifndef HKI_QUARANTINE_H
#define HKI_QUARANTINE_H

#include "base.h"
#include "root.h"

enum {
  HKI_QUARANTINE = 256,            /* objects that wait in a thread */
  HKI_QUARANTINE_OBJECT = 4 * 1024 /* bytes of the largest that do; larger ones are cleared only */
};

/*
 * Clears a freed object of class *cls and lets it wait. Returns the object whose place it got, and the class of that; NULL when
 * there was a free place. Ends the process when what leaves was written to. [own record]
 */
void *hki_quarantine_enter(struct hki_thread *thread, void *object, uint32_t *cls);

/* Takes an object out, until NULL. [own record] */
void *hki_quarantine_leave(struct hki_thread *thread, uint32_t *cls);

/* Puts objects that were never handed out into a random order. [own record] */
void hki_quarantine_shuffle(struct hki_thread *thread, void **objects, uint32_t count);

#endif
