/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One disk of a clone that becomes independent. It is copied whole, with what it lies on, into a
 * new file: while the clone runs by a block copy, which also takes what the guest writes meanwhile;
 * else by qemu-img. Not by a block pull, which would move less: see pull.c, it can lose a running
 * VM's disk.
 *
 * Until the clone stands on the new file the overlay is its disk and holds all, so whatever is
 * broken off is thrown away, and nothing is lost. What is difficult is the moment between. QEMU
 * switches over, and libvirt notes it afterwards: if one of them ends in between, the next start
 * is with the overlay that was left. So a clone that runs is paused before, and goes on when its
 * config is known to name the new file. QEMU flushes the overlay when it pauses, and the new file
 * before the copy ends: both hold the same then, and either of them is the right one.
 *
 * Steps: `file`, `data`, `switch`, `record`. Found open before `record`: the block job is ended,
 * and if the clone stands on the new file the rest is done, else that is deleted.
 */
#include "engine/clone-promote.h"

#include "engine/clone.h"
#include "engine/domain-xml.h"
#include "engine/files.h"
#include "engine/merge.h"
#include "engine/metadata.h"
#include "engine/overlay.h"
#include "engine/qemu-img.h"

#include <errno.h>

static struct plan_disk *disk_of(const struct op *op)
{
	return &op->plan->disks[0];
}

static const struct hv_ops *hv(const struct op *op)
{
	return op->e->hv->ops;
}

/* ---- what is seen of it ---- */

/* It takes long, and changes nothing that is shown: others may look at the VM meanwhile. */
static void let_others_look(struct op *op)
{
	LOCK_SCOPE(&op->e->lock);

	op->slot->unsettled = op->slot->exclusive = false;
}

static void keep_others_out(struct op *op)
{
	slot_begin_exclusive(op->e, op->slot);
	LOCK_SCOPE(&op->e->lock);

	op->slot->unsettled = true;
}

static int check_orders(struct op *op, struct err *err)
{
	int r = promote_check_room(&disk_of(op)->overlay, 0, err);

	if (r < 0)
		return r;
	if (is_stopping(op->e))
		return err_set(err, ESHUTDOWN, "shutting down");
	LOCK_SCOPE(&op->e->lock);

	return op->slot->cancel == op->id ? err_set(err, ECANCELED, "the job was canceled") : 0;
}

/* ---- data ---- */

/* QEMU tells libvirt no more than that it failed. */
static int copy_ended(struct op *op, struct err *err)
{
	int r = check_orders(op, err);

	return r < 0 ? r : err_set(err, EIO, "QEMU ended the copy, see its log in "
				   "/var/log/libvirt/qemu");
}

static int follow_copy(struct op *op, struct err *err)
{
	struct hv_job job = { 0 };
	int r;

	do {
		enum wake wake = job_wait(op, true);

		r = wake == WAKE_FAILED ? copy_ended(op, err) : check_orders(op, err);
		if (r >= 0)
			r = job_ask(op, &job, err);
		if (r >= 0 && job.state == HV_JOB_NONE)
			r = copy_ended(op, err);
	} while (r >= 0 && job.state != HV_JOB_READY);
	return r;
}

static int copy_running(struct op *op, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	cleanup_free char *xml = NULL;
	int r = disk_xml_build(d->overlay.path, d->overlay.format, &xml, err);

	job_forget_signals(op);
	if (r >= 0)
		r = hv(op)->copy(op->e->hv, op->slot->uuid, d->target, xml, err);
	return r < 0 ? r : follow_copy(op, err);
}

static int look_after(void *opaque, uint64_t done, uint64_t total, struct err *err)
{
	struct op *op = opaque;

	merge_note_progress(op, done, total);
	return check_orders(op, err);
}

/* While qemu-img reads it has QEMU's locks, and the VM cannot be started; after that we do. */
static int copy_off(struct op *op, struct err *err)
{
	struct plan_disk *d = disk_of(op);
	struct watch watch = { look_after, op };
	int r = layer_last_written(d->below.path, &d->written, err);

	if (r >= 0)
		r = qemu_img_convert(d->below.path, d->below.format, d->overlay.path,
				     op->plan->moves, &watch, err);
	if (r >= 0)
		r = file_sync(d->overlay.path, err);
	return r < 0 ? r : layer_hold(op, d->below.path, d->written, err);
}

static bool runs(struct op *op)
{
	struct hv_domain state = { 0 };
	int r = hv(op)->lookup(op->e->hv, op->slot->uuid, &state, NULL);

	free(state.name);
	return r >= 0 && state.active;
}

/* For five seconds: where libvirt itself waits for QEMU it naps for 200 ms at a time. */
#define LOOKS_FOR_END 250

/* If a copy failed with `r` because the VM ended: libvirt's words for that differ with what it was
 * asked just then, and it needs a moment to see it. */
static int check_runs(struct op *op, int r, struct err *err)
{
	struct timespec pause = { .tv_nsec = 20 * 1000000L };

	if (r == -ECANCELED || r == -ESHUTDOWN || r == -ENOSPC || r == -EHOSTDOWN)
		return r;
	for (int i = 0; i < LOOKS_FOR_END && !is_stopping(op->e); i++) {
		if (!runs(op))
			return err_set(err, EBUSY, "the VM ended");
		nanosleep(&pause, NULL);
	}
	return r;
}

static int step_data(struct op *op, struct err *err)
{
	int r;

	job_announce(op, "data");
	let_others_look(op);
	r = op->plan->flags & PROMOTE_RUNS ? copy_running(op, err) : copy_off(op, err);
	keep_others_out(op);
	if (r < 0 && op->plan->flags & PROMOTE_RUNS)
		r = check_runs(op, r, err);
	return r < 0 ? err_wrap(err, "disk %s was not copied to its end", disk_of(op)->target) : 0;
}

/* ---- switching over ---- */

/* 'Not ready yet' right after READY happens. */
static int pivot(struct op *op, struct err *err)
{
	struct hv_job job = { .state = HV_JOB_READY };
	int r;

	do {
		r = hv(op)->job_abort(op->e->hv, op->slot->uuid, disk_of(op)->target, true, err);
		if (r != -EBUSY)
			break;
		job_wait(op, true);
	} while (job_ask(op, &job, NULL) >= 0 && job.state == HV_JOB_READY);
	while (r >= 0 && job.state != HV_JOB_NONE) {
		job_wait(op, true);
		r = job_ask(op, &job, err);
	}
	return r;
}

static int check_stands_on_it(struct op *op, struct err *err)
{
	for (unsigned looks = 0; looks < LOOKS_FOR_EVENT; looks++) {
		bool in_use = false;
		int r = overlays_in_use(op, &in_use, err);

		if (r < 0 || in_use)
			return r;
		job_wait(op, true);
	}
	return err_set(err, EIO, "QEMU ended the copy of disk %s without switching over to it",
		       disk_of(op)->target);
}

static int switch_running(struct op *op, struct err *err)
{
	int r = op->plan->flags & PROMOTE_MAY_PAUSE ? hv(op)->suspend(op->e->hv, op->slot->uuid, err) : 0;

	if (r >= 0)
		r = pivot(op, err);
	return r < 0 ? r : check_stands_on_it(op, err);
}

/* Repeated until it works: see group-take.c. */
static int let_go(struct op *op, struct err *err)
{
	int r = op->plan->flags & PROMOTE_MAY_PAUSE ? hv(op)->resume(op->e->hv, op->slot->uuid, err) : 0;

	if (r >= 0 || r == -EHOSTDOWN)
		return r;
	err_wrap(err, "the VM was paused to switch its disk over, and cannot be let go on (this is "
		 "tried again)");
	if (err)
		err->code = EBUSY;
	return -EBUSY;
}

/* The config names the new file, for sure. Then the guest may write to it. */
static int arrive(struct op *op, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	struct xml_rename rename = { d->below.path, d->overlay.path, d->overlay.format };
	int r = config_rename(op->e, op->slot, &rename, 1, err);

	if (r >= 0)
		r = hv(op)->sync(op->e->hv, op->slot->uuid, err);
	return r < 0 ? r : let_go(op, err);
}

static int step_switch(struct op *op, struct err *err)
{
	int r;

	job_announce(op, "switch");
	r = op->plan->flags & PROMOTE_RUNS ? switch_running(op, err) : 0;
	return r < 0 ? r : arrive(op, err);
}

static int undo_switch(struct op *op, struct err *err)
{
	return let_go(op, err);
}

/* ---- file, record ---- */

static int step_file(struct op *op, struct err *err)
{
	return overlay_create_alone(op, disk_of(op), err);
}

/* Of what QEMU does libvirt may not know. */
static int check_not_written(const struct plan_disk *d, struct err *err)
{
	bool copy = false, left = false;
	int r = file_has_writer(d->overlay.path, &copy, err);

	if (r >= 0)
		r = file_has_writer(d->below.path, &left, err);
	if (r < 0 || !copy || left)
		return r;
	return err_set(err, EBUSY, "libvirt does not know that the VM writes disk %s to %s: shut the VM "
		       "down, and give it that file", d->target, d->overlay.path);
}

static int undo_file(struct op *op, struct err *err)
{
	struct plan_disk *d = disk_of(op);
	int r = layer_file_is_at(&d->overlay, d->overlay.path) ? check_not_written(d, err) : 0;

	return r < 0 ? r : overlay_delete(d, err);
}

static int step_record(struct op *op, struct err *err)
{
	int r = arrive(op, err);

	if (r >= 0)
		r = overlay_bury_below(op, disk_of(op), err);
	return r < 0 || !op->plan->clone ? r : clones_forget(op->e, op->plan->clone, err);
}

/* One that just switches over cannot be ended, and ends by itself. */
#define TRIES 50
#define PAUSE_MS 100

static int end_job(struct op *op, struct err *err)
{
	struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	int r = job_abort(op, err);

	for (int i = 1; r == -EBUSY && i < TRIES; i++) {
		nanosleep(&pause, NULL);
		r = job_abort(op, err);
	}
	return r;
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	int r = 0;

	if (step >= op->kind->no_return)
		return 0;
	if (step > 0) /* else it would be somebody else's */
		r = end_job(op, err);
	return r < 0 ? r : overlays_settle(op, step, ret_from, err);
}

static const struct step steps[] = {
	{ "file", step_file, undo_file },
	{ "data", step_data, NULL },
	{ "switch", step_switch, undo_switch },
	{ "record", step_record, NULL },
};

const struct op_kind promote_op = { "promote", steps, 4, 3, settle };
