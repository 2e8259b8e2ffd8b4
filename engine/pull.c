/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pull: what C needs of the layer F under it is copied into C, which lies on F's own
 * backing file then. C reads the same at every moment; F is needed by nobody at the
 * end, and the collection deletes it.
 *
 * Only while no VM runs with the two. QEMU's block-stream in a running VM writes the new
 * backing file's name into C's header while C's tables are still in its memory, until
 * the guest flushes: a QEMU that is killed by then leaves a disk that lacks all of F. And
 * QEMU before 8.2 aborts when it streams into an image with sub-clusters. qemu-img has the
 * first of these too, but only for a moment at its end: an image that is opened then gets
 * F put back (merging.c), and if qemu-img was killed then, C is compared with F, and if
 * need be hung on it again.
 *
 * Steps
 *   data        the copy; can be broken off and repeated at any time.
 *   references  F's name goes out of the chains that libvirt keeps.
 */
#include "engine/merge.h"

#include "engine/backing.h"
#include "engine/qemu-img.h"

#include <errno.h>

static const struct plan_disk *disk_of(const struct op *op)
{
	return &op->plan->disks[0];
}

/* As C's header tells. */
static int has_left(const struct plan_disk *d, bool *ret, struct err *err)
{
	cleanup_free char *path = NULL, *format = NULL;
	int r = layer_backing(d->overlay.path, d->overlay.format, &path, &format, err);

	if (r >= 0)
		*ret = !layer_file_is_at(&d->below, path);
	return r;
}

/* qemu-img was killed after it had written the header, and before the tables. */
static int hang_on_again(struct op *op, bool live, struct err *err)
{
	const struct plan_disk *d = disk_of(op);

	if (live)
		return err_set(err, EIO, "qemu-img ended before %s held all that it needs of %s, and "
			       "the VM runs with it: shut the VM down, then the rest is copied",
			       d->overlay.path, d->below.path);
	return qemu_img_rebase_unsafe(d->overlay.path, d->overlay.format, d->below.path,
				      d->below.format, err);
}

static int step_data(struct op *op, struct err *err)
{
	bool live, left, whole = false;
	int r = has_left(disk_of(op), &left, err);

	if (r >= 0)
		r = merge_is_live(op, &live, err);
	if (r >= 0 && left)
		r = pull_verify(op, &whole, err);
	if (r < 0 || whole)
		return r;
	if (left)
		r = hang_on_again(op, live, err);
	else if (live)
		r = err_set(err, EBUSY, "the VM was started meanwhile");
	return r < 0 ? r : pull_offline(op, err);
}

static int step_references(struct op *op, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	/* What is named as the overlay of F's parent is C now. */
	struct xml_rename rename = { d->below.path, d->overlay.path, d->overlay.format };

	slot_begin_exclusive(op->e, op->slot);
	return merge_rename(op, &rename, err);
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	bool left;
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = has_left(disk_of(op), &left, err);
	if (r == -ENOENT)
		return -ECANCELED; /* C is gone: there is nothing that needs anything of F */
	if (r < 0)
		return r;
	/* As long as C is not known to be whole, it must not be forgotten that F is needed. */
	if (left)
		return op->failed ? err_set(err, EAGAIN, "the pull is to be finished first") : 0;
	return op->hurry || op->failed ? -ECANCELED : 0;
}

static const struct step steps[] = {
	{ "data", step_data, NULL },
	{ "references", step_references, NULL },
};

const struct op_kind pull_op = { "pull", steps, 2, 1, settle };
