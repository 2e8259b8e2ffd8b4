/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A commit in the running VM, by a block job of its QEMU. Two kinds: if the
 * overlay is the layer that the VM writes to, the job becomes READY and the VM
 * is told to pivot to the lower layer; if it lies further down, QEMU takes it
 * out of the chain by itself when the job ends.
 *
 * How it ended is read from the domain's chain, not from the job's last event:
 * events are lost when libvirtd restarts, and the job may have ended while no
 * daemon was there. Done is: the VM's chain has F, and C no more. But QEMU takes C
 * out of the chain before it has written the last of F's tables; if it is killed in
 * between, the VM may by now run again, with an F that lacks something. So if nobody
 * saw the job end well, what F holds is compared with what C does.
 *
 * Between the order to pivot and libvirt's having noted it in the domain's
 * config, a power cut of everything at once leaves it open which of the two
 * layers the VM wrote to last. The journal says that a pivot was ordered; then,
 * unless F has all that C holds, we refuse to guess (see commit_offline).
 */
#include "engine/merge.h"

#include "common/timespec.h"
#include "engine/domain-xml.h"

#include <errno.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

/* How often to look by ourselves: for orders, for room, and should an event have been lost. */
#define LOOK_EVERY_MS 100

/* Where C and F are in the chain that the VM runs with: the names by which
 * libvirt knows them. */
struct place {
	struct domain_xml *domain;
	const char *top;  /* C, NULL if it is not in the chain */
	const char *base; /* F, likewise */
	struct xml_layer above; /* what lies on C, if that is not what is written to */
	bool active;      /* C is the layer that is written to */
	bool base_active; /* F is */
};

static void place_clear(struct place *p)
{
	domain_xml_free(p->domain);
}

static int find_place(struct op *op, struct place *ret, struct err *err)
{
	const struct plan_disk *d = &op->plan->disks[0];
	cleanup_free char *xml = NULL;
	const struct xml_disk *disk;
	int r;

	r = op->e->hv->ops->domain_xml(op->e->hv, op->slot->uuid, false, &xml, err);
	if (r >= 0)
		r = domain_xml_parse(xml, &ret->domain, err);
	if (r < 0)
		return r;
	disk = domain_xml_disk(ret->domain, d->target);
	if (!disk)
		return err_set(err, ENOENT, "the VM has no disk %s any more", d->target);
	ret->active = layer_file_is_at(&d->overlay, disk->path);
	if (ret->active)
		ret->top = disk->path;
	ret->base_active = layer_file_is_at(&d->below, disk->path);
	if (ret->base_active)
		ret->base = disk->path;
	for (size_t i = 0; i < disk->n_backing; i++) {
		if (layer_file_is_at(&d->overlay, disk->backing[i].path)) {
			ret->top = disk->backing[i].path;
			ret->above = i ? disk->backing[i - 1]
				       : (struct xml_layer){ disk->path, disk->format };
		}
		if (layer_file_is_at(&d->below, disk->backing[i].path))
			ret->base = disk->backing[i].path;
	}
	return 0;
}

/* ---- waiting ---- */

/* Takes an event of this disk's job out of the slot. The lock is held. */
static bool take_signal(struct slot *s, const char *target, enum hv_job_event *ret)
{
	for (size_t i = 0; i < s->signals.n; i++) {
		if (!streq(s->signals.at[i].target, target))
			continue;
		*ret = s->signals.at[i].event;
		s->signals.n--;
		memmove(&s->signals.at[i], &s->signals.at[i + 1],
			(s->signals.n - i) * sizeof(s->signals.at[0]));
		return true;
	}
	return false;
}

void job_forget_signals(struct op *op)
{
	enum hv_job_event old;
	LOCK_SCOPE(&op->e->lock);

	while (take_signal(op->slot, op->plan->disks[0].target, &old))
		;
}

/* Somebody wants the job to end. The lock is held. */
static bool is_ordered(const struct op *op, bool active)
{
	return op->e->stopping ||
	       (!active && ((op->slot->step_aside && !op->hurry) || op->slot->cancel == op->id));
}

enum wake job_wait(struct op *op, bool active)
{
	struct engine *e = op->e;
	struct timespec until = monotonic_in(LOOK_EVERY_MS);
	enum hv_job_event event;
	LOCK_SCOPE(&e->lock);

	for (;;) {
		if (take_signal(op->slot, op->plan->disks[0].target, &event))
			return event == HV_JOB_EVENT_READY ? WAKE_READY :
			       event == HV_JOB_EVENT_COMPLETED ? WAKE_ENDED : WAKE_FAILED;
		if (is_ordered(op, active) && !(op->plan->flags & MERGE_PIVOTING))
			return WAKE_LOOK;
		if (!cond_wait_until(&e->changed, &e->lock, &until))
			return WAKE_LOOK;
	}
}

int job_ask(struct op *op, struct hv_job *ret, struct err *err)
{
	int r = op->e->hv->ops->job(op->e->hv, op->slot->uuid, op->plan->disks[0].target, ret, err);

	if (r >= 0)
		merge_note_progress(op, ret->done, ret->total);
	return r;
}

int commit_live_is_active(struct op *op, bool *ret, struct err *err)
{
	cleanup(place_clear) struct place p = { 0 };
	struct hv_job job = { 0 };
	int r = find_place(op, &p, err);

	if (r >= 0)
		r = job_ask(op, &job, err);
	if (r >= 0)
		*ret = p.active && job.state != HV_JOB_NONE;
	return r;
}

int job_abort(struct op *op, struct err *err)
{
	struct hv_job job = { 0 };
	int r = job_ask(op, &job, err);

	if (r < 0)
		/* Not running (any more) is not having a job. */
		return r == -EHOSTDOWN ? r : 0;
	if (job.state != HV_JOB_NONE)
		r = op->e->hv->ops->job_abort(op->e->hv, op->slot->uuid, op->plan->disks[0].target,
					      false, err);
	while (r >= 0 && job.state != HV_JOB_NONE) {
		struct timespec pause = { .tv_nsec = 5 * 1000 * 1000 };

		nanosleep(&pause, NULL); /* QEMU ends it within milliseconds */
		if (job_ask(op, &job, NULL) < 0)
			break;
	}
	return r;
}

/* ---- the job ---- */

static int start_job(struct op *op, const struct place *p, struct err *err)
{
	job_forget_signals(op);
	return op->e->hv->ops->commit(op->e->hv, op->slot->uuid, op->plan->disks[0].target, p->base,
				      p->active ? NULL : p->top, 0, err);
}

static int pivot(struct op *op, struct err *err)
{
	int r;

	op->plan->flags |= MERGE_PIVOTING;
	r = op_note(op, "data", err);
	if (r < 0)
		return r;
	r = op->e->hv->ops->job_abort(op->e->hv, op->slot->uuid, op->plan->disks[0].target, true,
				      err);
	if (r >= 0)
		return 0;
	/* Refused: it did not happen. */
	if (r != -EHOSTDOWN)
		op->plan->flags &= ~MERGE_PIVOTING;
	return r;
}

/* The VM's chain has F and not C. An F that the VM writes to was whole before it did. */
static int check_content(struct op *op, const struct place *p, bool completed, struct err *err)
{
	const struct plan_disk *d = &op->plan->disks[0];
	bool good = true;
	int r = p->base_active ? 0 : commit_verify(op, completed, &good, err);

	if (r < 0 || good)
		return r;
	return err_set(err, EIO, "%s does not hold all that was merged into it, for QEMU has not "
		       "written it, and the VM runs with it: shut the VM down, then the rest is "
		       "merged from %s", d->below.path, d->overlay.path);
}

/* What the chain looks like after the job: 0 if C has left it, and F has it all. */
static int check_result(struct op *op, bool completed, struct err *err)
{
	cleanup(place_clear) struct place p = { 0 };
	int r = find_place(op, &p, err);

	if (r < 0)
		return r;
	if (p.top || !p.base)
		return err_set(err, EIO, "QEMU ended the commit of %s without having done it",
			       op->plan->disks[0].overlay.path);
	return check_content(op, &p, completed, err);
}

/* Ends the job if it is to end. A shutdown leaves it to go on in QEMU. One on the active
 * layer is not broken off, see split.c: it is small. */
static int obey_orders(struct op *op, bool active, struct err *err)
{
	int r = merge_check_orders(op, err);

	if (r == -ESHUTDOWN)
		return r;
	if (active || r >= 0)
		return 0;
	if (job_abort(op, NULL) < 0)
		return err_wrap(err, "and the block job of %s cannot be ended",
				op->plan->disks[0].target);
	return r;
}

static int follow_job(struct op *op, bool active, struct err *err)
{
	for (unsigned unheard = 0;;) {
		enum wake wake = job_wait(op, active);
		struct hv_job job = { 0 };
		int r;

		if (wake == WAKE_ENDED)
			return check_result(op, true, err);
		if (wake == WAKE_LOOK && !(op->plan->flags & MERGE_PIVOTING)) {
			r = obey_orders(op, active, err);
			if (r < 0)
				return r;
		}
		/* One that failed while a job runs was an earlier job. */
		r = job_ask(op, &job, err);
		if (r < 0)
			return r;
		if (job.state == HV_JOB_NONE) {
			if (wake != WAKE_FAILED && ++unheard < LOOKS_FOR_EVENT)
				continue;
			return check_result(op, false, err);
		}
		if ((wake == WAKE_READY || job.state == HV_JOB_READY) &&
		    !(op->plan->flags & MERGE_PIVOTING))
			r = pivot(op, err);
		/* 'not ready yet' right after READY happens: look again then. */
		if (r < 0 && r != -EBUSY)
			return r;
	}
}

/* There is no job. -ESTALE: libvirt does not know the chain. */
static int begin_job(struct op *op, const struct place *p, struct err *err)
{
	bool noted;
	int r = commit_is_noted(op, p->active ? NULL : &p->above, &noted, err);

	if (r < 0 || !noted)
		return r < 0 ? r : -ESTALE;
	op->plan->flags &= ~MERGE_PIVOTING;
	return start_job(op, p, err);
}

int commit_live(struct op *op, struct err *err)
{
	bool completed = false;

	for (unsigned tries = 1;; tries++) {
		cleanup(place_clear) struct place p = { 0 };
		struct hv_job job = { 0 };
		int r = find_place(op, &p, err);

		if (r < 0)
			return r;
		if (p.base && !p.top)
			return check_content(op, &p, completed, err); /* while nobody looked */
		if (!p.base)
			return err_set(err, EIO, "the VM does not run with %s",
				       op->plan->disks[0].below.path);
		if (p.active)
			merge_announce(op, "switch");
		r = job_ask(op, &job, err);
		if (r >= 0 && job.state == HV_JOB_NONE)
			r = begin_job(op, &p, err);
		else if (r >= 0)
			op->plan->flags &= ~MERGE_PIVOTING;
		if (r >= 0)
			return follow_job(op, p.active, err);
		/* The job that we took to be over, libvirt still had (-EBUSY); or it came to an
		 * end just now, and C has left the chain (-EINVAL, -ESTALE). */
		if (r == -ESTALE && tries == LOOKS_FOR_EVENT)
			return commit_refuse_unnoted(op, p.active, err);
		if ((r != -EBUSY && r != -EINVAL && r != -ESTALE) || tries == LOOKS_FOR_EVENT)
			return r;
		completed = job_wait(op, p.active) == WAKE_ENDED;
	}
}
