/* SPDX-License-Identifier: MIT */
/*
 * filter.h - a filter for system calls, as sandboxes have: process_madvise and mincore are answered with an error, or kill.
 */
#ifndef HAKMEM_TESTS_FAULTS_FILTER_H
#define HAKMEM_TESTS_FAULTS_FILTER_H

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* `answer` is EPERM, ENOSYS or kill. False: the kernel has no filters, or does not let us. */
__attribute__((unused)) static bool filter_begin(const char *answer)
{
  unsigned action = strcmp(answer, "kill") == 0    ? SECCOMP_RET_KILL_PROCESS
                    : strcmp(answer, "EPERM") == 0 ? SECCOMP_RET_ERRNO | (unsigned)EPERM
                                                   : SECCOMP_RET_ERRNO | (unsigned)ENOSYS;
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_madvise, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mincore, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

#endif
