/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images that are opened while QEMU ends a merge. At the end of a commit it writes F's
 * name into the header of what lies on C, and after that the last of F's own tables; at
 * the end of a pull it writes the name of what F lies on into C's header, and after that
 * the last of C's tables. In between, the chain that the headers tell of lacks a part of
 * what the layer that goes holds, and after a crash it would go on doing so. C on top of F
 * is right at every moment. So as long as the journal has the moving of data open, the
 * one that is missing is put back where it was.
 *
 * The journal is asked after the image was opened: of a merge that has ended by then
 * all is whole, and nothing but headers has been read of it.
 */
#include "engine/merging.h"

#include "engine/merge.h"

/* Only the first step moves data; a plan without a step has just been made. */
static bool moves_data(const struct journal_op *j)
{
	return is_merge(j->kind) &&
	       (streq(j->step, "") || streq(j->step, merge_op.steps[0].name));
}

static int insert(struct image *image, size_t index, const struct layer_file *layer,
		  struct err *err)
{
	return image_insert_layer(image, index, layer->path, layer->format, err);
}

static int put_back(const struct journal_op *j, struct image *image, struct err *err)
{
	struct plan *plan;
	const struct plan_disk *d;
	size_t f, c;
	bool has_f, has_c;
	int r = plan_from_json(j->plan, &plan, err);

	if (r < 0)
		return r;
	d = &plan->disks[0];
	has_f = image_find_layer(image, d->below.path, &f);
	has_c = image_find_layer(image, d->overlay.path, &c);
	if (streq(j->kind, merge_op.name)) {
		if (has_f && f > 0 && !(has_c && c + 1 == f))
			r = insert(image, f, &d->overlay, err);
	} else if (has_c && !has_f) {
		r = insert(image, c + 1, &d->below, err);
	}
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
