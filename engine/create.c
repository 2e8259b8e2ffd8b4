/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking a snapshot: an empty overlay for each disk, then libvirt switches all
 * disks over to them at one moment, and the layers under them stay as they are
 * from then on.
 *
 * The overlays are made here and handed over (REUSE_EXT), because that is
 * faster than libvirt's own way, lets nobody else read them at any time, and
 * says where they lie. What cannot take part is found before anything is done.
 *
 * Steps: `overlays` makes the files; `snapshot` is libvirt's; `record` notes
 * what only we know. Found open before `record`: if libvirt has the snapshot
 * with our overlays it is recorded, else the overlays go again. Should libvirt
 * have died between switching over and remembering, the overlays are in use:
 * they stay, and the layers under them are merged as after a delete; and so if
 * the power went before libvirt's files said so (switched.c). The mkdir
 * had not returned, so the snapshot is one that never was. If libvirt does not
 * even know that QEMU has switched, all waits until the VM is off.
 */
#include "engine/create.h"

#include "engine/backing.h"
#include "engine/depth.h"
#include "engine/hooks.h"
#include "engine/op.h"
#include "engine/overlay.h"

#include <errno.h>

#define LAST_NSEC 999999999 /* of a second */

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

/* ---- steps ---- */

/* libvirt freezes and thaws within the one call, so that a guest never stays frozen: how
 * long it was frozen is known as no more than how long that took. */
static int ask_libvirt(struct op *op, unsigned flags, struct err *err)
{
	double began = metrics_now();
	int r = op->e->hv->ops->snapshot_create(op->e->hv, op->slot->uuid, op->plan->xml, flags,
						err);

	if (r >= 0 && flags & HV_CREATE_QUIESCE)
		metrics_freeze(op->e, metrics_now() - began);
	return r;
}

/* quiesce=auto: whatever the guest agent's trouble is, a snapshot worth a power
 * cut is better than none. Unless libvirt switched over before it had it. */
static bool try_without_agent(struct op *op, int r)
{
	bool switched = true;

	if (r == -EHOSTDOWN || !(op->plan->flags & HV_CREATE_QUIESCE) ||
	    op->slot->row.quiesce != QUIESCE_AUTO)
		return false;
	return overlays_in_use(op, &switched, NULL) >= 0 && !switched;
}

static int step_snapshot(struct op *op, struct err *err)
{
	int r = ask_libvirt(op, op->plan->flags, err);

	if (r < 0 && try_without_agent(op, r)) {
		op->plan->flags &= ~HV_CREATE_QUIESCE;
		r = op_note(op, "snapshot", err);
		if (r >= 0)
			r = ask_libvirt(op, op->plan->flags, err);
	}
	return r;
}

/* libvirt's moment has whole seconds; ours, taken right after, knows more. If the
 * second is over by then, it was near its end: later than all others of it. */
static struct timespec moment(int64_t libvirt_seconds)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec > libvirt_seconds)
		now = (struct timespec){ libvirt_seconds, LAST_NSEC };
	else if (now.tv_sec < libvirt_seconds)
		now = (struct timespec){ libvirt_seconds, 0 };
	return now;
}

static enum consistency became(const struct snapshot_xml *x, unsigned flags)
{
	if (streq(x->state, "shutoff"))
		return CONSISTENCY_OFFLINE;
	return flags & HV_CREATE_QUIESCE ? CONSISTENCY_FILESYSTEM : CONSISTENCY_CRASH;
}

int snapshot_record(struct op *op, uint32_t *ret_id, struct err *err)
{
	cleanup_free char *xml = NULL;
	cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
	struct registry_snapshot row = { .name = op->plan->name };
	int r;

	r = op->e->hv->ops->snapshot_xml(op->e->hv, op->slot->uuid, op->plan->name, &xml, err);
	if (r == -ENOENT) {
		*ret_id = 0;
		return 0;
	}
	if (r >= 0)
		r = snapshot_xml_parse(xml, &x, err);
	if (r < 0)
		return r;
	row.xml = xml;
	row.created = moment(x->created);
	row.consistency = became(x, op->plan->flags);
	/* The journal's end makes it durable. */
	r = registry_snapshot_put(op->e->registry, op->slot->id, &row, err);
	if (r >= 0)
		*ret_id = row.id;
	return r;
}

static int step_record(struct op *op, struct err *err)
{
	uint32_t id;

	return snapshot_record(op, &id, err);
}

static bool is_ours(const struct op *op, const struct snapshot_xml *x)
{
	for (size_t i = 0; i < x->n_disks; i++)
		for (size_t d = 0; d < op->plan->n_disks; d++)
			if (streq(x->disks[i].overlay, op->plan->disks[d].overlay.path))
				return true;
	return false;
}

int snapshot_is_taken(struct op *op, bool *ret, struct err *err)
{
	cleanup_free char *xml = NULL;
	cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
	int r = op->e->hv->ops->snapshot_xml(op->e->hv, op->slot->uuid, op->plan->name, &xml, err);

	if (r >= 0)
		r = snapshot_xml_parse(xml, &x, err);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret = r >= 0 && is_ours(op, x);
	return 0;
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	bool taken;
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = snapshot_is_taken(op, &taken, err);
	if (r < 0)
		return r;
	if (!taken)
		return -ECANCELED;
	*ret_from = op->kind->no_return;
	return 0;
}

static const struct step steps[] = {
	{ "overlays", overlays_create, overlays_remove },
	{ "snapshot", step_snapshot, NULL },
	{ "record", step_record, NULL, .note_lazily = true },
};

const struct op_kind create_op = { "create", steps, 3, 2, settle };

/* ---- what is asked of libvirt ---- */

static bool takes_part(const struct xml_disk *d)
{
	if (!streq(d->device, "disk") && !streq(d->device, "lun"))
		return false; /* CD-ROM, floppy */
	return !d->readonly && !streq(d->snapshot, "no");
}

/* Refuses what could be created but never reverted or merged. */
static int check_disk(const struct xml_disk *d, struct err *err)
{
	const char *why = NULL;

	if (!streq(d->type, "file") || !d->path)
		why = "its source is not a file";
	else if (!streq(d->format, "qcow2") && !streq(d->format, "raw"))
		why = "its format is neither qcow2 nor raw";
	else if (!streq(d->device, "disk"))
		why = "it is passed through to the VM";
	else if (d->transient)
		why = "it is transient";
	else if (d->shareable)
		why = "it is shared with other VMs";
	else if (d->encrypted)
		why = "it is encrypted";
	else if (streq(d->snapshot, "internal") || streq(d->snapshot, "manual"))
		why = "its definition asks for snapshots of another kind";
	if (!why)
		return 0;
	return err_set(err, EOPNOTSUPP, "disk %s cannot be snapshotted: %s; nothing was done "
		       "(snapshot='no' in its <disk> leaves it out)", d->target, why);
}

/* QEMU 7.2 dies when it copies on read, and what is asked for begins within a cluster of which
 * the layer has other sub-clusters. */
static int check_copy_on_read(const struct engine *e, const struct xml_disk *d, struct err *err)
{
	if (!d->copy_on_read || !strstr(e->overlay_options, "extended_l2=on"))
		return 0;
	return err_set(err, EOPNOTSUPP, "disk %s cannot be snapshotted: it has copy_on_read, which QEMU "
		       "may not survive on layers with sub-clusters; nothing was done (mount with "
		       "overlay_options=cluster_size=64k, or take copy_on_read out)", d->target);
}

static int plan_disk(struct engine *e, struct slot *s, struct plan *plan, const char *id,
		     const struct xml_disk *from, bool live, struct err *err)
{
	struct plan_disk *d = plan_add_disk(plan, from->target);
	unsigned depth = 0;
	int r = layer_file_stat(from->path, from->format, &d->below, err);

	if (r >= 0)
		r = layer_virtual_size(from->path, from->format, &d->size, err);
	if (r >= 0 && !live)
		r = file_need_no_writer(from->path, err);
	if (r >= 0)
		r = disk_depth(from, live, &depth, err);
	if (r < 0)
		return err_wrap(err, "disk %s cannot be snapshotted", from->target);
	overlay_plan(e, s->uuid, id, d);
	return depth_check(e, s, from->target, depth, err);
}

static int plan_disks(struct engine *e, struct slot *s, const struct domain_xml *domain, bool live,
		      struct plan *plan, struct err *err)
{
	char id[17];
	int r = 0;

	overlay_new_id(id);
	for (size_t i = 0; i < domain->n_disks && r >= 0; i++) {
		const struct xml_disk *d = &domain->disks[i];

		if (!takes_part(d))
			continue;
		r = check_disk(d, err);
		if (r >= 0)
			r = check_copy_on_read(e, d, err);
		if (r >= 0)
			r = plan_disk(e, s, plan, id, d, live, err);
	}
	if (r >= 0 && plan->n_disks == 0)
		r = err_set(err, EOPNOTSUPP, "the VM has no disk that can be snapshotted");
	return r;
}

static int plan_quiesce(struct plan *plan, bool active, bool agent, enum quiesce quiesce,
			struct err *err)
{
	if (!active || quiesce == QUIESCE_NO)
		return 0;
	if (agent)
		plan->flags = HV_CREATE_QUIESCE;
	else if (quiesce == QUIESCE_YES)
		return err_set(err, ETIMEDOUT, "quiesce is 'yes' and the guest agent does not "
			       "answer: start qemu-guest-agent in the VM, or write auto or no "
			       "to .kws/quiesce");
	return 0;
}

int snapshot_plan(struct engine *e, struct slot *s, const char *name, enum quiesce quiesce,
		  struct plan *plan, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *xml = NULL;
	struct hv_domain state = { 0 };
	int r;

	plan->name = xstrdup(name);
	r = e->hv->ops->lookup(e->hv, s->uuid, &state, err);
	if (r >= 0)
		r = need_not_saved(&state, err);
	if (r >= 0)
		r = e->hv->ops->domain_xml(e->hv, s->uuid, false, &xml, err);
	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	if (r >= 0)
		r = plan_disks(e, s, domain, state.active, plan, err);
	if (r >= 0)
		r = plan_quiesce(plan, state.active, domain->agent, quiesce, err);
	if (r >= 0)
		r = overlays_plan_xml(domain, plan, err);
	free(state.name);
	return r;
}

static int plan_and_create(struct engine *e, struct slot *s, const char *name,
			   enum quiesce quiesce, struct err *err)
{
	struct plan *plan = plan_new();
	double began = metrics_now();
	int r = snapshot_plan(e, s, name, quiesce, plan, err);

	if (r < 0) {
		plan_free(plan);
		return r;
	}
	r = op_run(e, s, &create_op, plan, err);
	if (r >= 0)
		metrics_snapshot(e, metrics_now() - began);
	return r;
}

int snapshot_create(struct engine *e, struct slot *s, const char *name, enum quiesce quiesce,
		    struct err *err)
{
	int r = hooks_before(e, s, HOOK_SNAPSHOT, name, err);

	if (r < 0)
		return r;
	r = plan_and_create(e, s, name, quiesce, err);
	hooks_after(e, s, HOOK_SNAPSHOT, name, r, err);
	return r;
}

int snapshot_take(struct engine *e, struct slot *s, const char *name, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	bool taken = vm && vm_snapshot_by_name(vm, name);
	int r;

	vm_unref(vm);
	r = snapshot_name_check(name, err);
	if (r < 0)
		return r;
	if (taken)
		return err_set(err, EEXIST, "there is a snapshot '%s' already", name);
	r = snapshot_create(e, s, name, s->row.quiesce, err);
	if (r < 0) {
		/* Whatever became of it, show what is there. */
		look(e, s, LOOK_ALL, NULL);
		return err_wrap(err, "cannot take the snapshot '%s'", name);
	}
	return look(e, s, LOOK_NEW, err);
}

int task_create(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	return snapshot_take(e, s, t->text, err);
}
