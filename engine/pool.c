/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pools there are, and what is published of them: as with groups a list that never changes
 * once it is published.
 *
 * Publishing is an operation of the VM whose snapshot it is, so that it is not deleted at the same
 * time. What only changes the registry's rows of a pool (a name, a setting) is done at once, in
 * the thread that asks; the kernel holds pool/ meanwhile, so no two names are made at a time.
 * To point a pool at another snapshot, `ln -sfn` makes a second pool beside it, and renames that
 * over the first: so that is what replacing is here, and either of the two snapshots is protected
 * at every moment.
 */
#include "engine/pool.h"

#include <errno.h>

DEFINE_CLEANUP(struct pool_list, pool_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

static const char *const state_names[] = {
	[SPARE_DEFINED] = "defined", [SPARE_PAUSED] = "paused", [SPARE_SAVED] = "saved",
};

const char *spare_state_to_string(enum spare_state s)
{
	return state_names[s];
}

int spare_state_from_string(const char *s, enum spare_state *ret)
{
	for (size_t i = 0; i < sizeof(state_names) / sizeof(state_names[0]); i++) {
		if (!streq(s, state_names[i]))
			continue;
		*ret = i;
		return 0;
	}
	return -EINVAL;
}

/* ---- what is published ---- */

void pool_list_unref(struct pool_list *list)
{
	if (!list || __atomic_sub_fetch(&list->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < list->n; i++) {
		free(list->pools[i].name);
		free(list->pools[i].path);
	}
	free(list->pools);
	free(list);
}

struct pool_list *engine_pools(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	__atomic_add_fetch(&e->pools.list->refs, 1, __ATOMIC_RELAXED);
	return e->pools.list;
}

const struct pool *pool_list_of(const struct pool_list *list, uint32_t snapshot)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->pools[i].snapshot == snapshot)
			return &list->pools[i];
	return NULL;
}

const struct pool *pool_list_find(const struct pool_list *list, uint32_t id)
{
	for (size_t i = 0; i < list->n; i++)
		if (list->pools[i].id == id)
			return &list->pools[i];
	return NULL;
}

static const struct pool *find_name(const struct pool_list *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (streq(list->pools[i].name, name))
			return &list->pools[i];
	return NULL;
}

/* What retention says of the VMs may have changed, too. The lock is held. */
static void wake(struct engine *e)
{
	pools_want(e);
	keeper_want_all(e);
}

/* Of two at the same time that stays which began to read later: see groups_publish. */
static int publish(struct engine *e, struct err *err)
{
	struct pool_list *list, *old;
	uint64_t number;
	int r;

	pthread_mutex_lock(&e->lock);
	number = ++e->pools.asked;
	pthread_mutex_unlock(&e->lock);
	r = registry_pools(e->registry, &list, err);
	if (r < 0)
		return r;
	clock_gettime(CLOCK_REALTIME, &list->changed);
	pthread_mutex_lock(&e->lock);
	old = list;
	if (number > e->pools.shown) {
		old = e->pools.list;
		e->pools.list = list;
		e->pools.shown = number;
	}
	wake(e);
	pthread_mutex_unlock(&e->lock);
	pool_list_unref(old);
	return 0;
}

void pools_init(struct engine *e)
{
	pthread_cond_init(&e->pools.wake, NULL);
	e->pools.list = xnew(struct pool_list);
	e->pools.list->refs = 1;
}

int pools_open(struct engine *e, struct err *err)
{
	int r = spares_open(e, err);

	return r < 0 ? r : publish(e, err);
}

void pools_free(struct engine *e)
{
	pool_list_unref(e->pools.list);
	free(e->pools.last_error);
	spares_free(e);
	pthread_cond_destroy(&e->pools.wake);
}

char *engine_pools_last_error(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return xstrdup(e->pools.last_error ?: "");
}

void engine_pools_set_last_error(struct engine *e, const char *msg)
{
	LOCK_SCOPE(&e->lock);

	free(e->pools.last_error);
	e->pools.last_error = xstrdup(msg);
}

/* ---- what that means for others ---- */

int pool_check_unpublished(struct engine *e, const struct snapshot *snapshot, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(e);
	const struct pool *p = pool_list_of(list, snapshot->id);

	return p ? err_set(err, EPERM, "the pool '%s' publishes it: rm pool/%s withdraws it", p->name,
			   p->name) : 0;
}

uint32_t pool_of_snapshot(struct engine *e, uint32_t snapshot)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(e);
	const struct pool *p = pool_list_of(list, snapshot);

	return p ? p->id : 0;
}

/* ---- doing ---- */

static void tell(struct engine *e, const char *event, uint32_t vm, uint32_t snapshot,
		 const char *new_name, const char *message)
{
	engine_event(e, &(struct engine_event){ event, vm, snapshot, .new_name = new_name }, "%s",
		     message);
}

static int need_pool(const struct pool_list *list, uint32_t id, const struct pool **ret,
		     struct err *err)
{
	*ret = pool_list_find(list, id);
	return *ret ? 0 : err_set(err, ENOENT, "there is no such pool any more");
}

static int check_name(const struct pool_list *list, const char *name, struct err *err)
{
	int r = snapshot_name_check(name, err);

	if (r >= 0 && find_name(list, name))
		r = err_set(err, EEXIST, "there is a pool '%s' already", name);
	return r;
}

static int add(struct engine *e, const struct vm *vm, const struct snapshot *s, const char *name,
	       struct err *err)
{
	cleanup_free char *path = xasprintf("%s/%s", vm->name, s->name);
	struct pool p = { .name = (char *)name, .vm = vm->id, .snapshot = s->id, .path = path,
			  .settings = { .spare_wait = SPARE_WAIT_DEFAULT } };
	int r = registry_pool_add(e->registry, &p, err);

	return r < 0 ? r : publish(e, err);
}

int task_publish(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(e);
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	cleanup_free char *message = NULL;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = check_name(list, t->text, err);
	if (r >= 0)
		r = add(e, vm, snapshot, t->text, err);
	if (r < 0) {
		err_wrap(err, "cannot publish the pool '%s'", t->text);
		engine_pools_set_last_error(e, err->msg);
		return r;
	}
	message = xasprintf("the pool '%s' publishes '%s'", t->text, snapshot->name);
	tell(e, "pool-published", vm->id, snapshot->id, t->text, message);
	return 0;
}

void engine_pool_publish(struct engine *e, const char *name, uint32_t vm_id, uint32_t snapshot_id,
			 engine_done *done, void *opaque)
{
	struct task *t = task_new(task_publish, done, opaque);

	t->snapshot = snapshot_id;
	t->text = xstrdup(name);
	task_submit(e, vm_id, t);
}

int engine_pool_rename(struct engine *e, uint32_t id, const char *name, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(e);
	cleanup_free char *message = NULL;
	const struct pool *p;
	int r = need_pool(list, id, &p, err);

	if (r < 0 || streq(p->name, name))
		return r;
	r = check_name(list, name, err);
	if (r >= 0)
		r = registry_pool_rename(e->registry, id, name, err);
	if (r >= 0)
		r = publish(e, err);
	if (r < 0)
		return err_wrap(err, "cannot rename the pool '%s'", p->name);
	message = xasprintf("the pool '%s' is '%s' now", p->name, name);
	tell(e, "pool-renamed", p->vm, p->snapshot, name, message);
	return 0;
}

int engine_pool_replace(struct engine *e, uint32_t id, const char *name, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(e);
	const struct pool *old = find_name(list, name), *now;
	cleanup_free char *message = NULL;
	int r = need_pool(list, id, &now, err);

	if (r < 0 || now == old)
		return r;
	if (!old)
		return engine_pool_rename(e, id, name, err);
	r = registry_pool_replace(e->registry, old->id, id, err);
	if (r >= 0)
		r = publish(e, err);
	if (r < 0)
		return err_wrap(err, "cannot point the pool '%s' at another snapshot", name);
	message = xasprintf("the pool '%s' publishes '%s' now", name, now->path);
	tell(e, "pool-replaced", now->vm, now->snapshot, name, message);
	return 0;
}

int engine_pool_withdraw(struct engine *e, uint32_t id, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(e);
	cleanup_free char *message = NULL;
	const struct pool *p;
	int r = need_pool(list, id, &p, err);

	if (r >= 0)
		r = registry_pool_forget(e->registry, id, err);
	if (r >= 0)
		r = publish(e, err);
	if (r < 0)
		return r;
	message = xasprintf("the pool '%s' was withdrawn", p->name);
	tell(e, "pool-withdrawn", p->vm, p->snapshot, p->name, message);
	return 0;
}

int engine_pool_set(struct engine *e, uint32_t id, const struct pool_settings *settings,
		    struct err *err)
{
	int r = registry_pool_set(e->registry, id, settings, err);

	return r < 0 ? r : publish(e, err);
}
