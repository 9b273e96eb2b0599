/* SPDX-License-Identifier: MIT */
/* route.c - owns hki_route and the tables in hakmem_root; changed while loading and by the holder of the control lock. */
#include "route.h"

#include "backend.h"
#include "draw.h"
#include "epoch.h"
#include "settings.h"
#include "site.h"
#include "thread.h"
#include "trial.h"

struct hki_route hki_route;

static uint32_t draws[HAK_ROWS]; /* of rows that have a contest; atomic */
static uint16_t purse[HAK_ROWS]; /* the row whose `left` counts for this one; atomic */
static int32_t left[HAK_ROWS];   /* blocks that challengers may still have before the next decision; atomic */

/* Of the blocks that have drawn the challenger only those get it that can be measured: another one would cost and teach nothing. */
static bool challenges(uint32_t row, uint32_t share)
{
  int32_t *most = &left[HKI_LOAD(&purse[row])];
  uint32_t number = __atomic_fetch_add(&draws[row], 1U, __ATOMIC_RELAXED);
  return hki_draw(HKI_LOAD(&hakmem_root.seed), row, number, share) && HKI_LOAD(most) > 0 && hki_trial_turn() &&
         __atomic_fetch_sub(most, 1, __ATOMIC_RELAXED) > 0;
}

HKI_SLOW void hki_route_choose(struct hki_want *want)
{
  uint32_t row = hki_route_row(want->size);
  want->is_challenger = false;
  if (want->size > HAK_CLASS_MAX && hki_epoch_learns()) {
    row += hki_site_count(want->site, &want->number);
    uint32_t share = HKI_LOAD(&hakmem_root.share[row]);
    want->is_challenger = share != 0 && challenges(row, share);
  }
  want->row = row;
  want->arm = HKI_LOAD(want->is_challenger ? &hakmem_root.challenger[row] : &hakmem_root.champion[row]);
}

bool hki_route_in_force(uint32_t arm, size_t size, const void *site)
{
  uint32_t row = hki_route_row(size) + (size > HAK_CLASS_MAX && hki_epoch_learns() ? hki_site_kind(site) : 0U);
  return HKI_LOAD(&hakmem_root.champion[row]) == arm ||
         (HKI_LOAD(&hakmem_root.share[row]) != 0 && HKI_LOAD(&hakmem_root.challenger[row]) == arm);
}

static bool same_switches(uint32_t a, uint32_t b)
{
  return hki_route.arm[a].cache == hki_route.arm[b].cache && hki_route.arm[a].reclaim == hki_route.arm[b].reclaim;
}

/* Whether `a` does with all sizes of a bin what `b` does: where it starts, and wherever one of the two changes its backend. */
static bool alike(uint32_t bin, uint32_t a, uint32_t b)
{
  size_t first = (size_t)1 << bin;
  const uint32_t arms[] = {a, b};
  bool same = true, page = false;
  for (uint32_t i = 0; i < 2; i++) {
    const struct hki_arm *row = &hki_route.arm[arms[i]];
    for (uint32_t j = 0; j < row->count; j++) {
      size_t size = row->range[j].from > first ? row->range[j].from : first;
      if (size < 2 * first) {
        same = same && hki_route_backend(a, size) == hki_route_backend(b, size);
        page = page || hki_route_backend(a, size)->granularity == HAK_PAGE;
      }
    }
  }
  return same && (!page || same_switches(a, b)); /* cache and reclaim have page blocks only */
}

uint32_t hki_route_alike(uint32_t bin, uint32_t arm)
{
  uint32_t first = 0;
  while (first < arm && !alike(bin, first, arm)) {
    first++;
  }
  return first;
}

static struct hki_backend *champion(size_t size, uint32_t *arm)
{
  *arm = hakmem_root.champion[hki_route_row(size)];
  return hki_route_backend(*arm, size);
}

/* The first size, up to HAK_CLASS_MAX + 1, that some row in force does not route to the byte backend of size 0. */
static size_t direct_end(struct hki_backend **direct)
{
  uint32_t arm;
  *direct = champion(0, &arm);
  if ((*direct)->granularity != HAK_BYTE) {
    return 0;
  }
  for (uint32_t bin = 0; ((size_t)1 << bin) <= HAK_CLASS_MAX; bin++) {
    size_t start = bin == 0 ? 0 : (size_t)1 << bin;
    if (champion(start, &arm) != *direct) {
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

/* Writes into the log that the row changes its champion; together with the row before it when that does the same. */
static void note(uint32_t row, uint8_t to, uint8_t reason)
{
  struct hki_change *last = &hakmem_root.change[(hakmem_root.change_count - 1) % HKI_CHANGES];
  uint8_t from = hakmem_root.champion[row];
  HKI_STORE(&hakmem_root.switches, hakmem_root.switches + 1);
  if (hakmem_root.change_count > 0 && last->epoch == hakmem_root.epochs && last->row + last->rows == (int)row &&
      last->from == from && last->to == to && last->reason == reason) {
    HKI_STORE(&last->rows, (uint16_t)(last->rows + 1));
    return;
  }
  struct hki_change *change = &hakmem_root.change[hakmem_root.change_count % HKI_CHANGES]; /* statistics copy it */
  HKI_STORE(&change->epoch, hakmem_root.epochs);
  HKI_STORE(&change->blocks, HKI_LOAD(&hakmem_root.blocks));
  HKI_STORE(&change->row, (uint16_t)row);
  HKI_STORE(&change->rows, (uint16_t)1);
  HKI_STORE(&change->from, from);
  HKI_STORE(&change->to, to);
  HKI_STORE(&change->reason, reason);
  HKI_STORE(&hakmem_root.change_count, hakmem_root.change_count + 1);
}

static void open_gates(struct hki_backend *direct, uint64_t direct_limit, uint64_t front_limit)
{
  if (HKI_LOAD(&hki_route.direct) == direct && HKI_LOAD(&hki_route.direct_end) == direct_limit &&
      HKI_LOAD(&hki_route.front_end) == front_limit) {
    return;
  }
  __atomic_fetch_add(&hki_route.generation, 1U, __ATOMIC_ACQ_REL);
  HKI_STORE(&hki_route.direct, direct);
  HKI_STORE(&hki_route.direct_end, direct_limit);
  HKI_STORE(&hki_route.front_end, front_limit);
  __atomic_fetch_add(&hki_route.generation, 1U, __ATOMIC_SEQ_CST);
  hki_gates_close();
}

void hki_route_publish(const struct hki_tables *tables)
{
  HKI_STORE(&hakmem_root.seed, tables->seed);
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    if (hakmem_root.champion[row] != tables->champion[row]) {
      note(row, tables->champion[row], tables->reason[row]);
      HKI_STORE(&hakmem_root.champion[row], tables->champion[row]);
    }
    HKI_STORE(&hakmem_root.challenger[row], tables->challenger[row]);
    HKI_STORE(&purse[row], tables->purse[row]);
    HKI_STORE(&left[row], (int32_t)tables->most[row]);
    HKI_STORE(&hakmem_root.share[row], tables->share[row]);
  }
  struct hki_backend *direct;
  size_t end = direct_end(&direct);
  bool classes = hki_route.small != NULL && hki_route.small->granularity == HAK_CLASS;
  if (hki_route.small != NULL && !classes && hki_route.small_end > 0) {
    direct = hki_route.small;
    end = hki_route.small_end;
  }
  bool checked = classes && hki_settings.hardening == HKI_FULL; /* every call takes the checking path */
  open_gates(direct, checked ? 0 : (uint64_t)end, classes && !checked ? hki_route.small_end : UINT64_C(0));
}
