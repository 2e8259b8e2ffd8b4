/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Renaming a snapshot, and changing its description. libvirt cannot rename: so
 * its metadata are written a second time under the new name, the children are
 * hung under that, and the old ones are forgotten. No file of a disk moves.
 *
 * Steps: `copy`, `adopt`, `forget`, `record`. Found open: once the copy is
 * there the rest is done; before that, the old name stays.
 */
#include "engine/foundation.h"
#include "engine/metadata.h"
#include "engine/op.h"

#include <errno.h>

/* ---- steps ---- */

static int step_copy(struct op *op, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	struct snapshot_edit edit = { .name = op->plan->new_name };
	int r = snapshot_names_read(op->e, op->slot, &names, err);

	if (r < 0)
		return r;
	return metadata_redefine(op->e, op->slot, op->plan->xml, &edit,
				 streq(names.current, op->plan->name), err);
}

static int step_adopt(struct op *op, struct err *err)
{
	return metadata_adopt(op->e, op->slot, op->plan->name, op->plan->new_name, err);
}

static int undo_adopt(struct op *op, struct err *err)
{
	return metadata_adopt(op->e, op->slot, op->plan->new_name, op->plan->name, err);
}

static int undo_copy(struct op *op, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	struct snapshot_edit same = { 0 };
	int r = snapshot_names_read(op->e, op->slot, &names, err);

	/* Give `current` back first: forgetting the copy would move it to the parent. */
	if (r >= 0 && streq(names.current, op->plan->new_name))
		r = metadata_redefine(op->e, op->slot, op->plan->xml, &same, true, err);
	if (r < 0)
		return r;
	return op->e->hv->ops->snapshot_forget(op->e->hv, op->slot->uuid, op->plan->new_name, err);
}

static int step_forget(struct op *op, struct err *err)
{
	return op->e->hv->ops->snapshot_forget(op->e->hv, op->slot->uuid, op->plan->name, err);
}

static int step_record(struct op *op, struct err *err)
{
	return registry_snapshot_rename(op->e->registry, op->plan->snapshot, op->plan->new_name,
					err);
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = snapshot_names_read(op->e, op->slot, &names, err);
	if (r < 0)
		return r;
	if (!snapshot_names_have(&names, op->plan->new_name))
		return -ECANCELED;
	*ret_from = 1;
	return 0;
}

static const struct step steps[] = {
	{ "copy", step_copy, undo_copy },
	{ "adopt", step_adopt, undo_adopt },
	{ "forget", step_forget, NULL },
	{ "record", step_record, NULL },
};

const struct op_kind rename_op = { "rename", steps, 4, 2, settle };

/* ---- tasks ---- */

static int rename_snapshot(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			   const char *name, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	struct plan *plan;
	int r = snapshot_names_read(e, s, &names, err);

	if (r < 0)
		return r;
	/* libvirt may have one that is not shown here; redefining would overwrite it. */
	if (snapshot_names_have(&names, name))
		return err_set(err, EEXIST, "there is a snapshot '%s' already", name);

	plan = plan_new();
	plan->name = xstrdup(snapshot->name);
	plan->new_name = xstrdup(name);
	plan->snapshot = snapshot->id;
	r = e->hv->ops->snapshot_xml(e->hv, s->uuid, snapshot->name, &plan->xml, err);
	if (r < 0) {
		plan_free(plan);
		return r;
	}
	r = op_run(e, s, &rename_op, plan, err);
	if (r < 0) {
		look(e, s, LOOK_ALL, NULL);
		return r;
	}
	return look(e, s, LOOK_NEW, err);
}

int task_rename(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = snapshot_name_check(t->text, err);
	if (r >= 0 && !streq(snapshot->name, t->text)) {
		r = foundation_check(e, snapshot, err);
		if (r >= 0)
			r = rename_snapshot(e, s, snapshot, t->text, err);
		if (r < 0)
			err_wrap(err, "cannot rename '%s'", snapshot->name);
	}
	vm_unref(vm);
	return r;
}

int task_describe(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct snapshot_edit edit = { .description = t->text };
	cleanup_free char *xml = NULL;
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = e->hv->ops->snapshot_xml(e->hv, s->uuid, snapshot->name, &xml, err);
	if (r >= 0)
		r = metadata_redefine(e, s, xml, &edit, false, err);
	if (r >= 0)
		r = look(e, s, LOOK_ALL, err);
	vm_unref(vm);
	return r;
}
