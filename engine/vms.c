/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VMs that are known, and what is published of them.
 *
 * A `struct vm` never changes once it is published: a change builds a new one
 * and puts it in the place of the old, under the lock, with a new list. So a
 * reader holds a reference for as long as it likes and sees one moment; the
 * kernel's RCU does the same with more trouble. The list is copied for each
 * change, which for a thousand VMs is eight kilobytes.
 */
#include "engine/failover.h"
#include "engine/policy.h"
#include "engine/pool.h"

#include <errno.h>

/* ---- references ---- */

void snapshot_disk_clear(struct snapshot_disk *d)
{
	free(d->target);
	free(d->path);
	free(d->format);
}

void snapshot_clear(struct snapshot *s)
{
	for (size_t d = 0; d < s->n_disks; d++)
		snapshot_disk_clear(&s->disks[d]);
	free(s->disks);
	free(s->name);
	free(s->description);
}

static void vm_free(struct vm *vm)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		snapshot_clear(&vm->snapshots[i]);
	free(vm->snapshots);
	for (size_t i = 0; i < vm->n_disks; i++) {
		free(vm->disks[i].target);
		free(vm->disks[i].path);
		free(vm->disks[i].format);
	}
	free(vm->disks);
	feature_set_clear(&vm->features);
	free(vm->name);
	free(vm);
}

static struct vm *vm_ref(struct vm *vm)
{
	if (vm)
		__atomic_add_fetch(&vm->refs, 1, __ATOMIC_RELAXED);
	return vm;
}

void vm_unref(struct vm *vm)
{
	if (vm && __atomic_sub_fetch(&vm->refs, 1, __ATOMIC_ACQ_REL) == 0)
		vm_free(vm);
}

static struct vm_list *vm_list_ref(struct vm_list *list)
{
	__atomic_add_fetch(&list->refs, 1, __ATOMIC_RELAXED);
	return list;
}

void vm_list_unref(struct vm_list *list)
{
	if (!list || __atomic_sub_fetch(&list->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < list->n; i++)
		vm_unref(list->vms[i]);
	free(list->vms);
	free(list);
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = (*(struct vm *const *)a)->id, y = (*(struct vm *const *)b)->id;

	return x < y ? -1 : x > y;
}

struct vm *vm_list_find(const struct vm_list *vms, uint32_t vm_id)
{
	struct vm key = { .id = vm_id }, *key_p = &key, **found = NULL;

	if (vms->n)
		found = bsearch(&key_p, vms->vms, vms->n, sizeof(*vms->vms), by_id);
	return found ? *found : NULL;
}

/* ---- slots ---- */

struct slot *slot_by_id(struct engine *e, uint32_t id)
{
	for (size_t i = 0; i < e->slots.n; i++)
		if (e->slots.at[i]->id == id)
			return e->slots.at[i];
	return NULL;
}

struct slot *slot_find(struct engine *e, uint32_t id)
{
	LOCK_SCOPE(&e->lock);

	return slot_by_id(e, id);
}

struct slot *slot_by_uuid(struct engine *e, const char *uuid)
{
	for (size_t i = 0; i < e->slots.n; i++)
		if (streq(e->slots.at[i]->uuid, uuid))
			return e->slots.at[i];
	return NULL;
}

int slot_for(struct engine *e, const char *uuid, struct slot **ret, struct err *err)
{
	struct journal_op *open_ops = NULL;
	struct registry_vm row;
	char *values[N_KNOBS] = { NULL };
	struct slot *s;
	size_t n = 0;
	int r;

	pthread_mutex_lock(&e->lock);
	s = slot_by_uuid(e, uuid);
	pthread_mutex_unlock(&e->lock);
	if (s) {
		*ret = s;
		return 0;
	}
	r = registry_vm(e->registry, uuid, &e->defaults, &row, err);
	if (r >= 0)
		r = journal_open_ops(e->registry, row.id, &open_ops, &n, err);
	if (r >= 0)
		r = policy_load(e->registry, row.id, values, err);
	journal_ops_free(open_ops, n);
	if (r < 0)
		return r;

	LOCK_SCOPE(&e->lock);
	s = slot_by_uuid(e, uuid);
	if (s) {
		policy_values_free(values);
	} else {
		s = xnew(struct slot);
		s->id = row.id;
		s->row = row;
		s->unsettled = n > 0;
		strncpy(s->uuid, uuid, sizeof(s->uuid) - 1);
		memcpy(s->knobs, values, sizeof(s->knobs));
		vec_push(&e->slots, s);
	}
	*ret = s;
	return 0;
}

void slots_free(struct engine *e)
{
	for (size_t i = 0; i < e->slots.n; i++) {
		struct slot *s = e->slots.at[i];

		vm_unref(s->view);
		vec_free(&s->holders);
		for (size_t f = 0; f < s->foundations.n; f++)
			free(s->foundations.at[f]);
		vec_free(&s->foundations);
		for (size_t f = 0; f < s->written.n; f++)
			layer_file_clear(&s->written.at[f]);
		vec_free(&s->written);
		vec_free(&s->waiters);
		vec_free(&s->signals);
		free(s->job_error);
		free(s->last_error);
		free(s->seen);
		keeper_free(s);
		policy_values_free(s->knobs);
		vm_measures_unref(s->measuring.known);
		free(s);
	}
	vec_free(&e->slots);
	vm_list_unref(e->list);
	e->list = NULL;
}

/* ---- publishing ---- */

/* The list as the slots have it now; the lock is held. */
static struct vm_list *list_build(struct engine *e)
{
	struct vm_list *list = xnew(struct vm_list);

	list->refs = 1;
	list->vms = xcalloc(e->slots.n, sizeof(*list->vms));
	for (size_t i = 0; i < e->slots.n; i++)
		if (e->slots.at[i]->view)
			list->vms[list->n++] = vm_ref(e->slots.at[i]->view);
	qsort(list->vms, list->n, sizeof(*list->vms), by_id);
	return list;
}

struct vm *slot_view(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	return vm_ref(s->view);
}

/* The lock is held. */
static void note_crash(struct slot *s, const struct vm *old, const struct vm *vm)
{
	bool has_crashed = vm && vm->crashed, is_news = has_crashed && (!old || !old->crashed);

	if (is_news)
		clock_gettime(CLOCK_REALTIME, &s->crashed);
	/* If it was off, and not because it had crashed, it was started in between. */
	if (is_news)
		s->ran_unseen = old && !old->active && !vm->active;
	else if (!has_crashed)
		s->ran_unseen = false;
}

void slot_publish(struct engine *e, struct slot *s, struct vm *vm)
{
	struct vm_list *old_list;
	struct vm *old;
	bool names_changed;

	pthread_mutex_lock(&e->lock);
	old = s->view;
	s->view = vm;
	names_changed = !old || !vm || !streq(old->name, vm->name);
	old_list = e->list;
	e->list = list_build(e);
	e->list->changed = old_list->changed;
	if (names_changed)
		clock_gettime(CLOCK_REALTIME, &e->list->changed);
	note_crash(s, old, vm);
	keeper_want(e, s);
	pools_want(e);
	failovers_want(e);
	pthread_mutex_unlock(&e->lock);

	if (names_changed && e->observer->vms_changed)
		e->observer->vms_changed(e->observer->opaque);
	if (e->observer->vm_changed)
		e->observer->vm_changed(e->observer->opaque, s->id);
	changes_tell(e, old, vm);
	vm_unref(old);
	vm_list_unref(old_list);
}

/* ---- looking, for everybody ---- */

struct vm_list *engine_vms(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return vm_list_ref(e->list);
}

struct vm *engine_vm(struct engine *e, uint32_t vm_id)
{
	LOCK_SCOPE(&e->lock);

	return vm_ref(vm_list_find(e->list, vm_id));
}

struct vm *engine_vm_by_name(struct engine *e, const char *name)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->list->n; i++)
		if (streq(e->list->vms[i]->name, name))
			return vm_ref(e->list->vms[i]);
	return NULL;
}

const struct snapshot *vm_snapshot(const struct vm *vm, uint32_t snapshot_id)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		if (vm->snapshots[i].id == snapshot_id)
			return &vm->snapshots[i];
	return NULL;
}

const struct snapshot *vm_snapshot_by_name(const struct vm *vm, const char *name)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		if (streq(vm->snapshots[i].name, name))
			return &vm->snapshots[i];
	return NULL;
}

const struct snapshot *vm_latest(const struct vm *vm)
{
	return vm->n_snapshots ? &vm->snapshots[vm->n_snapshots - 1] : NULL;
}

int need_snapshot(const struct vm *vm, uint32_t id, const struct snapshot **ret, struct err *err)
{
	const struct snapshot *snapshot = vm ? vm_snapshot(vm, id) : NULL;

	if (!snapshot)
		return err_set(err, ENOENT, "there is no such snapshot any more");
	*ret = snapshot;
	return 0;
}

int need_not_saved(const struct hv_domain *domain, struct err *err)
{
	if (!domain->saved)
		return 0;
	return err_set(err, EBUSY, "the VM is saved with its memory, which knows today's disks: "
		       "start it, or drop that with virsh managedsave-remove");
}
