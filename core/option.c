/* SPDX-License-Identifier: MIT */
/* option.c - owns the register of options in force; written while loading, and under the control lock afterwards. */
#include "option.h"

#include <errno.h>
#include <string.h>

#include "message.h"
#include "meta.h"
#include "spelling.h"
#include "syntax.h"

enum { FIRST = 192, WORDS = 32, TEXT = 256, TEXT_STEP = 32 };

bool (*hki_value_resolve)(const hak_option *option, const char *name, hak_value *value);

static struct hki_option first_options[FIRST], *options = first_options;
static uint32_t option_count, option_room = FIRST;

/* ---- text to values -------------------------------------------------------------------------------------------------- */

static bool parse_digits(const char **text, uint64_t *value)
{
  const char *at = *text;
  *value = 0;
  while (*at >= '0' && *at <= '9') {
    if (__builtin_mul_overflow(*value, 10U, value) || __builtin_add_overflow(*value, (uint64_t)(*at - '0'), value)) {
      return false;
    }
    at++;
  }
  bool any = at != *text;
  *text = at;
  return any;
}

static bool parse_size(const char *text, uint64_t *size)
{
  if (!parse_digits(&text, size)) {
    return false;
  }
  static const char suffixes[] = "KMGT";
  const char *suffix = memchr(suffixes, *text & ~0x20, sizeof suffixes - 1);
  if (suffix != NULL) {
    unsigned shift = 10U * (unsigned)(suffix - suffixes + 1);
    if (*size > UINT64_MAX >> shift) {
      return false;
    }
    *size <<= shift;
    text++;
  }
  return *text == 0;
}

static bool parse_int(const char *text, int64_t *value)
{
  bool negative = *text == '-';
  uint64_t magnitude;
  text += negative;
  if (!parse_digits(&text, &magnitude) || *text != 0 || magnitude > (uint64_t)INT64_MAX) {
    return false;
  }
  *value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
  return true;
}

/* n / d, rounded to the nearest, for n of up to 53 bits. By integers, because the program may have inexact results trap. */
static double quotient(uint64_t n, uint64_t d)
{
  __extension__ typedef unsigned __int128 wide;
  wide rest = n;
  double unit = 1;
  while (n != 0 && rest < (wide)d << 52) {
    rest <<= 1;
    unit *= 0.5;
  }
  uint64_t whole = (uint64_t)(rest / d);
  whole += (uint64_t)(rest % d) >= d - (uint64_t)(rest % d);
  return (double)whole * unit;
}

/* Digits beyond those that a double can tell are left out. */
static bool parse_float(const char *text, double *value)
{
  const uint64_t most = UINT64_C(1) << 53;
  bool negative = *text == '-';
  uint64_t n = 0, d = 1;
  text += negative;
  if (!parse_digits(&text, &n) || n >= most) {
    return false;
  }
  if (*text == '.') {
    for (text++; *text >= '0' && *text <= '9'; text++) {
      if (n < most / 10 - 1 && d < UINT64_C(100000000000000000)) {
        n = n * 10 + (uint64_t)(*text - '0');
        d *= 10;
      }
    }
  }
  double result = quotient(n, d);
  *value = negative ? -result : result;
  return *text == 0;
}

/* 0, EINVAL or ENOMEM. */
static int parse_list(const char *text, const char *const **list)
{
  const char **words = hki_meta_alloc((WORDS + 1) * sizeof *words, sizeof *words);
  uint32_t count = 0;
  while (words != NULL && *text != 0) {
    char word[TEXT];
    text += strspn(text, ", \t");
    size_t length = strcspn(text, ",");
    size_t kept = length;
    while (kept > 0 && (text[kept - 1] == ' ' || text[kept - 1] == '\t')) {
      kept--;
    }
    if (kept > 0) {
      if (kept >= sizeof word || count == WORDS) {
        return EINVAL;
      }
      memcpy(word, text, kept);
      word[kept] = 0;
      words[count] = hki_meta_string(word);
      if (words[count++] == NULL) {
        return ENOMEM;
      }
    }
    text += length;
  }
  *list = words;
  return words != NULL ? 0 : ENOMEM;
}

static bool in_range(const hak_option *option, const hak_value *value)
{
  hak_value bound;
  for (int upper = 0; upper < 2; upper++) {
    const char *text = upper ? option->max : option->min;
    if (text == NULL) {
      continue;
    }
    bool good = true;
    if (option->type == HAK_SIZE) {
      good = parse_size(text, &bound.size) && (upper ? value->size <= bound.size : value->size >= bound.size);
    } else if (option->type == HAK_INT) {
      good = parse_int(text, &bound.integer) && (upper ? value->integer <= bound.integer : value->integer >= bound.integer);
    } else if (option->type == HAK_FLOAT) {
      good = parse_float(text, &bound.number) && (upper ? value->number <= bound.number : value->number >= bound.number);
    }
    if (!good) {
      return false;
    }
  }
  return true;
}

int hki_value_parse(const hak_option *option, const char *text, hak_value *value)
{
  hak_value made = {0};
  bool good = false;
  int code;
  switch (option->type) {
  case HAK_SIZE:
    good = parse_size(text, &made.size);
    break;
  case HAK_BOOL:
    good = hki_parse_bool(text, &made.flag);
    break;
  case HAK_INT:
    good = parse_int(text, &made.integer);
    break;
  case HAK_FLOAT:
    good = parse_float(text, &made.number);
    break;
  case HAK_ENUM:
    for (uint32_t i = 0; option->choices[i] != NULL && !good; i++) {
      good = strcmp(option->choices[i], text) == 0;
      made.choice = i;
    }
    break;
  case HAK_STRING:
    good = (option->flags & HAK_ABSOLUTE) == 0 || *text == 0 || *text == '/';
    break;
  case HAK_LIST:
    code = parse_list(text, &made.list);
    if (code != 0) {
      return code;
    }
    good = true;
    break;
  case HAK_PAGES:
  case HAK_ARM:
    good = hki_value_resolve != NULL && hki_value_resolve(option, text, &made);
    break;
  default:
    break;
  }
  if (!good || !in_range(option, &made) || strchr(text, '\n') != NULL) { /* no INI could say the latter */
    return EINVAL;
  }
  if (option->type == HAK_STRING && (made.string = hki_meta_string(text)) == NULL) {
    return ENOMEM;
  }
  *value = made;
  return 0;
}

const char *hki_value_expected(const hak_option *option, char *buffer, size_t size)
{
  static const char *const types[] = {[HAK_SIZE] = "a size such as 64K",
                                      [HAK_BOOL] = "on or off",
                                      [HAK_INT] = "an integer",
                                      [HAK_FLOAT] = "a decimal number",
                                      [HAK_ENUM] = "one of",
                                      [HAK_STRING] = "text",
                                      [HAK_LIST] = "words separated by commas",
                                      [HAK_PAGES] = "the name of a page backend",
                                      [HAK_ARM] = "the name of a [strategy.NAME]"};
  struct hki_text text = hki_text(buffer, size);
  bool path = option->type == HAK_STRING && (option->flags & HAK_ABSOLUTE) != 0;
  hki_append(&text, "%s",
             path                      ? "an absolute path"
             : option->type <= HAK_ARM ? types[option->type]
                                       : "a type this version knows");
  for (uint32_t i = 0; option->type == HAK_ENUM && option->choices[i] != NULL; i++) {
    hki_append(&text, "%s %s", i == 0 ? "" : ",", option->choices[i]);
  }
  if (option->min != NULL && option->max != NULL) {
    hki_append(&text, ", %s to %s", option->min, option->max);
  } else if (option->min != NULL || option->max != NULL) {
    hki_append(&text, ", at %s %s", option->min != NULL ? "least" : "most", option->min != NULL ? option->min : option->max);
  }
  return buffer;
}

/* ---- the register ---------------------------------------------------------------------------------------------------- */

/* A place for one more option; NULL when there is no memory for it. */
static struct hki_option *one_more(void)
{
  if (option_count == option_room) {
    struct hki_option *more = hki_meta_alloc(2 * option_room * sizeof *more, _Alignof(struct hki_option));
    if (more == NULL) {
      return NULL;
    }
    memcpy(more, options, option_count * sizeof *more);
    options = more;
    option_room *= 2;
  }
  return &options[option_count++];
}

hak_value hki_option_read(const char *section, const hak_option *option, uint32_t index,
                          int32_t (*set)(void *, uint32_t, hak_value), void *owner)
{
  char expected[TEXT], place[TEXT];
  hak_value value = {0};
  const char *text = option->fallback;
  const char *origin = "default";
  const struct hki_item *item = hki_config_find(section, option->key);
  int code = item != NULL ? hki_value_parse(option, item->value, &value) : EINVAL;
  if (code == 0) {
    text = item->value;
    origin = hki_meta_string(hki_config_place(item, place, sizeof place));
  } else {
    if (item != NULL) {
      hki_mistake(item, "%s.%s: found \"%s\", expected %s; using %s", section, option->key, item->value,
                  code == ENOMEM ? "memory to keep it" : hki_value_expected(option, expected, sizeof expected),
                  *text != 0 ? text : "nothing");
    }
    if (hki_value_parse(option, text, &value) != 0 && item == NULL) {
      hki_mistake(NULL, "%s.%s: its default \"%s\" is not usable, expected %s", section, option->key, text,
                  hki_value_expected(option, expected, sizeof expected));
    }
  }
  struct hki_option *row = one_more();
  if (row == NULL) {
    hki_mistake(item, "%s.%s: no memory to list it; it cannot be changed", section, option->key);
    return value;
  }
  *row = (struct hki_option){.section = section,
                             .table = option,
                             .index = index,
                             .text = text,
                             .origin = origin != NULL ? origin : "",
                             .set = option->flags & HAK_LIVE ? set : NULL,
                             .owner = owner};
  return value;
}

static const char *full_name(const char *section, const char *key, char *buffer, size_t size)
{
  struct hki_text text = hki_text(buffer, size);
  hki_append(&text, "%s.%s", section, key);
  return buffer;
}

static const char *name_of(const struct hki_option *option, char *buffer, size_t size)
{
  return full_name(option->section, option->table->key, buffer, size);
}

static struct hki_option *option_named(const char *name)
{
  char known[TEXT];
  for (uint32_t i = 0; i < option_count; i++) {
    if (strcmp(name, name_of(&options[i], known, sizeof known)) == 0) {
      return &options[i];
    }
  }
  return NULL;
}

/* The first of those that a name of no option resembles most; NULL when it resembles none. */
static const struct hki_option *nearest(const char *name)
{
  const struct hki_option *best = NULL;
  uint32_t within = HKI_NEAR;
  char known[TEXT];
  for (uint32_t i = 0; i < option_count && within > 0; i++) {
    uint32_t d = hki_distance(name, name_of(&options[i], known, sizeof known), within);
    if (d <= within) {
      within = d == 0 ? 0 : d - 1;
      best = &options[i];
    }
  }
  return best;
}

void hki_option_unknown(enum hki_section (*classify)(const char *section, const char **right))
{
  const char *right = NULL;
  const struct hki_item *last = NULL; /* whose section was classified: a plugin's may take a look at the file system */
  enum hki_section section = HKI_SECTION_UNKNOWN;
  for (uint32_t i = 0; i < hki_config_count(); i++) {
    const struct hki_item *item = hki_config_item(i);
    char name[TEXT], known[TEXT];
    if (item->used || strcmp(item->file, HKI_BUILT_IN) == 0) {
      continue;
    }
    bool told = last != NULL && strcmp(last->section, item->section) == 0 && strcmp(last->file, item->file) == 0;
    if (!told) {
      last = item;
      section = classify(item->section, &right);
    }
    if (section == HKI_SECTION_IDLE) {
      continue; /* `hakmem check` loads it and looks */
    }
    if (section != HKI_SECTION_LOADED && told) {
      continue; /* one line is enough for a section */
    }
    if (section == HKI_SECTION_OTHER) {
      hki_mistake(item, "section [%s]: found a plugin of another kind, expected [%s]; ignored", item->section, right);
      continue;
    }
    if (section == HKI_SECTION_MISSING) {
      hki_mistake(item, "section [%s]: found no plugin of that name, expected one that is installed; ignored", item->section);
      continue;
    }
    if (section == HKI_SECTION_UNKNOWN) {
      hki_mistake(item, "unknown section [%s], expected core, stats, strategy.NAME, backend.NAME or policy.NAME; ignored",
                  item->section);
      continue;
    }
    full_name(item->section, item->key, name, sizeof name);
    const struct hki_option *near = nearest(name);
    if (near != NULL) {
      hki_mistake(item, "unknown key %s; did you mean %s?", name, name_of(near, known, sizeof known));
    } else {
      hki_mistake(item, "unknown key %s; ignored", name);
    }
  }
}

/* Keeps the text of a new value in the place of the one before, so that changes without end take no memory without end. */
static void keep_text(struct hki_option *option, const char *value)
{
  size_t size = strlen(value) + 1;
  if (size > option->room) {
    size_t room = hki_round_up(size, TEXT_STEP);
    char *place = hki_meta_alloc(room, 1);
    option->changed = place != NULL ? place : option->changed;
    option->room = place != NULL ? room : option->room;
  }
  bool fits = size <= option->room;
  if (fits) {
    memcpy(option->changed, value, size);
  }
  option->text = fits ? option->changed : "";
}

int hki_option_set(const char *name, const char *value, const char *who, char *why, size_t why_size)
{
  struct hki_text text = hki_text(why, why_size);
  char known[TEXT], expected[TEXT];
  struct hki_option *option = option_named(name);
  if (option == NULL) {
    const struct hki_option *near = nearest(name);
    if (near != NULL) {
      hki_append(&text, "unknown key %s; did you mean %s?", name, name_of(near, known, sizeof known));
    } else {
      hki_append(&text, "unknown key %s", name);
    }
    return EINVAL;
  }
  if (option->set == NULL) {
    hki_append(&text, "%s cannot change in a running process: it is read once, at start; set it in the INI", name);
    return EPERM;
  }
  hak_value parsed;
  int code = hki_value_parse(option->table, value, &parsed);
  if (code != 0) {
    hki_append(&text, "%s: found \"%s\", expected %s", name, value,
               code == ENOMEM ? "memory to keep it" : hki_value_expected(option->table, expected, sizeof expected));
    return code;
  }
  int32_t result = option->set(option->owner, option->index, parsed);
  if (result != HAK_OK) {
    hki_append(&text, "%s: %s refuses \"%s\" (%d)", name, option->section, value, result);
    return EINVAL;
  }
  hki_append(&text, "%s = %s (was %s)", name, value, option->text);
  keep_text(option, value);
  option->origin = who;
  return 0;
}

static void list_section(uint32_t first, void (*sink)(void *context, const char *text, size_t size), void *context)
{
  char line[2 * TEXT];
  struct hki_text text = hki_text(line, sizeof line);
  hki_append(&text, "%s[%s]\n", first == 0 ? "" : "\n", options[first].section);
  for (uint32_t i = first; i < option_count; i++) {
    if (strcmp(options[i].section, options[first].section) == 0) {
      hki_append(&text, "%s = ", options[i].table->key);
      sink(context, line, (size_t)(text.at - line));
      sink(context, options[i].text, strlen(options[i].text)); /* of any length */
      text = hki_text(line, sizeof line);
      hki_append(&text, " ; %s\n", options[i].origin);
      sink(context, line, (size_t)(text.at - line));
      text = hki_text(line, sizeof line);
    }
  }
}

/* Each section once, though the rows of a plugin that loads another one are read before and after those of the other. */
void hki_option_list(void (*sink)(void *context, const char *text, size_t size), void *context)
{
  for (uint32_t i = 0; i < option_count; i++) {
    uint32_t first = 0;
    while (strcmp(options[first].section, options[i].section) != 0) {
      first++;
    }
    if (first == i) {
      list_section(i, sink, context);
    }
  }
}
