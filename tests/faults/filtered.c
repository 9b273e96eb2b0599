/* SPDX-License-Identifier: MIT */
/* filtered.c - `filtered EPERM|ENOSYS|kill COMMAND...` runs a command under a filter for system calls. */
#include "filter.h"

#include <unistd.h>

int main(int argc, char **argv)
{
  if (argc < 3 || !filter_begin(argv[1])) {
    return 2;
  }
  (void)execvp(argv[2], &argv[2]);
  return 2;
}
