/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How far spares have come. What is kept of one is written before anything is done by which it is
 * no more as it was made, so that none is ever handed out that was half started.
 */
#include "engine/pool.h"

#include <errno.h>
#include <unistd.h>

DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

static const char *const stage_names[] = {
	[STAGE_FRESH] = NULL, [STAGE_BOOTING] = "booting", [STAGE_PAUSED] = "paused",
	[STAGE_SAVED] = "saved", [STAGE_STALE] = "stale",
	[STAGE_UNNAMED] = "unnamed",
};

#define N_STAGES (sizeof(stage_names) / sizeof(stage_names[0]))

/* The lock is held. NULL if nothing is kept of it. */
static struct spare_progress *find(struct engine *e, uint32_t clone)
{
	for (size_t i = 0; i < e->pools.spares.n; i++)
		if (e->pools.spares.at[i].clone == clone)
			return &e->pools.spares.at[i];
	return NULL;
}

/* The lock is held. */
static void drop(struct engine *e, struct spare_progress *p)
{
	*p = e->pools.spares.at[--e->pools.spares.n];
}

static void note(struct engine *e, uint32_t clone, enum spare_stage stage, double started)
{
	struct spare_progress *p;
	LOCK_SCOPE(&e->lock);

	p = find(e, clone);
	if (stage == STAGE_FRESH) {
		if (p)
			drop(e, p);
		return;
	}
	if (p && p->stage == STAGE_STALE)
		return;
	if (!p)
		p = vec_add(&e->pools.spares);
	*p = (struct spare_progress){ clone, stage, started };
}

enum spare_stage spare_stage(struct engine *e, uint32_t clone)
{
	const struct spare_progress *p;
	LOCK_SCOPE(&e->lock);

	p = find(e, clone);
	return p ? p->stage : STAGE_FRESH;
}

double spare_started(struct engine *e, uint32_t clone)
{
	const struct spare_progress *p;
	LOCK_SCOPE(&e->lock);

	p = find(e, clone);
	return p ? p->started : 0;
}

int spare_set_stage(struct engine *e, uint32_t clone, enum spare_stage stage, struct err *err)
{
	int r = registry_set_spare(e->registry, clone, stage_names[stage], err);

	if (r >= 0)
		note(e, clone, stage, stage == STAGE_BOOTING ? metrics_now() : 0);
	return r;
}

int spares_outdate(struct engine *e, uint32_t snapshot, struct err *err)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	struct clone *const *clones;
	size_t n;
	int r = 0;

	clones = clone_list_of(list, snapshot, &n);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (clones[i]->spare)
			r = spare_set_stage(e, clones[i]->id, STAGE_STALE, err);
	LOCK_SCOPE(&e->lock);

	pools_want(e);
	return r;
}

void spares_tidy(struct engine *e, const struct clone_list *clones)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = e->pools.spares.n; i-- > 0;)
		if (!clone_list_find(clones, e->pools.spares.at[i].clone))
			drop(e, &e->pools.spares.at[i]);
}

static void read_one(void *engine, uint32_t clone, const char *stage)
{
	for (size_t i = STAGE_BOOTING; i < N_STAGES; i++)
		if (streq(stage, stage_names[i]))
			note(engine, clone, i, 0);
}

int spares_open(struct engine *e, struct err *err)
{
	return registry_spares(e->registry, read_one, e, err);
}

void spares_free(struct engine *e)
{
	for (size_t i = 0; i < e->pools.fills.n; i++)
		free(e->pools.fills.at[i].error);
	vec_free(&e->pools.fills);
	vec_free(&e->pools.spares);
}

char *spare_memory(const struct engine *e, const char *uuid)
{
	return xasprintf("%s/spares/%s.memory", e->state_dir, uuid);
}

int spare_forget_memory(const struct engine *e, const char *uuid, struct err *err)
{
	cleanup_free char *memory = spare_memory(e, uuid);

	if (unlink(memory) < 0 && errno != ENOENT)
		return err_sys(err, errno, "cannot delete %s", memory);
	return 0;
}

/* One that has snapshots of its own was used by somebody. */
bool spare_is_ready(struct engine *e, const struct pool *pool, const struct clone *c)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, c->vm);
	enum spare_stage stage = spare_stage(e, c->id);

	if (!c->spare || c->pool != pool->id || c->snapshot != pool->snapshot || !vm ||
	    vm->n_snapshots)
		return false;
	switch (pool->settings.spare_state) {
	case SPARE_DEFINED:
		return stage == STAGE_FRESH && !vm->active;
	case SPARE_PAUSED:
		return stage == STAGE_PAUSED && streq(vm->state, "paused");
	case SPARE_SAVED:
		return stage == STAGE_SAVED && !vm->active;
	}
	return false;
}

void engine_pool_health(struct engine *e, const struct pool *pool, struct pool_health *ret)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	struct pool_health h = { 0 };

	for (size_t i = 0; i < list->n; i++) {
		const struct clone *c = list->clones[i];

		h.spares += c->spare && c->pool == pool->id;
		h.ready += spare_is_ready(e, pool, c);
	}
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->pools.fills.n; i++)
		if (e->pools.fills.at[i].pool == pool->id)
			h.error = xstrdup(e->pools.fills.at[i].error);
	if (!h.error)
		h.error = xstrdup("");
	*ret = h;
}
