/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commits that QEMU has done, and libvirt does not know of.
 *
 * libvirt notes what became of a chain after QEMU has changed it. A libvirtd that is killed
 * in between believes in the old chain for as long as the VM runs: it names layers to QEMU
 * that are not in the chain any more, or takes the disk for one with a job. So nothing
 * can be done to that disk before the VM is off.
 *
 * Of a commit in the middle of a chain that is all. But after a pivot the VM writes to F,
 * and libvirt would start it with C the next time: its config gets F at once.
 */
#include "engine/merge.h"

#include "engine/backing.h"
#include "engine/metadata.h"

#include <errno.h>

/* At the end of the job QEMU gives what lies on C another backing file. */
static int is_out_of_chain(const struct plan_disk *d, const struct xml_layer *above, bool *ret,
			   struct err *err)
{
	cleanup_free char *path = NULL, *format = NULL;
	int r = layer_backing(above->path, above->format, &path, &format, err);

	if (r >= 0)
		*ret = path && !layer_file_is_at(&d->overlay, path);
	return r;
}

static int is_as_new(const struct layer_file *file, const struct layer_file *as, bool *ret,
		     struct err *err)
{
	uint64_t written, other;
	int r = layer_last_written(file->path, &written, err);

	if (r >= 0)
		r = layer_last_written(as->path, &other, err);
	if (r >= 0)
		*ret = written >= other;
	return r;
}

/* QEMU keeps a layer locked as long as it has it open to write to. When a job that was told to pivot
 * is over, that is F if it did, and C if it failed. It is C, too, if libvirt died before it had it closed:
 * then nobody writes there any more. */
static int writes_to_base(const struct op *op, bool *ret, struct err *err)
{
	const struct plan_disk *d = &op->plan->disks[0];
	bool open = false;
	int r;

	*ret = false;
	if (!(op->plan->flags & MERGE_PIVOTING))
		return 0;
	r = file_has_writer(d->below.path, ret, err);
	if (r >= 0 && *ret)
		r = file_has_writer(d->overlay.path, &open, err);
	return r >= 0 && open ? is_as_new(&d->below, &d->overlay, ret, err) : r;
}

int commit_is_noted(struct op *op, const struct xml_layer *above, bool *ret, struct err *err)
{
	bool ahead = false;
	int r = above ? is_out_of_chain(&op->plan->disks[0], above, &ahead, err)
		      : writes_to_base(op, &ahead, err);

	*ret = !ahead;
	return r;
}

int commit_refuse_unnoted(struct op *op, bool active, struct err *err)
{
	const struct plan_disk *d = &op->plan->disks[0];
	struct xml_rename rename = { d->overlay.path, d->below.path, d->below.format };
	int r = active ? config_rename(op->e, op->slot, &rename, 1, err) : 0;

	if (r < 0)
		return r;
	return err_set(err, EBUSY, "libvirtd ended while %s was taken out of disk %s, and does not "
		       "know that QEMU has done it: shut the VM down (nothing of it is lost), then "
		       "all goes on", d->overlay.path, d->target);
}
