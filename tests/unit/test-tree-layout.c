/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Trees that are laid out. Of some the drawing is known; of trees made at random it is
 * followed: from each dot the line down ends in the dot of its parent, and nothing else does.
 */
#include "common/cleanup.h"
#include "common/mem.h"
#include "fs/tree-layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define SNAPSHOTS_MAX 200

struct tree {
	struct vm vm;
	struct snapshot snapshots[SNAPSHOTS_MAX];
	struct tree_layout layout;
};

/* parents[i] is the number of i's parent, from 1; 0: none. Ids go up with the numbers. */
static void lay_out(struct tree *t, const size_t *parents, size_t n, size_t current)
{
	memset(t, 0, sizeof(*t));
	t->vm.snapshots = t->snapshots;
	t->vm.n_snapshots = n;
	t->vm.current = current * 10;
	for (size_t i = 0; i < n; i++) {
		t->snapshots[i].id = (i + 1) * 10;
		t->snapshots[i].parent = parents[i] * 10;
	}
	tree_lay_out(&t->vm, &t->layout);
}

static void is_drawn(const struct tree *t, const struct tree_row *rows, size_t n, unsigned lanes)
{
	assert_int_equal(t->vm.n_snapshots, n);
	assert_int_equal(t->layout.lanes, lanes);
	for (size_t i = 0; i < n; i++) {
		const struct tree_row *row = &t->layout.rows[i];

		assert_int_equal(row->snapshot, rows[i].snapshot);
		assert_int_equal(row->lane, rows[i].lane);
		assert_int_equal(row->above, rows[i].above);
		assert_int_equal(row->below, rows[i].below);
		assert_int_equal(row->joins, rows[i].joins);
		assert_int_equal(row->passes, rows[i].passes);
	}
}

static void test_none(void **state)
{
	struct tree t;

	lay_out(&t, NULL, 0, 0);
	is_drawn(&t, NULL, 0, 1);
	free(t.layout.rows);
}

static void test_a_line(void **state)
{
	const size_t parents[] = { 0, 1, 2 };
	const struct tree_row rows[] = { { 2, 0, true, true, 0, 0 },
					 { 1, 0, true, true, 0, 0 },
					 { 0, 0, true, false, 0, 0 } };
	struct tree t;

	lay_out(&t, parents, 3, 3);
	is_drawn(&t, rows, 3, 1);
	free(t.layout.rows);
}

/* Reverted to the first: the VM's way goes by the two that were taken later. */
static void test_a_revert(void **state)
{
	const size_t parents[] = { 0, 1, 2 };
	const struct tree_row rows[] = { { 2, 1, false, true, 0, 1 },
					 { 1, 1, true, true, 0, 1 },
					 { 0, 0, true, false, 2, 0 } };
	struct tree t;

	lay_out(&t, parents, 3, 1);
	is_drawn(&t, rows, 3, 2);
	free(t.layout.rows);
}

/* The VM stands on none of two trees; the lane of one that has ended is used again. */
static void test_two_trees(void **state)
{
	const size_t parents[] = { 0, 0, 2 };
	const struct tree_row rows[] = { { 2, 0, false, true, 0, 0 },
					 { 1, 0, true, false, 0, 0 },
					 { 0, 0, false, false, 0, 0 } };
	struct tree t;

	lay_out(&t, parents, 3, 0);
	is_drawn(&t, rows, 3, 1);
	free(t.layout.rows);
}

/* The clock was set back: the child is said to be older than its parent. */
static void test_a_child_before_its_parent(void **state)
{
	const size_t parents[] = { 3, 1, 0 };
	const struct tree_row rows[] = { { 1, 0, true, true, 0, 0 },
					 { 0, 0, true, true, 0, 0 },
					 { 2, 0, true, false, 0, 0 } };
	struct tree t;

	lay_out(&t, parents, 3, 2);
	is_drawn(&t, rows, 3, 1);
	free(t.layout.rows);
}

static void test_a_circle_ends(void **state)
{
	const size_t parents[] = { 2, 1 };
	struct tree t;

	lay_out(&t, parents, 2, 1);
	assert_int_not_equal(t.layout.rows[0].snapshot, t.layout.rows[1].snapshot);
	free(t.layout.rows);
}

static void test_too_many_branches(void **state)
{
	size_t parents[LANES_MAX + 5] = { 0 };
	size_t undrawn = 0;
	struct tree t;

	for (size_t i = 1; i < LANES_MAX + 5; i++)
		parents[i] = 1;
	lay_out(&t, parents, LANES_MAX + 5, 0);
	for (size_t i = 0; i < LANES_MAX + 5; i++)
		undrawn += t.layout.rows[i].lane < 0;
	assert_int_equal(t.layout.lanes, LANES_MAX);
	assert_int_equal(undrawn, 4);
	assert_int_equal(t.layout.rows[LANES_MAX + 4].joins, (1u << LANES_MAX) - 2);
	free(t.layout.rows);
}

/* Walks the rows; `lines` says by lane whose parent the line in it leads to. */
static void follow(const struct tree *t, const size_t *parents, size_t current)
{
	size_t lines[LANES_MAX] = { current };

	for (size_t i = 0; i < t->vm.n_snapshots; i++) {
		const struct tree_row *row = &t->layout.rows[i];
		uint32_t ends = row->joins | (row->above ? 1u << row->lane : 0);

		assert_true(row->lane >= 0 && row->lane < (int)t->layout.lanes);
		assert_int_equal(ends & row->passes, 0);
		for (int lane = 0; lane < LANES_MAX; lane++) {
			if (ends & 1u << lane)
				assert_int_equal(lines[lane], row->snapshot + 1);
			else
				assert_int_equal(lines[lane] != 0, (row->passes >> lane) & 1);
			if (!(row->passes & 1u << lane))
				lines[lane] = 0;
		}
		lines[row->lane] = parents[row->snapshot];
		assert_int_equal(row->below, parents[row->snapshot] != 0);
	}
	for (int lane = 0; lane < LANES_MAX; lane++)
		assert_int_equal(lines[lane], 0);
}

static void test_any_tree(void **state)
{
	size_t parents[SNAPSHOTS_MAX];
	size_t drawn = 0;
	struct tree t;

	srand(1);
	for (int round = 0; round < 500; round++) {
		size_t n = 1 + rand() % SNAPSHOTS_MAX, current = rand() % (n + 1);

		for (size_t i = 0; i < n; i++) {
			size_t reach = i < 6 ? i + 1 : 6;

			parents[i] = rand() % 3 ? i : i + 1 - rand() % (reach + (reach == i + 1));
			if (parents[i] > i)
				parents[i] = i;
		}
		lay_out(&t, parents, n, current);
		if (t.layout.lanes < LANES_MAX) {
			follow(&t, parents, current);
			drawn++;
		}
		free(t.layout.rows);
	}
	assert_true(drawn > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_a_line),
		cmocka_unit_test(test_a_revert),
		cmocka_unit_test(test_two_trees),
		cmocka_unit_test(test_a_child_before_its_parent),
		cmocka_unit_test(test_a_circle_ends),
		cmocka_unit_test(test_too_many_branches),
		cmocka_unit_test(test_any_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
