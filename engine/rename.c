/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Renaming a snapshot, and changing its description. libvirt cannot rename: so
 * its metadata are written a second time under the new name, the children are
 * hung under that, and the old ones are forgotten. No file of a disk moves.
 *
 * Steps: `copy`, `adopt`, `forget`, `record`. Found open: once the copy is
 * there the rest is done; before that, the old name stays.
 */
#include "engine/domain-xml.h"
#include "engine/op.h"

#include <errno.h>

DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

static int redefine(struct op *op, const char *xml, const struct snapshot_edit *edit, bool current,
		    struct err *err)
{
	cleanup_free char *edited = NULL;
	int r = snapshot_xml_edit(xml, edit, &edited, err);

	if (r < 0)
		return r;
	return op->e->hv->ops->snapshot_redefine(op->e->hv, op->slot->uuid, edited, current, err);
}

/* All of libvirt's snapshots of a VM, shown or not. */
struct names {
	char **at;
	size_t n;
	char *current;
};

static void names_clear(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->at[i]);
	free(names->at);
	free(names->current);
}

static int names_read(struct engine *e, struct slot *s, struct names *ret, struct err *err)
{
	return e->hv->ops->snapshots(e->hv, s->uuid, &ret->at, &ret->n, &ret->current, err);
}

static bool has_name(const struct names *names, const char *name)
{
	for (size_t i = 0; i < names->n; i++)
		if (streq(names->at[i], name))
			return true;
	return false;
}

/* ---- steps ---- */

static int step_copy(struct op *op, struct err *err)
{
	cleanup(names_clear) struct names names = { 0 };
	struct snapshot_edit edit = { .name = op->plan->new_name };
	int r = names_read(op->e, op->slot, &names, err);

	if (r < 0)
		return r;
	return redefine(op, op->plan->xml, &edit, streq(names.current, op->plan->name), err);
}

/* Hangs the children of `from` under `to`. */
static int adopt(struct op *op, const char *from, const char *to, struct err *err)
{
	cleanup(names_clear) struct names names = { 0 };
	struct snapshot_edit edit = { .parent = to };
	int r = names_read(op->e, op->slot, &names, err);

	for (size_t i = 0; i < names.n && r >= 0; i++) {
		cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
		cleanup_free char *xml = NULL;

		r = op->e->hv->ops->snapshot_xml(op->e->hv, op->slot->uuid, names.at[i], &xml, err);
		if (r >= 0)
			r = snapshot_xml_parse(xml, &x, err);
		if (r >= 0 && streq(x->parent, from))
			r = redefine(op, xml, &edit, streq(names.current, x->name), err);
	}
	return r;
}

static int step_adopt(struct op *op, struct err *err)
{
	return adopt(op, op->plan->name, op->plan->new_name, err);
}

static int undo_adopt(struct op *op, struct err *err)
{
	return adopt(op, op->plan->new_name, op->plan->name, err);
}

static int undo_copy(struct op *op, struct err *err)
{
	cleanup(names_clear) struct names names = { 0 };
	struct snapshot_edit same = { 0 };
	int r = names_read(op->e, op->slot, &names, err);

	/* Give `current` back first: forgetting the copy would move it to the parent. */
	if (r >= 0 && streq(names.current, op->plan->new_name))
		r = redefine(op, op->plan->xml, &same, true, err);
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
	cleanup(names_clear) struct names names = { 0 };
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = names_read(op->e, op->slot, &names, err);
	if (r < 0)
		return r;
	if (!has_name(&names, op->plan->new_name))
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

const struct op_kind op_rename = { "rename", steps, 4, 2, settle };

/* ---- tasks ---- */

static int rename_snapshot(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			   const char *name, struct err *err)
{
	cleanup(names_clear) struct names names = { 0 };
	struct plan *plan;
	int r = names_read(e, s, &names, err);

	if (r < 0)
		return r;
	/* libvirt may have one that is not shown here; redefining would overwrite it. */
	if (has_name(&names, name))
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
	r = op_run(e, s, &op_rename, plan, err);
	if (r < 0) {
		look(e, s, LOOK_ALL, NULL);
		return r;
	}
	return look(e, s, LOOK_ALL, err);
}

int task_rename(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = snapshot_name_check(t->text, err);
	if (r >= 0 && !streq(snapshot->name, t->text)) {
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
	cleanup(names_clear) struct names names = { 0 };
	cleanup_free char *xml = NULL, *edited = NULL;
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = e->hv->ops->snapshot_xml(e->hv, s->uuid, snapshot->name, &xml, err);
	if (r >= 0)
		r = snapshot_xml_edit(xml, &edit, &edited, err);
	if (r >= 0)
		r = names_read(e, s, &names, err);
	if (r >= 0)
		r = e->hv->ops->snapshot_redefine(e->hv, s->uuid, edited,
						  streq(names.current, snapshot->name), err);
	if (r >= 0)
		r = look(e, s, LOOK_ALL, err);
	vm_unref(vm);
	return r;
}
