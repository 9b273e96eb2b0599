/* SPDX-License-Identifier: MIT */
/* nofile.c - a library to preload behind hakmem: started before it, it forbids every further file descriptor. Owns nothing. */
#include <sys/resource.h>

__attribute__((constructor)) static void start(void)
{
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_NOFILE, &none);
}
