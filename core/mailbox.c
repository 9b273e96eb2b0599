/* SPDX-License-Identifier: MIT */
/*
 * mailbox.c - owns nothing: the mailbox is part of hakmem_root. Who may write to this process's memory may do anything to it, so
 * the request is trusted as much as a debugger; it is still parsed as carefully as any other input.
 */
#define _GNU_SOURCE
#include "mailbox.h"

#include <errno.h>
#include <string.h>

#include "base.h"
#include "control.h"
#include "message.h"

HKI_COLD void hki_mailbox_serve(void)
{
  struct hki_mailbox *mail = &hakmem_root.mailbox;
  uint32_t request = HKI_MAIL_REQUEST;
  if (!__atomic_compare_exchange_n(&mail->state, &request, (uint32_t)HKI_MAIL_SERVING, false, __ATOMIC_ACQUIRE,
                                   __ATOMIC_RELAXED)) {
    return;
  }
  char name[HKI_MAIL];
  memcpy(name, mail->request, sizeof name);
  name[sizeof name - 1] = 0;
  char *equals = strchr(name, '=');
  if (equals == NULL) {
    struct hki_text text = hki_text(mail->answer, sizeof mail->answer);
    hki_append(&text, "found \"%s\", expected section.key=value", name);
    mail->result = EINVAL;
  } else {
    *equals = 0;
    mail->result = hki_control_set(name, equals + 1, "hakmem set", mail->answer, sizeof mail->answer);
  }
  __atomic_store_n(&mail->state, (uint32_t)HKI_MAIL_ANSWER, __ATOMIC_RELEASE);
}
