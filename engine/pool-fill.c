/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that keeps as many spares ready as the pools say. It looks at what there is, does the
 * next thing that brings a pool nearer to what it wants, and looks again: so after a restart, or
 * when somebody changes a setting in the middle, it goes on from what it finds. It sleeps until
 * something changes, or a booting guest may be up.
 *
 * A spare that is not as it should be is removed, and another one made: of an overlay that a guest
 * may have written to nothing can be said any more. One with snapshots of its own was used by
 * somebody, and is left alone.
 */
#include "engine/pool.h"

#include <errno.h>

DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct pool_list, pool_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

#define RETRY_SECONDS 10 /* after a failure; after the next one twice as long, ... */
#define RETRY_DOUBLINGS 6
#define LOOK_SECONDS 1 /* at a guest that boots */

void pools_want(struct engine *e)
{
	e->pools.wanted = true;
	pthread_cond_signal(&e->pools.wake);
}

bool pools_are_stopping(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return e->pools.stopping;
}

/* ---- failures ---- */

/* The lock is held; good until it is let go of. */
static struct pool_fill *fill_of(struct engine *e, uint32_t pool)
{
	struct pool_fill *f;

	for (size_t i = 0; i < e->pools.fills.n; i++)
		if (e->pools.fills.at[i].pool == pool)
			return &e->pools.fills.at[i];
	f = vec_add(&e->pools.fills);
	f->pool = pool;
	return f;
}

void pool_complain(struct engine *e, const struct pool *pool, int r, const char *msg)
{
	cleanup_free char *what = xasprintf("pool '%s': %s", pool->name, msg);
	struct pool_fill *f;
	bool news;

	pthread_mutex_lock(&e->lock);
	news = !streq(fill_of(e, pool->id)->error, msg) && !e->pools.stopping;
	pthread_mutex_unlock(&e->lock);
	/* First, for who sees in `status` that something is wrong looks there. */
	if (news)
		engine_pools_set_last_error(e, what);
	pthread_mutex_lock(&e->lock);
	f = fill_of(e, pool->id);
	free(f->error);
	f->error = xstrdup(msg);
	pthread_mutex_unlock(&e->lock);
	if (!news)
		return;
	engine_event(e, &(struct engine_event){ "pool-trouble", pool->vm, pool->snapshot, .code = -r,
						.weight = EVENT_TROUBLE }, "%s", what);
}

static void put_off(struct engine *e, const struct pool *pool)
{
	struct pool_fill *f;
	LOCK_SCOPE(&e->lock);

	f = fill_of(e, pool->id);
	f->not_before = time(NULL) + (RETRY_SECONDS << f->failures);
	if (f->failures < RETRY_DOUBLINGS)
		f->failures++;
}

/* One is ready. */
static void went_well(struct engine *e, const struct pool *pool)
{
	struct pool_fill *f;
	LOCK_SCOPE(&e->lock);

	f = fill_of(e, pool->id);
	free(f->error);
	*f = (struct pool_fill){ .pool = pool->id };
}

static time_t put_off_until(struct engine *e, const struct pool *pool)
{
	LOCK_SCOPE(&e->lock);

	return fill_of(e, pool->id)->not_before;
}

/* ---- what is to be done ---- */

enum todo { NOTHING, WAIT, REMOVE, START, SUSPEND, SAVE };

/* Its agent answers, or it has had its time. */
static bool is_up(struct engine *e, const struct pool *pool, const struct clone *c)
{
	double started = spare_started(e, c->id);

	if (started && metrics_now() - started >= pool->settings.spare_wait)
		return true;
	if (!started && pool->settings.spare_wait == 0)
		return true;
	return e->hv->ops->agent_answers(e->hv, c->uuid);
}

static enum todo todo_when_booting(struct engine *e, const struct pool *pool,
				   const struct clone *c, bool active)
{
	if (!active || pool->settings.spare_state == SPARE_DEFINED)
		return REMOVE;
	if (!is_up(e, pool, c))
		return WAIT;
	return pool->settings.spare_state == SPARE_PAUSED ? SUSPEND : SAVE;
}

/* `pool` NULL: it has gone. */
static enum todo todo_with(struct engine *e, const struct pool *pool, const struct clone *c)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, c->vm);
	enum spare_stage stage = spare_stage(e, c->id);

	if (vm && vm->n_snapshots)
		return NOTHING;
	if (!pool || !vm || c->snapshot != pool->snapshot)
		return REMOVE;
	if (spare_is_ready(e, pool, c))
		return NOTHING;
	if (stage == STAGE_BOOTING)
		return todo_when_booting(e, pool, c, vm->active);
	if (stage == STAGE_FRESH && !vm->active)
		return START;
	return REMOVE;
}

static int carry_out(struct engine *e, const struct clone *c, enum todo todo, struct err *err)
{
	switch (todo) {
	case START:
		return spare_start(e, c, err);
	case SUSPEND:
		return spare_suspend(e, c, err);
	case SAVE:
		return spare_save(e, c, err);
	case REMOVE:
		return spare_remove(e, c, err);
	case NOTHING:
	case WAIT:
		break;
	}
	return 0;
}

/* ---- one pool ---- */

static void keep_earlier(time_t *next, time_t t)
{
	if (t && (!*next || t < *next))
		*next = t;
}

/* The first thing that is to be done, and with which; with none: one is to be made. While a guest
 * boots no other one is started: the machine is for those who work. */
static enum todo next_of(struct engine *e, const struct pool *pool, const struct clone_list *list,
			 const struct clone **ret, bool *ret_wait)
{
	size_t good = 0;

	for (size_t i = 0; i < list->n; i++) {
		const struct clone *c = list->clones[i];
		enum todo todo;

		if (!c->spare || c->pool != pool->id)
			continue;
		todo = good >= pool->settings.spare ? REMOVE : todo_with(e, pool, c);
		*ret_wait |= todo == WAIT;
		good += todo == WAIT || (todo == NOTHING && spare_is_ready(e, pool, c));
		if (todo == NOTHING || todo == WAIT || (todo == START && *ret_wait))
			continue;
		*ret = c;
		return todo;
	}
	*ret = NULL;
	return good < pool->settings.spare && !*ret_wait ? START : NOTHING;
}

/* Whether the spare is ready when that was done. */
static bool is_ready_then(const struct pool *pool, const struct clone *c, enum todo todo)
{
	if (!c)
		return pool->settings.spare_state == SPARE_DEFINED;
	return todo == SUSPEND || todo == SAVE;
}

/* Whether something was done, so that it is worth while to look again at once. */
static bool see_to(struct engine *e, const struct pool *pool, time_t *next)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	time_t not_before = put_off_until(e, pool), now = time(NULL);
	const struct clone *c = NULL;
	struct err err = ERR_INIT;
	bool waits = false;
	enum todo todo;
	int r;

	if (not_before > now) {
		keep_earlier(next, not_before);
		return false;
	}
	todo = next_of(e, pool, list, &c, &waits);
	if (waits)
		keep_earlier(next, now + LOOK_SECONDS);
	if (todo == NOTHING)
		return false;
	r = c ? carry_out(e, c, todo, &err) : spare_make(e, pool, list, &err);
	if (r == -ESHUTDOWN || r == -EHOSTDOWN)
		return false; /* looked at again when it is back */
	if (r >= 0 && is_ready_then(pool, c, todo)) {
		went_well(e, pool);
	} else if (r < 0 && r != -EAGAIN) {
		put_off(e, pool);
		pool_complain(e, pool, r, err.msg);
	}
	return true;
}

/* ---- what is no pool's ---- */

static bool is_off(struct engine *e, const struct clone *c)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, c->vm);

	return vm && !vm->active;
}

static void tell_once(struct engine *e, uint32_t vm, int r, const char *what)
{
	cleanup_free char *last = engine_last_error(e, vm);

	if (!streq(last, what))
		engine_tell(e, vm, r, what);
}

static void see_to_others(struct engine *e, const struct pool_list *pools)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);

	spares_tidy(e, list);
	for (size_t i = 0; i < list->n && !pools_are_stopping(e); i++) {
		const struct clone *c = list->clones[i];
		struct err err = ERR_INIT;
		int r = 0;

		if (!c->pool)
			continue; /* as most are: it was never a spare */
		if (c->spare && !pool_list_find(pools, c->pool) && todo_with(e, NULL, c) == REMOVE)
			r = spare_remove(e, c, &err);
		else if (!c->spare && spare_stage(e, c->id) == STAGE_UNNAMED && is_off(e, c))
			r = instance_rename(e, c, &err);
		if (r < 0 && r != -EAGAIN && r != -ESHUTDOWN && r != -EHOSTDOWN)
			tell_once(e, c->vm, r, err.msg);
	}
}

/* ---- the thread ---- */

/* When to look again by itself; 0: when something changes. */
static time_t see_to_all(struct engine *e)
{
	cleanup(pool_list_unref_p) struct pool_list *pools = engine_pools(e);
	time_t next = 0;
	bool again = false;

	see_to_others(e, pools);
	for (size_t i = 0; i < pools->n && !pools_are_stopping(e); i++)
		again |= see_to(e, &pools->pools[i], &next);
	return again ? time(NULL) : next;
}

/* The lock is held. */
static void sleep_until(struct engine *e, time_t next)
{
	struct timespec until = { .tv_sec = next };

	while (!e->pools.wanted && !e->pools.stopping) {
		if (!next)
			pthread_cond_wait(&e->pools.wake, &e->lock);
		else if (pthread_cond_timedwait(&e->pools.wake, &e->lock, &until) == ETIMEDOUT)
			break;
	}
}

static void *pool_thread(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	while (!e->pools.stopping) {
		time_t next = 0;

		e->pools.wanted = false;
		if (e->connected) {
			pthread_mutex_unlock(&e->lock);
			next = see_to_all(e);
			pthread_mutex_lock(&e->lock);
		}
		sleep_until(e, next);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int pools_start(struct engine *e, struct err *err)
{
	int r = pthread_create(&e->pools.thread, NULL, pool_thread, e);

	if (r)
		return err_sys(err, r, "cannot start a thread");
	e->pools.started = true;
	return 0;
}

void pools_stop(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->pools.stopping = true;
	pthread_cond_signal(&e->pools.wake);
	pthread_mutex_unlock(&e->lock);
	if (e->pools.started)
		pthread_join(e->pools.thread, NULL);
	e->pools.started = false;
}
