/* SPDX-License-Identifier: MIT */
/* root.c - the root of everything that can be seen from outside. */
#include "root.h"

HAK_PLUGIN_EXPORT struct hki_root hakmem_root = {
    .magic = HKI_ROOT_MAGIC,
    .version = HKI_ROOT_VERSION,
    .size = sizeof(struct hki_root),
    .thread_size = sizeof(struct hki_thread),
    .backend_count = 1,
    .version_text = PACKAGE_VERSION,
    .backend = {[HKI_BOOT] = {.name = "boot", .granularity = HAK_BYTE}},
};
