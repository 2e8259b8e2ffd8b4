/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes visible in the tree, as events. They come from comparing what is published
 * with what was published before, and not from the operations: so all is told of that
 * happens, whoever did it (mkdir, virsh, the end of an operation that was interrupted),
 * and when it is told of it is there to be read.
 */
#include "engine/core.h"

static struct engine_event about(const char *name, const struct vm *vm, const struct snapshot *s)
{
	return (struct engine_event){ .name = name, .vm_id = vm->id, .vm = vm->name,
				      .uuid = vm->uuid, .snapshot = s ? s->name : NULL };
}

static void tell(struct engine *e, const char *name, const struct vm *vm, const struct snapshot *s,
		 const char *message)
{
	struct engine_event event = about(name, vm, s);

	engine_event(e, &event, "%s", message);
}

/* ---- snapshots ---- */

static void tell_created(struct engine *e, const struct vm *vm, const struct snapshot *s)
{
	struct engine_event event = about("snapshot-created", vm, s);

	engine_event(e, &event, "the snapshot '%s' was taken (consistency: %s)", s->name,
		     consistency_to_string(s->consistency));
}

static void tell_deleted(struct engine *e, const struct vm *vm, const struct snapshot *s)
{
	struct engine_event event = about("snapshot-deleted", vm, s);

	engine_event(e, &event, "the snapshot '%s' was deleted", s->name);
}

static void tell_renamed(struct engine *e, const struct vm *vm, const struct snapshot *old,
			 const char *new_name)
{
	struct engine_event event = about("snapshot-renamed", vm, old);

	event.new_name = new_name;
	engine_event(e, &event, "the snapshot '%s' is called '%s' now", old->name, new_name);
}

static void tell_changes(struct engine *e, const struct vm *vm, const struct snapshot *old,
			 const struct snapshot *now)
{
	if (!streq(old->name, now->name))
		tell_renamed(e, vm, old, now->name);
	if (old->pinned != now->pinned)
		tell(e, now->pinned ? "snapshot-pinned" : "snapshot-unpinned", vm, now,
		     now->pinned ? "it was pinned" : "it is pinned no more");
	if (!streq(old->description, now->description))
		tell(e, "snapshot-described", vm, now, "it has another description");
}

static void tell_snapshots(struct engine *e, const struct vm *old, const struct vm *now)
{
	for (size_t i = 0; i < old->n_snapshots; i++)
		if (!vm_snapshot(now, old->snapshots[i].id))
			tell_deleted(e, now, &old->snapshots[i]);
	for (size_t i = 0; i < now->n_snapshots; i++) {
		const struct snapshot *s = &now->snapshots[i];
		const struct snapshot *before = vm_snapshot(old, s->id);

		if (before)
			tell_changes(e, now, before, s);
		else
			tell_created(e, now, s);
	}
}

/* ---- VMs ---- */

static void tell_vm_renamed(struct engine *e, const struct vm *old, const struct vm *now)
{
	struct engine_event event = about("vm-renamed", old, NULL);

	event.new_name = now->name;
	engine_event(e, &event, "the VM is called '%s' now", now->name);
}

void changes_tell(struct engine *e, const struct vm *old, const struct vm *now)
{
	if (!e->opened)
		return; /* it was there before us */
	if (!old && now)
		tell(e, "vm-added", now, NULL, "the VM is defined");
	else if (old && !now)
		tell(e, "vm-removed", old, NULL, "the VM is not defined any more");
	if (!old || !now)
		return;
	if (!streq(old->name, now->name))
		tell_vm_renamed(e, old, now);
	if (!streq(old->state, now->state))
		tell(e, "vm-state", now, NULL, now->state);
	tell_snapshots(e, old, now);
}
