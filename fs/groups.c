/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * groups/. A group's members and its snapshots lie in one folder, under names that the engine
 * keeps apart. Of a group's snapshot those parts are shown that are still there in their VMs; one
 * of which none is has gone.
 */
#include "fs/groups.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm, vm_unref);
DEFINE_CLEANUP(struct group_list, group_list_unref);

/* ---- what is there ---- */

static bool part_is_there(struct fs *fs, const struct group_part *part)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(fs->e, part->vm);

	return vm && vm_snapshot(vm, part->snapshot);
}

static bool snapshot_is_there(struct fs *fs, const struct group_snapshot *s)
{
	for (size_t i = 0; i < s->n_parts; i++)
		if (part_is_there(fs, &s->parts[i]))
			return true;
	return false;
}

static void resolve_item(struct node *n)
{
	const struct vm_group *g = n->group;

	for (size_t i = 0; n->key.kind == KIND_GROUP_MEMBER && i < g->n_members; i++)
		if (g->members[i].id == n->key.snapshot)
			n->member = &g->members[i];
	for (size_t i = 0; n->key.kind != KIND_GROUP_MEMBER && i < g->n_snapshots; i++)
		if (g->snapshots[i].id == n->key.snapshot)
			n->group_snapshot = &g->snapshots[i];
}

static void resolve_part(struct node *n)
{
	const struct group_snapshot *s = n->group_snapshot;

	for (size_t i = 0; s && i < s->n_parts; i++)
		if (s->parts[i].number == n->key.index)
			n->part = &s->parts[i];
}

bool group_resolve(struct fs *fs, struct node *n)
{
	n->groups = engine_groups(fs->e);
	for (size_t i = 0; i < n->groups->n; i++)
		if (n->groups->groups[i].id == n->key.vm)
			n->group = &n->groups->groups[i];
	if (!n->group || n->row->level == LEVEL_GROUP)
		return n->group;
	resolve_item(n);
	if (n->row->level == LEVEL_GROUP_ITEM)
		return n->member || (n->group_snapshot && snapshot_is_there(fs, n->group_snapshot));
	resolve_part(n);
	return n->part && part_is_there(fs, n->part);
}

/* ---- listing ---- */

static void groups_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
			void *opaque)
{
	cleanup(group_list_unref_p) struct group_list *list = engine_groups(fs->e);

	for (size_t i = 0; i < list->n; i++)
		fn(opaque, list->groups[i].name,
		   (struct key){ .kind = row->kind, .vm = list->groups[i].id });
}

static size_t groups_count(struct fs *fs, const struct node *dir)
{
	cleanup(group_list_unref_p) struct group_list *list = engine_groups(fs->e);

	return list->n;
}

static struct key item_key(const struct node *dir, const struct row *row, uint32_t id)
{
	return (struct key){ .kind = row->kind, .vm = dir->key.vm, .snapshot = id };
}

static void members_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
			 void *opaque)
{
	for (size_t i = 0; i < dir->group->n_members; i++)
		fn(opaque, dir->group->members[i].name,
		   item_key(dir, row, dir->group->members[i].id));
}

static void snapshots_each(struct fs *fs, const struct node *dir, const struct row *row,
			   each_fn *fn, void *opaque)
{
	for (size_t i = 0; i < dir->group->n_snapshots; i++) {
		const struct group_snapshot *s = &dir->group->snapshots[i];

		if (snapshot_is_there(fs, s))
			fn(opaque, s->name, item_key(dir, row, s->id));
	}
}

static size_t snapshots_count(struct fs *fs, const struct node *dir)
{
	return many_count(fs, dir, row_of(KIND_GROUP_SNAPSHOT));
}

static void parts_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
		       void *opaque)
{
	for (size_t i = 0; i < dir->group_snapshot->n_parts; i++) {
		const struct group_part *part = &dir->group_snapshot->parts[i];
		struct key key = item_key(dir, row, dir->key.snapshot);

		key.index = part->number;
		if (part_is_there(fs, part))
			fn(opaque, part->name, key);
	}
}

const struct many each_group = { groups_each, many_find, groups_count };
const struct many each_group_member = { members_each, many_find, NULL };
const struct many each_group_snapshot = { snapshots_each, many_find, snapshots_count };
const struct many each_group_part = { parts_each, many_find, NULL };

/* ---- doing ---- */

void group_make(struct fs *fs, const struct node *dir, const char *name, engine_done *done,
		void *opaque)
{
	engine_group_make(fs->e, name, done, opaque);
}

void group_rename(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		  void *opaque)
{
	engine_group_rename(fs->e, n->group->id, name, done, opaque);
}

void group_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque)
{
	engine_group_remove(fs->e, n->group->id, done, opaque);
}

void group_member_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque)
{
	engine_group_take_out(fs->e, n->group->id, n->member->id, done, opaque);
}

void group_snapshot_make(struct fs *fs, const struct node *dir, const char *name,
			 engine_done *done, void *opaque)
{
	engine_group_snapshot_create(fs->e, dir->group->id, name, done, opaque);
}

void group_snapshot_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque)
{
	engine_group_snapshot_delete(fs->e, n->group->id, n->group_snapshot->id, done, opaque);
}

int group_link(struct fs *fs, const struct node *dir, const char *name, const char *target,
	       engine_done *done, void *opaque, struct err *err)
{
	cleanup_node struct node at = NODE_INIT;

	if (node_find_target(fs, dir, target, &at) < 0 || at.key.kind != KIND_VM)
		return err_set(err, EINVAL, "'%s' is no VM of this mount: what is put into a group is "
			       "a link to ../../snapshots/VM", target);
	engine_group_add(fs->e, dir->group->id, name, at.vm->id, done, opaque);
	return 0;
}

/* ---- showing ---- */

/* Of a VM that is gone only the name is known under which it was put in. */
int show_group_member(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(fs->e, n->member->vm);

	fprintf(out, "../../snapshots/%s", vm ? vm_dir_name(vm) : n->member->name);
	return 0;
}

int show_group_part(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(fs->e, n->part->vm);
	const struct snapshot *s = vm ? vm_snapshot(vm, n->part->snapshot) : NULL;

	if (!s)
		return err_set(err, ESTALE, "the snapshot has gone");
	fprintf(out, "../../../snapshots/%s/%s", vm_dir_name(vm), s->name);
	return 0;
}

int show_group_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *msg = engine_group_last_error(fs->e, n->key.vm);

	if (msg[0])
		fprintf(out, "%s\n", msg);
	return 0;
}
