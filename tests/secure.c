/* SPDX-License-Identifier: MIT */
/*
 * secure.c - linked with libhakmem: says whether it runs with more rights than its caller, whether hakmem serves it, and what a program
 * that it starts finds of hakmem's variables.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "hakmem/hakmem.h"

int main(void)
{
  struct hak_totals totals = {.struct_size = sizeof totals};
  void *block = malloc(1 << 20);
  int code = hak_stats(&totals);
  int left = (getenv("HAKMEM_CONF") != NULL) + (getenv("HAKMEM_SET") != NULL) + (getenv("HAKMEM_VERBOSE") != NULL);
  printf("secure %lu, served %d, variables %d\n", getauxval(AT_SECURE), code == 0 && block != NULL && totals.allocs > 0, left);
  free(block);
  return 0;
}
