/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A group's snapshots: one is taken of all its VMs at one moment (group-take.c), and deleted of
 * those that still have it. Nothing is done to one VM before all of them are had, and settled.
 */
#include "engine/groups.h"

#include <errno.h>

DEFINE_CLEANUP(struct group_list, group_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

/* ---- all VMs of one ---- */

struct crowd {
	struct engine *e;
	struct guest *guests; /* by the ids of their VMs */
	struct slot **slots;
	size_t n;
	bool claimed;
};

static void crowd_clear(struct crowd *c)
{
	if (c->claimed)
		slots_release(c->e, c->slots, c->n);
	free(c->guests);
	free(c->slots);
}

static int crowd_add(struct crowd *c, uint32_t vm, const char *name, uint32_t snapshot,
		     struct err *err)
{
	struct slot *s;
	LOCK_SCOPE(&c->e->lock);

	s = slot_by_id(c->e, vm);
	if (!s || !s->view)
		return err_set(err, ENOENT, "%s: there is no such VM any more", name);
	c->slots[c->n] = s;
	c->guests[c->n++] = (struct guest){ .e = c->e, .slot = s, .snapshot = snapshot };
	return 0;
}

static int settle_guest(struct guest *g, struct err *err)
{
	return slot_settle(g->e, g->slot, err);
}

/* From here on nobody else works on its VMs, and nothing is open in their journals. */
static int crowd_claim(struct crowd *c, struct err *err)
{
	slots_claim(c->e, c->slots, c->n);
	c->claimed = true;
	guests_run(c->guests, c->n, settle_guest);
	return guests_result(c->guests, c->n, err);
}

static void crowd_init(struct crowd *c, size_t n)
{
	c->guests = xcalloc(n, sizeof(*c->guests));
	c->slots = xcalloc(n, sizeof(*c->slots));
}

/* ---- its snapshots ---- */

static int has_no_such_snapshot(const struct crowd *c, const char *name, struct err *err)
{
	for (size_t i = 0; i < c->n; i++) {
		cleanup(vm_unref_p) struct vm *vm = slot_view(c->e, c->slots[i]);

		if (vm && vm_snapshot_by_name(vm, name))
			return err_set(err, EEXIST, "%s: there is a snapshot '%s' already", vm->name,
				       name);
	}
	return 0;
}

static int take(struct crowd *c, const struct vm_group *g, const char *name, struct err *err)
{
	uint32_t id;
	int r = has_no_such_snapshot(c, name, err);

	if (r >= 0)
		r = registry_group_begin(c->e->registry, g->id, name, g->members, g->n_members, &id,
					 err);
	if (r < 0)
		return r;
	group_take(c->guests, c->n, name, id);
	r = guests_result(c->guests, c->n, err);
	if (r < 0)
		registry_group_give_up(c->e->registry, id, NULL);
	return r;
}

static int create(struct engine *e, const struct group_task *t, struct err *err)
{
	cleanup(group_list_unref_p) struct group_list *list = NULL;
	cleanup(crowd_clear) struct crowd c = { .e = e };
	const struct vm_group *g;
	int r = group_need(e, t->group, &list, &g, err);

	if (r >= 0)
		r = group_check_free(g, t->name, err);
	if (r < 0)
		return r;
	if (g->n_members == 0)
		return err_set(err, EINVAL, "the group has no VM: ln -s ../../snapshots/VM puts one in");
	crowd_init(&c, g->n_members);
	for (size_t i = 0; i < g->n_members && r >= 0; i++)
		r = crowd_add(&c, g->members[i].vm, g->members[i].name, 0, err);
	if (r >= 0)
		r = crowd_claim(&c, err);
	return r < 0 ? r : take(&c, g, t->name, err);
}

static int run_create(struct engine *e, const struct group_task *t, struct err *err)
{
	int r = snapshot_name_check(t->name, err);

	if (r >= 0)
		r = create(e, t, err);
	return r < 0 ? err_wrap(err, "cannot take the snapshot '%s' of the group", t->name) : 0;
}

void engine_group_snapshot_create(struct engine *e, uint32_t group, const char *name,
				  engine_done *done, void *opaque)
{
	group_submit(e, (struct group_task){ .run = run_create, .group = group, .name = (char *)name,
					     .done = done, .opaque = opaque });
}

static int guest_snapshot(struct guest *g, struct vm **ret_vm, const struct snapshot **ret,
			  struct err *err)
{
	*ret_vm = slot_view(g->e, g->slot);
	return need_snapshot(*ret_vm, g->snapshot, ret, err);
}

static int check_guest(struct guest *g, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = NULL;
	const struct snapshot *snapshot;
	int r = guest_snapshot(g, &vm, &snapshot, err);

	return r < 0 ? r : snapshot_check_deletable(g->e, g->slot, snapshot, err);
}

static int delete_guest(struct guest *g, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = NULL;
	const struct snapshot *snapshot;
	int r = guest_snapshot(g, &vm, &snapshot, err);

	return r < 0 ? r : snapshot_delete(g->e, g->slot, snapshot, err);
}

static const struct group_snapshot *find_snapshot(const struct vm_group *g, uint32_t id)
{
	for (size_t i = 0; i < g->n_snapshots; i++)
		if (g->snapshots[i].id == id)
			return &g->snapshots[i];
	return NULL;
}

static int by_slot(const void *a, const void *b)
{
	const struct group_part *x = a, *y = b;

	return x->vm < y->vm ? -1 : x->vm > y->vm;
}

/* The parts of VMs that are there; the others have nothing left to delete. */
static int crowd_of_parts(struct crowd *c, struct group_snapshot *s, struct err *err)
{
	int r = 0;

	crowd_init(c, s->n_parts);
	qsort(s->parts, s->n_parts, sizeof(s->parts[0]), by_slot);
	for (size_t i = 0; i < s->n_parts && r >= 0; i++) {
		cleanup(vm_unref_p) struct vm *vm = engine_vm(c->e, s->parts[i].vm);

		if (vm && vm_snapshot(vm, s->parts[i].snapshot))
			r = crowd_add(c, s->parts[i].vm, s->parts[i].name, s->parts[i].snapshot, err);
	}
	return r;
}

static int run_delete(struct engine *e, const struct group_task *t, struct err *err)
{
	cleanup(group_list_unref_p) struct group_list *list = NULL;
	cleanup(crowd_clear) struct crowd c = { .e = e };
	const struct group_snapshot *s;
	const struct vm_group *g;
	int r = group_need(e, t->group, &list, &g, err);

	if (r < 0)
		return r;
	s = find_snapshot(g, t->item);
	if (!s)
		return err_set(err, ENOENT, "there is no such snapshot of the group any more");
	r = crowd_of_parts(&c, (struct group_snapshot *)s, err);
	if (r >= 0)
		r = crowd_claim(&c, err);
	if (r >= 0) {
		guests_run(c.guests, c.n, check_guest);
		r = guests_result(c.guests, c.n, err);
	}
	if (r >= 0) {
		guests_run(c.guests, c.n, delete_guest);
		r = guests_result(c.guests, c.n, err);
	}
	return r < 0 ? err_wrap(err, "cannot delete '%s' of the group", s->name) : 0;
}

void engine_group_snapshot_delete(struct engine *e, uint32_t group, uint32_t snapshot,
				  engine_done *done, void *opaque)
{
	group_submit(e, (struct group_task){ .run = run_delete, .group = group, .item = snapshot,
					     .done = done, .opaque = opaque });
}
