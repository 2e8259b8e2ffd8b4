/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which clones there are, and what is published of them: as with VMs (vms.c) a list that never
 * changes once it is published, of clones that never change either. A change makes a new list out
 * of the old one, so that one more of a thousand costs the copy of a thousand pointers.
 */
#include "engine/pool.h"

#include <errno.h>

DEFINE_CLEANUP(struct clone_list, clone_list_unref);

/* ---- references ---- */

static struct clone *clone_ref(struct clone *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	return c;
}

void clone_unref(struct clone *c)
{
	if (!c || __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	free(c->name);
	free(c);
}

void clone_list_unref(struct clone_list *list)
{
	if (!list || __atomic_sub_fetch(&list->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < list->n; i++)
		clone_unref(list->clones[i]);
	free(list->clones);
	free(list);
}

struct clone_list *engine_clones(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	__atomic_add_fetch(&e->clones->refs, 1, __ATOMIC_RELAXED);
	return e->clones;
}

/* ---- finding ---- */

/* The number of the first one in the list that is of `snapshot` or of a later one. */
static size_t first_of(const struct clone_list *list, uint32_t snapshot)
{
	size_t low = 0, high = list->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list->clones[middle]->snapshot < snapshot)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct clone *const *clone_list_of(const struct clone_list *list, uint32_t snapshot, size_t *ret_n)
{
	size_t first = first_of(list, snapshot), end = first;

	while (end < list->n && list->clones[end]->snapshot == snapshot)
		end++;
	*ret_n = end - first;
	return list->clones + first;
}

const struct clone *clone_list_find(const struct clone_list *list, uint32_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->clones[i]->id == id)
			return list->clones[i];
	return NULL;
}

int clones_get(struct engine *e, uint32_t id, struct clone **ret, struct err *err)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	const struct clone *c = clone_list_find(list, id);

	if (!c)
		return err_set(err, ENOENT, "there is no such clone any more");
	*ret = clone_ref((struct clone *)c);
	return 0;
}

int clones_check_none(struct engine *e, const struct snapshot *snapshot, struct err *err)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	struct clone *const *clones;
	size_t n;

	clones = clone_list_of(list, snapshot->id, &n);
	if (n == 0)
		return 0;
	if (n == 1)
		return err_set(err, EPERM, "the clone '%s' stands on it: remove or promote that "
			       "first", clones[0]->name);
	return err_set(err, EPERM, "'%s' and %zu more clones stand on it: remove or promote them "
		       "first", clones[0]->name, n - 1);
}

/* ---- publishing ---- */

static int by_snapshot(const void *a, const void *b)
{
	const struct clone *x = *(struct clone *const *)a, *y = *(struct clone *const *)b;

	if (x->snapshot != y->snapshot)
		return x->snapshot < y->snapshot ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Puts `now` (taken over; NULL: nothing) into the place of the one with that id, and tells of
 * the folders that it changed. */
static void publish(struct engine *e, uint32_t id, struct clone *now)
{
	struct clone_list *list = xnew(struct clone_list), *old;
	uint32_t source = now ? now->source : 0;
	struct slot *s;

	pthread_mutex_lock(&e->lock);
	old = e->clones;
	list->refs = 1;
	list->clones = xcalloc(old->n + 1, sizeof(*list->clones));
	for (size_t i = 0; i < old->n; i++) {
		if (old->clones[i]->id != id)
			list->clones[list->n++] = clone_ref(old->clones[i]);
		else
			source = old->clones[i]->source;
	}
	if (now) {
		list->clones[list->n++] = now;
		qsort(list->clones, list->n, sizeof(*list->clones), by_snapshot);
	}
	e->clones = list;
	pools_want(e);
	s = slot_by_id(e, source);
	if (s)
		keeper_want(e, s); /* what stood in the way of its policy may not any more */
	pthread_mutex_unlock(&e->lock);
	clone_list_unref(old);
	if (e->observer->vm_changed)
		e->observer->vm_changed(e->observer->opaque, source);
}

static struct clone *copy_of(const struct clone *c)
{
	struct clone *copy = xnew(struct clone);

	*copy = *c;
	copy->refs = 1;
	copy->name = xstrdup(c->name);
	return copy;
}

int clones_add(struct engine *e, struct clone *c, struct err *err)
{
	int r = registry_clone_add(e->registry, c, &c->id, err);

	if (r >= 0)
		publish(e, c->id, copy_of(c));
	return r;
}

int clones_update(struct engine *e, const struct clone *c, struct err *err)
{
	int r = registry_clone_update(e->registry, c, err);

	if (r >= 0)
		publish(e, c->id, copy_of(c));
	return r;
}

int clones_forget(struct engine *e, uint32_t id, struct err *err)
{
	int r = registry_clone_forget(e->registry, id, err);

	if (r >= 0)
		publish(e, id, NULL);
	return r;
}

/* ---- from one process to the next ---- */

void clones_init(struct engine *e)
{
	e->clones = xnew(struct clone_list);
	e->clones->refs = 1;
}

int clones_open(struct engine *e, struct err *err)
{
	struct clone_list *list = xnew(struct clone_list), *old = e->clones;
	int r = registry_clones(e->registry, &list->clones, &list->n, err);

	list->refs = 1;
	if (r < 0) {
		clone_list_unref(list);
		return r;
	}
	if (list->n)
		qsort(list->clones, list->n, sizeof(*list->clones), by_snapshot);
	e->clones = list;
	clone_list_unref(old);
	/* What was interrupted of one that is no VM any more is settled, too. */
	for (size_t i = 0; i < list->n && r >= 0; i++) {
		struct slot *s;

		r = slot_for(e, list->clones[i]->uuid, &s, err);
	}
	return r;
}

void clones_free(struct engine *e)
{
	clone_list_unref(e->clones);
	e->clones = NULL;
	for (size_t i = 0; i < e->undone_clones.n; i++)
		free(e->undone_clones.at[i]);
	vec_free(&e->undone_clones);
	vec_free(&e->new_clones);
}
