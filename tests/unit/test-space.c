/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How free space changes, told by samples. */
#include "engine/space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define GIB (1024.0 * 1024 * 1024)

/* `n` samples from `at` on, of which each has `change` more than the one before. */
static void add_samples(struct space_samples *s, size_t n, double at, double free, double change)
{
	for (size_t i = 0; i < n; i++)
		space_sample_add(s, at + i * SPACE_EVERY, free + i * change);
}

static void test_too_few(void **state)
{
	struct space_samples s = { 0 };
	double rate = 17, span = 17;

	assert_false(space_trend(&s, &rate, &span));
	space_sample_add(&s, 1000, GIB);
	assert_false(space_trend(&s, &rate, &span));
	add_samples(&s, SPACE_LEAST / SPACE_EVERY - 1, 1000 + SPACE_EVERY, GIB, -1);
	assert_false(space_trend(&s, &rate, &span));
	assert_true(rate == 17 && span == 17);
	space_sample_add(&s, 1000 + SPACE_LEAST, GIB);
	assert_true(space_trend(&s, &rate, &span));
	assert_true(span == SPACE_LEAST);
}

static void test_a_line(void **state)
{
	struct space_samples s = { 0 };
	double rate, span;

	add_samples(&s, 40, 5e6, 100 * GIB, -.5 * GIB);
	assert_true(space_trend(&s, &rate, &span));
	assert_float_equal(rate, -.5 * GIB / SPACE_EVERY, 1);
	assert_float_equal(span, 39 * SPACE_EVERY, .001);
}

/* What is older than the samples that are kept does not count. */
static void test_the_oldest_are_forgotten(void **state)
{
	struct space_samples s = { 0 };
	double rate, span;

	add_samples(&s, 500, 0, 900 * GIB, -GIB);
	add_samples(&s, SPACE_SAMPLES, 500 * SPACE_EVERY, GIB, 1024 * 1024);
	assert_int_equal(s.n, SPACE_SAMPLES);
	assert_true(space_trend(&s, &rate, &span));
	assert_float_equal(rate, 1024.0 * 1024 / SPACE_EVERY, .01);
	assert_float_equal(span, (SPACE_SAMPLES - 1) * SPACE_EVERY, .001);
}

/* Least squares of 0, 0, 4 and 4 GiB: 1.6 for each step. */
static void test_what_is_no_line(void **state)
{
	struct space_samples s = { 0 };
	double rate, span;

	space_sample_add(&s, 0, 0);
	space_sample_add(&s, 1000, 0);
	space_sample_add(&s, 2000, 4 * GIB);
	space_sample_add(&s, 3000, 4 * GIB);
	assert_true(space_trend(&s, &rate, &span));
	assert_float_equal(rate, 1.6 * GIB / 1000, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_too_few),
		cmocka_unit_test(test_a_line),
		cmocka_unit_test(test_the_oldest_are_forgotten),
		cmocka_unit_test(test_what_is_no_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
