/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/mem.h"
#include "fs/prometheus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_labels(void **state)
{
	static const char *const pairs[][2] = {
		{ "", "" },
		{ "web1", "web1" },
		{ "a\"b", "a\\\"b" },
		{ "back\\slash\\", "back\\\\slash\\\\" },
		{ "\\n\n", "\\\\n\\n" },
		{ "한글 😀 {le=\"1\"}", "한글 😀 {le=\\\"1\\\"}" },
		{ "cut \xea\xb0", "cut ??" },
		{ "\xff\"", "?\\\"" },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		char *label = prom_label(pairs[i][0]);

		assert_string_equal(label, pairs[i][1]);
		free(label);
	}
}

static void test_histogram(void **state)
{
	static const double bounds[] = { .025, 1, 3600 };
	struct histogram h = { bounds, 3, { 2, 0, 3, 1 }, 12345.678 };
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	prom_histogram(out, "x_seconds", "What it is.", &h);
	fclose(out);
	assert_string_equal(text, "# HELP x_seconds What it is.\n"
				  "# TYPE x_seconds histogram\n"
				  "x_seconds_bucket{le=\"0.025\"} 2\n"
				  "x_seconds_bucket{le=\"1\"} 2\n"
				  "x_seconds_bucket{le=\"3600\"} 5\n"
				  "x_seconds_bucket{le=\"+Inf\"} 6\n"
				  "x_seconds_sum 12345.678\n"
				  "x_seconds_count 6\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_histogram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
