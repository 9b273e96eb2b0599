/* SPDX-License-Identifier: MIT */
/*
 * learned.c - reads what a policy has learned: from hakmem_root of a process, or from a state file, whose form is told at the top of
 * plugins/policy/learn_state.c. Keeps nothing.
 */
#include "learned.h"

#include "target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a process ------------------------------------------------------------------------------------------------------- */

/* The contest of a row, which is that of the row before when both are of one size and have one champion. */
static struct learned_contest *contest_of(struct learned *learned, const struct hki_root *root, uint32_t row)
{
  struct learned_contest *last = learned->contest_count > 0 ? &learned->contest[learned->contest_count - 1] : NULL;
  if (last == NULL || last->first / HAK_SITES != row / HAK_SITES || last->champion != root->champion[row]) {
    last = &learned->contest[learned->contest_count++];
    *last = (struct learned_contest){.first = row, .champion = root->champion[row]};
  }
  last->rows = row + 1 - last->first;
  return last;
}

static void read_cells(struct learned *learned, const struct hki_root *root)
{
  for (uint32_t row = LEARNED_FIRST; row < HAK_ROWS; row++) {
    for (uint32_t i = 1; i < root->cell_count; i++) { /* the first is for pairs that found no place */
      const struct hak_cell *cell = &root->cell[i];
      if (cell->row == row && cell->arm < root->arm_count && cell->blocks > 0) {
        struct learned_contest *contest = contest_of(learned, root, row);
        contest->weight += cell->blocks;
        contest->stand[cell->arm].blocks += cell->blocks;
      }
    }
  }
}

bool learned_from_process(struct learned *learned, pid_t pid)
{
  static struct hki_root root;
  struct target target;
  uint64_t trials = 0;
  if (!target_open(&target, pid) || !target_root(&target, &root)) {
    return false;
  }
  memset(learned, 0, sizeof *learned);
  learned->source = tool_text("process %ld", (long)pid);
  memcpy(learned->policy, root.policy, sizeof learned->policy);
  learned->arm_count = root.arm_count;
  learned->baseline = root.champion[0]; /* no policy learns about the smallest sizes */
  memcpy(learned->arm, root.arm, sizeof learned->arm);
  for (uint32_t i = 0; i < root.arm_count; i++) {
    const struct hak_standing *s = &root.standing[i];
    learned->whole[i] = (struct learned_stand){.trials = s->trials,
                                               .games = s->games,
                                               .wins = s->wins,
                                               .losses = s->losses,
                                               .draws = s->draws,
                                               .score = s->score,
                                               .spread = s->spread};
    trials += s->trials;
  }
  read_cells(learned, &root);
  for (uint32_t i = 0; i < learned->contest_count; i++) {
    for (uint32_t arm = 0; arm < learned->arm_count; arm++) {
      learned->whole[arm].blocks += learned->contest[i].stand[arm].blocks;
    }
    if (learned->contest[i].champion >= learned->arm_count) {
      tool_say("process %ld: its tables are damaged", (long)pid);
      return false;
    }
  }
  if (root.trials_wanted == 0 && trials == 0) {
    tool_say("process %ld: its policy%s%s does not learn", (long)pid, root.policy[0] != '\0' ? " " : "", root.policy);
    return false;
  }
  return true;
}

/* ---- a state file ---------------------------------------------------------------------------------------------------- */

enum { SHOWN = 60 }; /* characters of a line, in a message */

struct reader {
  const char *path;
  FILE *file;
  char *text; /* the line, without its end */
  size_t size;
  const char *at; /* in the line */
  unsigned line;
  bool whole; /* the line was ended */
};

static void next_line(struct reader *reader)
{
  ssize_t length = getline(&reader->text, &reader->size, reader->file);
  reader->line++;
  reader->whole = length > 0 && reader->text[length - 1] == '\n';
  if (length < 0) {
    free(reader->text);
    reader->text = tool_text("%s", "");
    reader->size = 0;
  } else if (reader->whole) {
    reader->text[length - 1] = '\0';
  }
  reader->at = reader->text;
}

/* One line about the line; false. */
static bool wrong(const struct reader *reader, const char *expected)
{
  bool end = reader->text[0] == '\0' && !reader->whole;
  char *found = end ? tool_text("the end of the file") : tool_text("\"%.*s\"", SHOWN, reader->text);
  tool_say("%s:%u: found %s, expected %s", reader->path, reader->line, found, expected);
  free(found);
  return false;
}

static bool words(struct reader *reader, const char *text)
{
  size_t length = strlen(text);
  bool same = strncmp(reader->at, text, length) == 0;
  reader->at += same ? length : 0;
  return same;
}

/* These words and a number of at most `most`. */
static bool number(struct reader *reader, const char *before, uint64_t most, uint64_t *value)
{
  char *end;
  if (!words(reader, before) || *reader->at < '0' || *reader->at > '9') {
    return false;
  }
  errno = 0;
  *value = strtoull(reader->at, &end, 10);
  reader->at = end;
  return errno == 0 && *value <= most;
}

/* The line has been read to its end. */
static bool done(const struct reader *reader)
{
  return *reader->at == '\0' && reader->whole;
}

static bool read_head(struct reader *reader, struct learned *learned, uint64_t *rows)
{
  static const char *const scopes[] = {"global", "bin", "site"};
  static const uint64_t scope_rows[] = {HAK_ROWS - LEARNED_FIRST, HAK_SITES, 1};
  next_line(reader);
  if (!words(reader, "hakmem-learn 3") || !done(reader)) {
    return wrong(reader, "hakmem-learn 3, a state file of this version");
  }
  next_line(reader);
  if (!words(reader, "policy ") || *reader->at == '\0' || strlen(reader->at) >= sizeof learned->policy || !reader->whole) {
    return wrong(reader, "policy NAME");
  }
  memcpy(learned->policy, reader->at, strlen(reader->at) + 1);
  next_line(reader);
  bool known = words(reader, "scope ") && reader->whole;
  for (size_t i = 0; known && i < sizeof scopes / sizeof scopes[0]; i++) {
    *rows = strcmp(reader->at, scopes[i]) == 0 ? scope_rows[i] : *rows;
  }
  return *rows != 0 || wrong(reader, "scope global, bin or site");
}

static bool read_arms(struct reader *reader, struct learned *learned)
{
  uint64_t count, baseline;
  next_line(reader);
  if (!number(reader, "arms ", HKI_ARMS, &count) || count == 0 || !number(reader, " baseline ", count - 1, &baseline) ||
      !done(reader)) {
    return wrong(reader, "arms NUMBER baseline NUMBER");
  }
  learned->arm_count = (uint32_t)count;
  learned->baseline = (uint32_t)baseline;
  for (uint32_t i = 0; i < learned->arm_count; i++) {
    next_line(reader);
    if ((!words(reader, "arm 0 ") && !words(reader, "arm 1 ")) || *reader->at == '\0' || strlen(reader->at) >= HKI_NAME ||
        !reader->whole) {
      return wrong(reader, "arm 0 or 1, and the name of a strategy");
    }
    memcpy(learned->arm[i], reader->at, strlen(reader->at) + 1);
  }
  return true;
}

static bool read_stand(struct reader *reader, const struct learned *learned, struct learned_contest *contest)
{
  struct learned_stand s;
  uint64_t arm, weight, rating, out;
  if (!number(reader, "stand ", learned->arm_count - 1, &arm) || !number(reader, " cost ", UINT32_MAX, &s.score) ||
      !number(reader, " spread ", UINT32_MAX, &s.spread) || !number(reader, " weight ", UINT32_MAX, &weight) ||
      !number(reader, " trials ", UINT64_MAX, &s.trials) || !number(reader, " games ", UINT64_MAX, &s.games) ||
      !number(reader, " wins ", UINT64_MAX, &s.wins) || !number(reader, " losses ", UINT64_MAX, &s.losses) ||
      !number(reader, " draws ", UINT64_MAX, &s.draws) || !number(reader, " rating ", UINT32_MAX, &rating) ||
      !number(reader, " out ", 1, &out) || !done(reader)) {
    return wrong(reader, "stand, cost, spread, weight, trials, games, wins, losses, draws, rating, out, with their numbers");
  }
  s.blocks = 0;
  s.score = arm == contest->champion ? 1000 : s.score;
  contest->stand[arm] = s;
  return true;
}

static bool read_row(struct reader *reader)
{
  uint64_t row, term;
  return (number(reader, "row ", HAK_ROWS - 1, &row) && number(reader, " cpu ", UINT64_MAX, &term) &&
          number(reader, " faults ", UINT64_MAX, &term) && number(reader, " memory ", UINT64_MAX, &term) &&
          number(reader, " unit ", UINT64_MAX, &term) && done(reader)) ||
         wrong(reader, "row, cpu, faults, memory, unit, with their numbers");
}

/* The line that begins a contest, and those that belong to it; the line behind is the current one afterwards. */
static bool read_contest(struct reader *reader, struct learned *learned, uint64_t rows)
{
  struct learned_contest *contest = &learned->contest[learned->contest_count];
  uint64_t least = learned->contest_count == 0 ? LEARNED_FIRST : contest[-1].first + contest[-1].rows;
  uint64_t first, count, champion, second;
  if (!number(reader, "contest ", HAK_ROWS - 1, &first) || first < least || (first - LEARNED_FIRST) % rows != 0 ||
      !number(reader, " ", rows, &count) || count != rows || !number(reader, " champion ", learned->arm_count - 1, &champion) ||
      !(words(reader, " runner-up -") || number(reader, " runner-up ", learned->arm_count - 1, &second)) ||
      !number(reader, " score ", UINT32_MAX, &contest->score) || !number(reader, " trials ", UINT64_MAX, &contest->weight) ||
      !done(reader)) {
    return wrong(reader, "contest, champion, runner-up, score, trials, with their numbers, or end");
  }
  contest->first = (uint32_t)first;
  contest->rows = (uint32_t)rows;
  contest->champion = (uint32_t)champion;
  learned->contest_count++;
  next_line(reader);
  for (; reader->text[0] == 's'; next_line(reader)) {
    if (!read_stand(reader, learned, contest)) {
      return false;
    }
  }
  for (; reader->text[0] == 'r'; next_line(reader)) {
    if (!read_row(reader)) {
      return false;
    }
  }
  return true;
}

/* Sums over the contests; scores by their trials. */
static void add_up(struct learned *learned)
{
  for (uint32_t arm = 0; arm < learned->arm_count; arm++) {
    struct learned_stand *sum = &learned->whole[arm];
    double scores = 0, spreads = 0, weight = 0;
    for (uint32_t i = 0; i < learned->contest_count; i++) {
      const struct learned_contest *contest = &learned->contest[i];
      const struct learned_stand *s = &contest->stand[arm];
      sum->trials += s->trials;
      sum->games += s->games;
      sum->wins += s->wins;
      sum->losses += s->losses;
      sum->draws += s->draws;
      if (contest->score > 0 && s->score > 0) {
        scores += (double)s->trials * (double)s->score * (double)contest->score / 1000;
        spreads += (double)s->trials * (double)s->spread * (double)contest->score / 1000;
        weight += (double)s->trials;
      }
    }
    sum->score = weight > 0 ? (uint64_t)(scores / weight + 0.5) : 0;
    sum->spread = weight > 0 ? (uint64_t)(spreads / weight + 0.5) : 0;
  }
}

static bool read_state(struct reader *reader, struct learned *learned)
{
  uint64_t rows = 0;
  if (!read_head(reader, learned, &rows) || !read_arms(reader, learned)) {
    return false;
  }
  next_line(reader);
  while (!words(reader, "end")) {
    if (learned->contest_count == LEARNED_CONTESTS || !read_contest(reader, learned, rows)) {
      return learned->contest_count == LEARNED_CONTESTS ? wrong(reader, "end") : false;
    }
  }
  if (!done(reader)) {
    return wrong(reader, "end");
  }
  next_line(reader);
  if (reader->text[0] != '\0' || reader->whole) {
    return wrong(reader, "nothing behind the end");
  }
  add_up(learned);
  return true;
}

bool learned_from_file(struct learned *learned, const char *path)
{
  struct reader reader = {.path = path, .file = fopen(path, "re")};
  if (reader.file == NULL) {
    tool_die(TOOL_USAGE, "%s: %s", path, strerror(errno));
  }
  memset(learned, 0, sizeof *learned);
  learned->source = tool_text("%s", path);
  learned->apart = true;
  bool sound = read_state(&reader, learned);
  free(reader.text);
  fclose(reader.file);
  return sound;
}
