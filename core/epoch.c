/* SPDX-License-Identifier: MIT */
/*
 * epoch.c - owns the cells in which large blocks are counted (atomic, in hakmem_root), and the policy in force (under the control
 * lock).
 */
#define _GNU_SOURCE
#include "epoch.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "lock.h"
#include "message.h"
#include "meta.h"
#include "os.h"
#include "route.h"
#include "settings.h"
#include "site.h"
#include "span.h"
#include "thread.h"
#include "trial.h"

enum { OTHER = 0 }; /* the cell of pairs that found no place */

static uint16_t cell_index[HKI_ARMS][HAK_ROWS]; /* atomic; 0: none yet */
static hak_lock cell_lock;                      /* for new cells */

static uint32_t tries_wanted; /* trials of challengers after which the policy is asked early; 0: no matter; atomic */
static uint64_t next_decision = UINT64_MAX; /* hakmem_root.blocks at which the epoch ends; atomic */

static struct {
  struct hak_policy_ops ops;
  void *self;
  const char *name;
  struct hki_thread *inside; /* NULL: no policy */
} policy;

/* What the policy sees, at rest. */
static struct hak_cell seen[HKI_CELLS];  /* the cells at the last decision */
static struct hak_cell delta[HKI_CELLS]; /* since then */
static struct hak_trial trials[256];
static struct hak_standing standing[HKI_ARMS]; /* as the policy left it */
static uint64_t epoch;
static uint64_t last_blocks; /* hakmem_root.blocks then */

/* ---- counting -------------------------------------------------------------------------------------------------------- */

static HKI_COLD struct hak_cell *new_cell(uint32_t arm, uint32_t row)
{
  hki_lock(&cell_lock);
  uint32_t index = cell_index[arm][row];
  if (index == 0) {
    index = hakmem_root.cell_count == 0 ? 1 : hakmem_root.cell_count;
    if (index < HKI_CELLS) {
      HKI_STORE(&hakmem_root.cell[index].row, (uint16_t)row); /* statistics copy the root */
      HKI_STORE(&hakmem_root.cell[index].arm, (uint8_t)arm);
      __atomic_store_n(&hakmem_root.cell_count, index + 1, __ATOMIC_RELEASE);
      __atomic_store_n(&cell_index[arm][row], (uint16_t)index, __ATOMIC_RELEASE);
    } else {
      index = OTHER;
    }
  }
  hki_unlock(&cell_lock);
  return &hakmem_root.cell[index];
}

static struct hak_cell *cell_of(uint32_t arm, uint32_t row)
{
  uint32_t index = __atomic_load_n(&cell_index[arm][row], __ATOMIC_ACQUIRE);
  return HKI_LIKELY(index != 0) ? &hakmem_root.cell[index] : new_cell(arm, row);
}

void hki_epoch_released(const hak_range *range, uint64_t ns)
{
  uint32_t row = hki_range_row(range);
  if (row != 0) {
    HKI_ADD(&cell_of(range->arm, row)->release_ns, ns);
  }
}

void hki_epoch_freed(uint32_t arm, uint32_t row)
{
  HKI_ADD(&cell_of(arm, row)->frees, UINT64_C(1));
}

bool hki_epoch_has_policy(void)
{
  return policy.inside != NULL;
}

/* ---- deciding -------------------------------------------------------------------------------------------------------- */

static uint32_t take_delta(void)
{
  uint32_t count = 0;
  uint32_t cells = __atomic_load_n(&hakmem_root.cell_count, __ATOMIC_ACQUIRE);
  for (uint32_t i = OTHER + 1; i < cells; i++) {
    const struct hak_cell *cell = &hakmem_root.cell[i];
    struct hak_cell now = {.row = cell->row,
                           .arm = cell->arm,
                           .blocks = HKI_LOAD(&cell->blocks),
                           .bytes = HKI_LOAD(&cell->bytes),
                           .hits = HKI_LOAD(&cell->hits),
                           .frees = HKI_LOAD(&cell->frees),
                           .release_ns = HKI_LOAD(&cell->release_ns)};
    struct hak_cell *d = &delta[count];
    *d = now;
    d->blocks -= seen[i].blocks;
    d->bytes -= seen[i].bytes;
    d->hits -= seen[i].hits;
    d->frees -= seen[i].frees;
    d->release_ns -= seen[i].release_ns;
    seen[i] = now;
    count += (d->blocks | d->frees | d->release_ns) != 0;
  }
  return count;
}

static uint64_t ns_of(struct timeval time)
{
  return (uint64_t)time.tv_sec * UINT64_C(1000000000) + (uint64_t)time.tv_usec * 1000;
}

static void take_usage(struct hak_sample *sample)
{
  struct rusage usage = {0};
  int saved = errno;
  (void)getrusage(RUSAGE_SELF, &usage);
  errno = saved;
  sample->faults = (uint64_t)usage.ru_minflt;
  sample->cpu_ns = ns_of(usage.ru_utime) + ns_of(usage.ru_stime);
}

/* NULL, or why the tables are of no use. */
static const char *checked(const struct hki_tables *tables)
{
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    if (tables->champion[row] >= hakmem_root.arm_count || tables->challenger[row] >= hakmem_root.arm_count) {
      return "the choice of a strategy that does not exist";
    }
    if (tables->purse[row] >= HAK_ROWS) {
      return "the purse of a row that does not exist";
    }
  }
  return NULL;
}

/* What statistics show is whole: the policy adds up in a table that they do not see. */
static void publish_standing(void)
{
  for (uint32_t i = 0; i < hakmem_root.arm_count; i++) {
    struct hak_standing *shown = &hakmem_root.standing[i];
    HKI_STORE(&shown->games, standing[i].games);
    HKI_STORE(&shown->wins, standing[i].wins);
    HKI_STORE(&shown->losses, standing[i].losses);
    HKI_STORE(&shown->draws, standing[i].draws);
    HKI_STORE(&shown->trials, standing[i].trials);
    HKI_STORE(&shown->score, standing[i].score);
    HKI_STORE(&shown->spread, standing[i].spread);
    HKI_STORE(&shown->rating, standing[i].rating);
    HKI_STORE(&shown->state, standing[i].state);
  }
}

/* Asks and publishes. NULL, or why the policy is of no use. */
static const char *choose(struct hak_sample *sample)
{
  struct hki_tables tables = {.seed = hakmem_root.seed};
  memcpy(tables.champion, hakmem_root.champion, sizeof tables.champion);
  memcpy(tables.challenger, hakmem_root.challenger, sizeof tables.challenger);
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    tables.purse[row] = (uint16_t)row;
    tables.most[row] = UINT16_MAX;
  }
  struct hak_choice choice = {.struct_size = sizeof choice,
                              .row_count = HAK_ROWS,
                              .champion = tables.champion,
                              .challenger = tables.challenger,
                              .share = tables.share,
                              .reason = tables.reason,
                              .standing = standing,
                              .purse = tables.purse,
                              .most = tables.most,
                              .ease = 1,
                              .seed = hakmem_root.seed};
  sample->struct_size = sizeof *sample;
  sample->trial_stride = sizeof(struct hak_trial);
  sample->cell_stride = sizeof(struct hak_cell);
  sample->trials = trials;
  sample->cells = delta;
  sample->arm_count = hakmem_root.arm_count;
  sample->epoch = epoch;
  sample->blocks = HKI_LOAD(&hakmem_root.blocks);
  sample->now = hki_os.now();
  struct hki_thread *caller = hki_self;
  hki_self = policy.inside;
  int32_t result = policy.ops.choose(policy.self, sample, &choice);
  hki_self = caller;
  publish_standing();
  const char *why = result != HAK_OK ? "an error from choose" : checked(&tables);
  if (why == NULL) {
    tables.seed = choice.seed;
    hki_route_publish(&tables);
    HKI_STORE(&tries_wanted, choice.tries);
    hki_trial_ease(choice.ease == 0 ? 1 : choice.ease);
    HKI_STORE(&hakmem_root.trials_wanted, hki_settings.basic_syscalls ? 0U : choice.trials);
  }
  return why;
}

static HKI_COLD void retire(const char *why)
{
  static const struct hki_tables first;
  hki_say("policy %s is retired: found %s, expected a choice; strategy %s serves from here on", policy.name, why,
          hakmem_root.arm[0]);
  policy.inside = NULL;
  hakmem_root.policy[0] = 0;
  HKI_STORE(&hakmem_root.trials_wanted, 0U);
  HKI_STORE(&next_decision, UINT64_MAX);
  hki_route_publish(&first);
}

static HKI_SLOW void end_epoch(void)
{
  int saved = errno;
  if (!hki_try_lock(&hki_control_lock)) {
    return; /* another thread decides, or an option changes: this epoch is a little longer */
  }
  if (policy.inside != NULL) {
    uint64_t began = hki_os.now();
    uint64_t blocks = HKI_LOAD(&hakmem_root.blocks);
    hki_site_settle(blocks - last_blocks);
    last_blocks = blocks;
    struct hak_sample sample = {.cell_count = take_delta(),
                                .trial_count = hki_trial_collect(trials, sizeof trials / sizeof *trials)};
    take_usage(&sample);
    epoch++;
    HKI_STORE(&hakmem_root.epochs, epoch);
    HKI_STORE(&next_decision, blocks + hki_settings.epoch);
    const char *why = choose(&sample);
    if (why != NULL) {
      retire(why);
    }
    hki_trial_spent(hki_os.now() - began);
  }
  hki_unlock(&hki_control_lock);
  errno = saved;
}

void hki_epoch_count(struct hki_want *want)
{
  struct hak_cell *cell = cell_of(want->arm, want->row);
  HKI_ADD(&cell->blocks, UINT64_C(1));
  HKI_ADD(&cell->bytes, want->size);
  if (want->hit) {
    HKI_ADD(&cell->hits, UINT64_C(1));
  }
  if (__atomic_add_fetch(&hakmem_root.blocks, 1U, __ATOMIC_RELAXED) >= HKI_LOAD(&next_decision)) {
    end_epoch();
  }
}

void hki_epoch_trials(uint32_t done, uint32_t tries)
{
  uint32_t wanted = HKI_LOAD(&hakmem_root.trials_wanted), few = HKI_LOAD(&tries_wanted);
  if (wanted != 0 && (done >= wanted || (few != 0 && tries >= few))) {
    end_epoch();
  }
}

/* ---- the policy's life ----------------------------------------------------------------------------------------------- */

const char *hki_epoch_start(const struct hak_policy_ops *ops, void *self, struct hki_thread *inside)
{
  size_t known = ops->struct_size < sizeof policy.ops ? ops->struct_size : sizeof policy.ops;
  memcpy(&policy.ops, ops, known);
  if (policy.ops.choose == NULL) {
    return "no choose";
  }
  policy.self = self;
  policy.name = inside->inside;
  policy.inside = inside;
  struct hak_sample nothing = {0};
  const char *why = choose(&nothing);
  if (why != NULL) {
    policy.inside = NULL;
    return why;
  }
  HKI_STORE(&next_decision, hki_settings.epoch);
  return NULL;
}

void hki_epoch_again(void)
{
  struct hak_sample nothing = {0};
  const char *why = policy.inside != NULL ? choose(&nothing) : NULL;
  if (why != NULL) {
    retire(why);
  }
}

void hki_epoch_fork_child(void)
{
  cell_lock.word = 0;
  if (policy.inside != NULL && policy.ops.fork_child != NULL) {
    hki_self = policy.inside;
    policy.ops.fork_child(policy.self);
  }
}

void hki_epoch_finish(void)
{
  if (policy.inside != NULL && policy.ops.finish != NULL && hki_try_lock(&hki_control_lock)) {
    struct hki_thread *caller = hki_self;
    hki_self = policy.inside;
    policy.ops.finish(policy.self);
    hki_self = caller;
    hki_unlock(&hki_control_lock);
  }
}
