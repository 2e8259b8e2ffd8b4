/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which groups there are, their members, and the threads in which something is done to them.
 *
 * Whoever does something to a group has a thread for it, and, for a snapshot, one for
 * each of its VMs: they wait for each other, and if they were workers of the queue a large
 * group would wait for a worker that it has itself. It claims its VMs in the order of their ids,
 * as all do who want several, so no two wait for each other.
 */
#include "engine/groups.h"

#include <errno.h>

DEFINE_CLEANUP(struct group_list, group_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

/* ---- what is published ---- */

static void group_clear(struct vm_group *g)
{
	for (size_t i = 0; i < g->n_members; i++)
		free(g->members[i].name);
	for (size_t i = 0; i < g->n_snapshots; i++) {
		for (size_t p = 0; p < g->snapshots[i].n_parts; p++)
			free(g->snapshots[i].parts[p].name);
		free(g->snapshots[i].parts);
		free(g->snapshots[i].name);
	}
	free(g->members);
	free(g->snapshots);
	free(g->name);
}

void group_list_unref(struct group_list *list)
{
	if (!list || __atomic_sub_fetch(&list->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < list->n; i++)
		group_clear(&list->groups[i]);
	free(list->groups);
	free(list);
}

struct group_list *engine_groups(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	__atomic_add_fetch(&e->groups.list->refs, 1, __ATOMIC_RELAXED);
	return e->groups.list;
}

/* Of two at the same time that stays which began to read later: it has seen what the other one was
 * called for. */
int groups_publish(struct engine *e, struct err *err)
{
	struct group_list *list, *old;
	uint64_t number;
	int r;

	pthread_mutex_lock(&e->lock);
	number = ++e->groups.asked;
	pthread_mutex_unlock(&e->lock);
	r = registry_groups(e->registry, &list, err);
	if (r < 0)
		return r;
	clock_gettime(CLOCK_REALTIME, &list->changed);
	pthread_mutex_lock(&e->lock);
	old = list;
	if (number > e->groups.shown) {
		old = e->groups.list;
		e->groups.list = list;
		e->groups.shown = number;
	}
	pthread_mutex_unlock(&e->lock);
	group_list_unref(old);
	return 0;
}

void groups_init(struct engine *e)
{
	e->groups.list = xnew(struct group_list);
	e->groups.list->refs = 1;
}

/* What was not agreed on when the last process ended never will be. */
int groups_open(struct engine *e, struct err *err)
{
	int r = registry_group_give_up(e->registry, 0, err);

	return r < 0 ? r : groups_publish(e, err);
}

void groups_free(struct engine *e)
{
	group_list_unref(e->groups.list);
	for (size_t i = 0; i < e->groups.states.n; i++)
		free(e->groups.states.at[i].last_error);
	vec_free(&e->groups.states);
}

/* ---- what is kept of a group besides ---- */

/* The lock is held; good until it is let go of. */
static struct group_state *state_of(struct engine *e, uint32_t group)
{
	struct group_state *s;

	for (size_t i = 0; i < e->groups.states.n; i++)
		if (e->groups.states.at[i].id == group)
			return &e->groups.states.at[i];
	s = vec_add(&e->groups.states);
	s->id = group;
	return s;
}

char *engine_group_last_error(struct engine *e, uint32_t group)
{
	LOCK_SCOPE(&e->lock);

	return xstrdup(state_of(e, group)->last_error ?: "");
}

void engine_group_set_last_error(struct engine *e, uint32_t group, const char *msg)
{
	struct group_state *s;
	LOCK_SCOPE(&e->lock);

	s = state_of(e, group);
	free(s->last_error);
	s->last_error = xstrdup(msg);
}

/* ---- threads of groups ---- */

static void begin(struct engine *e, uint32_t group)
{
	LOCK_SCOPE(&e->lock);

	while (state_of(e, group)->busy)
		pthread_cond_wait(&e->changed, &e->lock);
	state_of(e, group)->busy = true;
}

static void end(struct engine *e, uint32_t group)
{
	LOCK_SCOPE(&e->lock);

	state_of(e, group)->busy = false;
	pthread_cond_broadcast(&e->changed);
}

static void task_end(struct group_task *t, int r, const struct err *err)
{
	struct engine *e = t->e;

	t->done(t->opaque, r, err);
	free(t->name);
	free(t);
	LOCK_SCOPE(&e->lock);
	e->groups.running--;
	pthread_cond_broadcast(&e->changed);
}

static void *group_thread(void *task)
{
	struct group_task *t = task;
	struct err err = ERR_INIT;
	int r, published;

	begin(t->e, t->group);
	r = t->run(t->e, t, &err);
	published = groups_publish(t->e, r < 0 ? NULL : &err);
	if (r >= 0)
		r = published;
	if (r < 0)
		engine_group_set_last_error(t->e, t->group, err.msg);
	end(t->e, t->group);
	task_end(t, r, &err);
	return NULL;
}

void group_submit(struct engine *e, struct group_task t)
{
	struct group_task *task = xnew(struct group_task);
	struct err err = ERR_INIT;
	pthread_t thread;
	int r;

	*task = t;
	task->e = e;
	task->name = xstrdup(t.name);
	pthread_mutex_lock(&e->lock);
	e->groups.running++;
	pthread_mutex_unlock(&e->lock);
	r = pthread_create(&thread, NULL, group_thread, task);
	if (r)
		task_end(task, err_sys(&err, r, "cannot start a thread"), &err);
	else
		pthread_detach(thread);
}

/* ---- something done to several VMs at once ---- */

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t opened;
	int state; /* 0: wait; 1: go; -errno: there are not enough threads */
};

static void *guest_thread(void *guest)
{
	struct guest *g = guest;
	struct gate *gate = g->gate;
	int state;

	pthread_mutex_lock(&gate->lock);
	while (gate->state == 0)
		pthread_cond_wait(&gate->opened, &gate->lock);
	state = gate->state;
	pthread_mutex_unlock(&gate->lock);
	g->r = state < 0 ? err_sys(&g->err, -state, "cannot start enough threads")
			 : g->run(g, &g->err);
	if (g->r < 0 && !g->gave_up)
		engine_set_last_error(g->e, g->slot->id, g->err.msg);
	return NULL;
}

static void open_gate(struct gate *gate, int state)
{
	LOCK_SCOPE(&gate->lock);

	gate->state = state;
	pthread_cond_broadcast(&gate->opened);
}

void guests_run(struct guest *guests, size_t n, int (*run)(struct guest *, struct err *))
{
	struct gate gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 };
	size_t started = 0;
	int r = 0;

	for (; started < n && r == 0; started += r == 0) {
		guests[started].run = run;
		guests[started].gate = &gate;
		guests[started].r = 0;
		r = pthread_create(&guests[started].thread, NULL, guest_thread, &guests[started]);
	}
	open_gate(&gate, r ? -r : 1);
	for (size_t i = 0; i < started; i++)
		pthread_join(guests[i].thread, NULL);
	if (r)
		guests[started].r = err_sys(&guests[started].err, r, "cannot start enough threads");
}

int guests_result(const struct guest *guests, size_t n, struct err *err)
{
	const struct guest *failed = NULL;
	cleanup(vm_unref_p) struct vm *vm = NULL;

	for (size_t i = 0; i < n; i++)
		if (guests[i].r < 0 && (!failed || (failed->gave_up && !guests[i].gave_up)))
			failed = &guests[i];
	if (!failed)
		return 0;
	vm = slot_view(failed->e, failed->slot);
	return err_set(err, -failed->r, "%s: %s", vm ? vm->name : failed->slot->uuid,
		       failed->err.msg);
}

/* ---- finding things ---- */

static const struct vm_group *find_group(const struct group_list *list, uint32_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->groups[i].id == id)
			return &list->groups[i];
	return NULL;
}

int group_need(struct engine *e, uint32_t id, struct group_list **ret_list,
	       const struct vm_group **ret, struct err *err)
{
	int r = registry_groups(e->registry, ret_list, err);

	if (r < 0)
		return r;
	*ret = find_group(*ret_list, id);
	return *ret ? 0 : err_set(err, ENOENT, "there is no such group any more");
}

int group_check_free(const struct vm_group *g, const char *name, struct err *err)
{
	for (size_t i = 0; i < g->n_members; i++)
		if (streq(g->members[i].name, name))
			return err_set(err, EEXIST, "'%s' is a VM of the group", name);
	for (size_t i = 0; i < g->n_snapshots; i++)
		if (streq(g->snapshots[i].name, name))
			return err_set(err, EEXIST, "there is a snapshot '%s' of the group already",
				       name);
	return 0;
}

static int check_group_name(struct engine *e, uint32_t id, const char *name, struct err *err)
{
	cleanup(group_list_unref_p) struct group_list *list = NULL;
	int r = snapshot_name_check(name, err);

	if (r >= 0)
		r = registry_groups(e->registry, &list, err);
	for (size_t i = 0; r >= 0 && i < list->n; i++)
		if (list->groups[i].id != id && streq(list->groups[i].name, name))
			r = err_set(err, EEXIST, "there is a group '%s' already", name);
	return r;
}

/* ---- groups and their members ---- */

static int run_make(struct engine *e, const struct group_task *t, struct err *err)
{
	int r = check_group_name(e, 0, t->name, err);

	return r < 0 ? r : registry_group_make(e->registry, t->name, err);
}

void engine_group_make(struct engine *e, const char *name, engine_done *done, void *opaque)
{
	group_submit(e, (struct group_task){ .run = run_make, .name = (char *)name, .done = done,
					     .opaque = opaque });
}

static int run_rename(struct engine *e, const struct group_task *t, struct err *err)
{
	int r = check_group_name(e, t->group, t->name, err);

	return r < 0 ? r : registry_group_rename(e->registry, t->group, t->name, err);
}

void engine_group_rename(struct engine *e, uint32_t group, const char *name, engine_done *done,
			 void *opaque)
{
	group_submit(e, (struct group_task){ .run = run_rename, .group = group, .name = (char *)name,
					     .done = done, .opaque = opaque });
}

static int run_remove(struct engine *e, const struct group_task *t, struct err *err)
{
	cleanup(group_list_unref_p) struct group_list *list = NULL;
	const struct vm_group *g;
	int r = group_need(e, t->group, &list, &g, err);

	if (r < 0)
		return r;
	if (g->n_members)
		return err_set(err, ENOTEMPTY, "the group has VMs: take them out first (rm)");
	if (g->n_snapshots)
		return err_set(err, ENOTEMPTY, "the group has snapshots: delete them first (rmdir)");
	return registry_group_forget(e->registry, t->group, err);
}

void engine_group_remove(struct engine *e, uint32_t group, engine_done *done, void *opaque)
{
	group_submit(e, (struct group_task){ .run = run_remove, .group = group, .done = done,
					     .opaque = opaque });
}

static int run_add(struct engine *e, const struct group_task *t, struct err *err)
{
	cleanup(group_list_unref_p) struct group_list *list = NULL;
	const struct vm_group *g;
	int r = snapshot_name_check(t->name, err);

	if (r >= 0)
		r = group_need(e, t->group, &list, &g, err);
	if (r >= 0)
		r = group_check_free(g, t->name, err);
	for (size_t i = 0; r >= 0 && i < g->n_members; i++)
		if (g->members[i].vm == t->vm)
			r = err_set(err, EEXIST, "the VM is in the group already, as '%s'",
				    g->members[i].name);
	return r < 0 ? r : registry_group_add(e->registry, t->group, t->name, t->vm, err);
}

void engine_group_add(struct engine *e, uint32_t group, const char *name, uint32_t vm_id,
		      engine_done *done, void *opaque)
{
	group_submit(e, (struct group_task){ .run = run_add, .group = group, .name = (char *)name,
					     .vm = vm_id, .done = done, .opaque = opaque });
}

static int run_take_out(struct engine *e, const struct group_task *t, struct err *err)
{
	return registry_group_take_out(e->registry, t->item, err);
}

void engine_group_take_out(struct engine *e, uint32_t group, uint32_t member, engine_done *done,
			   void *opaque)
{
	group_submit(e, (struct group_task){ .run = run_take_out, .group = group, .item = member,
					     .done = done, .opaque = opaque });
}
