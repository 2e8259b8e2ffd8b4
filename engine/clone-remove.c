/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Removing a clone: the VM is ended, its definition goes, and with it the files that were made for
 * it: all layers in our naming that are its own, from its disks down to the first one that is
 * not, those that wait to be merged, and its UEFI variables. Which those are is in the plan before
 * anything is done, and each goes by what it is, not by its name.
 *
 * Steps: `stop`, `undefine`, `delete`, `forget`. Found open before `delete`: if libvirt has the VM
 * no more the rest is done, else the clone stays; one that `stop` ended is not started again.
 *
 * Of a clone that somebody undefined only the record is left here. Its files are nobody's then,
 * and in lost+found.
 */
#include "engine/clone.h"

#include "engine/backing.h"
#include "engine/domain-xml.h"
#include "engine/layers.h"
#include "engine/metadata.h"
#include "engine/op.h"
#include "engine/overlay.h"

#include <errno.h>

DEFINE_CLEANUP(struct clone, clone_unref);
DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct vm, vm_unref);

/* ---- steps ---- */

static int step_stop(struct op *op, struct err *err)
{
	return op->e->hv->ops->destroy(op->e->hv, op->slot->uuid, err);
}

static int step_undefine(struct op *op, struct err *err)
{
	return op->e->hv->ops->undefine(op->e->hv, op->slot->uuid, err);
}

static int step_delete(struct op *op, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < op->plan->n_disks && r >= 0; i++)
		r = file_remove(&op->plan->disks[i].left, err);
	if (r >= 0 && op->plan->nvram.path)
		r = file_remove(&op->plan->nvram, err);
	return r == -ESTALE ? 0 : r; /* another file by that name is none of ours */
}

static int drop_tombstones(struct op *op, struct err *err)
{
	struct tombstone *graves = NULL;
	size_t n = 0;
	int r = registry_tombstones(op->e->registry, op->slot->id, &graves, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++)
		r = registry_tombstone_drop(op->e->registry, graves[i].id, err);
	tombstones_free(graves, n);
	return r;
}

static int step_forget(struct op *op, struct err *err)
{
	int r = drop_tombstones(op, err);

	return r < 0 ? r : clones_forget(op->e, op->plan->clone, err);
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	struct hv_domain state = { 0 };
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = op->e->hv->ops->lookup(op->e->hv, op->slot->uuid, &state, err);
	free(state.name);
	if (r != -ENOENT)
		return r < 0 ? r : -ECANCELED;
	*ret_from = op->kind->no_return;
	return 0;
}

static const struct step steps[] = {
	{ "stop", step_stop, NULL },
	{ "undefine", step_undefine, NULL },
	{ "delete", step_delete, NULL },
	{ "forget", step_forget, NULL },
};

const struct op_kind unclone_op = { "unclone", steps, 4, 2, settle };

/* ---- planning: which files ---- */

static bool is_planned(const struct plan *plan, const struct layer_file *file)
{
	for (size_t i = 0; i < plan->n_disks; i++)
		if (layer_file_same(&plan->disks[i].left, file))
			return true;
	return false;
}

static bool is_named_for(const struct slot *s, const char *path)
{
	struct overlay_name name;

	return overlay_name_parse(path, &name) && strncmp(s->uuid, name.vm, strlen(name.vm)) == 0;
}

static void plan_file(struct plan *plan, const char *target, const struct layer_file *file)
{
	if (!is_planned(plan, file))
		layer_file_copy(&plan_add_disk(plan, target)->left, file);
}

/* The layers of a disk, down to the first one that is not its own. */
static int plan_chain(const struct slot *s, const struct xml_disk *disk, struct plan *plan,
		      struct err *err)
{
	cleanup_free char *path = xstrdup(disk->path), *format = xstrdup(disk->format ?: "raw");
	int r = 0;

	while (r >= 0 && path && is_named_for(s, path)) {
		char *below = NULL, *below_format = NULL;
		struct layer_file file;

		r = layer_file_stat(path, format, &file, err);
		if (r < 0)
			break;
		plan_file(plan, disk->target, &file);
		layer_file_clear(&file);
		r = layer_backing(path, format, &below, &below_format, err);
		free(path);
		free(format);
		path = below;
		format = below_format ?: xstrdup("raw");
	}
	return r == -ENOENT ? 0 : r; /* somebody was faster */
}

static int plan_nvram(const struct slot *s, const struct domain_xml *domain, struct plan *plan,
		      struct err *err)
{
	cleanup_free char *beginning = xasprintf("kws-%.8s-", s->uuid);
	const char *name = domain->nvram ? strrchr(domain->nvram, '/') : NULL;
	int r;

	if (!name || strncmp(name + 1, beginning, strlen(beginning)) != 0)
		return 0;
	r = layer_file_stat(domain->nvram, "raw", &plan->nvram, err);
	return r == -ENOENT ? 0 : r;
}

static int plan_files(struct engine *e, struct slot *s, struct plan *plan, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *xml = NULL;
	struct tombstone *graves = NULL;
	size_t n = 0;
	int r = e->hv->ops->domain_xml(e->hv, s->uuid, true, &xml, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	for (size_t i = 0; r >= 0 && i < domain->n_disks; i++)
		if (domain->disks[i].path)
			r = plan_chain(s, &domain->disks[i], plan, err);
	if (r >= 0)
		r = plan_nvram(s, domain, plan, err);
	if (r >= 0)
		r = registry_tombstones(e->registry, s->id, &graves, &n, err);
	for (size_t i = 0; i < n; i++)
		if (graves[i].file.dev != 0 && is_named_for(s, graves[i].file.path))
			plan_file(plan, graves[i].target, &graves[i].file);
	tombstones_free(graves, n);
	return r;
}

/* ---- what speaks against it ---- */

static int check_snapshots(struct engine *e, struct slot *s, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	int r = snapshot_names_read(e, s, &names, err);

	if (r >= 0 && names.n)
		r = err_set(err, EPERM, "it has snapshots, '%s' for one: delete them first",
			    names.at[0]);
	return r;
}

/* Each image on one of the files must be one of them, too. */
static int check_file(const struct layers *l, const struct plan *plan, const struct layer_file *file,
		      struct err *err)
{
	size_t own = layers_find(l, file);

	for (size_t i = 0; own != NO_LAYER && i < l->all.n; i++)
		if (l->all.at[i].backing == own && !is_planned(plan, &l->all.at[i].file))
			return err_set(err, EPERM, "%s lies on its disk %s: remove that first",
				       l->all.at[i].file.path, file->path);
	if (own != NO_LAYER && l->all.at[own].foreign)
		return err_set(err, EPERM, "another VM uses its disk %s", file->path);
	return 0;
}

static int check_layers(struct engine *e, struct slot *s, const struct plan *plan, struct err *err)
{
	cleanup(layers_clear) struct layers layers = { 0 };
	struct tombstone *beside = xcalloc(plan->n_disks + 1, sizeof(*beside));
	int r;

	for (size_t i = 0; i < plan->n_disks; i++)
		beside[i].file = plan->disks[i].left;
	r = layers_build(e, s, beside, plan->n_disks, &layers, err);
	free(beside);
	for (size_t i = 0; i < plan->n_disks && r >= 0; i++)
		r = check_file(&layers, plan, &plan->disks[i].left, err);
	return r;
}

/* ---- removing ---- */

void clone_collect_source(struct engine *e, const struct clone *c)
{
	struct slot *source = slot_find(e, c->source);

	if (source)
		collect_later(e, source);
}

int clone_remove(struct engine *e, struct slot *s, const struct clone *c, struct err *err)
{
	struct plan *plan = plan_new();
	int r = check_snapshots(e, s, err);

	plan->name = xstrdup(c->name);
	plan->clone = c->id;
	if (r >= 0)
		r = plan_files(e, s, plan, err);
	if (r >= 0)
		r = check_layers(e, s, plan, err);
	if (r < 0) {
		plan_free(plan);
		return r;
	}
	r = op_run(e, s, &unclone_op, plan, err);
	look(e, s, LOOK_ALL, NULL);
	if (r < 0) {
		collect_later(e, s); /* the rest, if it went too far to be undone */
		return r;
	}
	engine_event(e, &(struct engine_event){ "clone-removed", c->source,
						.snapshot_id = c->snapshot, .new_name = c->name },
		     "the clone '%s' was removed", c->name);
	clone_collect_source(e, c);
	return 0;
}

static int task_unclone(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	cleanup(clone_unref_p) struct clone *c = NULL;
	int r = clones_get(e, t->snapshot, &c, err);

	if (r == -ENOENT)
		return 0; /* it was half removed, and is settled now */
	if (r >= 0)
		r = clone_remove(e, s, c, err);
	return r < 0 ? err_wrap(err, "cannot remove the clone '%s'", c->name) : 0;
}

/* Of one that is no VM any more. What was begun to remove it is done first. */
static int chore_forget(struct engine *e, struct chore *chore, struct err *err)
{
	cleanup(clone_unref_p) struct clone *c = NULL;
	struct slot *s;
	int r = clones_get(e, chore->orphan, &c, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = slot_for(e, c->uuid, &s, err);
	if (r < 0)
		return r;
	slots_claim(e, &s, 1);
	r = recover(e, s, RECOVER_ALL, err);
	if (r >= 0)
		r = clones_forget(e, c->id, err);
	slots_release(e, &s, 1);
	if (r >= 0)
		clone_collect_source(e, c);
	return r;
}

void engine_clone_remove(struct engine *e, uint32_t clone_id, engine_done *done, void *opaque)
{
	cleanup(clone_unref_p) struct clone *c = NULL;
	struct err err = ERR_INIT;
	int r = clones_get(e, clone_id, &c, &err);
	cleanup(vm_unref_p) struct vm *vm = c ? engine_vm(e, c->vm) : NULL;

	if (r < 0) {
		done(opaque, r, &err);
	} else if (vm) {
		struct task *t = task_new(task_unclone, done, opaque);

		t->snapshot = clone_id;
		task_submit(e, vm->id, t);
	} else {
		struct chore *chore = xnew(struct chore);

		*chore = (struct chore){ .run = chore_forget, .done = done, .opaque = opaque,
					 .orphan = clone_id };
		chore_submit(e, chore);
	}
}
