/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who could take the place of a VM. All is read from what is published: libvirt is not asked, and
 * nobody waits.
 *
 * That two VMs have as many processors and as much memory says nothing of what they are for. So a
 * VM of which only its definition is known is like no other one; else `auto` would put any machine
 * of the same size in its place. What was made of the VM itself is what it was in any case.
 */
#include "engine/failover.h"
#include "engine/recovery.h"

#include "common/timespec.h"
#include "engine/similarity.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm_list, vm_list_unref);
DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct pool_list, pool_list_unref);
DEFINE_CLEANUP(struct recovery_settings, recovery_settings_unref);

/* What candidates are looked for with. */
struct search {
	struct recovery_settings *settings;
	const struct vm *failed;
	bool described; /* it is known what it is for */
	struct timespec now;
	vec_of(struct candidate) found;
};

/* ---- what speaks against one, and what would be done with it ---- */

static bool runs(const struct vm *vm)
{
	return streq(vm->state, "running") || streq(vm->state, "idle");
}

static void judge_vm(struct engine *e, struct candidate *c, const struct vm *vm, unsigned ways)
{
	if (runs(vm))
		return;
	if (vm->active) {
		c->objection = xasprintf("it is %s", vm->state);
		return;
	}
	c->way = ways & RECOVER_BY_START ? RECOVER_BY_START : RECOVER_BY_CLONE;
	if (vm_latest(vm))
		c->snapshot = vm_latest(vm)->id;
	c->objection = failover_objection(e, vm);
	if (c->objection)
		return;
	if (!(ways & (RECOVER_BY_START | RECOVER_BY_CLONE)))
		c->objection = xstrdup("it does not run, and the policy has neither start nor clone");
	else if (c->way == RECOVER_BY_CLONE && !c->snapshot)
		c->objection = xstrdup("it does not run, the policy has no start, and there is no "
				       "snapshot of it to clone");
}

static void judge_pool(struct candidate *c, const struct pool *p, const struct vm *vm, unsigned ways)
{
	c->way = RECOVER_BY_CLONE;
	if (!vm || !vm_snapshot(vm, p->snapshot))
		c->objection = xasprintf("what it publishes is gone: %s", p->path);
	else if (!(ways & RECOVER_BY_CLONE))
		c->objection = xstrdup("the policy has no clone");
}

/* ---- finding ---- */

static struct candidate *add(struct search *s, enum candidate_kind kind, char *name,
			     const char *state, const struct feature_set *features)
{
	struct candidate *c = vec_add(&s->found);
	struct overlap o;

	features_overlap(&s->failed->features, features, s->settings, &o);
	*c = (struct candidate){ .kind = kind, .name = name, .state = state, .has = o.has,
				 .lacks = o.lacks, .too_much = o.too_much,
				 .similarity = overlap_similarity(&o, s->settings->measure) };
	return c;
}

static void add_vm(struct search *s, struct engine *e, const struct vm *vm)
{
	struct candidate *c = add(s, CANDIDATE_VM, xstrdup(vm->name), vm->state, &vm->features);

	c->vm = vm->id;
	judge_vm(e, c, vm, s->settings->ways);
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Spares are the pools'. */
static void add_vms(struct search *s, struct engine *e, const struct vm_list *vms)
{
	cleanup(clone_list_unref_p) struct clone_list *clones = engine_clones(e);
	cleanup_free uint32_t *spares = xcalloc(clones->n, sizeof(*spares));
	size_t n = 0;

	for (size_t i = 0; i < clones->n; i++)
		if (clones->clones[i]->spare)
			spares[n++] = clones->clones[i]->vm;
	qsort(spares, n, sizeof(*spares), compare_ids);
	for (size_t i = 0; i < vms->n; i++)
		if (vms->vms[i] != s->failed &&
		    !bsearch(&vms->vms[i]->id, spares, n, sizeof(*spares), compare_ids))
			add_vm(s, e, vms->vms[i]);
}

/* What a pool publishes is like the VM whose snapshot it is, as that is now. */
static void add_pools(struct search *s, struct engine *e, const struct vm_list *vms)
{
	static const struct feature_set nothing;
	cleanup(pool_list_unref_p) struct pool_list *pools = engine_pools(e);

	for (size_t i = 0; i < pools->n; i++) {
		const struct pool *p = &pools->pools[i];
		const struct vm *vm = vm_list_find(vms, p->vm);
		struct candidate *c;

		if (!s->described && vm != s->failed)
			continue;
		c = add(s, CANDIDATE_POOL, xasprintf("pool/%s", p->name), "template",
			vm ? &vm->features : &nothing);
		c->vm = p->vm;
		c->snapshot = p->snapshot;
		c->pool = p->id;
		if (vm == s->failed)
			c->similarity = 1;
		judge_pool(c, p, vm, s->settings->ways);
	}
}

static void add_own_snapshot(struct search *s)
{
	const struct snapshot *newest = vm_latest(s->failed);
	struct candidate *c;

	if (!newest || !(s->settings->ways & RECOVER_BY_SNAPSHOT))
		return;
	c = add(s, CANDIDATE_SNAPSHOT, xasprintf("snapshot/%s", newest->name), "snapshot",
		&s->failed->features);
	c->vm = s->failed->id;
	c->snapshot = newest->id;
	c->way = RECOVER_BY_SNAPSHOT;
	c->similarity = 1;
	if (timespec_compare(&newest->created, &s->now) < 0)
		c->lost = (timespec_to_ns(&s->now) - timespec_to_ns(&newest->created)) /
			  (double)NSEC_PER_SEC;
}

/* ---- the list ---- */

/* Whether anything that weighs something was said of it, and not by its definition alone. */
static bool is_described(const struct vm *vm, const struct recovery_settings *settings)
{
	static const struct feature_set nothing;
	struct overlap o;
	bool found = false;

	features_overlap(&vm->features, &nothing, settings, &o);
	for (size_t i = 0; i < o.lacks.n; i++)
		found |= o.lacks.features[i].source != FEATURE_DOMAIN;
	overlap_clear(&o);
	return found;
}

static int kind_order(const struct candidate *c)
{
	return c->kind == CANDIDATE_VM ? c->way != 0 || c->objection : 1 + c->kind;
}

static int best_first(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->similarity != y->similarity)
		return x->similarity > y->similarity ? -1 : 1;
	if (kind_order(x) != kind_order(y))
		return kind_order(x) < kind_order(y) ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void find_all(struct search *s, struct engine *e, const struct vm_list *vms)
{
	if (s->described)
		add_vms(s, e, vms);
	add_pools(s, e, vms);
	add_own_snapshot(s);
	for (size_t i = 0; i < s->found.n; i++)
		s->found.at[i].good = s->found.at[i].similarity >= s->settings->threshold;
	if (s->found.n)
		qsort(s->found.at, s->found.n, sizeof(*s->found.at), best_first);
}

int engine_candidates(struct engine *e, uint32_t vm_id, struct candidate_list **ret,
		      struct err *err)
{
	cleanup(recovery_settings_unref_p) struct recovery_settings *settings =
		engine_recovery_settings(e);
	cleanup(vm_list_unref_p) struct vm_list *vms = engine_vms(e);
	struct search s = { .settings = settings, .failed = vm_list_find(vms, vm_id) };

	if (!s.failed)
		return err_set(err, ENOENT, "there is no such VM any more");
	s.described = is_described(s.failed, settings);
	clock_gettime(CLOCK_REALTIME, &s.now);
	find_all(&s, e, vms);
	if (!s.described && s.found.n == 0)
		return err_set(err, ENODATA, "nothing is known of what '%s' is for: write its features, "
			       "of categories that have a weight", s.failed->name);
	*ret = xnew(struct candidate_list);
	**ret = (struct candidate_list){ s.found.at, s.found.n, steal_pointer(&vms) };
	return 0;
}

void candidate_list_free(struct candidate_list *list)
{
	if (!list)
		return;
	for (size_t i = 0; i < list->n; i++) {
		struct candidate *c = &list->candidates[i];

		free(c->name);
		free(c->objection);
		free(c->has.features);
		free(c->lacks.features);
		free(c->too_much.features);
	}
	free(list->candidates);
	vm_list_unref(list->vms);
	free(list);
}
