/* SPDX-License-Identifier: MIT */
/*
 * place.c - where libhakmem and the plugins are: in the build tree that this binary lies in, or where they were installed.
 */
#include "tool.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* By its soname: the name without a number is there for those who link with it. */
#define LIBRARY "libhakmem.so.0"

/* The directory above the one of this binary, or "" when the kernel does not say. */
static void tree_of_self(char *path, size_t size)
{
  ssize_t length = readlink("/proc/self/exe", path, size - 1);
  path[length > 0 ? length : 0] = '\0';
  for (int level = 0; level < 2; level++) {
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
      *slash = '\0';
    }
  }
}

const struct place *place_find(void)
{
  static struct place place;
  if (place.library != NULL) {
    return &place;
  }
  char tree[PATH_MAX];
  tree_of_self(tree, sizeof tree);
  char *library = tool_text("%s/.libs/" LIBRARY, tree);
  place.build = tree[0] == '/' && access(library, R_OK) == 0;
  place.library = place.build ? library : HKI_LIBDIR "/" LIBRARY;
  place.plugins = place.build ? tool_text("%s/plugins/.libs", tree) : HKI_PLUGINDIR;
  if (access(place.library, R_OK) != 0) {
    tool_die(TOOL_USAGE, "%s: %s", place.library, strerror(errno));
  }
  return &place;
}
