/* SPDX-License-Identifier: MIT */
/* must.h - what every fuzz target has: the function that an engine calls with each input, and a check that ends in abort. */
#ifndef MUST_H
#define MUST_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                                                                        \
  ((condition) ? (void)0 : (fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition), abort()))

/* 0: the input was taken. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
