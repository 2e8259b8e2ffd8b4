/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lines of `events`: who reads what, and what becomes of who is too slow. */
#include "common/mem.h"
#include "fs/event-ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static char *lost(uint64_t n)
{
	return xasprintf("%lu lost\n", (unsigned long)n);
}

/* "line 000007\n": twelve bytes. */
#define LINE 12

static void add(struct ring *r, unsigned number)
{
	ring_add(r, xasprintf("line %06u\n", number));
}

/* What a read of `size` bytes gives. The buffer is as large, so that ASan sees more. */
static void expect(struct ring *r, struct ring_reader *reader, size_t size, const char *wanted)
{
	char *buf = xcalloc(1, size);
	size_t n = ring_read(r, reader, buf, size);

	assert_int_equal(n, strlen(wanted));
	assert_memory_equal(buf, wanted, n);
	free(buf);
}

static void test_begins_now(void **state)
{
	struct ring *r = ring_new(1000, lost);
	struct ring_reader early = ring_reader(r), late;

	assert_false(ring_has(r, &early));
	add(r, 1);
	late = ring_reader(r);
	add(r, 2);
	assert_true(ring_has(r, &early));
	expect(r, &early, 100, "line 000001\nline 000002\n");
	expect(r, &late, 100, "line 000002\n");
	expect(r, &late, 100, "");
	assert_false(ring_has(r, &late));
	assert_int_equal(ring_total(r), 2 * LINE);
	ring_free(r);
}

static void test_whole_lines(void **state)
{
	struct ring *r = ring_new(1000, lost);
	struct ring_reader reader = ring_reader(r);

	for (unsigned i = 0; i < 4; i++)
		add(r, i);
	expect(r, &reader, 2 * LINE - 1, "line 000000\n");
	expect(r, &reader, 2 * LINE, "line 000001\nline 000002\n");
	expect(r, &reader, LINE, "line 000003\n");
	ring_free(r);
}

/* One that has begun is read to its end, also if it is dropped meanwhile. */
static void test_in_pieces(void **state)
{
	struct ring *r = ring_new(2 * LINE, lost);
	struct ring_reader reader = ring_reader(r);

	add(r, 1);
	expect(r, &reader, 5, "line ");
	assert_true(ring_has(r, &reader));
	for (unsigned i = 2; i < 6; i++)
		add(r, i);
	expect(r, &reader, 5, "00000");
	expect(r, &reader, 2 + 7 + LINE, "1\n2 lost\nline 000004\n");
	expect(r, &reader, 1, "l");
	ring_reader_clear(&reader);
	ring_free(r);
}

static void test_slow(void **state)
{
	struct ring *r = ring_new(3 * LINE, lost);
	struct ring_reader reader = ring_reader(r);

	for (unsigned i = 0; i < 10; i++)
		add(r, i);
	expect(r, &reader, 6, "7 lost");
	expect(r, &reader, 1, "\n");
	expect(r, &reader, 100, "line 000007\nline 000008\nline 000009\n");
	assert_int_equal(ring_total(r), 10 * LINE);
	ring_free(r);
}

/* More lines than the ring has places for, and one that is larger than all of it. */
static void test_bounds(void **state)
{
	struct ring *r = ring_new(1 << 20, lost);
	struct ring_reader reader = ring_reader(r);
	char *large = xcalloc(1, (1 << 21) + 1);

	for (unsigned i = 0; i < 100000; i++)
		add(r, i);
	expect(r, &reader, 11 + LINE, "91808 lost\nline 091808\n");
	memset(large, 'x', 1 << 21);
	ring_add(r, xstrdup(large));
	expect(r, &reader, 10, "8191 lost\n");
	expect(r, &reader, 1 << 21, large);
	expect(r, &reader, 1, "");
	free(large);
	ring_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_begins_now), cmocka_unit_test(test_whole_lines),
		cmocka_unit_test(test_in_pieces),  cmocka_unit_test(test_slow),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
