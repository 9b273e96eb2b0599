/* SPDX-License-Identifier: MIT */
/* learn_sim.c - the simulated core, and a host that keeps the state file in memory. Owns both; one thread. */
#include "learn_sim.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "draw.h"

extern const hak_plugin elo_plugin, epsilon_plugin; /* the plugins' constants, renamed by the compiler's options */

static const hak_plugin *const plugins[POLICIES] = {[EPSILON] = &epsilon_plugin, [ELO] = &elo_plugin};

/* ---- the host -------------------------------------------------------------------------------------------------------- */

static char meta[4 << 20] __attribute__((aligned(4096)));
static size_t meta_used;
uint64_t counters[LEARN_COUNTERS];
char file[1 << 20];
long file_size = -ENOENT;
unsigned writes, lines;
char last_line[256];

static void *meta_alloc(const hak_host *host, size_t size, size_t align)
{
  (void)host;
  size_t at = (meta_used + align - 1) & ~(align - 1);
  if (at + size > sizeof meta) {
    return NULL;
  }
  meta_used = at + size;
  return meta + at;
}

static void log_line(const hak_host *host, const char *text)
{
  (void)host;
  lines++;
  snprintf(last_line, sizeof last_line, "%s", text);
}

static long read_file(const char *path, char *buffer, size_t size)
{
  (void)path;
  if (file_size < 0) {
    return file_size;
  }
  size_t count = (size_t)file_size < size - 1 ? (size_t)file_size : size - 1;
  memcpy(buffer, file, count);
  buffer[count] = 0;
  return (long)count;
}

static long write_file(const char *path, const char *content, size_t size)
{
  (void)path;
  writes++;
  MUST(size <= sizeof file);
  memcpy(file, content, size);
  file_size = (long)size;
  return file_size;
}

static const hak_os os = {.struct_size = sizeof(hak_os), .read_file = read_file, .write_file = write_file};
/* No two arms are alike, but for those that a test makes so. */
uint32_t alike[LEARN_ARMS];

static uint32_t arm_alike(const hak_host *host, uint32_t bin, uint32_t arm)
{
  (void)host;
  return bin == ROW / HAK_SITES ? alike[arm] : arm;
}

static const char *names[LEARN_ARMS];
static hak_host host = {.struct_size = sizeof(hak_host),
                        .name = "test",
                        .os = &os,
                        .counters = counters,
                        .arm_name = names,
                        .meta_alloc = meta_alloc,
                        .log = log_line,
                        .arm_alike = arm_alike};

/* ---- the simulated core ---------------------------------------------------------------------------------------------- */

uint64_t mix(uint64_t x)
{
  x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
  return x ^ (x >> 31);
}

double uniform(struct sim *sim)
{
  sim->random += UINT64_C(0x9e3779b97f4a7c15);
  return (double)((mix(sim->random) >> 11) + 1) / 9007199254740993.0;
}

static double noise(struct sim *sim)
{
  double angle = 6.283185307179586 * uniform(sim);
  double normal = sqrt(-2 * log(uniform(sim))) * cos(angle);
  return exp(sim->sigma * normal);
}

void ask(struct sim *sim)
{
  static hak_cell cells[HAK_ROWS * LEARN_ARMS];
  uint32_t count = 0;
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    for (uint32_t arm = 0; arm < sim->arms; arm++) {
      hak_cell *cell = &sim->cells[row][arm];
      if (cell->blocks + cell->frees > 0) {
        cell->row = (uint16_t)row;
        cell->arm = (uint8_t)arm;
        cells[count++] = *cell;
        memset(cell, 0, sizeof *cell);
      }
    }
  }
  hak_sample sample = {.struct_size = sizeof sample,
                       .trial_stride = sizeof(hak_trial),
                       .cell_stride = sizeof(hak_cell),
                       .trial_count = sim->trial_count,
                       .cell_count = count,
                       .arm_count = sim->arms,
                       .epoch = sim->epoch++,
                       .blocks = sim->blocks,
                       .now = sim->now,
                       .faults = sim->faults,
                       .cpu_ns = sim->cpu_ns,
                       .trials = sim->trials,
                       .cells = cells};
  uint8_t before = sim->champion[sim->rows[0]];
  memset(sim->share, 0, sizeof sim->share);
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    sim->purse[row] = (uint16_t)row;
    sim->most[row] = UINT16_MAX;
  }
  MUST(sim->ops->choose(sim->self, &sample, &sim->choice) == HAK_OK);
  sim->changes += before != sim->champion[sim->rows[0]];
  for (uint32_t i = 0; i < HAK_ROWS; i++) {
    MUST(sim->champion[i] < sim->arms && sim->challenger[i] < sim->arms);
    sim->decisions_hash = mix(sim->decisions_hash + sim->champion[i] * 71U + sim->challenger[i] * 73U + sim->share[i]);
  }
  sim->trial_count = sim->try_count = 0;
  sim->asked = sim->blocks;
}

/* The defaults of the option table, as the core would convert them. */
static void defaults(struct sim *sim)
{
  for (uint32_t i = 0; i < sim->plugin->option_count; i++) {
    const hak_option *option = &sim->plugin->options[i];
    if (option->type == HAK_FLOAT) {
      sim->values[i].number = strtod(option->fallback, NULL);
    } else if (option->type == HAK_INT) {
      sim->values[i].integer = strtoll(option->fallback, NULL, 10);
    } else if (option->type == HAK_STRING) {
      sim->values[i].string = option->fallback;
    }
  }
  sim->values[LEARN_SCOPE].choice = LEARN_BIN;
  sim->values[LEARN_MEMORY].number = 0; /* so that a cost twice as high scores twice as high */
}

/* All arms cost 1; nothing has started. */
struct sim *new_sim(uint32_t policy, uint64_t seed)
{
  static struct sim sims[4];
  static uint32_t next;
  static char texts[LEARN_ARMS][8];
  struct sim *sim = &sims[next++ % 4];
  memset(sim, 0, sizeof *sim);
  sim->plugin = plugins[policy];
  sim->ops = sim->plugin->ops;
  sim->arms = ARMS;
  sim->sigma = 0.4;
  sim->life = 4;
  sim->measured = 1;
  sim->life_ns = 1000;
  sim->rows[0] = ROW;
  sim->row_count = 1;
  sim->random = mix(seed + 1);
  for (uint32_t i = 0; i < LEARN_ARMS; i++) {
    sim->cost[i] = sim->reigning[i] = 1;
    alike[i] = i;
    snprintf(texts[i], sizeof texts[i], "t%u", i);
    names[i] = texts[i];
  }
  defaults(sim);
  sim->values[LEARN_SEED].integer = (int64_t)seed;
  return sim;
}

int32_t try_start(struct sim *sim)
{
  memset(meta, 0, meta_used);
  meta_used = 0;
  memset(counters, 0, sizeof counters);
  lines = writes = 0;
  host.arm_count = sim->arms;
  return sim->plugin->start(&host, sim->values, &sim->self);
}

void start(struct sim *sim)
{
  MUST(try_start(sim) == HAK_OK);
  sim->choice = (hak_choice){.struct_size = sizeof(hak_choice),
                             .row_count = HAK_ROWS,
                             .champion = sim->champion,
                             .challenger = sim->challenger,
                             .share = sim->share,
                             .reason = sim->reason,
                             .purse = sim->purse,
                             .most = sim->most,
                             .standing = sim->standing};
  sim->now = 1000000000;
  ask(sim);
}

static void free_block(struct sim *sim, struct block *block)
{
  hak_cell *cell = &sim->cells[block->trial.row][block->trial.arm];
  cell->frees++;
  sim->live[block->trial.arm]--;
  cell->release_ns += (uint64_t)sim->release_ns[block->trial.arm];
  if (block->measured && sim->trial_count < TRIALS_MOST) {
    sim->trials[sim->trial_count++] = block->trial;
    sim->try_count += block->tried;
  }
  block->live = false;
}

static double mean_cost(const struct sim *sim, uint32_t arm)
{
  return sim->cost[arm] * (arm == sim->rare_arm || sim->rare_arm == LEARN_NOBODY ? 1 + sim->rare * 999 : 1);
}

void one_block(struct sim *sim)
{
  struct block *block = &sim->ring[sim->blocks % sim->life];
  if (block->live) {
    free_block(sim, block);
  }
  uint16_t row = sim->rows[sim->blocks % sim->row_count];
  bool measured = uniform(sim) < sim->measured;
  uint16_t *most = &sim->most[sim->purse[row]];
  bool tried = hki_draw(sim->choice.seed, row, sim->number[row]++, sim->share[row]) && measured && *most > 0;
  *most -= tried;
  uint8_t arm = tried ? sim->challenger[row] : sim->champion[row];
  double cost = sim->cost[arm] * noise(sim) * (tried ? 1 : sim->reigning[arm]);
  if (sim->cold > 0 && sim->blocks - sim->served[arm] > COLD) {
    cost *= sim->cold;
  }
  sim->served[arm] = sim->blocks;
  if (++sim->live[arm] > sim->peak[arm]) {
    sim->peak[arm] = sim->live[arm];
    cost *= sim->growth > 0 ? sim->growth : 1;
  }
  if ((arm == sim->rare_arm || sim->rare_arm == LEARN_NOBODY) && uniform(sim) < sim->rare) {
    cost *= 1000;
  }
  double champion = mean_cost(sim, sim->champion[row]), best = champion;
  for (uint32_t i = 0; i < sim->arms; i++) {
    best = mean_cost(sim, i) < best ? mean_cost(sim, i) : best;
  }
  sim->tries += tried;
  sim->paid += mean_cost(sim, arm);
  sim->best += best;
  sim->over += tried ? mean_cost(sim, arm) / champion - 1 : 0;
  *block = (struct block){.live = true, .measured = measured, .tried = tried};
  block->trial = (hak_trial){.row = row, .arm = arm, .bytes = 2097152};
  if (!sim->clock_stands) {
    block->trial.cpu_ns = (uint64_t)(cost * 6000) + 1;
    block->trial.fault_ns = (uint64_t)(cost * 4000);
    block->trial.life_ns = sim->life_ns + (tried ? sim->chill_ns : 0);
    block->trial.life_ns += sim->interrupted > 0 && uniform(sim) < sim->interrupted ? 100000 : 0;
  }
  sim->cells[row][arm].blocks++;
  sim->cells[row][arm].bytes += block->trial.bytes;
  sim->blocks++;
  sim->now += 100000;
  sim->cpu_ns += block->trial.cpu_ns + block->trial.fault_ns + sim->work;
  sim->faults += arm == 0 ? 0 : sim->fault_rate / 10000;
  bool enough = sim->choice.trials > 0 &&
                (sim->trial_count >= sim->choice.trials || (sim->choice.tries > 0 && sim->try_count >= sim->choice.tries));
  if (enough || sim->blocks - sim->asked >= EPOCH) {
    ask(sim);
  }
}

static bool settled(const struct sim *sim)
{
  double best = mean_cost(sim, 0);
  for (uint32_t i = 1; i < sim->arms; i++) {
    best = mean_cost(sim, i) < best ? mean_cost(sim, i) : best;
  }
  return mean_cost(sim, sim->champion[sim->rows[0]]) <= best * 1.05;
}

/* Runs so many blocks; the number of those before the champion was settled for good, or all of them. */
uint64_t run(struct sim *sim, uint64_t blocks)
{
  uint64_t last = 0;
  for (uint64_t i = 0; i < blocks; i++) {
    one_block(sim);
    if (!settled(sim)) {
      last = i + 1;
    }
  }
  return last;
}
