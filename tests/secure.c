/* SPDX-License-Identifier: MIT */
/* secure.c - linked with libhakmem: says whether it runs with more rights than its caller, and whether hakmem serves it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>

#include "hakmem/hakmem.h"

int main(void)
{
  struct hak_totals totals = {.struct_size = sizeof totals};
  void *block = malloc(1 << 20);
  int code = hak_stats(&totals);
  printf("secure %lu, served %d\n", getauxval(AT_SECURE), code == 0 && block != NULL && totals.allocs > 0);
  free(block);
  return 0;
}
