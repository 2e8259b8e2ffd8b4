/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the top down, each lane waits for a snapshot: the one that the line in it leads to.
 * A snapshot takes the leftmost of the lanes that wait for it, the others join it there,
 * and its lane goes on to wait for its parent. Nobody waits for the end of a branch: it
 * takes a lane that is free. `git log --graph` does the same.
 */
#include "fs/tree-layout.h"

#include "common/cleanup.h"
#include "common/mem.h"

#define NOBODY SIZE_MAX

struct drawing {
	const struct vm *vm;
	size_t *parents;           /* by snapshot: its number; NOBODY */
	size_t waits[LANES_MAX];   /* by lane: for which snapshot; NOBODY: it is free */
	struct tree_layout *layout;
};

struct by_id {
	uint32_t id;
	size_t number;
};

static int compare_ids(const void *a, const void *b)
{
	const struct by_id *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static size_t number_of(const struct by_id *index, size_t n, uint32_t id)
{
	struct by_id key = { .id = id };
	const struct by_id *found = id ? bsearch(&key, index, n, sizeof(key), compare_ids) : NULL;

	return found ? found->number : NOBODY;
}

/* Fills in `parents`; returns the number of the current snapshot. */
static size_t find_parents(struct drawing *d)
{
	const struct vm *vm = d->vm;
	cleanup_free struct by_id *index = xcalloc(vm->n_snapshots + 1, sizeof(*index));

	for (size_t i = 0; i < vm->n_snapshots; i++)
		index[i] = (struct by_id){ vm->snapshots[i].id, i };
	qsort(index, vm->n_snapshots, sizeof(*index), compare_ids);
	for (size_t i = 0; i < vm->n_snapshots; i++)
		d->parents[i] = number_of(index, vm->n_snapshots, vm->snapshots[i].parent);
	return number_of(index, vm->n_snapshots, vm->current);
}

/* The oldest first, but a parent always before its children, whatever the clock said when
 * they were taken. */
static size_t *put_in_order(const struct drawing *d)
{
	size_t n = d->vm->n_snapshots, done = 0;
	size_t *order = xcalloc(n + 1, sizeof(*order));
	cleanup_free size_t *line = xcalloc(n + 1, sizeof(*line));
	cleanup_free bool *seen = xcalloc(n + 1, sizeof(*seen));

	for (size_t i = 0; i < n; i++) {
		size_t length = 0;

		for (size_t s = i; s != NOBODY && !seen[s]; s = d->parents[s]) {
			seen[s] = true;
			line[length++] = s;
		}
		while (length > 0)
			order[done++] = line[--length];
	}
	return order;
}

static int free_lane(const struct drawing *d)
{
	for (int lane = 0; lane < LANES_MAX; lane++)
		if (d->waits[lane] == NOBODY)
			return lane;
	return -1;
}

static void draw(struct drawing *d, size_t snapshot, struct tree_row *row)
{
	*row = (struct tree_row){ .snapshot = snapshot, .lane = -1 };
	for (int lane = 0; lane < LANES_MAX; lane++) {
		if (d->waits[lane] == NOBODY)
			continue;
		if (d->waits[lane] != snapshot) {
			row->passes |= 1u << lane;
		} else if (row->lane < 0) {
			row->lane = lane;
			row->above = true;
		} else {
			row->joins |= 1u << lane;
			d->waits[lane] = NOBODY;
		}
	}
	if (row->lane < 0)
		row->lane = free_lane(d);
	if (row->lane < 0)
		return;
	d->waits[row->lane] = d->parents[snapshot];
	row->below = d->parents[snapshot] != NOBODY;
	if ((unsigned)row->lane >= d->layout->lanes)
		d->layout->lanes = row->lane + 1;
}

void tree_lay_out(const struct vm *vm, struct tree_layout *ret)
{
	size_t n = vm->n_snapshots;
	cleanup_free size_t *parents = xcalloc(n + 1, sizeof(*parents)), *order = NULL;
	struct drawing d = { .vm = vm, .parents = parents, .layout = ret };

	for (int lane = 0; lane < LANES_MAX; lane++)
		d.waits[lane] = NOBODY;
	*ret = (struct tree_layout){ xcalloc(n + 1, sizeof(*ret->rows)), 1 };
	d.waits[0] = find_parents(&d);
	order = put_in_order(&d);
	for (size_t i = 0; i < n; i++)
		draw(&d, order[n - 1 - i], &ret->rows[i]);
}
