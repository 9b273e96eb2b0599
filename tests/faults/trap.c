/* SPDX-License-Identifier: MIT */
/* trap.c - a library to preload behind hakmem: started before it, it makes floating-point exceptions trap. Owns nothing. */
#define _GNU_SOURCE
#include <fenv.h>

__attribute__((constructor)) static void start(void)
{
  (void)feenableexcept(FE_ALL_EXCEPT);
}
