/* SPDX-License-Identifier: MIT */
/* mailbox.h - live options from outside: the process's side of struct hki_mailbox. */
#ifndef HKI_MAILBOX_H
#define HKI_MAILBOX_H

/* Takes the request that waits, if no other thread does, and answers it. [slow path of an own record] */
void hki_mailbox_serve(void);

#endif
