/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Going back (or forward, or aside) to a snapshot. Its layers stay frozen: the
 * VM gets new overlays on top of them, and the definition of that moment. So
 * nothing in the tree changes but `current`, and the way back is open.
 *
 * The state being left, all that was written since the snapshot the VM stood
 * on, is dropped as any other layer: buried, and collected when nobody needs
 * it. With `keep` a snapshot of it is taken first. A layer that lies on no
 * snapshot at all (a disk that was added later) is no state of ours to drop:
 * it stays where it is.
 *
 * Steps: `overlays`, `stop`, `define`, `current`, `bury`. Found open
 * before `define`: if the domain's config has our overlays the rest is done,
 * else they are removed. A VM that `stop` ended is not started again by an
 * undo: it was told to end, by force. Starting it is not part of the journal
 * either: a VM that comes up by itself, hours later, would surprise its admin.
 */
#include "engine/backing.h"
#include "engine/depth.h"
#include "engine/domain-xml.h"
#include "engine/hooks.h"
#include "engine/op.h"
#include "engine/overlay.h"
#include "engine/written.h"

#include <errno.h>
#include <unistd.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

/* ---- steps ---- */

static int step_stop(struct op *op, struct err *err)
{
	if (!(op->plan->flags & REVERT_FORCE))
		return 0; /* checked to be off; defining checks again */
	return op->e->hv->ops->destroy(op->e->hv, op->slot->uuid, err);
}

static int step_define(struct op *op, struct err *err)
{
	struct hv_domain state = { 0 };
	int r = op->e->hv->ops->lookup(op->e->hv, op->slot->uuid, &state, err);

	if (r < 0)
		return r;
	free(state.name);
	if (state.active)
		return err_set(err, EBUSY, "the VM was started meanwhile");
	return op->e->hv->ops->define(op->e->hv, op->plan->xml, err);
}

static struct overlay *plan_overlays(const struct plan *plan)
{
	struct overlay *overlays = xcalloc(plan->n_disks, sizeof(*overlays));

	for (size_t i = 0; i < plan->n_disks; i++)
		overlays[i] = (struct overlay){ plan->disks[i].target,
						plan->disks[i].overlay.path };
	return overlays;
}

/* Makes it libvirt's current snapshot; the overlay that its metadata name is
 * the one that is on top of it now, since the older one may go. */
static int step_current(struct op *op, struct err *err)
{
	cleanup_free struct overlay *overlays = plan_overlays(op->plan);
	struct snapshot_edit edit = { .overlays = overlays, .n_overlays = op->plan->n_disks };
	cleanup_free char *xml = NULL, *edited = NULL;
	int r;

	r = op->e->hv->ops->snapshot_xml(op->e->hv, op->slot->uuid, op->plan->name, &xml, err);
	if (r >= 0)
		r = snapshot_xml_edit(xml, &edit, &edited, err);
	if (r < 0)
		return r;
	return op->e->hv->ops->snapshot_redefine(op->e->hv, op->slot->uuid, edited, true, err);
}

static int step_bury(struct op *op, struct err *err)
{
	struct registry_change change = { .vm_id = op->slot->id };
	struct tombstone *graves = xcalloc(op->plan->n_disks, sizeof(*graves));
	int r;

	for (size_t i = 0; i < op->plan->n_disks; i++)
		if (op->plan->disks[i].left.path)
			graves[change.n_bury++] = (struct tombstone){
				.target = op->plan->disks[i].target,
				.file = op->plan->disks[i].left,
			};
	change.bury = graves;
	r = registry_apply(op->e->registry, &change, err);
	free(graves);
	return r;
}

static const struct step steps[] = {
	{ "overlays", overlays_create, overlays_remove },
	{ "stop", step_stop, NULL },
	{ "define", step_define, NULL },
	{ "current", step_current, NULL },
	{ "bury", step_bury, NULL },
};

const struct op_kind revert_op = { "revert", steps, 5, 3, overlays_settle };

/* ---- planning ---- */

/* A layer that was made by taking a snapshot, or by a revert: it lies on the
 * frozen layer of a snapshot, or on that of one which was deleted. */
static int lies_on_a_snapshot(struct engine *e, struct slot *s, const struct vm *vm,
			      const struct xml_disk *disk, bool *ret, struct err *err)
{
	cleanup_free char *backing = NULL, *format = NULL;
	struct tombstone *graves = NULL;
	struct layer_file below = { 0 };
	size_t n = 0;
	bool found = false;
	int r;

	r = layer_backing(disk->path, disk->format ?: "raw", &backing, &format, err);
	if (r < 0 || !backing)
		return r;
	r = layer_file_stat(backing, format, &below, err);
	if (r >= 0)
		r = registry_tombstones(e->registry, s->id, &graves, &n, err);
	for (size_t i = 0; r >= 0 && i < n; i++)
		found = found || layer_file_same(&graves[i].file, &below);
	for (size_t i = 0; r >= 0 && i < vm->n_snapshots && !found; i++) {
		for (size_t d = 0; d < vm->snapshots[i].n_disks && !found; d++) {
			const struct snapshot_disk *frozen = &vm->snapshots[i].disks[d];
			struct layer_file file;

			if (layer_file_stat(frozen->path, frozen->format, &file, NULL) < 0)
				continue;
			found = layer_file_same(&file, &below);
			layer_file_clear(&file);
		}
	}
	tombstones_free(graves, n);
	layer_file_clear(&below);
	if (r >= 0)
		*ret = found;
	return r;
}

/* The active layer of `target` that is being left, if it may be dropped. */
static int plan_left(struct engine *e, struct slot *s, const struct vm *vm,
		     const struct domain_xml *domain, const char *target, struct layer_file *ret,
		     struct err *err)
{
	const struct xml_disk *disk = domain_xml_disk(domain, target);
	bool ours = false;
	int r;

	if (!disk || !disk->path)
		return 0;
	r = lies_on_a_snapshot(e, s, vm, disk, &ours, err);
	if (r == -ENOENT)
		return 0; /* it, or what it lies on, is missing: nothing to drop */
	if (r < 0 || !ours)
		return r;
	return layer_file_stat(disk->path, disk->format ?: "raw", ret, err);
}

static int plan_disk(struct engine *e, struct slot *s, const struct vm *vm,
		     const struct domain_xml *domain, const struct snapshot_disk *frozen,
		     const char *id, struct plan *plan, struct err *err)
{
	struct plan_disk *d = plan_add_disk(plan, frozen->target);
	int r;

	r = layer_file_stat(frozen->path, frozen->format, &d->below, err);
	if (r >= 0)
		r = layer_virtual_size(frozen->path, frozen->format, &d->size, err);
	if (r < 0)
		return r;
	overlay_plan(e, s->uuid, id, d);
	return plan_left(e, s, vm, domain, frozen->target, &d->left, err);
}

static int make_plan(struct engine *e, struct slot *s, const struct vm *vm,
		     const struct snapshot *snapshot, unsigned flags, struct plan *plan,
		     struct err *err)
{
	cleanup_free char *config = NULL, *moment = NULL;
	cleanup_free struct overlay *overlays = NULL;
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	char id[17];
	int r;

	plan->name = xstrdup(snapshot->name);
	plan->snapshot = snapshot->id;
	plan->flags = flags;
	r = e->hv->ops->domain_xml(e->hv, s->uuid, true, &config, err);
	if (r >= 0)
		r = domain_xml_parse(config, &domain, err);
	if (r >= 0)
		r = e->hv->ops->snapshot_xml(e->hv, s->uuid, snapshot->name, &moment, err);
	overlay_new_id(id);
	for (size_t i = 0; i < snapshot->n_disks && r >= 0; i++)
		r = plan_disk(e, s, vm, domain, &snapshot->disks[i], id, plan, err);
	if (r < 0)
		return r;
	overlays = plan_overlays(plan);
	return snapshot_xml_definition(moment, vm->name, overlays, plan->n_disks, &plan->xml, err);
}

/* before-revert-<UTC>, with a number behind it if two come in one second. */
static int keep_state(struct engine *e, struct slot *s, struct err *err)
{
	char stamp[64], name[80];
	struct timespec now;
	struct tm tm;
	int r = -EEXIST;

	clock_gettime(CLOCK_REALTIME, &now);
	strftime(stamp, sizeof(stamp), "before-revert-%Y-%m-%dT%H%M%SZ", gmtime_r(&now.tv_sec, &tm));
	for (int n = 1; r == -EEXIST && n < 100; n++) {
		snprintf(name, sizeof(name), n == 1 ? "%s" : "%s-%d", stamp, n);
		r = snapshot_create(e, s, name, s->row.quiesce, err);
	}
	if (r < 0)
		return err_wrap(err, "the state being left cannot be kept");
	return look(e, s, LOOK_NEW, err);
}

static int revert(struct engine *e, struct slot *s, const struct vm *vm,
		  const struct snapshot *snapshot, unsigned flags, struct err *err)
{
	struct plan *plan = plan_new();
	int r = make_plan(e, s, vm, snapshot, flags, plan, err);

	if (r < 0)
		plan_free(plan);
	else
		r = op_run(e, s, &revert_op, plan, err);
	return r;
}

/* A QEMU that libvirt has lost would go on writing to what is left. */
static int check_no_writer(struct engine *e, struct slot *s, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->domain_xml(e->hv, s->uuid, true, &xml, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	for (size_t i = 0; r >= 0 && i < domain->n_disks; i++) {
		const struct xml_disk *d = &domain->disks[i];

		if (streq(d->type, "file") && d->path && !d->readonly && access(d->path, F_OK) == 0)
			r = file_need_no_writer(d->path, err);
	}
	return r;
}

static int check_state(struct engine *e, struct slot *s, unsigned flags, struct err *err)
{
	struct hv_domain state = { 0 };
	int r = e->hv->ops->lookup(e->hv, s->uuid, &state, err);

	if (r < 0)
		return r;
	free(state.name);
	if (!state.persistent)
		return err_set(err, EOPNOTSUPP, "the VM is transient: it has no definition to go "
			       "back with");
	r = need_not_saved(&state, err);
	if (r >= 0 && state.active && !(flags & REVERT_FORCE))
		r = err_set(err, EBUSY, "the VM is %s: shut it off first, or write '1 force' "
			    "to end it", state.state);
	if (r >= 0 && !state.active)
		r = check_no_writer(e, s, err);
	return r;
}

static int start_again(struct engine *e, struct slot *s, struct err *err)
{
	int r = e->hv->ops->start(e->hv, s->uuid, err);

	if (r < 0)
		return err_wrap(err, "the VM went back, and cannot be started");
	return look(e, s, LOOK_AUTO, err);
}

static int check(struct engine *e, struct slot *s, const struct snapshot *snapshot,
		 unsigned flags, struct err *err)
{
	int r = check_state(e, s, flags, err);

	if (r >= 0)
		r = depth_check_snapshot(e, s, snapshot, err);
	return r < 0 ? r : written_check_snapshot(e, s->id, snapshot, err);
}

/* From the moment on when nothing speaks against it. */
static int go_back(struct engine *e, struct slot *s, uint32_t snapshot_id, unsigned flags,
		   struct err *err)
{
	int r = flags & REVERT_KEEP ? keep_state(e, s, err) : 0;
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;

	if (r >= 0)
		r = need_snapshot(vm, snapshot_id, &snapshot, err);
	if (r >= 0)
		r = revert(e, s, vm, snapshot, flags, err);
	look(e, s, LOOK_ALL, NULL);
	if (r >= 0)
		engine_event(e, &(struct engine_event){ "reverted", s->id, .snapshot = snapshot->name },
			     "went back to '%s'", snapshot->name);
	collect_later(e, s);
	if (r >= 0 && (flags & REVERT_START))
		r = start_again(e, s, err);
	vm_unref(vm);
	return r;
}

int task_revert(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = check(e, s, snapshot, t->flags, err);
	if (r >= 0)
		r = hooks_before(e, s, HOOK_REVERT, snapshot->name, err);
	if (r >= 0) {
		r = go_back(e, s, snapshot->id, t->flags, err);
		hooks_after(e, s, HOOK_REVERT, snapshot->name, r, err);
	}
	if (r < 0)
		err_wrap(err, "cannot revert to '%s'", snapshot ? snapshot->name : "it");
	vm_unref(vm);
	return r;
}
