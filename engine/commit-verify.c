/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether a commit whose end nobody saw has moved everything. */
#include "engine/merge.h"

#include "engine/chain.h"

#include <errno.h>

#define PART (1u << 20) /* bytes that are compared at a time */

/* A pair of images, the lower one of which must have what the upper one holds. */
struct pair {
	struct image *upper, *lower;
	char *mine, *theirs; /* PART bytes each */
};

static void pair_clear(struct pair *p)
{
	image_close(p->upper);
	image_close(p->lower);
	free(p->mine);
	free(p->theirs);
}

static int compare_range(struct pair *p, uint64_t start, uint64_t length, bool *ret_same,
			 struct err *err)
{
	for (uint64_t at = start; *ret_same && at < start + length;) {
		size_t part = start + length - at < PART ? start + length - at : PART;
		ssize_t n = image_read(p->upper, p->mine, part, at, err);
		ssize_t m = n < 0 ? n : image_read(p->lower, p->theirs, part, at, err);

		if (m < 0)
			return m;
		*ret_same = n == m && memcmp(p->mine, p->theirs, n) == 0;
		at += part;
	}
	return 0;
}

static int compare(struct pair *p, bool *ret_same, struct err *err)
{
	uint64_t at = 0, size = image_size(p->upper);

	*ret_same = size <= image_size(p->lower);
	while (*ret_same && at < size) {
		struct extent extents[64];
		size_t n;
		int r = image_extents(p->upper, at, size - at, extents, 64, &n, err);

		for (size_t i = 0; i < n && r >= 0; i++) {
			if (extents[i].kind != EXTENT_HOLE && extents[i].layer == 0)
				r = compare_range(p, extents[i].start, extents[i].length, ret_same,
						  err);
			at += extents[i].length;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int commit_verify(struct op *op, bool *ret, struct err *err)
{
	const struct plan_disk *d = &op->plan->disks[0];
	cleanup(pair_clear) struct pair p = { .mine = xcalloc(1, PART), .theirs = xcalloc(1, PART) };
	bool same = false;
	int r = image_open(d->overlay.path, d->overlay.format, &p.upper, err);

	if (r >= 0)
		r = image_open(d->below.path, d->below.format, &p.lower, err);
	if (r >= 0)
		r = compare(&p, &same, err);
	if (r >= 0 && same)
		r = file_sync(d->below.path, err);
	if (r >= 0)
		*ret = same;
	return r;
}
