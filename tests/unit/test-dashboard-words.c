/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every word is there in every language, and takes the same values in each. */
#include "fs/dashboard-words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static size_t values_in(const char *text)
{
	size_t n = 0;

	for (; (text = strchr(text, '%')); text++)
		n++;
	return n;
}

static void test_all_is_translated(void **state)
{
	for (enum word w = 0; w < W_COUNT; w++) {
		for (unsigned i = 0; i == 0 || word_in(0, i); i++) {
			const char *first = word_in(w, 0), *text = word_in(w, i);

			if (!first || !text || !text[0])
				fail_msg("word %d is not there in language %u", w, i);
			if (values_in(text) != values_in(first))
				fail_msg("'%s' and '%s' take other values", first, text);
			assert_null(strpbrk(text, "<>&"));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all_is_translated) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
