/* SPDX-License-Identifier: MIT */
/*
 * test_hugepage.c - the backend `hugepage`: huge pages only while they cost less than small ones.
 *
 * The clock shows what a test says: each look at it moves it on, so a touch takes as long as the test wants. The system claims to
 * give huge pages to whoever asks, and that every page is there, so that blocks count as filled.
 */
#include "host.h"

#include <stdlib.h>
#include <sys/prctl.h>

#include "../plugins/backend/extent.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

static uint64_t now, step; /* ns; what each look at the clock takes, */
static uint64_t each;      /* and each page that is populated; */
static int still;          /* looks that take nothing after that */

static uint64_t stepping_clock(void)
{
  return now += still-- > 0 ? 0 : step;
}

static void note_time(size_t length, int advice)
{
  now += advice == MADV_POPULATE_WRITE ? each * (length / 4096) : 0;
  still = advice == MADV_POPULATE_WRITE ? 2 : still;
}

static long madvise_timed(void *addr, size_t length, int advice)
{
  note_time(length, advice);
  return os.madvise(addr, length, advice);
}

static const char *enabled = "always [madvise] never\n";

static long read_file(const char *path, char *buffer, size_t size)
{
  ck_assert_str_eq(path, "/sys/kernel/mm/transparent_hugepage/enabled");
  ck_assert_uint_gt(size, 24);
  strcpy(buffer, enabled);
  return (long)strlen(buffer);
}

static long mincore_all(void *addr, size_t length, unsigned char *vec)
{
  (void)addr;
  memset(vec, 1, (length + 4095) / 4096);
  return 0;
}

static long mincore_none(void *addr, size_t length, unsigned char *vec)
{
  (void)addr;
  memset(vec, 0, (length + 4095) / 4096);
  return 0;
}

/* Thousands of blocks need no pages, which take long. */
static long madvise_most(void *addr, size_t length, int advice)
{
  note_time(length, advice);
  return advice == MADV_POPULATE_WRITE ? 0 : os.madvise(addr, length, advice);
}

static uintptr_t refused, refused_end; /* where no huge pages are wanted */

static long madvise_seen(void *addr, size_t length, int advice)
{
  if (advice == MADV_NOHUGEPAGE) {
    refused = (uintptr_t)addr;
    refused_end = refused + length;
  }
  return os.madvise(addr, length, advice);
}

static hak_os huge_os;
static hak_host huge_host;
static void *self;
static void *slot;
static const hak_backend_ops *ops;

static void set_up(void)
{
  reset_host();
  huge_os = os;
  huge_os.read_file = read_file;
  huge_os.mincore = mincore_all;
  huge_os.now = stepping_clock;
  huge_os.madvise = madvise_timed;
  huge_host = host;
  huge_host.os = &huge_os;
  now = 0;
  step = 0;
  each = 500;
  still = 0;
  ops = hakmem_plugin.ops;
}

/* Starts the plugin in a mode: 0 auto, 1 thp. */
static void start(uint32_t mode)
{
  hak_value values[8] = {{0}};
  for (uint32_t i = 0; i < hakmem_plugin.option_count; i++) {
    const char *key = hakmem_plugin.options[i].key;
    if (strcmp(key, "arena") == 0) {
      values[i].size = GIB;
    } else if (strcmp(key, "mode") == 0) {
      values[i].choice = mode;
    } else if (strcmp(key, "keep") == 0) {
      values[i].integer = 1000;
    }
  }
  ck_assert_int_eq(hakmem_plugin.start(&huge_host, values, &self), HAK_OK);
}

static hak_block get(size_t size)
{
  hak_block block = ops->alloc(self, &slot, size, G);
  ck_assert_ptr_nonnull(block.base);
  ck_assert_uint_ge(hak_block_capacity(block), size);
  return block;
}

static bool is_huge(hak_block block)
{
  return (hak_block_flags(block) & HAK_HUGE) != 0;
}

static void put(hak_block block)
{
  ops->free(self, &slot, block.base, hak_block_capacity(block));
}

static uint64_t purge_all(const hak_purger *purger, const struct iovec *spans, uint32_t count)
{
  (void)purger;
  for (uint32_t i = 0; i < count; i++) {
    ck_assert_int_eq(os.madvise(spans[i].iov_base, spans[i].iov_len, MADV_DONTNEED), 0);
  }
  return 0;
}

/* Blocks until one has been packed, so that the next ones may be tried. A block with a lead is no trial and has no flag. */
static void become_dense(void)
{
  step = 0;
  for (int i = 0; i < 3; i++) {
    put(get(4 * MIB));
  }
}

/* Of `count` blocks of 4 MiB, those on huge pages. */
static int huge_of(int count)
{
  int huge = 0;
  for (int i = 0; i < count; i++) {
    hak_block block = get(4 * MIB);
    huge += is_huge(block);
    put(block);
  }
  return huge;
}

/* In that mode, and where a touch takes so long, all blocks but witnesses are on huge pages. */
static void are_used(uint32_t mode, uint64_t touch)
{
  start(mode);
  become_dense();
  step = touch;
  ck_assert_int_ge(huge_of(100), 90);
}

START_TEST(cheap_huge_pages_are_used)
{
  are_used(0, 90000); /* less than 512 small pages of 500 ns each */
}
END_TEST

START_TEST(dear_huge_pages_are_not)
{
  start(0);
  become_dense();
  step = 5000000;
  ck_assert_int_le(huge_of(20), 2);
  ck_assert_int_eq(huge_of(100), 0);
}
END_TEST

/*
 * Where a small page takes as long as its part of a huge one, as on a machine whose host must find the memory of both, huge pages are
 * used. That the first touch of a small one is cheap, as there are always some, does not matter, nor that a huge one takes long.
 */
START_TEST(huge_pages_are_used_where_small_ones_are_as_dear)
{
  each = 5000;
  are_used(0, 2000000);
}
END_TEST

/* One touch of many that was interrupted is no reason to give up the pages that there are. */
START_TEST(one_interruption_does_not_matter)
{
  are_used(0, 90000);
  step = 5000000;
  (void)huge_of(1);
  step = 90000;
  ck_assert_int_ge(huge_of(100), 90);
}
END_TEST

/* Nor do small pages count as dear because the first ones were interrupted. */
START_TEST(nor_does_one_of_small_pages)
{
  start(0);
  become_dense();
  step = 5000000;
  each = 1000000;
  ck_assert_int_eq(huge_of(1), 0);
  each = 500;
  ck_assert_int_le(huge_of(100), 1);
}
END_TEST

/* Every so many bytes there is another try; one that goes well brings huge pages back. */
START_TEST(they_are_tried_again)
{
  huge_os.madvise = madvise_most;
  start(0);
  become_dense();
  step = 5000000;
  (void)huge_of(20);
  step = 90000;
  ck_assert_int_eq(huge_of(1000), 0);
  (void)huge_of(3200); /* 16 GiB are over */
  ck_assert_int_ge(huge_of(100), 90);
}
END_TEST

START_TEST(a_touch_of_what_is_there_says_nothing)
{
  are_used(0, 30);
}
END_TEST

START_TEST(mode_thp_does_not_ask)
{
  are_used(1, 5000000);
}
END_TEST

/* Where blocks are filled and huge pages are dear, small ones come together, but for one block in some that shows whether it is. */
START_TEST(small_pages_come_together)
{
  start(0);
  become_dense();
  step = 5000000;
  (void)huge_of(20);
  int whole = 0, none = 0;
  for (int i = 0; i < 32; i++) {
    hak_block block = get(4 * MIB);
    size_t pages = resident_pages(block.base, 4 * MIB);
    whole += pages == 4 * MIB / 4096;
    none += pages == 0;
  }
  ck_assert_int_eq(whole, 30);
  ck_assert_int_eq(none, 2);
  huge_os.mincore = mincore_none; /* they are not touched any more */
  whole = 0;
  for (int i = 0; i < 48; i++) {
    whole += resident_pages(get(4 * MIB).base, 4 * MIB) != 0;
  }
  ck_assert_int_le(whole, 16);
}
END_TEST

/* Huge pages are not tried in blocks that may never be touched: from the next witness on it shows that nobody does. */
START_TEST(pages_of_untouched_blocks_are_not_tried)
{
  start(0);
  become_dense();
  step = 90000;
  huge_os.mincore = mincore_none;
  int touched = 0;
  for (int i = 0; i < 64; i++) {
    touched += resident_pages(get(4 * MIB).base, 4 * MIB) != 0;
  }
  ck_assert_int_gt(touched, 0);
  ck_assert_int_le(touched, 16);
}
END_TEST

/* Where a block lies that may turn out to be sparse: its beginning in front of a huge page, or, once that is proven, alone. */
static bool has_lead(hak_block block)
{
  return (uintptr_t)block.base % EXTENT_HUGE == EXTENT_HUGE - G;
}

static bool is_apart(hak_block block)
{
  return (uintptr_t)block.base % EXTENT_HUGE == 0 && !is_huge(block);
}

enum { SOME = 32 };

/* Of so many blocks of 4 MiB, freed when all are there, those that begin as `where` says. */
static int placed(bool (*where)(hak_block block), int count)
{
  hak_block blocks[SOME];
  int found = 0;
  for (int i = 0; i < count; i++) {
    blocks[i] = get(4 * MIB);
    found += where(blocks[i]);
  }
  for (int i = 0; i < count; i++) {
    put(blocks[i]);
  }
  return found;
}

/* A few freed blocks whose middle was never touched, and further ones come from small pages; until one is filled. */
START_TEST(sparse_blocks_get_small_pages)
{
  start(0);
  huge_os.mincore = mincore_none;
  ck_assert_int_eq(placed(has_lead, 8), 8);
  for (int turn = 0; turn < 5; turn++) {
    ck_assert_int_eq(placed(is_apart, SOME), SOME);
  }
  huge_os.mincore = mincore_all;
  put(get(64 * MIB)); /* of which nothing has been there */
  step = 90000;
  ck_assert_int_ge(huge_of(100), 90);
}
END_TEST

/* A block that is not touched yet may be: only when it is freed there is an end to that. */
START_TEST(what_is_not_filled_yet_is_not_sparse)
{
  start(0);
  huge_os.mincore = mincore_none;
  for (int i = 0; i < SOME; i++) {
    ck_assert(has_lead(get(4 * MIB)));
  }
  huge_os.mincore = mincore_all;
  ck_assert(is_huge(get(4 * MIB)));
}
END_TEST

/* Pages that an earlier block has left say nothing about the next one; nor does a block whose pages have moved. */
START_TEST(kept_and_moved_pages_are_no_witnesses)
{
  static const hak_purger purger = {purge_all};
  start(0);
  huge_os.mincore = mincore_none;
  (void)placed(has_lead, 8);
  for (int turn = 0; turn < 2; turn++) {
    hak_block blocks[SOME];
    for (int i = 0; i < SOME; i++) {
      blocks[i] = get(4 * MIB);
      ck_assert(is_apart(blocks[i]));
      ck_assert_int_eq((hak_block_flags(blocks[i]) & HAK_ZEROED) != 0, turn == 0);
    }
    for (int i = 0; i < SOME; i++) {
      const hak_range range = {.base = blocks[i].base, .capacity = hak_block_capacity(blocks[i])};
      ops->free_many(self, &slot, &range, &purger);
    }
    huge_os.mincore = mincore_all;
  }

  hak_block block = get(64 * MIB), guard = get(64 * MIB); /* beyond what has been there */
  ck_assert(is_apart(block) && is_apart(guard));
  hak_block moved = ops->resize(self, &slot, block.base, hak_block_capacity(block), 65 * MIB);
  ck_assert_ptr_nonnull(moved.base);
  ck_assert_ptr_ne(moved.base, block.base);
  put(moved);
  ck_assert(is_apart(get(4 * MIB)));
}
END_TEST

/* A system that gives huge pages to everybody is told where they are not wanted. */
START_TEST(small_pages_are_small_everywhere)
{
  enabled = _i == 0 ? "[always] madvise never\n" : "always [madvise] never\n";
  huge_os.madvise = madvise_seen;
  huge_os.mincore = mincore_none;
  start(0);
  (void)placed(has_lead, 8);
  hak_block block = get(4 * MIB);
  ck_assert(is_apart(block));
  uintptr_t base = (uintptr_t)block.base;
  ck_assert_int_eq(refused <= base && base + hak_block_capacity(block) <= refused_end, _i == 0);
}
END_TEST

/* Whoever asks for huge pages gets them, as far as a lead does not save one. */
START_TEST(mode_thp_has_no_small_pages)
{
  start(1);
  huge_os.mincore = mincore_none;
  for (int turn = 0; turn < 5; turn++) {
    ck_assert_int_eq(placed(is_apart, SOME), 0);
  }
}
END_TEST

/* What is left in the pool with huge pages, beside live blocks, is not held against what the other may keep. */
START_TEST(each_pool_has_a_peak_of_its_own)
{
  static const hak_purger purger = {purge_all};
  hak_block block[16];
  start(0);
  become_dense();
  step = 90000;
  for (int i = 0; i < 16; i++) {
    block[i] = get(MIB + 8 * G);
  }
  for (int i = 1; i < 16; i += 2) {
    const hak_range range = {.base = block[i].base, .capacity = hak_block_capacity(block[i])};
    ops->free_many(self, &slot, &range, &purger);
  }
  step = 5000000;
  (void)huge_of(20);
  ck_assert_uint_ge(counters[EXTENT_RETAINED], 4 * MIB); /* such as it is */
  for (int i = 0; i < 4; i++) {
    block[i] = get(4 * MIB);
    ck_assert(!is_huge(block[i]));
  }
  size_t before = counters[EXTENT_RETAINED];
  for (int i = 0; i < 2; i++) {
    const hak_range range = {.base = block[i].base, .capacity = hak_block_capacity(block[i])};
    ops->free_many(self, &slot, &range, &purger);
  }
  ck_assert_uint_eq(counters[EXTENT_RETAINED], before + 8 * MIB);
}
END_TEST

/* Blocks of both pools in one chain, each with its contents until then; their links stay as they were. */
START_TEST(a_chain_of_both_pools)
{
  enum { COUNT = 12, STRIDE = 5 }; /* in an order in which the pools alternate */
  static const hak_purger purger = {purge_all};
  static hak_range ranges[COUNT];
  start(0);
  become_dense();
  int huge = 0;
  for (int i = 0; i < COUNT; i++) {
    step = i < COUNT / 2 ? 90000 : 5000000;
    hak_block block = get(4 * MIB);
    huge += is_huge(block);
    ranges[i] = (hak_range){.base = block.base, .capacity = hak_block_capacity(block)};
    fill(block.base, hak_block_capacity(block), (unsigned)i);
  }
  ck_assert_int_ge(huge, COUNT / 2 - 1);
  ck_assert_int_lt(huge, COUNT - 2);
  for (int i = 0; i < COUNT; i++) {
    ck_assert(filled(ranges[i].base, ranges[i].capacity, (unsigned)i));
    ranges[i * STRIDE % COUNT].next = i + 1 < COUNT ? &ranges[(i + 1) * STRIDE % COUNT] : NULL;
  }
  ops->free_many(self, &slot, &ranges[0], &purger);
  for (int i = 0; i < COUNT; i++) {
    ck_assert_ptr_eq(ranges[i * STRIDE % COUNT].next, i + 1 < COUNT ? &ranges[(i + 1) * STRIDE % COUNT] : NULL);
  }
  ck_assert_uint_gt(ops->trim(self), 0);
}
END_TEST

int main(void)
{
  prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); /* pages are counted here: none that nobody asked for */
  Suite *suite = suite_create("hugepage");
  TCase *tests = tcase_create("hugepage");
  tcase_add_checked_fixture(tests, set_up, NULL);
  tcase_add_test(tests, cheap_huge_pages_are_used);
  tcase_add_test(tests, dear_huge_pages_are_not);
  tcase_add_test(tests, huge_pages_are_used_where_small_ones_are_as_dear);
  tcase_add_test(tests, one_interruption_does_not_matter);
  tcase_add_test(tests, nor_does_one_of_small_pages);
  tcase_add_test(tests, they_are_tried_again);
  tcase_add_test(tests, a_touch_of_what_is_there_says_nothing);
  tcase_add_test(tests, mode_thp_does_not_ask);
  tcase_add_test(tests, small_pages_come_together);
  tcase_add_test(tests, pages_of_untouched_blocks_are_not_tried);
  tcase_add_test(tests, sparse_blocks_get_small_pages);
  tcase_add_test(tests, what_is_not_filled_yet_is_not_sparse);
  tcase_add_test(tests, kept_and_moved_pages_are_no_witnesses);
  tcase_add_loop_test(tests, small_pages_are_small_everywhere, 0, 2);
  tcase_add_test(tests, mode_thp_has_no_small_pages);
  tcase_add_test(tests, each_pool_has_a_peak_of_its_own);
  tcase_add_test(tests, a_chain_of_both_pools);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
