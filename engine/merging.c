/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that are opened while QEMU ends a block commit. It writes F's name into the
 * header of what lies on C, and after that the last of F's own tables: in between, the
 * chain that the headers tell of lacks a part of what C holds, and after a crash it
 * would go on doing so. C on top of F is right at every moment. So as long as the
 * journal has the moving of data open, C is put back where it was.
 *
 * The journal is asked after the image was opened: of a merge that has ended by then
 * F is whole, and nothing but headers has been read of it.
 */
#include "engine/merging.h"

#include "engine/op.h"

/* Only the first step moves data; a plan without a step has just been made. */
static bool moves_data(const struct journal_op *j)
{
	return streq(j->kind, merge_op.name) &&
	       (streq(j->step, "") || streq(j->step, merge_op.steps[0].name));
}

static int put_back(const struct journal_op *j, struct image *image, struct err *err)
{
	struct plan *plan;
	size_t f, c;
	int r = plan_from_json(j->plan, &plan, err);

	if (r < 0)
		return r;
	if (image_find_layer(image, plan->disks[0].below.path, &f) && f > 0 &&
	    !(image_find_layer(image, plan->disks[0].overlay.path, &c) && c + 1 == f))
		r = image_insert_layer(image, f, plan->disks[0].overlay.path,
				       plan->disks[0].overlay.format, err);
	plan_free(plan);
	return r;
}

#define ALL_VMS 0 /* a chain may go on in another VM's layers */

int merging_complete_chain(struct engine *e, struct image *image, struct err *err)
{
	struct journal_op *ops = NULL;
	size_t n = 0;
	int r = journal_open_ops(e->registry, ALL_VMS, &ops, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++)
		if (moves_data(&ops[i]))
			r = put_back(&ops[i], image, err);
	journal_ops_free(ops, n);
	return r;
}
