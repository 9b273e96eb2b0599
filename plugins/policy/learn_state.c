/* SPDX-License-Identifier: MIT */
/*
 * learn_state.c - what was learned, as text. Owns nothing; works on the learner of learn.h, while nothing else does.
 *
 * The text has one line for each thing, words and numbers with one space between, and a fixed order:
 *
 *     hakmem-learn 3                       the format and its version
 *     policy elo
 *     scope bin
 *     arms 3 baseline 0                    arms have numbers from 0 on, in the order of the next lines
 *     arm 1 default                        1: may be chosen, 0: may not; the name is the rest of the line
 *     arm 1 t512k
 *     arm 1 t1m
 *     contest 80 4 champion 2 runner-up 1 score 812 trials 5321
 *     stand 0 cost 1231 spread 409 weight 64 trials 210 games 12 wins 0 losses 3 draws 9 rating 1478102 out 0
 *     stand 1 ...
 *     row 80 cpu 310 faults 0 memory 2000 unit 32700
 *     end
 *
 * A `contest` line stands for the choice in rows 80 ... 83 of the plugin interface, that is size bin 20 and all kinds of call
 * sites; the score of its champion is in thousandths of the baseline's cost, 0 when that is unknown. Only contests with
 * trials have one. Then follow its arms that have trials: cost and spread in thousandths of the
 * champion's cost, and the number of trials that this counts as; the rating in thousandths. Then its calibrated rows:
 * nanoseconds, and thousandths of the bytes requested. Rows and arms ascend.
 *
 * The reader takes nothing else and reads no byte beyond the size. Whatever it refuses leaves the learner as it began.
 */
#include "learn.h"

#include <math.h>
#include <string.h>

#define STATE_VERSION "hakmem-learn 3\n"
#define COUNT_MAX UINT64_C(1000000000000000000)
#define TERM_MAX UINT64_C(1000000000000) /* nanoseconds, or thousandths */

enum {
  COST_MAX = 1000000000, /* thousandths of the champion's cost */
  WEIGHT_MAX = 256,      /* trials */
  RATING_MAX = 100000000 /* thousandths */
};

/* Longest lines of each kind: so many numbers of at most 20 digits, and the words. */
enum { HEAD_LINES = 256, ARM_LINE = 16, CONTEST_LINE = 192, STAND_LINE = 320, ROW_LINE = 128 };

/* ---- writing --------------------------------------------------------------------------------------------------------- */

static char *put(char *at, const char *text)
{
  size_t length = strlen(text);
  memcpy(at, text, length);
  return at + length;
}

static char *put_number(char *at, const char *before, uint64_t number)
{
  char digits[20];
  size_t count = 0;
  at = put(at, before);
  do {
    digits[count++] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (count > 0) {
    *at++ = digits[--count];
  }
  return at;
}

/* A number with a fraction, in thousandths, at most `most` of them. */
static char *put_thousandths(char *at, const char *before, double number, uint64_t most)
{
  double value = number * 1000 + 0.5;
  return put_number(at, before, value < (double)most ? (uint64_t)(value > 0 ? value : 0) : most);
}

static uint64_t trials(const struct learn *learn, const struct learn_contest *contest)
{
  uint64_t sum = 0;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    sum += contest->arm[i].trials;
  }
  return sum;
}

static uint32_t runner_up(const struct learn *learn, const struct learn_contest *contest)
{
  uint32_t best = LEARN_NOBODY;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    if (learn_candidate(learn, contest, i) && contest->arm[i].all.n > 0 &&
        (best == LEARN_NOBODY || contest->arm[i].all.mean < contest->arm[best].all.mean)) {
      best = i;
    }
  }
  return best;
}

static char *put_stand(char *at, const struct learn_arm *arm, uint32_t index)
{
  at = put_number(at, "stand ", index);
  at = put_thousandths(at, " cost ", arm->all.mean, COST_MAX);
  at = put_thousandths(at, " spread ", sqrt(learn_variance(&arm->all)), COST_MAX);
  at = put_number(at, " weight ", arm->all.n < WEIGHT_MAX ? (uint64_t)ceil(arm->all.n) : WEIGHT_MAX);
  at = put_number(at, " trials ", arm->trials);
  at = put_number(at, " games ", arm->games);
  at = put_number(at, " wins ", arm->wins);
  at = put_number(at, " losses ", arm->losses);
  at = put_number(at, " draws ", arm->draws);
  at = put_thousandths(at, " rating ", arm->rating, RATING_MAX);
  at = put_number(at, " out ", arm->out);
  return put(at, "\n");
}

static char *put_contest(char *at, const struct learn *learn, uint32_t index)
{
  const struct learn_contest *contest = &learn->contest[index];
  uint32_t spread, first = learn_first_row(learn->scope, index), rows = learn_row_count(learn->scope);
  uint32_t second = runner_up(learn, contest);
  at = put_number(at, "contest ", first + LEARN_FIRST_BIN * HAK_SITES);
  at = put_number(at, " ", rows);
  at = put_number(at, " champion ", contest->champion);
  at = second == LEARN_NOBODY ? put(at, " runner-up -") : put_number(at, " runner-up ", second);
  at = put_number(at, " score ", learn_score(learn, contest, contest->champion, &spread));
  at = put_number(at, " trials ", trials(learn, contest));
  at = put(at, "\n");
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    if (contest->arm[i].trials > 0) {
      at = put_stand(at, &contest->arm[i], i);
    }
  }
  for (uint32_t i = first; i < first + rows; i++) {
    const struct learn_row *row = &learn->row[i];
    if (row->priced) {
      at = put_number(at, "row ", i + LEARN_FIRST_BIN * HAK_SITES);
      at = put_thousandths(at, " cpu ", row->ref[LEARN_TERM_CPU] / 1000, TERM_MAX);
      at = put_thousandths(at, " faults ", row->ref[LEARN_TERM_FAULTS] / 1000, TERM_MAX);
      at = put_thousandths(at, " memory ", row->ref[LEARN_TERM_MEMORY], TERM_MAX);
      at = put_thousandths(at, " unit ", row->unit / 1000, TERM_MAX);
      at = put(at, "\n");
    }
  }
  return at;
}

size_t learn_state_size(const struct learn *learn)
{
  size_t size = HEAD_LINES + LEARN_ROWS * ROW_LINE;
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    size += strlen(learn->host->arm_name[i]) + ARM_LINE;
  }
  return size + learn->contest_count * (CONTEST_LINE + learn->arm_count * (size_t)STAND_LINE);
}

static char *put_head(char *at, const struct learn *learn)
{
  at = put(at, STATE_VERSION "policy ");
  at = put(at, learn->rules->policy);
  at = put(at, "\nscope ");
  at = put(at, learn_scopes[learn->scope]);
  at = put_number(at, "\narms ", learn->arm_count);
  at = put_number(at, " baseline ", learn->baseline);
  at = put(at, "\n");
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    at = put(at, learn->enabled[i] ? "arm 1 " : "arm 0 ");
    at = put(at, learn->host->arm_name[i]);
    at = put(at, "\n");
  }
  return at;
}

size_t learn_state_write(const struct learn *learn, char *text)
{
  char *at = put_head(text, learn);
  for (uint32_t i = 0; i < learn->contest_count; i++) {
    if (trials(learn, &learn->contest[i]) > 0) {
      at = put_contest(at, learn, i);
    }
  }
  return (size_t)(put(at, "end\n") - text);
}

/* ---- reading --------------------------------------------------------------------------------------------------------- */

struct reader {
  const char *at, *end;
};

/* Steps over these very words, if they come next. */
static bool words(struct reader *reader, const char *text)
{
  size_t length = strlen(text);
  if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, text, length) != 0) {
    return false;
  }
  reader->at += length;
  return true;
}

/* These words and a number of at most `most`, which is at most COUNT_MAX. */
static bool number(struct reader *reader, const char *before, uint64_t most, uint64_t *value)
{
  if (!words(reader, before) || reader->at == reader->end || *reader->at < '0' || *reader->at > '9') {
    return false;
  }
  for (*value = 0; reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9'; reader->at++) {
    *value = *value * 10 + (uint64_t)(*reader->at - '0');
    if (*value > most) {
      return false;
    }
  }
  return true;
}

static bool read_stand(struct reader *reader, struct learn *learn, struct learn_contest *contest, uint64_t *least)
{
  uint64_t index, cost, spread, weight, rating, out;
  if (!number(reader, "stand ", learn->arm_count - 1, &index) || index < *least) {
    return false;
  }
  struct learn_arm *arm = &contest->arm[index];
  *least = index + 1;
  if (!number(reader, " cost ", COST_MAX, &cost) || !number(reader, " spread ", COST_MAX, &spread) ||
      !number(reader, " weight ", WEIGHT_MAX, &weight) || !number(reader, " trials ", COUNT_MAX, &arm->trials) ||
      !number(reader, " games ", COUNT_MAX, &arm->games) || !number(reader, " wins ", COUNT_MAX, &arm->wins) ||
      !number(reader, " losses ", COUNT_MAX, &arm->losses) || !number(reader, " draws ", COUNT_MAX, &arm->draws) ||
      !number(reader, " rating ", RATING_MAX, &rating) || !number(reader, " out ", 1, &out) || !words(reader, "\n")) {
    return false;
  }
  if (cost > 0) {
    arm->all.n = (double)weight;
    arm->all.mean = (double)cost / 1000;
    arm->all.m2 = arm->all.n * ((double)spread / 1000) * ((double)spread / 1000);
  }
  arm->rating = (double)rating / 1000;
  arm->tried = arm->games > 0;
  arm->out = out != 0;
  return true;
}

static bool read_row(struct reader *reader, struct learn *learn, uint32_t end, uint64_t *least)
{
  uint64_t row, term[LEARN_TERMS], unit;
  if (!number(reader, "row ", end + LEARN_FIRST_BIN * HAK_SITES - 1, &row) || row < *least ||
      !number(reader, " cpu ", TERM_MAX, &term[LEARN_TERM_CPU]) ||
      !number(reader, " faults ", TERM_MAX, &term[LEARN_TERM_FAULTS]) ||
      !number(reader, " memory ", TERM_MAX, &term[LEARN_TERM_MEMORY]) || !number(reader, " unit ", TERM_MAX, &unit) ||
      unit == 0 || !words(reader, "\n")) {
    return false;
  }
  const double ref[LEARN_TERMS] = {(double)term[LEARN_TERM_CPU], (double)term[LEARN_TERM_FAULTS],
                                   (double)term[LEARN_TERM_MEMORY] / 1000};
  *least = row + 1;
  learn_cost_set(learn, (uint32_t)row - LEARN_FIRST_BIN * HAK_SITES, ref, (double)unit);
  return true;
}

static bool ahead(const struct reader *reader, char letter)
{
  return reader->at < reader->end && *reader->at == letter;
}

/* A contest, whose first row is at least `least`. Its words are read before anything is believed. */
static bool read_contest(struct reader *reader, struct learn *learn, uint64_t *least)
{
  uint64_t first, rows, champion, second, score, count, arm = 0;
  if (!number(reader, "contest ", HAK_ROWS - 1, &first) || first < *least || !number(reader, " ", HAK_ROWS, &rows) ||
      rows != learn_row_count(learn->scope) || (first - LEARN_FIRST_BIN * HAK_SITES) % rows != 0 ||
      !number(reader, " champion ", learn->arm_count - 1, &champion) || !learn->enabled[champion] ||
      !(words(reader, " runner-up -") || number(reader, " runner-up ", learn->arm_count - 1, &second)) ||
      !number(reader, " score ", UINT32_MAX, &score) || !number(reader, " trials ", COUNT_MAX, &count) ||
      !words(reader, "\n")) {
    return false;
  }
  uint32_t row = (uint32_t)first - LEARN_FIRST_BIN * HAK_SITES;
  struct learn_contest *contest = &learn->contest[learn_contest_of(learn->scope, row)];
  contest->champion = (uint8_t)champion;
  contest->turns = 1;
  *least = first;
  while (ahead(reader, 's')) {
    if (!read_stand(reader, learn, contest, &arm)) {
      return false;
    }
  }
  while (ahead(reader, 'r')) {
    if (!read_row(reader, learn, row + (uint32_t)rows, least)) {
      return false;
    }
  }
  *least = first + rows;
  return true;
}

static bool read_arms(struct reader *reader, const struct learn *learn)
{
  uint64_t count, baseline;
  if (!number(reader, "arms ", LEARN_ARMS, &count) || count != learn->arm_count ||
      !number(reader, " baseline ", LEARN_ARMS, &baseline) || baseline != learn->baseline || !words(reader, "\n")) {
    return false;
  }
  for (uint32_t i = 0; i < learn->arm_count; i++) {
    if (!words(reader, learn->enabled[i] ? "arm 1 " : "arm 0 ") || !words(reader, learn->host->arm_name[i]) ||
        !words(reader, "\n")) {
      return false;
    }
  }
  return true;
}

const char *learn_state_read(struct learn *learn, const char *text, size_t size)
{
  struct reader reader = {text, text + size};
  uint64_t least = LEARN_FIRST_BIN * HAK_SITES;
  if (!words(&reader, STATE_VERSION)) {
    return "state_file: found another format or version, expected hakmem-learn 3" LEARN_STAYS;
  }
  if (!words(&reader, "policy ") || !words(&reader, learn->rules->policy) || !words(&reader, "\nscope ") ||
      !words(&reader, learn_scopes[learn->scope]) || !words(&reader, "\n")) {
    return "state_file: found another policy or scope" LEARN_STAYS;
  }
  if (!read_arms(&reader, learn)) {
    return "state_file: found other strategies or another baseline" LEARN_STAYS;
  }
  while (ahead(&reader, 'c')) {
    if (!read_contest(&reader, learn, &least)) {
      break;
    }
  }
  if (!words(&reader, "end\n") || reader.at != reader.end) {
    learn_reset(learn);
    return "state_file: found a text that is damaged or ends early" LEARN_STAYS;
  }
  return NULL;
}
