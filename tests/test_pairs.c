/* SPDX-License-Identifier: MIT */
/*
 * test_pairs.c - the order statistics of `hakmem compare`, on values whose results are known.
 */
#include <check.h>
#include <stdlib.h>

#include "pairs.h"

static void is_near(double found, double expected)
{
  ck_assert_double_eq_tol(found, expected, 1e-12);
}

START_TEST(quartiles)
{
  const double values[] = {9, 1, 5, 3, 7};
  struct middle middle = pairs_quartiles(values, 5);
  is_near(middle.low, 3);
  is_near(middle.median, 5);
  is_near(middle.high, 7);
  middle = pairs_quartiles((const double[]){4, 1}, 2);
  is_near(middle.low, 1.75);
  is_near(middle.median, 2.5);
  is_near(middle.high, 3.25);
  middle = pairs_quartiles(values, 1);
  is_near(middle.low, 9);
  is_near(middle.high, 9);
}
END_TEST

/* Ratios 1 ... count, in another order. The expected bounds are those of tables of the binomial distribution. */
START_TEST(interval)
{
  static const struct {
    size_t count;
    double low, high;
  } expected[] = {{6, 1, 6}, {8, 1, 8}, {9, 2, 8}, {10, 2, 9}, {20, 6, 15}, {30, 10, 21}, {100, 40, 61}, {1000, 469, 532}};
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
    double a[PAIRS_MOST], b[PAIRS_MOST];
    for (size_t pair = 0; pair < expected[i].count; pair++) {
      b[pair] = 1 + (double)(pair % 7);
      a[pair] = b[pair] * (double)((pair * 7 + 3) % expected[i].count + 1);
    }
    struct middle middle = pairs_ratio(a, b, expected[i].count);
    is_near(middle.low, expected[i].low);
    is_near(middle.median, (double)(expected[i].count + 1) / 2);
    is_near(middle.high, expected[i].high);
  }
}
END_TEST

/* What both halves of a pair share does not widen the interval. */
START_TEST(pairing)
{
  const double a[] = {2, 20, 200, 4, 40, 400}, b[] = {1, 10, 100, 2, 20, 200};
  struct middle middle = pairs_ratio(a, b, 6);
  is_near(middle.low, 2);
  is_near(middle.median, 2);
  is_near(middle.high, 2);
}
END_TEST

int main(void)
{
  Suite *suite = suite_create("pairs");
  TCase *tests = tcase_create("all");
  tcase_add_test(tests, quartiles);
  tcase_add_test(tests, interval);
  tcase_add_test(tests, pairing);
  suite_add_tcase(suite, tests);
  SRunner *runner = srunner_create(suite);
  srunner_run_all(runner, CK_NORMAL);
  int failed = srunner_ntests_failed(runner);
  srunner_free(runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
