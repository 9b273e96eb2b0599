/* SPDX-License-Identifier: MIT */
/*
 * trust.h - may this file be loaded as code? It may when it and every directory above it belong to root, to the user, or to the
 * owner of libhakmem itself, and nobody else may write to them.
 */
#ifndef HKI_TRUST_H
#define HKI_TRUST_H

#include "base.h"

struct hki_trust {
  int fd;         /* the file that was checked, open; -1 */
  uint64_t inode; /* what stat says of it */
  uint64_t device;
  char path[4096]; /* absolute, free of symbolic links */
};

/*
 * Checks `path`. True: `trust` holds it until hki_trust_end. False: what was found and what was expected are in *found and
 * *expected, static texts or parts of `trust`.
 */
bool hki_trust_begin(struct hki_trust *trust, const char *path, const char **found, const char **expected);

/* True when the mapping around `address` is of the very file that was checked, so that nobody swapped it in between. */
bool hki_trust_is(const struct hki_trust *trust, const void *address);

void hki_trust_end(struct hki_trust *trust);

/* After the last plugin: gives back what the checks shared. */
void hki_trust_stop(void);

#endif
