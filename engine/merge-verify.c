/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a merge whose end nobody saw has moved everything. */
#include "engine/merge.h"

#include "engine/chain.h"

#include <errno.h>

#define PART (1u << 20) /* bytes that are compared at a time */
#define BATCH 64        /* extents that are looked at at a time */

/* The layer that data came from, and the one that must have them now, each with
 * what it lies on. */
struct pair {
	struct image *from, *into;
	bool own;   /* what `into` holds by itself need not be the same */
	bool whole; /* it must be as large */
	char *mine, *theirs; /* PART bytes each */
};

static void pair_clear(struct pair *p)
{
	image_close(p->from);
	image_close(p->into);
	free(p->mine);
	free(p->theirs);
}

static int pair_open(struct pair *p, const struct layer_file *from, const struct layer_file *into,
		     struct err *err)
{
	int r = image_open(from->path, from->format, &p->from, err);

	if (r >= 0)
		r = image_open(into->path, into->format, &p->into, err);
	p->mine = xcalloc(1, PART);
	p->theirs = xcalloc(1, PART);
	return r;
}

static bool is_held(const struct extent *x)
{
	return x->kind != EXTENT_HOLE && x->layer == 0;
}

static int compare_bytes(struct pair *p, uint64_t start, uint64_t length, bool *ret_same,
			 struct err *err)
{
	for (uint64_t at = start; *ret_same && at < start + length;) {
		size_t part = start + length - at < PART ? start + length - at : PART;
		ssize_t n = image_read(p->from, p->mine, part, at, err);
		ssize_t m = n < 0 ? n : image_read(p->into, p->theirs, part, at, err);

		if (m < 0)
			return m;
		*ret_same = n == m && memcmp(p->mine, p->theirs, n) == 0;
		at += part;
	}
	return 0;
}

/* A range that `from` holds. */
static int compare_range(struct pair *p, uint64_t start, uint64_t length, bool *ret_same,
			 struct err *err)
{
	uint64_t at = start;
	int r = 0;

	if (!p->own)
		return compare_bytes(p, start, length, ret_same, err);
	while (r >= 0 && *ret_same && at < start + length) {
		struct extent extents[BATCH];
		size_t n = 0;

		r = image_extents(p->into, at, start + length - at, extents, BATCH, &n, err);
		for (size_t i = 0; r >= 0 && i < n; i++) {
			if (!is_held(&extents[i]))
				r = compare_bytes(p, at, extents[i].length, ret_same, err);
			at += extents[i].length;
		}
		if (n == 0)
			break; /* what lies behind the end of `into` is seen by nobody */
	}
	return r;
}

static int compare(struct pair *p, bool *ret_same, struct err *err)
{
	uint64_t at = 0, size = image_size(p->from);
	int r = 0;

	*ret_same = !p->whole || size <= image_size(p->into);
	while (r >= 0 && *ret_same && at < size) {
		struct extent extents[BATCH];
		size_t n = 0;

		r = image_extents(p->from, at, size - at, extents, BATCH, &n, err);
		for (size_t i = 0; r >= 0 && i < n; i++) {
			if (is_held(&extents[i]))
				r = compare_range(p, at, extents[i].length, ret_same, err);
			at += extents[i].length;
		}
	}
	return r;
}

static int verify(struct pair *p, const struct layer_file *from, const struct layer_file *into,
		  bool *ret, struct err *err)
{
	bool same = false;
	int r = pair_open(p, from, into, err);

	if (r >= 0)
		r = compare(p, &same, err);
	if (r >= 0 && same)
		r = file_sync(into->path, err);
	if (r >= 0)
		*ret = same;
	return r;
}

int commit_verify(struct op *op, bool completed, bool *ret, struct err *err)
{
	cleanup(pair_clear) struct pair p = { .own = completed, .whole = true };
	const struct plan_disk *d = &op->plan->disks[0];

	return verify(&p, &d->overlay, &d->below, ret, err);
}

int pull_verify(struct op *op, bool *ret, struct err *err)
{
	cleanup(pair_clear) struct pair p = { .own = true };
	const struct plan_disk *d = &op->plan->disks[0];

	return verify(&p, &d->below, &d->overlay, ret, err);
}
