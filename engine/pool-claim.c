/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking a spare. Who takes one has the source of the clones for itself, and so nobody else takes
 * one of the same snapshot; but the thread that makes spares (pool-fill.c) may be at work on one,
 * or an admin: one that is not free at once is passed over, for the next one is as good.
 *
 * One that is off and was never started is renamed by libvirt and defined anew, with what hangs on
 * the name. A booted one has its name until it is off: libvirt renames no VM that runs, and
 * restores none under another name than it was saved under. So it is given its name as a title,
 * and goes on; pool-fill.c has it renamed when it is off. Its MACs and its identity are those that
 * it booted with.
 *
 * Steps: `name`, `start`, `record`. Found open: once it is named and runs as it should the rest is
 * done, else it is a spare again, or, if its guest may have run, none that is ever handed out.
 */
#include "engine/pool.h"

#include "engine/clone-xml.h"
#include "engine/op.h"

#include <errno.h>

DEFINE_CLEANUP(struct clone, clone_unref);
DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct pool_list, pool_list_unref);

/* plan: name, the spare's; new_name; xml, as it was defined; flags, enum spare_state; clone. */

static bool is_booted(const struct op *op)
{
	return op->plan->flags != SPARE_DEFINED;
}

/* ---- steps ---- */

static int rename_and_define(struct op *op, struct err *err)
{
	const struct hv_ops *ops = op->e->hv->ops;
	cleanup_free char *xml = NULL;
	int r = clone_xml_rename(op->plan->xml, op->plan->new_name, &xml, err);

	if (r >= 0)
		r = ops->rename(op->e->hv, op->slot->uuid, op->plan->new_name, err);
	return r < 0 ? r : ops->define(op->e->hv, xml, err);
}

static int step_name(struct op *op, struct err *err)
{
	if (!is_booted(op))
		return rename_and_define(op, err);
	return op->e->hv->ops->set_title(op->e->hv, op->slot->uuid, op->plan->new_name, err);
}

static int undo_name(struct op *op, struct err *err)
{
	const struct hv_ops *ops = op->e->hv->ops;
	int r;

	if (is_booted(op))
		return 0; /* it is given up: see undo_start */
	r = ops->rename(op->e->hv, op->slot->uuid, op->plan->name, err);
	return r < 0 ? r : ops->define(op->e->hv, op->plan->xml, err);
}

/* It is what it was when it was saved, and had no such title. */
static int restore(struct op *op, const char *memory, struct err *err)
{
	const struct hv_ops *ops = op->e->hv->ops;
	int r = ops->restore(op->e->hv, memory, err);

	return r < 0 ? r : ops->set_title(op->e->hv, op->slot->uuid, op->plan->new_name, err);
}

static int step_start(struct op *op, struct err *err)
{
	cleanup_free char *memory = spare_memory(op->e, op->slot->uuid);

	switch ((enum spare_state)op->plan->flags) {
	case SPARE_DEFINED:
		return 0;
	case SPARE_PAUSED:
		return op->e->hv->ops->resume(op->e->hv, op->slot->uuid, err);
	case SPARE_SAVED:
		return restore(op, memory, err);
	}
	return 0;
}

/* From the plan's first step on it may have run: nobody gets it any more. */
static int undo_start(struct op *op, struct err *err)
{
	return is_booted(op) ? spare_set_stage(op->e, op->plan->clone, STAGE_BOOTING, err) : 0;
}

/* The stage first: of what is a spare no more nobody asks for it. */
static int step_record(struct op *op, struct err *err)
{
	cleanup(clone_unref_p) struct clone *was = NULL;
	struct clone now;
	int r = clones_get(op->e, op->plan->clone, &was, err);

	if (r >= 0 && is_booted(op))
		r = spare_set_stage(op->e, op->plan->clone, STAGE_UNNAMED, err);
	if (r < 0)
		return r;
	now = *was;
	now.name = op->plan->new_name;
	now.spare = false;
	r = clones_update(op->e, &now, err);
	return r < 0 ? r : spare_forget_memory(op->e, op->slot->uuid, err);
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	struct hv_domain state = { 0 };
	bool done;
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = op->e->hv->ops->lookup(op->e->hv, op->slot->uuid, &state, err);
	if (r < 0)
		return r == -ENOENT ? -ECANCELED : r;
	done = is_booted(op) ? streq(state.state, "running") : streq(state.name, op->plan->new_name);
	free(state.name);
	/* `name` is done again: libvirt may have the new name and the old definition. */
	if (!done || op->failed)
		return -ECANCELED;
	*ret_from = is_booted(op) ? op->kind->no_return : 0;
	return 0;
}

static const struct step steps[] = {
	{ "name", step_name, undo_name },
	{ "start", step_start, undo_start },
	{ "record", step_record, NULL },
};

const struct op_kind claim_op = { "claim", steps, 3, 2, settle };

/* ---- taking one ---- */

/* What is published may be a moment old; this is not. */
static int check(struct engine *e, const struct pool *pool, const struct slot *s, struct err *err)
{
	enum spare_state wanted = pool->settings.spare_state;
	struct hv_domain d = { 0 };
	bool fits;
	int r = e->hv->ops->lookup(e->hv, s->uuid, &d, err);

	if (r < 0)
		return r;
	fits = wanted == SPARE_PAUSED ? streq(d.state, "paused") : !d.active && !d.saved;
	free(d.name);
	return fits ? 0 : err_set(err, EAGAIN, "the spare was started, or ended, by somebody");
}

static bool is_spare(struct engine *e, uint32_t id)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	const struct clone *now = clone_list_find(list, id);

	return now && now->spare;
}

/* It will be finished, or undone, later. */
static bool is_open(struct engine *e, const struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	return s->unsettled;
}

static int take(struct engine *e, const struct pool *pool, struct slot *s, const struct clone *c,
		const char *name, struct err *err)
{
	struct plan *plan = plan_new();
	int r = check(e, pool, s, err);

	plan->name = xstrdup(c->name);
	plan->new_name = xstrdup(name);
	plan->clone = c->id;
	plan->flags = pool->settings.spare_state;
	if (r >= 0)
		r = e->hv->ops->domain_xml(e->hv, s->uuid, true, &plan->xml, err);
	if (r < 0) {
		plan_free(plan);
		return r;
	}
	r = op_run(e, s, &claim_op, plan, err);
	/* What is only to be recorded yet is not given up. */
	if (r < 0 && is_open(e, s) && slot_settle(e, s, NULL) >= 0 && !is_spare(e, c->id))
		r = 0;
	look(e, s, LOOK_AUTO, NULL);
	return r;
}

/* -EAGAIN if it is not to be had now. *ret_final: no other one may be taken in its place. */
static int try_to_take(struct engine *e, const struct pool *pool, const struct clone *c,
		       const char *name, bool *ret_final, struct err *err)
{
	struct slot *s = slot_find(e, c->vm);
	int r;

	if (!s || !spare_is_ready(e, pool, c) || !slot_try_claim(e, s))
		return -EAGAIN;
	r = slot_settle(e, s, err);
	if (r >= 0) /* it may be at an end now what was begun with it, or removed */
		r = is_spare(e, c->id) && spare_is_ready(e, pool, c) ?
			    take(e, pool, s, c, name, err) : -EAGAIN;
	/* One that is open may yet become the instance; the others are for no clone at all. */
	*ret_final = r == -EEXIST || r == -EHOSTDOWN || is_open(e, s);
	slots_release(e, &s, 1);
	return r;
}

static void tell(struct engine *e, const struct pool *pool, const struct clone *c,
		 const char *name, double seconds)
{
	metrics_claim(e, seconds);
	engine_event(e, &(struct engine_event){ "clone-claimed", c->source,
						.snapshot_id = c->snapshot, .new_name = name,
						.seconds = seconds },
		     "the spare '%s' of the pool '%s' was taken as '%s'", c->name, pool->name, name);
}

int pool_claim(struct engine *e, struct slot *source, const struct snapshot *snapshot,
	       const char *name, uint32_t *ret_clone, struct err *err)
{
	cleanup(pool_list_unref_p) struct pool_list *pools = engine_pools(e);
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	const struct pool *pool = pool_list_of(pools, snapshot->id);
	struct clone *const *clones = NULL;
	double began = metrics_now();
	size_t n = 0;
	int r = pool && pool->settings.spare ? clone_check_name(e, name, err) : -ENOENT;

	if (r < 0)
		return r;
	clones = clone_list_of(list, snapshot->id, &n);
	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;
		bool final = false;

		r = try_to_take(e, pool, clones[i], name, &final, &why);
		if (r >= 0) {
			tell(e, pool, clones[i], name, metrics_now() - began);
			*ret_clone = clones[i]->id;
			return 0;
		}
		if (r != -EAGAIN && final)
			return err_set(err, -r, "%s", why.msg);
		if (r != -EAGAIN)
			pool_complain(e, pool, r, why.msg);
	}
	return -ENOENT;
}
