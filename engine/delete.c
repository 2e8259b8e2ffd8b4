/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deleting a snapshot: it leaves libvirt's metadata, its layers are noted as
 * tombstones, and that is all that anybody waits for. What becomes of the
 * layers is the collection's (collect.c).
 *
 * Steps: `adopt` hangs its children under its parent, `forget` is libvirt's,
 * `bury` the registry's, in one transaction. Found open before `bury`: if
 * libvirt has forgotten it, it is buried; else the rmdir had not returned, and
 * the snapshot stays.
 *
 * libvirt would move the children by itself, and more: forgetting a snapshot it
 * writes into its children's metadata that they were made of its layer, as if
 * the merge were done (9.0 does so even for METADATA_ONLY). A snapshot without
 * children leaves the others alone.
 */
#include "common/timespec.h"
#include "engine/foundation.h"
#include "engine/hooks.h"
#include "engine/metadata.h"
#include "engine/op.h"
#include "engine/pool.h"

#include <errno.h>

DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

static int step_adopt(struct op *op, struct err *err)
{
	/* new_name: the parent's, "" if it has none */
	return metadata_adopt(op->e, op->slot, op->plan->name, op->plan->new_name, err);
}

/* Which of the parent's children were ours before is in the plan. */
static int undo_adopt(struct op *op, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < op->plan->n_children && r >= 0; i++) {
		r = metadata_set_parent(op->e, op->slot, op->plan->children[i], op->plan->name,
					err);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

static int step_forget(struct op *op, struct err *err)
{
	return op->e->hv->ops->snapshot_forget(op->e->hv, op->slot->uuid, op->plan->name, err);
}

static int step_bury(struct op *op, struct err *err)
{
	struct registry_change change = {
		.vm_id = op->slot->id,
		.forget_snapshot = op->plan->snapshot,
		.n_bury = op->plan->n_disks,
	};
	struct tombstone *graves = xcalloc(op->plan->n_disks, sizeof(*graves));
	int r;

	for (size_t i = 0; i < op->plan->n_disks; i++) {
		graves[i].target = op->plan->disks[i].target;
		graves[i].file = op->plan->disks[i].below;
	}
	change.bury = graves;
	r = registry_apply(op->e->registry, &change, err);
	free(graves);
	return r;
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	cleanup_free char *xml = NULL;
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = op->e->hv->ops->snapshot_xml(op->e->hv, op->slot->uuid, op->plan->name, &xml, err);
	if (r >= 0)
		return -ECANCELED;
	if (r != -ENOENT)
		return r;
	*ret_from = op->kind->no_return;
	return 0;
}

static const struct step steps[] = {
	{ "adopt", step_adopt, undo_adopt },
	{ "forget", step_forget, NULL },
	{ "bury", step_bury, NULL },
};

const struct op_kind delete_op = { "delete", steps, 3, 2, settle };

/* The parent and the children as libvirt has them, shown here or not. */
static int plan_family(struct engine *e, struct slot *s, struct plan *plan, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names children = { 0 };
	cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->snapshot_xml(e->hv, s->uuid, plan->name, &xml, err);

	if (r >= 0)
		r = snapshot_xml_parse(xml, &x, err);
	if (r >= 0)
		r = snapshot_children_read(e, s, plan->name, &children, err);
	if (r < 0)
		return r;
	plan->new_name = xstrdup(x->parent ? x->parent : "");
	for (size_t i = 0; i < children.n; i++)
		plan_add_child(plan, children.at[i]);
	return 0;
}

static int make_plan(struct engine *e, struct slot *s, const struct snapshot *snapshot,
		     struct plan *plan, struct err *err)
{
	plan->name = xstrdup(snapshot->name);
	plan->snapshot = snapshot->id;
	for (size_t i = 0; i < snapshot->n_disks; i++) {
		const struct snapshot_disk *disk = &snapshot->disks[i];
		struct layer_file file;
		int r = layer_file_stat(disk->path, disk->format, &file, err);

		if (r == -ENOENT)
			continue; /* somebody deleted the layer: there is nothing to bury */
		if (r < 0)
			return r;
		plan_add_disk(plan, disk->target)->below = file;
	}
	return plan_family(e, s, plan, err);
}

/* The lock is held. */
static bool is_open(const struct slot *s, uint32_t snapshot)
{
	for (size_t i = 0; i < s->holders.n; i++)
		if (s->holders.at[i].snapshot == snapshot)
			return true;
	return false;
}

/* The kernel tells of a close() in the background: `cp s/vda.raw x; rmdir s` may get here before it
 * has. That takes milliseconds; who really reads does so for longer than anybody who wants to hear
 * of it should have to wait. */
#define CLOSE_MS 200

/* The lock is held, and let go of meanwhile. */
static int check_closed(struct engine *e, const struct slot *s, uint32_t snapshot, struct err *err)
{
	struct timespec until = monotonic_in(CLOSE_MS);

	while (is_open(s, snapshot) && cond_wait_until(&e->changed, &e->lock, &until))
		;
	return is_open(s, snapshot) ?
		       err_set(err, EBUSY, "an image of it is open: close it first") : 0;
}

/* From here on no image of it is opened; -EBUSY if one is. */
static int keep_readers_out(struct engine *e, struct slot *s, uint32_t snapshot, struct err *err)
{
	int r;
	LOCK_SCOPE(&e->lock);

	r = check_closed(e, s, snapshot, err);
	if (r >= 0)
		s->dying = snapshot;
	return r;
}

static void let_readers_in(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	s->dying = 0;
}

static int plan_and_delete(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			   struct err *err)
{
	struct plan *plan;
	int r = keep_readers_out(e, s, snapshot->id, err);

	if (r < 0)
		return r;
	plan = plan_new();
	r = make_plan(e, s, snapshot, plan, err);
	if (r >= 0)
		r = op_run(e, s, &delete_op, plan, err);
	else
		plan_free(plan);
	if (r >= 0)
		r = look(e, s, LOOK_NEW, err);
	let_readers_in(e, s);
	return r;
}

int snapshot_check_deletable(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			     struct err *err)
{
	int r = foundation_check(e, snapshot, err);

	if (r >= 0)
		r = clones_check_none(e, snapshot, err);
	if (r >= 0)
		r = pool_check_unpublished(e, snapshot, err);
	LOCK_SCOPE(&e->lock);

	if (snapshot->pinned)
		return err_set(err, EPERM, "it is pinned: write 0 to its 'pin' first");
	return r < 0 ? r : check_closed(e, s, snapshot->id, err);
}

/* While a hook runs its images can still be read: it may want to keep them elsewhere. */
static int delete_snapshot(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			   struct err *err)
{
	int r = snapshot_check_deletable(e, s, snapshot, err);

	if (r >= 0)
		r = hooks_before(e, s, HOOK_DELETE, snapshot->name, err);
	if (r < 0)
		return r;
	r = plan_and_delete(e, s, snapshot, err);
	hooks_after(e, s, HOOK_DELETE, snapshot->name, r, err);
	return r;
}

int snapshot_delete(struct engine *e, struct slot *s, const struct snapshot *snapshot,
		    struct err *err)
{
	int r = delete_snapshot(e, s, snapshot, err);

	if (r < 0)
		return err_wrap(err, "cannot delete '%s'", snapshot->name);
	collect_later(e, s);
	return 0;
}

int task_delete(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = snapshot_delete(e, s, snapshot, err);
	vm_unref(vm);
	return r;
}
