/* SPDX-License-Identifier: MIT */
/* route.c - owns hki_route and hakmem_root.bin_arm; changed while loading and by the holder of the control lock. */
#include "route.h"

#include "backend.h"
#include "settings.h"
#include "thread.h"

struct hki_route hki_route;

/* The first size, up to HAK_CLASS_MAX + 1, that some bin in force does not route to the byte backend of size 0. */
static size_t direct_end(struct hki_backend **direct)
{
  uint32_t arm;
  *direct = hki_route_find(0, &arm);
  if ((*direct)->granularity != HAK_BYTE) {
    return 0;
  }
  for (uint32_t bin = 0; ((size_t)1 << bin) <= HAK_CLASS_MAX; bin++) {
    size_t start = bin == 0 ? 0 : (size_t)1 << bin;
    if (hki_route_find(start, &arm) != *direct) {
      return start;
    }
    const struct hki_arm *row = &hki_route.arm[arm];
    for (uint32_t i = 1; i < row->count; i++) {
      size_t from = row->range[i].from;
      if (from > start && from < (size_t)2 << bin && row->range[i].backend != *direct) {
        return from;
      }
    }
  }
  return HAK_CLASS_MAX + 1;
}

void hki_route_publish(const uint8_t arm[HAK_BINS])
{
  for (uint32_t bin = 0; bin < HAK_BINS; bin++) {
    if (hakmem_root.bin_arm[bin] != arm[bin]) {
      HKI_STORE(&hakmem_root.bin_arm[bin], arm[bin]);
      HKI_ADD(&hakmem_root.switches, UINT64_C(1));
    }
  }
  struct hki_backend *direct;
  size_t end = direct_end(&direct);
  bool classes = hki_route.small != NULL && hki_route.small->granularity == HAK_CLASS;
  if (hki_route.small != NULL && !classes && hki_route.small_end > 0) {
    direct = hki_route.small;
    end = hki_route.small_end;
  }
  bool checked = classes && hki_settings.hardening == HKI_FULL; /* every call takes the checking path */
  __atomic_fetch_add(&hki_route.generation, 1U, __ATOMIC_ACQ_REL);
  HKI_STORE(&hki_route.direct, direct);
  HKI_STORE(&hki_route.direct_end, checked ? 0 : (uint64_t)end);
  HKI_STORE(&hki_route.front_end, classes && !checked ? hki_route.small_end : UINT64_C(0));
  __atomic_fetch_add(&hki_route.generation, 1U, __ATOMIC_SEQ_CST);
  hki_gates_close();
}
