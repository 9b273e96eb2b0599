/* SPDX-License-Identifier: MIT */
/*
 * abi.h - what a plugin of the first ABI has: the sizes of its structs, whatever has been added to them since. Nothing shorter
 * is taken for one; what is longer or newer than the header here is cut, and what is shorter reads as zero.
 */
#ifndef HKI_ABI_H
#define HKI_ABI_H

#include <stddef.h>

#include "hakmem/plugin.h"

#define HKI_THROUGH(type, member) (offsetof(type, member) + sizeof((type *)0)->member)

enum {
  HKI_PLUGIN_FIRST = HKI_THROUGH(hak_plugin, ops),
  HKI_OPTION_FIRST = HKI_THROUGH(hak_option, help),
  HKI_COUNTER_FIRST = HKI_THROUGH(hak_counter, help),
  HKI_BACKEND_FIRST = HKI_THROUGH(hak_backend_ops, looks),
  HKI_CACHE_FIRST = HKI_THROUGH(hak_cache_ops, reused),
  HKI_RECLAIM_FIRST = HKI_THROUGH(hak_reclaim_ops, fork_child),
  HKI_POLICY_FIRST = HKI_THROUGH(hak_policy_ops, fork_child)
};

#endif
