/* SPDX-License-Identifier: MIT */
/*
 * layout.c - the binary interface as numbers: every structure, member and constant of hakmem/plugin.h and hakmem/hakmem.h, on a
 * machine with pointers and longs of 64 bits. Prints a line for each structure and each group of constants; what differs is named.
 *
 * The first two numbers of a structure are its size in ABI 0.1 and its alignment. One that GROWS may get members, at or behind
 * that size: padding is no place for them, since an older plugin's struct_size covers it. They get a line here, between `#if
 * HAK_ABI_MINOR >= N` and `#endif`. One that is FIXED has neither struct_size nor stride, and is passed by value or laid out by the
 * plugin: it stays as it is within a major number.
 */
#include <hakmem/hakmem.h>
#include <hakmem/plugin.h>

#include <stdio.h>

typedef struct hak_totals hak_totals;

enum kind { GROWING, FIXED_SIZE, INSIDE, CONSTANT };

struct row {
  enum kind kind;
  const char *name;
  long long found[2], expected[2]; /* size and alignment; offset and size; value */
};

#define GROWS(type, size, align)                                                                                               \
  {                                                                                                                            \
    GROWING, #type, {sizeof(type), _Alignof(type)},                                                                            \
    {                                                                                                                          \
      size, align                                                                                                              \
    }                                                                                                                          \
  }
#define FIXED(type, size, align)                                                                                               \
  {                                                                                                                            \
    FIXED_SIZE, #type, {sizeof(type), _Alignof(type)},                                                                         \
    {                                                                                                                          \
      size, align                                                                                                              \
    }                                                                                                                          \
  }
#define MEMBER(type, member, offset, size)                                                                                     \
  {                                                                                                                            \
    INSIDE, #type "." #member, {offsetof(type, member), sizeof((type *)0)->member},                                            \
    {                                                                                                                          \
      offset, size                                                                                                             \
    }                                                                                                                          \
  }
#define VALUE(constant, value)                                                                                                 \
  {                                                                                                                            \
    CONSTANT, #constant, {(long long)(constant), 0},                                                                           \
    {                                                                                                                          \
      value, 0                                                                                                                 \
    }                                                                                                                          \
  }

/* clang-format off */
static const struct row rows[] = {
    VALUE(HAK_GRANULE, 65536),
    VALUE(HAK_CLASS_MAX, 262144),
    VALUE(HAK_BINS, 48),
    VALUE(HAK_RUN_MAX, 64),
#if HAK_ABI_MINOR >= 3
    VALUE(HAK_RUN_LONGEST, 256),
#endif
    VALUE(HAK_PURGE_SPANS, 64),
    VALUE(HAK_OK, 0),
    VALUE(HAK_UNSUPPORTED, -1),
    VALUE(HAK_NO_MEMORY, -2),
    VALUE(HAK_INVALID, -3),
    VALUE(HAK_FAILED, -4),
    VALUE(HAK_ZEROED, 1),
    VALUE(HAK_HUGE, 2),
    VALUE(HAK_PINNED, 4),
#if HAK_ABI_MINOR >= 5
    VALUE(HAK_TRIED, 8),
#endif
    VALUE(HAK_SIZE, 1),
    VALUE(HAK_BOOL, 2),
    VALUE(HAK_INT, 3),
    VALUE(HAK_FLOAT, 4),
    VALUE(HAK_ENUM, 5),
    VALUE(HAK_STRING, 6),
    VALUE(HAK_LIST, 7),
    VALUE(HAK_PAGES, 8),
    VALUE(HAK_ARM, 9),
    VALUE(HAK_LIVE, 1),
#if HAK_ABI_MINOR >= 6
    VALUE(HAK_ABSOLUTE, 2),
#endif
    VALUE(HAK_COUNTER, 1),
    VALUE(HAK_GAUGE, 2),
    VALUE(HAK_SUM_NONE, 0),
    VALUE(HAK_SUM_MAPPED, 1),
    VALUE(HAK_SUM_RETAINED, 2),
    VALUE(HAK_SUM_METADATA, 3),
    VALUE(HAK_BYTE, 1),
    VALUE(HAK_PAGE, 2),
    VALUE(HAK_CLASS, 3),
    VALUE(HAK_SITE_NEW, 0),
    VALUE(HAK_SITE_RARE, 1),
    VALUE(HAK_SITE_BUSY, 2),
    VALUE(HAK_SITE_STREAM, 3),
    VALUE(HAK_SITES, 4),
    VALUE(HAK_ROWS, 192),
    VALUE(HAK_ARM_IDLE, 0),
    VALUE(HAK_ARM_ACTIVE, 1),
    VALUE(HAK_ARM_OUT, 2),
    VALUE(HAK_REASON_SET, 0),
    VALUE(HAK_REASON_BETTER, 1),
    VALUE(HAK_REASON_REVERT, 2),
    VALUE(HAK_REASON_FAULTS, 3),
    VALUE(HAK_BACKEND, 1),
    VALUE(HAK_POLICY, 2),
    VALUE(HAK_CACHE, 3),
    VALUE(HAK_RECLAIM, 4),

    FIXED(hak_block, 16, 8),
    MEMBER(hak_block, base, 0, 8),
    MEMBER(hak_block, info, 8, 8),
    FIXED(hak_range, 56, 8),
    MEMBER(hak_range, base, 0, 8),
    MEMBER(hak_range, capacity, 8, 8),
    MEMBER(hak_range, requested, 16, 8),
    MEMBER(hak_range, site, 24, 8),
    MEMBER(hak_range, next, 32, 8),
    MEMBER(hak_range, stamp, 40, 8),
    MEMBER(hak_range, backend, 48, 1),
    MEMBER(hak_range, arm, 49, 1),
    MEMBER(hak_range, flags, 50, 1),
    MEMBER(hak_range, reserved, 51, 1),
    FIXED(hak_lock, 4, 4),
    MEMBER(hak_lock, word, 0, 4),
    GROWS(hak_os, 96, 8),
    MEMBER(hak_os, struct_size, 0, 4),
    MEMBER(hak_os, mmap, 8, 8),
    MEMBER(hak_os, munmap, 16, 8),
    MEMBER(hak_os, mprotect, 24, 8),
    MEMBER(hak_os, mremap, 32, 8),
    MEMBER(hak_os, madvise, 40, 8),
    MEMBER(hak_os, process_madvise, 48, 8),
    MEMBER(hak_os, mincore, 56, 8),
    MEMBER(hak_os, read_file, 64, 8),
    MEMBER(hak_os, now, 72, 8),
    MEMBER(hak_os, coarse, 80, 8),
    MEMBER(hak_os, write_file, 88, 8),
    GROWS(hak_pages, 32, 8),
    MEMBER(hak_pages, struct_size, 0, 4),
    MEMBER(hak_pages, name, 8, 8),
    MEMBER(hak_pages, alloc, 16, 8),
    MEMBER(hak_pages, free, 24, 8),
    FIXED(hak_purger, 8, 8),
    MEMBER(hak_purger, purge, 0, 8),
    GROWS(hak_host, 176, 8),
    MEMBER(hak_host, struct_size, 0, 4),
    MEMBER(hak_host, abi_major, 4, 2),
    MEMBER(hak_host, abi_minor, 6, 2),
    MEMBER(hak_host, name, 8, 8),
    MEMBER(hak_host, os, 16, 8),
    MEMBER(hak_host, counters, 24, 8),
    MEMBER(hak_host, active, 32, 8),
    MEMBER(hak_host, page_size, 40, 4),
    MEMBER(hak_host, class_count, 44, 4),
    MEMBER(hak_host, class_bytes, 48, 8),
    MEMBER(hak_host, arm_count, 56, 4),
    MEMBER(hak_host, arm_name, 64, 8),
    MEMBER(hak_host, hardened, 72, 4),
    MEMBER(hak_host, basic_syscalls, 76, 4),
    MEMBER(hak_host, meta_alloc, 80, 8),
    MEMBER(hak_host, log, 88, 8),
    MEMBER(hak_host, symbol, 96, 8),
    MEMBER(hak_host, lock_wait, 104, 8),
    MEMBER(hak_host, lock_wake, 112, 8),
    MEMBER(hak_host, span_register, 120, 8),
    MEMBER(hak_host, span_unregister, 128, 8),
    MEMBER(hak_host, release, 136, 8),
    MEMBER(hak_host, span_tags, 144, 8),
    MEMBER(hak_host, misuse, 152, 8),
    MEMBER(hak_host, expect, 160, 8),
    MEMBER(hak_host, arm_alike, 168, 8),
#if HAK_ABI_MINOR >= 4
    MEMBER(hak_host, spans, 176, 8),
#endif
#if HAK_ABI_MINOR >= 5
    MEMBER(hak_host, tried, 184, 8),
#endif
    FIXED(hak_value, 8, 8),
    MEMBER(hak_value, size, 0, 8),
    MEMBER(hak_value, flag, 0, 1),
    MEMBER(hak_value, integer, 0, 8),
    MEMBER(hak_value, number, 0, 8),
    MEMBER(hak_value, choice, 0, 4),
    MEMBER(hak_value, string, 0, 8),
    MEMBER(hak_value, list, 0, 8),
    MEMBER(hak_value, pages, 0, 8),
    MEMBER(hak_value, arm, 0, 4),
    GROWS(hak_option, 56, 8),
    MEMBER(hak_option, key, 0, 8),
    MEMBER(hak_option, type, 8, 4),
    MEMBER(hak_option, flags, 12, 4),
    MEMBER(hak_option, fallback, 16, 8),
    MEMBER(hak_option, min, 24, 8),
    MEMBER(hak_option, max, 32, 8),
    MEMBER(hak_option, choices, 40, 8),
    MEMBER(hak_option, help, 48, 8),
    GROWS(hak_counter, 32, 8),
    MEMBER(hak_counter, key, 0, 8),
    MEMBER(hak_counter, kind, 8, 4),
    MEMBER(hak_counter, sum, 12, 4),
    MEMBER(hak_counter, unit, 16, 8),
    MEMBER(hak_counter, help, 24, 8),
    GROWS(hak_backend_ops, 120, 8),
    MEMBER(hak_backend_ops, struct_size, 0, 4),
    MEMBER(hak_backend_ops, granularity, 4, 4),
    MEMBER(hak_backend_ops, alloc, 8, 8),
    MEMBER(hak_backend_ops, alloc_zeroed, 16, 8),
    MEMBER(hak_backend_ops, free, 24, 8),
    MEMBER(hak_backend_ops, resize, 32, 8),
    MEMBER(hak_backend_ops, refill, 40, 8),
    MEMBER(hak_backend_ops, flush, 48, 8),
    MEMBER(hak_backend_ops, thread_exit, 56, 8),
    MEMBER(hak_backend_ops, trim, 64, 8),
    MEMBER(hak_backend_ops, fork_prepare, 72, 8),
    MEMBER(hak_backend_ops, fork_parent, 80, 8),
    MEMBER(hak_backend_ops, fork_child, 88, 8),
    MEMBER(hak_backend_ops, free_many, 96, 8),
    MEMBER(hak_backend_ops, expire, 104, 8),
    MEMBER(hak_backend_ops, looks, 112, 4),
#if HAK_ABI_MINOR >= 3
    MEMBER(hak_backend_ops, reserved, 116, 4),
    MEMBER(hak_backend_ops, run, 120, 4),
#endif
    GROWS(hak_need, 32, 8),
    MEMBER(hak_need, size, 0, 8),
    MEMBER(hak_need, align, 8, 8),
    MEMBER(hak_need, site, 16, 8),
    MEMBER(hak_need, backend, 24, 4),
    MEMBER(hak_need, arm, 28, 4),
#if HAK_ABI_MINOR >= 5
    MEMBER(hak_need, flags, 32, 4),
    MEMBER(hak_need, reserved, 36, 4),
#endif
    GROWS(hak_cache_ops, 72, 8),
    MEMBER(hak_cache_ops, struct_size, 0, 4),
    MEMBER(hak_cache_ops, reserved, 4, 4),
    MEMBER(hak_cache_ops, take, 8, 8),
    MEMBER(hak_cache_ops, put, 16, 8),
    MEMBER(hak_cache_ops, expire, 24, 8),
    MEMBER(hak_cache_ops, drain, 32, 8),
    MEMBER(hak_cache_ops, fork_prepare, 40, 8),
    MEMBER(hak_cache_ops, fork_parent, 48, 8),
    MEMBER(hak_cache_ops, fork_child, 56, 8),
    MEMBER(hak_cache_ops, reused, 64, 8),
    GROWS(hak_reclaim_ops, 56, 8),
    MEMBER(hak_reclaim_ops, struct_size, 0, 4),
    MEMBER(hak_reclaim_ops, reserved, 4, 4),
    MEMBER(hak_reclaim_ops, put, 8, 8),
    MEMBER(hak_reclaim_ops, expire, 16, 8),
    MEMBER(hak_reclaim_ops, drain, 24, 8),
    MEMBER(hak_reclaim_ops, fork_prepare, 32, 8),
    MEMBER(hak_reclaim_ops, fork_parent, 40, 8),
    MEMBER(hak_reclaim_ops, fork_child, 48, 8),
    GROWS(hak_trial, 48, 8),
    MEMBER(hak_trial, row, 0, 2),
    MEMBER(hak_trial, arm, 2, 1),
    MEMBER(hak_trial, hit, 3, 1),
    MEMBER(hak_trial, reserved, 4, 4),
    MEMBER(hak_trial, bytes, 8, 8),
    MEMBER(hak_trial, cpu_ns, 16, 8),
    MEMBER(hak_trial, fault_ns, 24, 8),
    MEMBER(hak_trial, used_bytes, 32, 8),
    MEMBER(hak_trial, held_bytes, 40, 8),
#if HAK_ABI_MINOR >= 2
    MEMBER(hak_trial, life_ns, 48, 8),
#endif
    GROWS(hak_cell, 48, 8),
    MEMBER(hak_cell, row, 0, 2),
    MEMBER(hak_cell, arm, 2, 1),
    MEMBER(hak_cell, reserved8, 3, 1),
    MEMBER(hak_cell, reserved, 4, 4),
    MEMBER(hak_cell, blocks, 8, 8),
    MEMBER(hak_cell, bytes, 16, 8),
    MEMBER(hak_cell, hits, 24, 8),
    MEMBER(hak_cell, frees, 32, 8),
    MEMBER(hak_cell, release_ns, 40, 8),
    GROWS(hak_sample, 72, 8),
    MEMBER(hak_sample, struct_size, 0, 4),
    MEMBER(hak_sample, trial_stride, 4, 4),
    MEMBER(hak_sample, cell_stride, 8, 4),
    MEMBER(hak_sample, trial_count, 12, 4),
    MEMBER(hak_sample, cell_count, 16, 4),
    MEMBER(hak_sample, arm_count, 20, 4),
    MEMBER(hak_sample, epoch, 24, 8),
    MEMBER(hak_sample, blocks, 32, 8),
    MEMBER(hak_sample, now, 40, 8),
    MEMBER(hak_sample, faults, 48, 8),
    MEMBER(hak_sample, trials, 56, 8),
    MEMBER(hak_sample, cells, 64, 8),
#if HAK_ABI_MINOR >= 2
    MEMBER(hak_sample, cpu_ns, 72, 8),
#endif
    FIXED(hak_standing, 56, 8),
    MEMBER(hak_standing, games, 0, 8),
    MEMBER(hak_standing, wins, 8, 8),
    MEMBER(hak_standing, losses, 16, 8),
    MEMBER(hak_standing, draws, 24, 8),
    MEMBER(hak_standing, trials, 32, 8),
    MEMBER(hak_standing, score, 40, 4),
    MEMBER(hak_standing, spread, 44, 4),
    MEMBER(hak_standing, rating, 48, 4),
    MEMBER(hak_standing, state, 52, 4),
    GROWS(hak_choice, 80, 8),
    MEMBER(hak_choice, struct_size, 0, 4),
    MEMBER(hak_choice, row_count, 4, 4),
    MEMBER(hak_choice, champion, 8, 8),
    MEMBER(hak_choice, challenger, 16, 8),
    MEMBER(hak_choice, share, 24, 8),
    MEMBER(hak_choice, reason, 32, 8),
    MEMBER(hak_choice, standing, 40, 8),
    MEMBER(hak_choice, trials, 48, 4),
    MEMBER(hak_choice, seed, 52, 4),
    MEMBER(hak_choice, tries, 56, 4),
    MEMBER(hak_choice, purse, 64, 8),
    MEMBER(hak_choice, most, 72, 8),
#if HAK_ABI_MINOR >= 4
    MEMBER(hak_choice, ease, 80, 4),
#endif
    GROWS(hak_policy_ops, 32, 8),
    MEMBER(hak_policy_ops, struct_size, 0, 4),
    MEMBER(hak_policy_ops, reserved, 4, 4),
    MEMBER(hak_policy_ops, choose, 8, 8),
    MEMBER(hak_policy_ops, finish, 16, 8),
    MEMBER(hak_policy_ops, fork_child, 24, 8),
    GROWS(hak_plugin, 96, 8),
    MEMBER(hak_plugin, struct_size, 0, 4),
    MEMBER(hak_plugin, abi_major, 4, 2),
    MEMBER(hak_plugin, abi_minor, 6, 2),
    MEMBER(hak_plugin, kind, 8, 4),
    MEMBER(hak_plugin, reserved, 12, 4),
    MEMBER(hak_plugin, name, 16, 8),
    MEMBER(hak_plugin, version, 24, 8),
    MEMBER(hak_plugin, summary, 32, 8),
    MEMBER(hak_plugin, options, 40, 8),
    MEMBER(hak_plugin, option_count, 48, 4),
    MEMBER(hak_plugin, option_stride, 52, 4),
    MEMBER(hak_plugin, counters, 56, 8),
    MEMBER(hak_plugin, counter_count, 64, 4),
    MEMBER(hak_plugin, counter_stride, 68, 4),
    MEMBER(hak_plugin, start, 72, 8),
    MEMBER(hak_plugin, set, 80, 8),
    MEMBER(hak_plugin, ops, 88, 8),
    GROWS(hak_totals, 96, 8),
    MEMBER(hak_totals, struct_size, 0, 4),
    MEMBER(hak_totals, threads, 4, 4),
    MEMBER(hak_totals, allocs, 8, 8),
    MEMBER(hak_totals, frees, 16, 8),
    MEMBER(hak_totals, resizes, 24, 8),
    MEMBER(hak_totals, foreign, 32, 8),
    MEMBER(hak_totals, allocated, 40, 8),
    MEMBER(hak_totals, active, 48, 8),
    MEMBER(hak_totals, mapped, 56, 8),
    MEMBER(hak_totals, retained, 64, 8),
    MEMBER(hak_totals, metadata, 72, 8),
    MEMBER(hak_totals, resident, 80, 8),
    MEMBER(hak_totals, held, 88, 8),
};
/* clang-format on */

enum { ROWS = sizeof rows / sizeof *rows };

static int failures;

#define DIFFERS(row, ...) (failures++, printf("FAIL %s: ", (row)->name), printf(__VA_ARGS__), putchar('\n'))

/* A structure with its members, which begin behind it in the table; returns the row behind them. */
static const struct row *structure(const struct row *head)
{
  int before = failures;
  long long align = head->expected[1], end = head->expected[0];
  const struct row *row = head + 1;
  for (; row < rows + ROWS && row->kind == INSIDE; row++) {
    long long behind = row->expected[0] + row->expected[1];
    if (row->found[0] != row->expected[0] || row->found[1] != row->expected[1]) {
      DIFFERS(row, "found at %lld with %lld bytes, expected at %lld with %lld", row->found[0], row->found[1], row->expected[0],
              row->expected[1]);
    }
    if (behind > head->expected[0] && (head->kind == FIXED_SIZE || row->expected[0] < head->expected[0])) {
      DIFFERS(row, "found a new member at %lld, expected it at or behind %lld, of a structure that grows", row->expected[0],
              head->expected[0]);
    }
    end = behind > end ? behind : end;
  }
  end = (end + align - 1) / align * align;
  if (head->found[0] != end || head->found[1] != align) {
    DIFFERS(head,
            "found %lld bytes aligned to %lld, expected %lld aligned to %lld for the members that tests/abi/layout.c lists",
            head->found[0], head->found[1], end, align);
  }
  if (failures == before) {
    printf("ok %s\n", head->name);
  }
  return row;
}

int main(void)
{
  const struct row *row = rows;
  int constants = 0;
  for (; row < rows + ROWS && row->kind == CONSTANT; row++, constants++) {
    if (row->found[0] != row->expected[0]) {
      DIFFERS(row, "found %lld, expected %lld", row->found[0], row->expected[0]);
    }
  }
  if (failures == 0) {
    printf("ok %d constants\n", constants);
  }
  while (row < rows + ROWS) {
    row = structure(row);
  }
  return failures != 0;
}
