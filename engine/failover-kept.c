/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is kept of VMs for their recovery, in the registry and beside it.
 *
 * A line is a VM with those that have taken its place, one after the other: how often it crashes
 * is counted for all of them together, or a VM that cannot live would be replaced for ever.
 */
#include "engine/failover.h"

#include "engine/pool.h"

#include <errno.h>

DEFINE_CLEANUP(struct pool_list, pool_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

int failovers_open(struct engine *e, struct err *err)
{
	cleanup_free struct failover_vm *rows = NULL;
	size_t n = 0;
	int r = registry_failover_vms(e->registry, &rows, &n, err);

	for (size_t i = 0; i < n; i++)
		vec_push(&e->failover.kept, ((struct failover_kept){ .row = rows[i] }));
	return r;
}

void failovers_close(struct engine *e)
{
	vec_free(&e->failover.kept);
	pthread_mutex_destroy(&e->failover.keeping);
	pthread_cond_destroy(&e->failover.wake);
}

/* The lock is held. NULL if nothing is kept of it. */
static struct failover_kept *find(struct engine *e, uint32_t vm)
{
	for (size_t i = 0; i < e->failover.kept.n; i++)
		if (e->failover.kept.at[i].row.vm == vm)
			return &e->failover.kept.at[i];
	return NULL;
}

struct failover_kept failover_kept(struct engine *e, uint32_t vm)
{
	const struct failover_kept *k;
	LOCK_SCOPE(&e->lock);

	k = find(e, vm);
	return k ? *k : (struct failover_kept){ .row.vm = vm };
}

void failover_kept_all(struct engine *e, struct failover_kept **ret, size_t *ret_n)
{
	LOCK_SCOPE(&e->lock);

	*ret_n = e->failover.kept.n;
	*ret = xcalloc(*ret_n, sizeof(**ret));
	if (*ret_n)
		memcpy(*ret, e->failover.kept.at, *ret_n * sizeof(**ret));
}

uint32_t failover_line(struct engine *e, uint32_t vm)
{
	return failover_kept(e, vm).row.line ?: vm;
}

static struct failover_vm with(struct failover_vm old, const struct failover_vm *row,
			       unsigned facts)
{
	if (facts & FACT_AUTOMATIC)
		old.automatic = row->automatic;
	if (facts & FACT_GIVEN_UP)
		old.given_up = row->given_up;
	if (facts & FACT_RAN)
		old.ran = row->ran;
	if (facts & FACT_REPLACED)
		old.replaced = row->replaced;
	if (facts & FACT_LINE)
		old.line = row->line;
	return old;
}

static bool is_same(const struct failover_vm *a, const struct failover_vm *b)
{
	return a->automatic == b->automatic && a->given_up == b->given_up && a->ran == b->ran &&
	       a->replaced == b->replaced && a->line == b->line;
}

int failover_keep(struct engine *e, const struct failover_vm *row, unsigned facts, struct err *err)
{
	struct failover_vm old, now;
	struct failover_kept *k;
	int r;
	LOCK_SCOPE(&e->failover.keeping);

	old = failover_kept(e, row->vm).row;
	now = with(old, row, facts);
	if (is_same(&old, &now))
		return 0;
	r = registry_set_failover_vm(e->registry, &now, facts == FACT_RAN, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	k = find(e, row->vm);
	if (!k)
		k = vec_add(&e->failover.kept);
	k->row = now;
	failovers_want(e);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

bool failover_put_off(struct engine *e, uint32_t vm, struct timespec until)
{
	struct failover_kept *k;
	bool news;
	LOCK_SCOPE(&e->lock);

	k = find(e, vm);
	if (!k)
		return false;
	news = memcmp(&k->put_off, &until, sizeof(until)) != 0;
	k->put_off = until;
	return news;
}

bool failover_take_unseen(struct engine *e, uint32_t vm)
{
	struct slot *s;
	bool unseen;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm);
	unseen = s && s->ran_unseen;
	if (s)
		s->ran_unseen = false;
	return unseen;
}

int failover_forgive(struct engine *e, uint32_t vm, struct err *err)
{
	struct failover_vm row = { .vm = vm };
	int r = registry_failover_forgive(e->registry, failover_line(e, vm), err);

	return r < 0 ? r : failover_keep(e, &row, FACT_GIVEN_UP, err);
}

static const struct pool *pool_of_vm(const struct pool_list *pools, uint32_t vm)
{
	for (size_t i = 0; i < pools->n; i++)
		if (pools->pools[i].vm == vm)
			return &pools->pools[i];
	return NULL;
}

char *failover_objection(struct engine *e, const struct vm *vm)
{
	cleanup(pool_list_unref_p) struct pool_list *pools = engine_pools(e);
	const struct pool *pool = pool_of_vm(pools, vm->id);

	if (vm->active)
		return NULL;
	if (vm->crashed)
		return xstrdup("it has crashed itself");
	if (failover_kept(e, vm->id).row.replaced)
		return xstrdup("another VM has taken its place");
	return pool ? xasprintf("it is what the pool '%s' is made of", pool->name) : NULL;
}

/* ---- what is seen of it ---- */

bool engine_recovery_auto(struct engine *e, uint32_t vm_id)
{
	struct failover_vm row = failover_kept(e, vm_id).row;

	return row.automatic && !row.given_up;
}

/* It counts only from now on: one that is off since it crashed some day stays as it is; but not one
 * that was given up. */
int engine_set_recovery_auto(struct engine *e, uint32_t vm_id, bool on, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, vm_id);
	struct failover_vm old = failover_kept(e, vm_id).row;
	struct failover_vm row = { .vm = vm_id, .automatic = on };
	int r = failover_forgive(e, vm_id, err);

	failover_take_unseen(e, vm_id);
	row.ran = (vm && vm->active) || (old.given_up && old.ran);
	return r < 0 ? r : failover_keep(e, &row, FACT_AUTOMATIC | FACT_GIVEN_UP | FACT_RAN, err);
}
