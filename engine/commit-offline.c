/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A commit by qemu-img, of layers that no running VM has open.
 *
 * Somebody may start the VM at any moment. While qemu-img runs it holds QEMU's
 * locks, and the start fails with a message of QEMU's. Before and after, the
 * VM could start, write to C, and even end again without anybody noticing; so
 * when qemu-img is done C is locked against writers, and only if C is then what
 * it was when qemu-img began is the commit good. The lock stays until the
 * operation ends: when it is let go, the domain's config has F.
 */
#include "engine/merge.h"

#include "engine/qemu-img.h"

#include <errno.h>
#include <sys/stat.h>

static int last_written(const char *path, uint64_t *ret, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	*ret = st.st_mtim.tv_sec * 1000000000ULL + st.st_mtim.tv_nsec;
	return 0;
}

/* See commit-live.c: which layer is the newer one cannot be known. */
static int refuse_to_guess(struct op *op, struct err *err)
{
	return err_set(err, EIO, "the VM ended while it was being switched from %s to %s, and it "
		       "cannot be told which one it wrote last: start it with the right one, "
		       "then merge again", op->plan->disks[0].overlay.path,
		       op->plan->disks[0].below.path);
}

int commit_offline(struct op *op, struct err *err)
{
	struct plan_disk *d = &op->plan->disks[0];
	uint64_t now;
	int r;

	if (op->plan->flags & MERGE_PIVOTING)
		return refuse_to_guess(op, err);
	r = last_written(d->overlay.path, &d->written, err);
	if (r >= 0)
		r = qemu_img_commit(d->overlay.path, d->overlay.format, err);
	if (r >= 0)
		r = file_sync(d->below.path, err);
	if (r < 0)
		return r;
	r = file_lock_against_writers(d->overlay.path, err);
	if (r < 0)
		return r;
	op->lock_fd = r;
	r = last_written(d->overlay.path, &now, err);
	if (r >= 0 && now != d->written)
		r = err_set(err, EBUSY, "the VM ran while its layers were being merged");
	return r;
}
