/* SPDX-License-Identifier: MIT */
/* report.c - adds up and renders statistics. Owns nothing. */
#include "report.h"

#include <stddef.h>
#include <string.h>

#include "base.h"
#include "message.h"

/* Numbers of several threads are read at several moments, so a difference may briefly come out below zero. */
static uint64_t minus(uint64_t a, uint64_t b)
{
  return a > b ? a - b : 0;
}

static void add(struct hki_tally *sum, const struct hki_tally *tally)
{
  sum->allocs += HKI_LOAD(&tally->allocs);
  sum->frees += HKI_LOAD(&tally->frees);
  sum->resizes += HKI_LOAD(&tally->resizes);
  sum->alloc_bytes += HKI_LOAD(&tally->alloc_bytes);
  sum->free_bytes += HKI_LOAD(&tally->free_bytes);
}

/* Threads are at work on what is copied. The mailbox, at the end, is no statistic. */
typedef uint64_t __attribute__((may_alias)) word;
_Static_assert(offsetof(struct hki_root, mailbox) % sizeof(word) == 0, "the root is copied by words");

void hki_snapshot_from_root(struct hki_snapshot *snapshot, const struct hki_root *root)
{
  memset(snapshot, 0, sizeof *snapshot);
  const word *from = (const word *)root;
  for (size_t i = 0; i < offsetof(struct hki_root, mailbox) / sizeof *from; i++) {
    ((word *)&snapshot->root)[i] = HKI_LOAD(&from[i]);
  }
  add(&snapshot->backend[HKI_BOOT], &root->boot);
}

void hki_snapshot_add_thread(struct hki_snapshot *snapshot, const struct hki_thread *thread)
{
  snapshot->totals.threads += HKI_LOAD(&thread->live);
  for (uint32_t i = 0; i < snapshot->root.backend_count && i < HKI_BACKENDS; i++) {
    add(&snapshot->backend[i], &thread->seat[i].tally);
  }
  for (uint32_t c = 0; c < HKI_CLASSES; c++) {
    const struct hki_magazine *magazine = &thread->magazine[c];
    const struct hki_supply *supply = &thread->supply[c];
    uint64_t allocs = HKI_LOAD(&magazine->allocs);
    uint64_t held = ((uintptr_t)HKI_LOAD(&magazine->top) - (uintptr_t)HKI_LOAD(&magazine->base)) / sizeof *magazine->top;
    if (held > HKI_PLACES) {
      held = 0; /* the array is just being exchanged */
    }
    held += HKI_LOAD(&supply->kept);
    /* What came in either left again or is held, so the frees need no counter of their own. */
    uint64_t frees = minus(held + allocs + HKI_LOAD(&supply->flushed), HKI_LOAD(&supply->refilled));
    snapshot->class_[c].allocs += allocs;
    snapshot->class_[c].frees += frees;
    snapshot->class_[c].cached += held;
  }
}

/* Requests of no bytes have a class to themselves, for the sake of malloc's first step; its objects are those of the next one. */
static void fold(struct hki_snapshot *snapshot)
{
  snapshot->class_[1].allocs += snapshot->class_[0].allocs;
  snapshot->class_[1].frees += snapshot->class_[0].frees;
  snapshot->class_[1].cached += snapshot->class_[0].cached;
  snapshot->root.class_span_bytes[1] += snapshot->root.class_span_bytes[0];
  memset(&snapshot->class_[0], 0, sizeof snapshot->class_[0]);
  snapshot->root.class_span_bytes[0] = 0;
}

void hki_snapshot_finish(struct hki_snapshot *snapshot, uint64_t resident_bytes)
{
  fold(snapshot);
  const struct hki_root *root = &snapshot->root;
  struct hak_totals *totals = &snapshot->totals;
  struct hki_tally *small = &snapshot->backend[root->small % HKI_BACKENDS];
  uint64_t cached_bytes = 0;
  for (uint32_t c = 0; c < HKI_CLASSES; c++) {
    uint64_t allocs = snapshot->class_[c].allocs;
    if (snapshot->class_[c].frees > allocs) {
      snapshot->class_[c].frees = allocs; /* a run was on its way to the backend */
    }
    small->allocs += allocs;
    small->frees += snapshot->class_[c].frees;
    small->alloc_bytes += allocs * root->class_bytes[c];
    small->free_bytes += snapshot->class_[c].frees * root->class_bytes[c];
    cached_bytes += snapshot->class_[c].cached * root->class_bytes[c];
  }
  uint64_t page_bytes = 0;
  for (uint32_t i = 0; i < root->backend_count && i < HKI_BACKENDS; i++) {
    const struct hki_tally *tally = &snapshot->backend[i];
    totals->allocs += tally->allocs;
    totals->frees += tally->frees;
    totals->resizes += tally->resizes;
    totals->allocated += minus(tally->alloc_bytes, tally->free_bytes);
    if (root->backend[i].granularity == HAK_PAGE) {
      page_bytes += minus(tally->alloc_bytes, tally->free_bytes);
    }
  }
  totals->foreign = root->foreign_frees;
  totals->active = minus(totals->allocated, page_bytes) + root->active_bytes;
  totals->metadata = root->metadata;
  totals->retained = cached_bytes;
  for (uint32_t i = 0; i < root->row_count && i < HKI_ROWS; i++) {
    totals->mapped += root->row[i].sum == HAK_SUM_MAPPED ? root->values[i] : 0;
    totals->retained += root->row[i].sum == HAK_SUM_RETAINED ? root->values[i] : 0;
    totals->metadata += root->row[i].sum == HAK_SUM_METADATA ? root->values[i] : 0;
  }
  totals->resident = resident_bytes;
  totals->held = root->held_bytes;
}

uint64_t hki_resident_bytes(const char *statm, uint32_t page_size)
{
  const char *at = strchr(statm, ' '); /* total, then resident, in pages */
  uint64_t pages = 0;
  for (at = at != NULL ? at + 1 : ""; *at >= '0' && *at <= '9'; at++) {
    pages = pages * 10 + (uint64_t)(*at - '0');
  }
  return pages * page_size;
}

/* ---- rendering: one walk over the numbers, three ways to write one -------------------------------------------------- */

struct writer {
  const struct hki_snapshot *snapshot;
  void (*sink)(void *context, const char *text, size_t size);
  void *context;
  char buffer[512];
  bool first; /* JSON: no comma is due */
};

static void out(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void out(struct writer *w, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  struct hki_text text = hki_text(w->buffer, sizeof w->buffer);
  hki_vappend(&text, format, args);
  va_end(args);
  w->sink(w->context, w->buffer, (size_t)(text.at - w->buffer));
}

struct number {
  const char *key;
  const char *unit; /* "bytes" or "" */
  bool rises;
  uint64_t value;
};

enum { TOTALS = 12, TALLIES = 6, OBJECTS = 7, STANDING = 11 };

static void totals_of(const struct hki_snapshot *s, struct number n[TOTALS])
{
  const struct hak_totals *t = &s->totals;
  const struct number all[TOTALS] = {
      {"allocated", "bytes", false, t->allocated},
      {"active", "bytes", false, t->active},
      {"resident", "bytes", false, t->resident},
      {"mapped", "bytes", false, t->mapped},
      {"retained", "bytes", false, t->retained},
      {"held", "bytes", false, t->held},
      {"metadata", "bytes", false, t->metadata},
      {"allocs", "", true, t->allocs},
      {"frees", "", true, t->frees},
      {"resizes", "", true, t->resizes},
      {"foreign", "", true, t->foreign},
      {"threads", "", false, t->threads},
  };
  memcpy(n, all, sizeof all);
}

static void tallies_of(const struct hki_tally *t, uint32_t callbacks, struct number n[TALLIES])
{
  const struct number all[TALLIES] = {
      {"allocs", "", true, t->allocs},
      {"frees", "", true, t->frees},
      {"resizes", "", true, t->resizes},
      {"live", "", false, minus(t->allocs, t->frees)},
      {"allocated", "bytes", false, minus(t->alloc_bytes, t->free_bytes)},
      {"mallocs_in_callbacks", "", true, callbacks},
  };
  memcpy(n, all, sizeof all);
}

/* Objects of one class. What is in spans and neither live nor in a magazine is unused: with the backend, or no object at all. */
static void objects_of(const struct hki_snapshot *s, uint32_t c, struct number n[OBJECTS])
{
  uint64_t size = s->root.class_bytes[c], spans = s->root.class_span_bytes[c];
  uint64_t live = minus(s->class_[c].allocs, s->class_[c].frees), cached = s->class_[c].cached;
  const struct number all[OBJECTS] = {
      {"allocs", "", true, s->class_[c].allocs},
      {"frees", "", true, s->class_[c].frees},
      {"live", "", false, live},
      {"cached", "", false, cached},
      {"allocated", "bytes", false, live * size},
      {"span", "bytes", false, spans},
      {"unused", "bytes", false, minus(spans, (live + cached) * size)},
  };
  memcpy(n, all, sizeof all);
}

static bool is_used(const struct hki_snapshot *s, uint32_t c)
{
  return s->class_[c].allocs != 0 || s->root.class_span_bytes[c] != 0;
}

/* What one arm did, summed over its rows. */
static struct hak_cell arm_sum(const struct hki_root *root, uint32_t arm)
{
  struct hak_cell sum = {.arm = (uint8_t)arm};
  for (uint32_t i = 0; i < root->cell_count && i < HKI_CELLS; i++) {
    if (root->cell[i].arm == arm) {
      sum.blocks += root->cell[i].blocks;
      sum.bytes += root->cell[i].bytes;
      sum.hits += root->cell[i].hits;
      sum.release_ns += root->cell[i].release_ns;
    }
  }
  return sum;
}

/* The four digits of a number of thousandths. */
#define THOUSANDTHS(n) (n) / 1000, (n) / 100 % 10, (n) / 10 % 10, (n) % 10

static const char *site_name(uint32_t row)
{
  static const char *const names[HAK_SITES] = {"new", "rare", "busy", "stream"};
  return names[row % HAK_SITES];
}

static const char *reason_name(uint8_t reason)
{
  static const char *const names[] = {"set", "better", "revert", "faults"};
  return reason < sizeof names / sizeof *names ? names[reason] : "unknown";
}

static bool has_played(const struct hki_root *root)
{
  uint64_t games = 0;
  for (uint32_t a = 0; a < root->arm_count; a++) {
    games += root->standing[a].games;
  }
  return games != 0;
}

/* Calls `each` for the remembered changes of champions, oldest first. */
static void changes(const struct hki_root *root, void (*each)(void *context, const struct hki_change *change), void *context)
{
  uint64_t from = root->change_count > HKI_CHANGES ? root->change_count - HKI_CHANGES : 0;
  for (uint64_t i = from; i < root->change_count; i++) {
    each(context, &root->change[i % HKI_CHANGES]);
  }
}

static void standing_of(const struct hki_root *root, uint32_t arm, struct number n[STANDING])
{
  struct hak_cell sum = arm_sum(root, arm);
  const struct hak_standing *s = &root->standing[arm];
  const struct number all[STANDING] = {
      {"blocks", "", true, sum.blocks},
      {"bytes", "bytes", true, sum.bytes},
      {"hits", "", true, sum.hits},
      {"trials", "", true, s->trials},
      {"games", "", true, s->games},
      {"wins", "", true, s->wins},
      {"losses", "", true, s->losses},
      {"draws", "", true, s->draws},
      {"score_thousandths", "", false, s->score},
      {"spread_thousandths", "", false, s->spread},
      {"rating_thousandths", "", false, s->rating},
  };
  memcpy(n, all, sizeof all);
}

static const char *granularity(uint32_t g)
{
  return g == HAK_BYTE ? "byte" : g == HAK_PAGE ? "page" : "class";
}

static void text_change(void *context, const struct hki_change *change)
{
  struct writer *w = context;
  const struct hki_root *root = &w->snapshot->root;
  uint32_t last = change->row + change->rows - 1U;
  out(w, "change: epoch %lu, block %lu: from %lu bytes, %s sites, to %lu bytes, %s sites: %s -> %s (%s)\n",
      (unsigned long)change->epoch, (unsigned long)change->blocks, 1UL << change->row / HAK_SITES, site_name(change->row),
      (2UL << last / HAK_SITES) - 1, site_name(last), root->arm[change->from % HKI_ARMS], root->arm[change->to % HKI_ARMS],
      reason_name(change->reason));
}

static void text(struct writer *w, long pid)
{
  const struct hki_snapshot *s = w->snapshot;
  const struct hki_root *root = &s->root;
  struct number n[TOTALS];
  out(w, "hakmem %s, process %ld\n", root->version_text, pid);
  totals_of(s, n);
  for (int i = 0; i < TOTALS; i++) {
    out(w, "  %s%s %lu\n", n[i].key, &"            "[strlen(n[i].key) < 12 ? strlen(n[i].key) : 12], (unsigned long)n[i].value);
  }
  for (uint32_t b = 0; b < root->backend_count; b++) {
    struct number t[TALLIES];
    tallies_of(&s->backend[b], root->backend[b].callbacks, t);
    out(w, "backend %s (%s)", root->backend[b].name, granularity(root->backend[b].granularity));
    for (int i = 0; i < TALLIES; i++) {
      if (i < 5 || t[i].value != 0) {
        out(w, "%s %s %lu", i == 0 ? ":" : ",", t[i].key, (unsigned long)t[i].value);
      }
    }
    out(w, "\n");
  }
  for (uint32_t i = 0; i < root->row_count; i++) {
    out(w, "%s.%s %lu%s%s\n", root->row[i].plugin, root->row[i].key, (unsigned long)root->values[i],
        root->row[i].unit[0] != 0 ? " " : "", root->row[i].unit);
  }
  out(w, "policy %s: epochs %lu, switches %lu, large blocks %lu", root->policy[0] != 0 ? root->policy : "none",
      (unsigned long)root->epochs, (unsigned long)root->switches, (unsigned long)root->blocks);
  if (root->trials_wanted != 0) {
    out(w, ", trials %lu, lost %lu%s", (unsigned long)root->trials, (unsigned long)root->trials_lost,
        has_played(root) ? "" : "; no games yet");
  }
  out(w, "\n");
  for (uint32_t a = 0; a < root->arm_count; a++) {
    struct hak_cell sum = arm_sum(root, a);
    out(w, "strategy %s: large blocks %lu, bytes %lu, cache hits %lu", root->arm[a], (unsigned long)sum.blocks,
        (unsigned long)sum.bytes, (unsigned long)sum.hits);
    const struct hak_standing *s2 = &root->standing[a];
    if (s2->trials != 0) {
      out(w, "; trials %lu, score %u.%u%u%u +- %u.%u%u%u", (unsigned long)s2->trials, THOUSANDTHS(s2->score),
          THOUSANDTHS(s2->spread));
    }
    if (s2->games != 0) {
      out(w, "; games %lu: won %lu, lost %lu, drawn %lu", (unsigned long)s2->games, (unsigned long)s2->wins,
          (unsigned long)s2->losses, (unsigned long)s2->draws);
    }
    if (s2->rating != 0) {
      out(w, "; rating %u%s", s2->rating / 1000, s2->state == HAK_ARM_OUT ? ", eliminated" : "");
    }
    out(w, "\n");
  }
  changes(root, text_change, w);
  for (uint32_t c = 0; c < HKI_CLASSES; c++) {
    if (is_used(s, c)) {
      struct number o[OBJECTS];
      objects_of(s, c, o);
      out(w, "class %u bytes", root->class_bytes[c]);
      for (int i = 0; i < OBJECTS; i++) {
        out(w, "%s %s %lu", i == 0 ? ":" : ",", o[i].key, (unsigned long)o[i].value);
      }
      out(w, "\n");
    }
  }
}

static void comma(struct writer *w)
{
  if (!w->first) {
    out(w, ",");
  }
  w->first = false;
}

static void members(struct writer *w, const struct number *n, int count)
{
  for (int i = 0; i < count; i++) {
    comma(w);
    out(w, "\"%s\":%lu", n[i].key, (unsigned long)n[i].value);
  }
}

/* Bytes of the UTF-8 character that a text begins with, by the table of RFC 3629; 0: it begins with none. */
static unsigned character(const char *text)
{
  const unsigned char *c = (const unsigned char *)text;
  unsigned count = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;
  unsigned least = c[0] == 0xe0 ? 0xa0 : c[0] == 0xf0 ? 0x90 : 0x80, most = c[0] == 0xed ? 0x9f : c[0] == 0xf4 ? 0x8f : 0xbf;
  for (unsigned i = 1; i < count; i++) {
    if (c[i] < least || c[i] > most) {
      return 0;
    }
    least = 0x80;
    most = 0xbf;
  }
  return count;
}

/* Names come from files, so they are written as JSON wants them, in UTF-8; Prometheus has the same rule for label values. */
static void quoted(struct writer *w, const char *name)
{
  char safe[2 * HKI_NAME];
  struct hki_text t = hki_text(safe, sizeof safe);
  for (unsigned count; *name != 0; name += count) {
    count = character(name);
    bool good = count > 0 && (unsigned char)*name >= ' ';
    count = good ? count : 1;
    hki_append(&t, good && (*name == '"' || *name == '\\') ? "\\" : "");
    for (unsigned i = 0; i < count; i++) {
      hki_append(&t, "%c", good ? name[i] : '?');
    }
  }
  out(w, "\"%s\"", safe);
}

static void json_change(void *context, const struct hki_change *change)
{
  struct writer *w = context;
  const struct hki_root *root = &w->snapshot->root;
  comma(w);
  out(w, "{\"epoch\":%lu,\"block\":%lu,\"row\":%u,\"rows\":%u,\"from\":", (unsigned long)change->epoch,
      (unsigned long)change->blocks, change->row, change->rows);
  quoted(w, root->arm[change->from % HKI_ARMS]);
  out(w, ",\"to\":");
  quoted(w, root->arm[change->to % HKI_ARMS]);
  out(w, ",\"reason\":\"%s\"}", reason_name(change->reason));
}

static void json(struct writer *w, long pid)
{
  const struct hki_snapshot *s = w->snapshot;
  const struct hki_root *root = &s->root;
  struct number n[TOTALS];
  out(w, "{\"version\":\"%s\",\"pid\":%ld,\"totals\":{", root->version_text, pid);
  totals_of(s, n);
  w->first = true;
  members(w, n, TOTALS);
  out(w, "},\n\"backends\":{");
  for (uint32_t b = 0; b < root->backend_count; b++) {
    struct number t[TALLIES];
    tallies_of(&s->backend[b], root->backend[b].callbacks, t);
    out(w, b == 0 ? "" : ",\n");
    quoted(w, root->backend[b].name);
    out(w, ":{\"granularity\":\"%s\"", granularity(root->backend[b].granularity));
    w->first = false;
    members(w, t, TALLIES);
    out(w, "}");
  }
  out(w, "},\n\"counters\":{");
  for (uint32_t i = 0; i < root->row_count; i++) {
    bool opens = i == 0 || strcmp(root->row[i].plugin, root->row[i - 1].plugin) != 0;
    out(w, opens ? (i == 0 ? "" : "},") : ",");
    if (opens) {
      quoted(w, root->row[i].plugin);
      out(w, ":{");
    }
    out(w, "\"%s\":%lu", root->row[i].key, (unsigned long)root->values[i]);
  }
  out(w, root->row_count > 0 ? "}},\n\"policy\":{\"name\":" : "},\n\"policy\":{\"name\":");
  quoted(w, root->policy);
  out(w, ",\"epochs\":%lu,\"switches\":%lu,\"blocks\":%lu,\"learns\":%s,\"trials\":%lu,\"trials_lost\":%lu,\"champions\":[",
      (unsigned long)root->epochs, (unsigned long)root->switches, (unsigned long)root->blocks,
      root->trials_wanted != 0 ? "true" : "false", (unsigned long)root->trials, (unsigned long)root->trials_lost);
  for (uint32_t row = 0; row < HAK_ROWS; row++) {
    out(w, row == 0 ? "%u" : ",%u", root->champion[row]);
  }
  out(w, "],\"strategies\":[");
  for (uint32_t a = 0; a < root->arm_count; a++) {
    out(w, a == 0 ? "{\"name\":" : ",\n{\"name\":");
    quoted(w, root->arm[a]);
    struct number n2[STANDING];
    standing_of(root, a, n2);
    w->first = false;
    members(w, n2, STANDING);
    out(w, "}");
  }
  out(w, "],\"changes\":[");
  w->first = true;
  changes(root, json_change, w);
  out(w, "]},\n\"classes\":[");
  w->first = true;
  for (uint32_t c = 0; c < HKI_CLASSES; c++) {
    if (is_used(s, c)) {
      struct number o[OBJECTS];
      objects_of(s, c, o);
      comma(w);
      out(w, "{\"bytes\":%u", root->class_bytes[c]);
      w->first = false;
      members(w, o, OBJECTS);
      out(w, "}");
    }
  }
  out(w, "]}\n");
}

static void metric(struct writer *w, const struct number *n, const char *prefix, const char *label, const char *value,
                   bool head)
{
  char name[96];
  struct hki_text t = hki_text(name, sizeof name);
  hki_append(&t, "hakmem_%s%s%s%s", prefix, n->key, n->unit[0] != 0 ? "_bytes" : "", n->rises ? "_total" : "");
  if (head) {
    out(w, "# TYPE %s %s\n", name, n->rises ? "counter" : "gauge");
  }
  out(w, "%s", name);
  if (label != NULL) {
    out(w, "{%s=", label);
    quoted(w, value);
    out(w, "}");
  }
  out(w, " %lu\n", (unsigned long)n->value);
}

static void prometheus(struct writer *w)
{
  const struct hki_snapshot *s = w->snapshot;
  const struct hki_root *root = &s->root;
  struct number n[TOTALS];
  totals_of(s, n);
  for (int i = 0; i < TOTALS; i++) {
    metric(w, &n[i], "", NULL, NULL, true);
  }
  for (int i = 0; i < TALLIES; i++) {
    for (uint32_t b = 0; b < root->backend_count; b++) {
      struct number t[TALLIES];
      tallies_of(&s->backend[b], root->backend[b].callbacks, t);
      metric(w, &t[i], "backend_", "backend", root->backend[b].name, b == 0);
    }
  }
  for (int i = 0; i < OBJECTS; i++) {
    bool head = true;
    for (uint32_t c = 0; c < HKI_CLASSES; c++) {
      if (is_used(s, c)) {
        struct number o[OBJECTS];
        char size[16];
        struct hki_text t = hki_text(size, sizeof size);
        hki_append(&t, "%u", root->class_bytes[c]);
        objects_of(s, c, o);
        metric(w, &o[i], "class_", "bytes", size, head);
        head = false;
      }
    }
  }
  /* The same key in two plugins is one metric with two labels, and its lines must stand together. */
  for (uint32_t i = 0; i < root->row_count; i++) {
    bool seen = false;
    for (uint32_t j = 0; j < i && !seen; j++) {
      seen = strcmp(root->row[j].key, root->row[i].key) == 0;
    }
    for (uint32_t j = i; j < root->row_count && !seen; j++) {
      if (strcmp(root->row[j].key, root->row[i].key) == 0) {
        struct number row = {root->row[j].key, strcmp(root->row[j].unit, "bytes") == 0 ? "bytes" : "",
                             root->row[j].kind == HAK_COUNTER, root->values[j]};
        metric(w, &row, "plugin_", "plugin", root->row[j].plugin, j == i);
      }
    }
  }
  metric(w, &(struct number){"epochs", "", true, root->epochs}, "policy_", NULL, NULL, true);
  metric(w, &(struct number){"switches", "", true, root->switches}, "policy_", NULL, NULL, true);
  for (int i = 0; i < STANDING; i++) {
    for (uint32_t a = 0; a < root->arm_count; a++) {
      struct number s3[STANDING];
      standing_of(root, a, s3);
      metric(w, &s3[i], "strategy_", "strategy", root->arm[a], a == 0);
    }
  }
}

int hki_report_write(const struct hki_snapshot *snapshot, const char *format, long pid,
                     void (*sink)(void *context, const char *text, size_t size), void *context)
{
  struct writer w = {.snapshot = snapshot, .sink = sink, .context = context};
  if (strcmp(format, "text") == 0) {
    text(&w, pid);
  } else if (strcmp(format, "json") == 0) {
    json(&w, pid);
  } else if (strcmp(format, "prometheus") == 0) {
    prometheus(&w);
  } else {
    return -1;
  }
  return 0;
}
