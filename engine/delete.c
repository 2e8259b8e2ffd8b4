/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deleting a snapshot: it leaves libvirt's metadata, its layers are noted as
 * tombstones, and that is all that anybody waits for. What becomes of the
 * layers is the collection's (collect.c).
 *
 * Steps: `forget` is libvirt's, `bury` the registry's, in one transaction.
 * Found open before `bury`: if libvirt has forgotten it, it is buried; else
 * the rmdir had not returned, and the snapshot stays.
 */
#include "engine/op.h"

#include <errno.h>

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
	{ "forget", step_forget, NULL },
	{ "bury", step_bury, NULL },
};

const struct op_kind op_delete = { "delete", steps, 2, 1, settle };

static int make_plan(const struct snapshot *s, struct plan *plan, struct err *err)
{
	plan->name = xstrdup(s->name);
	plan->snapshot = s->id;
	for (size_t i = 0; i < s->n_disks; i++) {
		struct layer_file file;
		int r = layer_file_stat(s->disks[i].path, s->disks[i].format, &file, err);

		if (r == -ENOENT)
			continue; /* somebody deleted the layer: there is nothing to bury */
		if (r < 0)
			return r;
		plan_add_disk(plan, s->disks[i].target)->below = file;
	}
	return 0;
}

/* From here on no image of it is opened; -EBUSY if one is. */
static int keep_readers_out(struct engine *e, struct slot *s, uint32_t snapshot, struct err *err)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < s->holders.n; i++)
		if (s->holders.at[i].snapshot == snapshot)
			return err_set(err, EBUSY, "an image of it is open: close it first");
	s->dying = snapshot;
	return 0;
}

static void let_readers_in(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	s->dying = 0;
}

static int delete_snapshot(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			   struct err *err)
{
	struct plan *plan;
	int r;

	if (snapshot->pinned)
		return err_set(err, EPERM, "it is pinned: write 0 to its 'pin' first");
	r = keep_readers_out(e, s, snapshot->id, err);
	if (r < 0)
		return r;
	plan = plan_new();
	r = make_plan(snapshot, plan, err);
	if (r >= 0)
		r = op_run(e, s, &op_delete, plan, err);
	else
		plan_free(plan);
	if (r >= 0)
		r = look(e, s, LOOK_ALL, err); /* children have another parent now */
	let_readers_in(e, s);
	return r;
}

int task_delete(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0) {
		r = delete_snapshot(e, s, snapshot, err);
		if (r < 0)
			err_wrap(err, "cannot delete '%s'", snapshot->name);
		else
			collect_later(e, s);
	}
	vm_unref(vm);
	return r;
}
