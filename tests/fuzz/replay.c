/* SPDX-License-Identifier: MIT */
/* replay.c - runs a fuzz target once with each file that is named, without an engine. Prints how many there were. */
#include "must.h"

enum { MOST = 1 << 20 }; /* bytes of an input */

int main(int argc, char **argv)
{
  for (int i = 1; i < argc; i++) {
    uint8_t *room = malloc(MOST);
    FILE *file = fopen(argv[i], "rb");
    if (room == NULL || file == NULL) {
      fprintf(stderr, "replay: cannot read %s\n", argv[i]);
      return 2;
    }
    size_t size = fread(room, 1, MOST, file);
    fclose(file);
    uint8_t *data = realloc(room, size > 0 ? size : 1); /* of the exact size, for the address sanitizer */
    fprintf(stderr, "replay: %s\n", argv[i]);
    MUST(data != NULL && LLVMFuzzerTestOneInput(data, size) == 0);
    free(data);
  }
  printf("%d inputs\n", argc - 1);
  return 0;
}
