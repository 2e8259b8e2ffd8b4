/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever a name is, what comes out of it is text, and is to be seen. */
#include "common/cleanup.h"
#include "fs/html.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static char *escaped(const char *s, size_t max)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	html_text_cut(s, max, out);
	fclose(out);
	assert_int_equal(strlen(text), size);
	return text;
}

static void becomes(const char *s, const char *expected)
{
	cleanup_free char *text = escaped(s, SIZE_MAX);

	assert_string_equal(text, expected);
}

static void test_markup(void **state)
{
	becomes("", "");
	becomes("web1", "web1");
	becomes("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;");
	becomes("\" onclick='x' `&amp;", "&quot; onclick=&#39;x&#39; `&amp;amp;");
	becomes("--><!--", "--&gt;&lt;!--");
	becomes("한글 😀", "한글 😀");
	becomes("50% %s", "50% %s");
}

static void test_what_is_not_to_be_seen(void **state)
{
	becomes("a\nb\x1b[0m\x7f", "a[U+000A]b[U+001B][0m[U+007F]");
	becomes("\u202egpj.exe", "[U+202E]gpj.exe");
	becomes("\u2066x\u2069\xc2\x85\ufeff\xef\xbf\xbe\U000e0041\U0010ffff",
		"[U+2066]x[U+2069][U+0085][U+FEFF][U+FFFE][U+E0041][U+10FFFF]");
	becomes("👩\u200d💻", "👩\u200d💻");
}

static void test_bytes_that_are_no_utf8(void **state)
{
	becomes("\xff<", "\ufffd&lt;");
	becomes("\xc0\xbc", "\ufffd\ufffd"); /* an overlong < */
	becomes("\xed\xa0\x80", "\ufffd\ufffd\ufffd");
	becomes("cut \xea\xb0", "cut \ufffd\ufffd");
}

static void test_cut(void **state)
{
	static const struct {
		const char *s;
		size_t max;
		const char *expected;
	} cases[] = {
		{ "가나다", 3, "가나다" }, { "가나다라", 3, "가나다…" },
		{ "<<", 1, "&lt;…" },      { "x", 0, "…" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cleanup_free char *text = escaped(cases[i].s, cases[i].max);

		assert_string_equal(text, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_markup),
		cmocka_unit_test(test_what_is_not_to_be_seen),
		cmocka_unit_test(test_bytes_that_are_no_utf8),
		cmocka_unit_test(test_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
