/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merging by QEMU's tools, of layers that no running VM has open: a commit, or a pull.
 *
 * Somebody may start the VM at any moment. While a tool runs it holds QEMU's
 * locks, and the start fails with a message of QEMU's. Before and after, the
 * VM could start, write to C, and even end again without anybody noticing; so
 * when a commit is done C is locked against writers, and only if C is then what
 * it was when it began is the commit good. The lock stays until the
 * operation ends: when it is let go, the domain's config has F. A pull needs none of
 * that: C stays where it is, and whoever writes to it, it does not need F.
 */
#include "engine/merge.h"

#include "engine/backing.h"
#include "engine/qemu-img.h"
#include "engine/storage-daemon.h"

#include <errno.h>
#include <sys/stat.h>

int layer_last_written(const char *path, uint64_t *ret, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	*ret = st.st_mtim.tv_sec * 1000000000ULL + st.st_mtim.tv_nsec;
	return 0;
}

int layer_hold(struct op *op, const char *path, uint64_t written, struct err *err)
{
	uint64_t now;
	int r = file_lock_against_writers(path, err);

	if (r < 0)
		return r;
	op->lock_fd = r;
	r = layer_last_written(path, &now, err);
	if (r >= 0 && now != written)
		r = err_set(err, EBUSY, "the VM ran while its disk was being read");
	return r;
}

/* While a tool works: shows how far it is, and whether it is to be broken off. */
static int look_after(void *opaque, uint64_t done, uint64_t total, struct err *err)
{
	struct op *op = opaque;

	merge_note_progress(op, done, total);
	return merge_check_orders(op, err);
}

/* See merge-live.c: which layer is the newer one cannot be known. */
static int refuse_to_guess(struct op *op, struct err *err)
{
	return err_set(err, EIO, "the VM ended while it was being switched from %s to %s, and it "
		       "cannot be told which one it wrote last: start it with the right one, "
		       "then merge again", op->plan->disks[0].overlay.path,
		       op->plan->disks[0].below.path);
}

/* Perhaps the VM wrote to F already. If F has all that C holds, its disk reads the
 * same with C and without it, and C can be merged as ever. */
static int after_a_pivot(struct op *op, struct err *err)
{
	bool same = false;
	int r = commit_verify(op, false, &same, err);

	if (r < 0)
		return r;
	if (!same)
		return refuse_to_guess(op, err);
	op->plan->flags &= ~MERGE_PIVOTING;
	return 0;
}

int commit_offline(struct op *op, struct err *err)
{
	struct plan_disk *d = &op->plan->disks[0];
	struct watch watch = { look_after, op };
	int r = op->plan->flags & MERGE_PIVOTING ? after_a_pivot(op, err) : 0;

	if (r >= 0)
		r = layer_last_written(d->overlay.path, &d->written, err);
	if (r >= 0)
		r = storage_daemon_commit(&d->overlay, &d->below, &watch, err);
	if (r >= 0)
		r = file_sync(d->below.path, err);
	return r < 0 ? r : layer_hold(op, d->overlay.path, d->written, err);
}

int pull_offline(struct op *op, struct err *err)
{
	const struct plan_disk *d = &op->plan->disks[0];
	cleanup_free char *base = NULL, *base_format = NULL;
	struct watch watch = { look_after, op };
	int r = layer_backing(d->below.path, d->below.format, &base, &base_format, err);

	if (r >= 0)
		r = qemu_img_repair_leaks(d->overlay.path, d->overlay.format, err);
	if (r >= 0)
		r = qemu_img_rebase(d->overlay.path, d->overlay.format, base,
				    base_format ?: "raw", op->plan->moves, &watch, err);
	return r < 0 ? r : file_sync(d->overlay.path, err);
}
