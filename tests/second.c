/* SPDX-License-Identifier: MIT */
/* second.c - loads NAME, which only the path of whoever loads it leads to, and has that do the same; the last has no NAME. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NULL when everything was found, else what dlopen said. */
const char *second_load(int flag)
{
#ifdef NAME
  void *handle = dlopen(NAME, RTLD_NOW | flag);
  void *symbol = handle != NULL ? dlsym(handle, "second_load") : NULL;
  const char *(*load)(int);
  memcpy(&load, &symbol, sizeof load);
  return load != NULL ? load(flag) : dlerror();
#else
  (void)flag;
  return NULL;
#endif
}

#ifdef MAIN
int main(int argc, char **argv)
{
  const char *error = second_load(argc > 1 ? atoi(argv[1]) : 0);
  puts(error == NULL ? "found" : error);
  return error != NULL;
}
#endif
