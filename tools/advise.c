/* SPDX-License-Identifier: MIT */
/*
 * advise.c - `hakmem advise`: what a policy has learned, as an INI with the policy `static`. Each line comes with its evidence.
 *
 * One strategy serves all sizes then. Where the winners of the sizes seen are one strategy, or all do what one does, it is that
 * one; else a route is made of theirs, size by size. Two things cannot be said in one strategy, and are said in comments: that
 * call sites differ, and that sizes differ about cache and reclaim.
 */
#include "tool.h"

#include "learned.h"
#include "strategies.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MADE "learned" /* name of a strategy that is made here */

enum { TRIALS = 8 }; /* measured blocks before a strategy that did not win is trusted to serve */

/* One size bin. */
struct bin {
  uint64_t weight;                /* of all contests about it; 0: not seen */
  uint64_t votes[HKI_ARMS];       /* of the weight, that of the contests which the strategy has won */
  const struct strategy *winner;  /* of most of the weight; that of the baseline where nothing was seen */
  bool seen;                      /* and its winner is heard */
  const struct strategy *instead; /* what serves it, where the winner's switches are not the common ones; NULL: the winner */
};

struct advice {
  const struct learned *learned;
  const struct strategies *strategies;
  const struct strategy *of[HKI_ARMS]; /* what the learned strategies are */
  struct bin bin[HAK_BINS];
  const char *cache, *reclaim; /* the common switches */
  struct route route;
  const struct strategy *known; /* that does the same; NULL: none */
  uint32_t unheard;             /* bins for which the route had no room */
};

/* ---- who wins -------------------------------------------------------------------------------------------------------- */

static size_t bin_start(uint32_t bin)
{
  return (size_t)1 << bin;
}

static void find_winners(struct advice *advice)
{
  const struct learned *learned = advice->learned;
  for (uint32_t i = 0; i < learned->contest_count; i++) {
    const struct learned_contest *contest = &learned->contest[i];
    for (uint32_t b = contest->first / HAK_SITES; b <= (contest->first + contest->rows - 1) / HAK_SITES; b++) {
      advice->bin[b].weight += contest->weight;
      advice->bin[b].votes[contest->champion] += contest->weight;
    }
  }
  for (uint32_t b = LEARNED_BIN; b < HAK_BINS; b++) {
    struct bin *bin = &advice->bin[b];
    uint32_t best = learned->baseline;
    for (uint32_t arm = 0; arm < learned->arm_count; arm++) {
      best = bin->votes[arm] > bin->votes[best] ? arm : best;
    }
    bin->winner = advice->of[best];
    bin->seen = bin->weight > 0;
  }
}

static bool same_switches(const struct strategy *strategy, const char *cache, const char *reclaim)
{
  return strcmp(strategy->cache, cache) == 0 && strcmp(strategy->reclaim, reclaim) == 0;
}

/* The best of those with the common switches that have been tried in a bin; NULL: none. */
static const struct strategy *next_best(const struct advice *advice, uint32_t bin)
{
  const struct learned *learned = advice->learned;
  const struct strategy *best = NULL;
  uint64_t least = UINT64_MAX;
  for (uint32_t i = 0; i < learned->contest_count; i++) {
    const struct learned_contest *contest = &learned->contest[i];
    uint32_t first = contest->first / HAK_SITES, last = (contest->first + contest->rows - 1) / HAK_SITES;
    for (uint32_t arm = 0; arm < learned->arm_count && first <= bin && bin <= last; arm++) {
      const struct learned_stand *there = &contest->stand[arm];
      const struct learned_stand *known = learned->apart ? there : &learned->whole[arm];
      bool tried = there->blocks + there->trials > 0 && known->trials >= TRIALS && known->score > 0;
      if (tried && known->score < least && same_switches(advice->of[arm], advice->cache, advice->reclaim)) {
        least = known->score;
        best = advice->of[arm];
      }
    }
  }
  return best;
}

/* Those of the winners with most weight; then nobody serves with other ones. */
static void choose_switches(struct advice *advice)
{
  const struct strategy *baseline = advice->of[advice->learned->baseline];
  uint64_t most = 0;
  advice->cache = baseline->cache;
  advice->reclaim = baseline->reclaim;
  for (uint32_t b = LEARNED_BIN; b < HAK_BINS; b++) {
    const struct strategy *winner = advice->bin[b].winner;
    uint64_t weight = 0;
    for (uint32_t other = LEARNED_BIN; other < HAK_BINS; other++) {
      weight += same_switches(advice->bin[other].winner, winner->cache, winner->reclaim) ? advice->bin[other].weight : 0;
    }
    if (weight > most) {
      most = weight;
      advice->cache = winner->cache;
      advice->reclaim = winner->reclaim;
    }
  }
  for (uint32_t b = LEARNED_BIN; b < HAK_BINS; b++) {
    bool common = same_switches(advice->bin[b].winner, advice->cache, advice->reclaim);
    advice->bin[b].instead = common ? NULL : next_best(advice, b);
  }
}

static const struct strategy *serving(const struct bin *bin)
{
  return bin->instead != NULL ? bin->instead : bin->winner;
}

/* ---- the route ------------------------------------------------------------------------------------------------------- */

/* Adds what `route` says about sizes from `start` to below `end`. False when there is no room. */
static bool append(struct route *to, const struct route *route, size_t start, size_t end)
{
  for (uint32_t i = route_part(route, start); i < route->count && route->part[i].from < end; i++) {
    size_t from = route->part[i].from > start ? route->part[i].from : start;
    if (to->count > 0 && strcmp(to->part[to->count - 1].backend, route->part[i].backend) == 0) {
      continue;
    }
    if (to->count == ROUTE_MOST) {
      return false;
    }
    to->part[to->count].from = from;
    to->part[to->count++].backend = route->part[i].backend;
  }
  return true;
}

/* Sizes not seen are served as by the baseline, or as the sizes below them when `lean`. False when there is no room. */
static bool merge(struct advice *advice, bool lean)
{
  const struct route *baseline = &advice->of[advice->learned->baseline]->route;
  advice->route.count = 0;
  bool fits = append(&advice->route, baseline, 0, bin_start(LEARNED_BIN));
  for (uint32_t b = LEARNED_BIN; b < HAK_BINS; b++) {
    const struct bin *bin = &advice->bin[b];
    size_t end = b + 1 < HAK_BINS ? bin_start(b + 1) : SIZE_MAX;
    if (bin->seen || !lean) {
      fits = append(&advice->route, bin->seen ? &serving(bin)->route : baseline, bin_start(b), end) && fits;
    }
  }
  return fits;
}

/* A route has room for some changes only; the sizes with the fewest blocks are served as their neighbours, then. */
static void make_route(struct advice *advice)
{
  if (merge(advice, false)) {
    return;
  }
  while (!merge(advice, true)) {
    struct bin *least = NULL;
    for (uint32_t b = LEARNED_BIN; b < HAK_BINS; b++) {
      struct bin *bin = &advice->bin[b];
      least = bin->seen && (least == NULL || bin->weight < least->weight) ? bin : least;
    }
    assert(least != NULL); /* without any, the route is a part of the baseline's */
    least->seen = false;
    advice->unheard++;
  }
}

/* Whether the strategy does in each size seen what the one does that is to serve it. */
static bool does_the_same(const struct advice *advice, const struct strategy *strategy)
{
  bool same = same_switches(strategy, advice->cache, advice->reclaim);
  for (uint32_t b = LEARNED_BIN; b < HAK_BINS && same; b++) {
    struct route own = {0}, other = {0};
    if (!advice->bin[b].seen || serving(&advice->bin[b]) == strategy) {
      continue;
    }
    same = append(&own, &strategy->route, bin_start(b), bin_start(b + 1)) &&
           append(&other, &serving(&advice->bin[b])->route, bin_start(b), bin_start(b + 1)) && own.count == other.count;
    for (uint32_t i = 0; i < own.count && same; i++) {
      same = own.part[i].from == other.part[i].from && strcmp(own.part[i].backend, other.part[i].backend) == 0;
    }
  }
  return same;
}

/* The baseline, if it will do, else the first that does. */
static void find_known(struct advice *advice)
{
  const struct learned *learned = advice->learned;
  const struct strategy *baseline = advice->of[learned->baseline];
  advice->known = does_the_same(advice, baseline) ? baseline : NULL;
  for (uint32_t arm = 0; arm < learned->arm_count && advice->known == NULL; arm++) {
    advice->known = does_the_same(advice, advice->of[arm]) ? advice->of[arm] : NULL;
  }
}

/* ---- evidence -------------------------------------------------------------------------------------------------------- */

static const char *site_name(uint32_t row)
{
  static const char *const names[HAK_SITES] = {"new", "rare", "busy", "stream"};
  return names[row % HAK_SITES];
}

/* "1M to 2M", and the kind of call site when that makes a difference. */
static char *rows_text(const struct learned_contest *contest)
{
  uint32_t last = contest->first + contest->rows - 1;
  char *from = size_text(bin_start(contest->first / HAK_SITES));
  char *to = last / HAK_SITES + 1 < HAK_BINS ? size_text(bin_start(last / HAK_SITES + 1)) : tool_text("the largest");
  char *text = contest->rows == 1 ? tool_text("%s to %s, %s sites", from, to, site_name(contest->first))
                                  : tool_text("%s to %s", from, to);
  free(from);
  free(to);
  return text;
}

static void print_thousandths(const char *before, uint64_t number)
{
  printf("%s%llu.%03llu", before, (unsigned long long)(number / 1000), (unsigned long long)(number % 1000));
}

static void print_stand(const char *name, const struct learned_stand *s, const char *unit)
{
  printf("; %-18s", name);
  if (s->blocks > 0) {
    printf(" %llu blocks,", (unsigned long long)s->blocks);
  }
  printf(" %llu trials", (unsigned long long)s->trials);
  if (s->score > 0) {
    print_thousandths(", score ", s->score);
    if (s->spread > 0) {
      print_thousandths(" +- ", s->spread);
    }
    printf(" of %s", unit);
  }
  printf("; games %llu: won %llu, lost %llu, drawn %llu\n", (unsigned long long)s->games, (unsigned long long)s->wins,
         (unsigned long long)s->losses, (unsigned long long)s->draws);
}

/* The contest, and against whom the champion has proved itself where that is known. */
static void print_contest(const struct learned *learned, const struct learned_contest *contest)
{
  char *rows = rows_text(contest);
  printf("; %s: %s", rows, learned->arm[contest->champion]);
  if (contest->score > 0) {
    print_thousandths(", score ", contest->score);
    printf(" of %s's", learned->arm[learned->baseline]);
  }
  printf(", %llu %s", (unsigned long long)contest->weight, learned->apart ? "trials" : "blocks");
  const char *separator = "; tried:";
  for (uint32_t arm = 0; arm < learned->arm_count; arm++) {
    const struct learned_stand *s = &contest->stand[arm];
    if (arm == contest->champion || s->blocks + s->trials == 0) {
      continue;
    }
    printf("%s %s", separator, learned->arm[arm]);
    if (!learned->apart) {
      printf(" %llu", (unsigned long long)s->blocks);
    } else {
      printf(" (won %llu, lost %llu, drawn %llu", (unsigned long long)s->wins, (unsigned long long)s->losses,
             (unsigned long long)s->draws);
      if (s->score > 0) {
        print_thousandths(", costs ", s->score);
        print_thousandths(" +- ", s->spread);
      }
      printf(")");
    }
    separator = ",";
  }
  printf("\n");
  free(rows);
}

static void print_evidence(const struct advice *advice, uint64_t games, uint64_t trials)
{
  const struct learned *learned = advice->learned;
  const char *baseline = learned->arm[learned->baseline];
  printf("; Learned by the policy %s, read from %s: %llu games, %llu measured blocks.\n", learned->policy, learned->source,
         (unsigned long long)games, (unsigned long long)trials);
  printf("; Alone or behind the configuration it was learned with, this replaces the policy.\n;\n");
  printf("; The strategies, scores as multiples of what %s costs:\n", baseline);
  char *unit = tool_text("%s's", baseline);
  for (uint32_t arm = 0; arm < learned->arm_count; arm++) {
    if (learned->whole[arm].blocks + learned->whole[arm].trials > 0) {
      print_stand(learned->arm[arm], &learned->whole[arm], unit);
    }
  }
  free(unit);
  printf(";\n; The best for each size%s:\n", learned->apart ? ", costs as multiples of what it costs" : "");
  for (uint32_t i = 0; i < learned->contest_count; i++) {
    print_contest(learned, &learned->contest[i]);
  }
}

/* ---- what one strategy cannot say ------------------------------------------------------------------------------------ */

static void print_losses(const struct advice *advice)
{
  const struct learned *learned = advice->learned;
  for (uint32_t i = 0; i < learned->contest_count; i++) {
    const struct learned_contest *contest = &learned->contest[i];
    const struct bin *bin = &advice->bin[contest->first / HAK_SITES];
    const struct strategy *champion = advice->of[contest->champion];
    char *rows = rows_text(contest);
    if (champion != bin->winner) {
      printf("; Not said here: %s would be served best by %s; call sites are a policy's business.\n", rows, champion->name);
    } else if (bin->weight > 0 && !bin->seen) {
      printf("; Not said here: %s would be served best by %s; a route has at most %d backends.\n", rows, champion->name,
             ROUTE_MOST);
    } else if (!same_switches(champion, advice->cache, advice->reclaim)) {
      printf("; Not said here: %s would be served best with cache = %s, reclaim = %s (%s); a strategy has one of each, so %s "
             "%s.\n",
             rows, champion->cache, champion->reclaim, champion->name,
             bin->instead != NULL ? "they get the route of" : "only the route is taken of", serving(bin)->name);
    }
    free(rows);
  }
}

/* The winners whose routes this part of the route is made of. */
static void print_part(const struct advice *advice, uint32_t part)
{
  const struct route *route = &advice->route;
  size_t from = route->part[part].from, end = part + 1 < route->count ? route->part[part + 1].from : SIZE_MAX;
  char *start = size_text(from), *stop = end != SIZE_MAX ? size_text(end) : tool_text("the largest");
  const char *separator = "";
  printf("; %s to %s, %s:", start, stop, route->part[part].backend);
  for (uint32_t b = LEARNED_BIN; b < HAK_BINS; b++) {
    if (advice->bin[b].seen && bin_start(b) < end && (b + 1 == HAK_BINS || bin_start(b + 1) > from)) {
      char *bin = size_text(bin_start(b));
      printf("%s %s from %s (%llu %s)", separator, serving(&advice->bin[b])->name, bin,
             (unsigned long long)advice->bin[b].weight, advice->learned->apart ? "trials" : "blocks");
      separator = ",";
      free(bin);
    }
  }
  printf("%s\n", separator[0] == '\0' ? " nothing seen, as the baseline" : "");
  free(start);
  free(stop);
}

static void print_advice(const struct advice *advice)
{
  const struct strategy *known = advice->known;
  const char *name = known != NULL ? known->name : MADE;
  char *route = route_text(known != NULL ? &known->route : &advice->route);
  print_losses(advice);
  printf("\n[core]\npolicy = static\n");
  if (advice->strategies->plugin_path != NULL) {
    printf("plugin_path = %s\n", advice->strategies->plugin_path);
  }
  printf("\n[policy.static]\nstrategy = %s\n\n[strategy.%s]\n", name, name);
  for (uint32_t part = 0; known == NULL && part < advice->route.count; part++) {
    print_part(advice, part);
  }
  if (known != NULL) {
    printf("; does in each size seen what the best one does\n");
  }
  printf("route = %s\n; of the best ones for most %s\ncache = %s\nreclaim = %s\n", route,
         advice->learned->apart ? "trials" : "blocks", advice->cache, advice->reclaim);
  free(route);
}

/* ---- the command ----------------------------------------------------------------------------------------------------- */

/* The configuration that a process was started with, from its environment. */
static void take_environment(pid_t pid)
{
  static const char *const names[] = {"HAKMEM_CONF", "HAKMEM_SET"};
  char *path = tool_text("/proc/%ld/environ", (long)pid);
  FILE *file = fopen(path, "re");
  char *item = NULL;
  size_t size = 0;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    unsetenv(names[i]);
  }
  while (file != NULL && getdelim(&item, &size, '\0', file) > 0) {
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
      size_t length = strlen(names[i]);
      if (strncmp(item, names[i], length) != 0 || item[length] != '=') {
        continue;
      }
      const char *value = item + length + 1;
      bool relative = i == 0 && value[0] != '/' && value[0] != '\0';
      char *full = relative ? tool_text("/proc/%ld/cwd/%s", (long)pid, value) : tool_text("%s", value);
      setenv(names[i], full, 1);
      free(full);
    }
  }
  free(item);
  if (file != NULL) {
    fclose(file);
  }
  free(path);
}

/* What each learned strategy is in the configuration. False after one line when there is none of that name. */
static bool match_strategies(struct advice *advice)
{
  for (uint32_t arm = 0; arm < advice->learned->arm_count; arm++) {
    advice->of[arm] = strategies_find(advice->strategies, advice->learned->arm[arm]);
    if (advice->of[arm] == NULL) {
      tool_say("%s: found the strategy %s, expected those of the configuration; -c INI names the one it was learned with",
               advice->learned->source, advice->learned->arm[arm]);
      return false;
    }
  }
  return true;
}

static int advise(const struct learned *learned, const struct preload *preload)
{
  static struct strategies strategies;
  static struct advice advice;
  uint64_t games = 0, trials = 0;
  for (uint32_t arm = 0; arm < learned->arm_count; arm++) {
    games += learned->whole[arm].games;
    trials += learned->whole[arm].trials;
  }
  games /= 2; /* both sides have counted it */
  if (games == 0 || learned->contest_count == 0) {
    tool_say("%s: nothing was learned: %llu measured blocks, no games", learned->source, (unsigned long long)trials);
    return 1;
  }
  advice = (struct advice){.learned = learned, .strategies = &strategies};
  if (!strategies_read(&strategies, preload) || !match_strategies(&advice)) {
    return 1;
  }
  find_winners(&advice);
  choose_switches(&advice);
  make_route(&advice);
  if (advice.unheard == 0) {
    find_known(&advice);
  }
  print_evidence(&advice, games, trials);
  print_advice(&advice);
  return fflush(stdout) == 0 ? 0 : 1;
}

static bool is_number(const char *text)
{
  return text[0] != '\0' && text[strspn(text, "0123456789")] == '\0';
}

int advise_command(int argc, char **argv)
{
  static const struct option options[] = {
      {"config", required_argument, NULL, 'c'}, {"option", required_argument, NULL, 'o'}, {NULL, 0, NULL, 0}};
  static struct learned learned;
  struct preload preload = {0};
  for (int option; (option = getopt_long(argc, argv, "c:o:", options, NULL)) != -1;) {
    switch (option) {
    case 'c':
      preload_config(&preload, optarg);
      break;
    case 'o':
      preload_set(&preload, optarg);
      break;
    default:
      tool_wrong_option();
    }
  }
  if (argc - optind != 1) {
    tool_usage("advise: expected a process id or a state file");
  }
  const char *what = argv[optind];
  bool process = is_number(what);
  if (!(process ? learned_from_process(&learned, tool_pid(what)) : learned_from_file(&learned, what))) {
    return 1;
  }
  if (process && preload.config == NULL) {
    take_environment(tool_pid(what));
  }
  return advise(&learned, &preload);
}
