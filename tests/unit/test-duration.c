/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Durations over summer time and the ends of months, which no test over a mount can wait for. */
#include "engine/duration.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

static time_t at(const char *text)
{
	struct tm tm = { .tm_isdst = -1 };
	const char *end = strptime(text, "%Y-%m-%d %H:%M:%S", &tm);

	assert_true(end && !*end);
	return mktime(&tm);
}

static struct duration parse(const char *text)
{
	struct duration d;

	assert_int_equal(duration_parse(text, &d), 0);
	return d;
}

static void after(const char *from, const char *duration, const char *to)
{
	struct duration d = parse(duration);

	assert_int_equal(duration_after(at(from), &d), at(to));
}

static void before(const char *from, const char *duration, const char *to)
{
	struct duration d = parse(duration);

	assert_int_equal(duration_before(at(from), &d), at(to));
}

/* In Berlin 2026-03-29 has 23 hours and 2026-10-25 has 25. */
static void test_summer_time(void **state)
{
	after("2026-03-28 12:00:00", "1d", "2026-03-29 12:00:00");
	after("2026-03-28 12:00:00", "24h", "2026-03-29 13:00:00");
	before("2026-10-26 12:00:00", "2d", "2026-10-24 12:00:00");
	before("2026-10-26 12:00:00", "48h", "2026-10-24 13:00:00");
	after("2026-03-28 12:00:00", "1w30min", "2026-04-04 12:30:00");
}

static void test_months_and_years(void **state)
{
	after("2026-01-15 08:00:00", "1m", "2026-02-15 08:00:00");
	before("2026-01-15 08:00:00", "1m", "2025-12-15 08:00:00");
	after("2024-02-29 00:00:00", "1y", "2025-03-01 00:00:00");
	after("2026-01-15 08:00:00", "1y2m3d4h5min6s", "2027-03-18 12:05:06");
	before("2027-03-18 12:05:06", "1y2m3d4h5min6s", "2026-01-15 08:00:00");
}

static void test_what_is_none(void **state)
{
	static const char *const wrong[] = { "", "0", "0d", "7", "d", "-1d", "1d1d", "1.5d", "1 d",
					     "1x", "1mi", "100001d", "1d ", "99999999999999999999d" };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct duration d = { .years = 42 };

		assert_int_equal(duration_parse(wrong[i], &d), -EINVAL);
		assert_int_equal(d.years, 42);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_summer_time),
		cmocka_unit_test(test_months_and_years),
		cmocka_unit_test(test_what_is_none),
	};

	setenv("TZ", "Europe/Berlin", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
