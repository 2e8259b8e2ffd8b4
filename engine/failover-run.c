/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One recovery. What is refused is refused before anything is touched; then the registry says that
 * it has begun, the VM is fenced, and the candidates are looked at, the best one first, until one
 * has taken its place. They are looked at anew each time: what they were may have changed since.
 *
 * The VM is had (slots_claim_within) while it is fenced, and again together with each candidate.
 * In between somebody may start it: then it is over (failover_check_off).
 */
#include "engine/failover.h"

#include "common/timespec.h"

#include <errno.h>

DEFINE_CLEANUP(struct candidate_list, candidate_list_free);

struct recovery {
	struct engine *e;
	struct slot *slot; /* of the VM that failed */
	struct failover *f;
	vec_of(char *) passed; /* names of candidates that are not tried again */
};

static void recovery_clear(struct recovery *x)
{
	for (size_t i = 0; i < x->passed.n; i++)
		free(x->passed.at[i]);
	vec_free(&x->passed);
}

static void set_text(char **text, const char *now)
{
	free(*text);
	*text = xstrdup(now);
}

static int note(struct recovery *x, struct err *err)
{
	return registry_failover_update(x->e->registry, x->f, err);
}

/* ---- the candidates ---- */

static bool is_passed(const struct recovery *x, const char *name)
{
	for (size_t i = 0; i < x->passed.n; i++)
		if (streq(x->passed.at[i], name))
			return true;
	return false;
}

static void pass_over(struct recovery *x, const char *name, const char *why)
{
	cleanup_free char *old = x->f->passed;

	vec_push(&x->passed, xstrdup(name));
	x->f->passed = xasprintf("%s%s: %s\n", old ?: "", name, why);
}

/* The best one, but for those that something speaks against. */
static const struct candidate *best_of(struct recovery *x, const struct candidate_list *list)
{
	for (size_t i = 0; i < list->n && list->candidates[i].good; i++) {
		const struct candidate *c = &list->candidates[i];

		if (is_passed(x, c->name))
			continue;
		if (!c->objection)
			return c;
		pass_over(x, c->name, c->objection);
	}
	return NULL;
}

static int find_named(const struct candidate_list *list, const char *name,
		      const struct candidate **ret, struct err *err)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct candidate *c = &list->candidates[i];

		if (!streq(c->name, name))
			continue;
		*ret = c;
		return c->objection ? err_set(err, EPERM, "'%s' cannot take its place: %s", name,
					      c->objection) : 0;
	}
	return err_set(err, ENOENT, "there is no candidate '%s': see candidates", name);
}

static int choose(struct recovery *x, const char *whom, const struct candidate_list *list,
		  const struct candidate **ret, struct err *err)
{
	if (whom)
		return find_named(list, whom, ret, err);
	*ret = best_of(x, list);
	if (*ret)
		return 0;
	if (x->passed.n)
		return err_set(err, ESRCH, "none of those that are similar enough can take its place: "
			       "see candidates and report");
	return err_set(err, ESRCH, "no candidate is similar enough: see candidates, and threshold");
}

/* ---- before ---- */

static enum failover_way way_of(const struct candidate *c)
{
	if (!c->way)
		return WAY_RUNS;
	return c->way == RECOVER_BY_START ? WAY_START : WAY_CLONE;
}

/* What libvirt alone knows; it is asked again when the VM that failed is off. */
static int check_one(struct recovery *x, const struct candidate *c, struct err *err)
{
	const struct slot *s = slot_find(x->e, c->vm);

	if (way_of(c) != WAY_START)
		return 0;
	return s ? failover_check_identity(x->e, s->uuid, x->slot->uuid, err) :
		   err_set(err, ENOENT, "it has gone");
}

static int try_choice(struct recovery *dry, const char *whom, const struct candidate_list *list,
		      struct err *err)
{
	for (;;) {
		const struct candidate *c = NULL;
		struct err why = ERR_INIT;
		int r = choose(dry, whom, list, &c, err);

		if (r < 0)
			return r;
		r = check_one(dry, c, &why);
		if (r >= 0)
			return 0;
		if (whom || r == -EHOSTDOWN)
			return err_set(err, -r, "'%s' cannot take its place: %s", c->name, why.msg);
		pass_over(dry, c->name, why.msg);
	}
}

/* Whether there would be somebody: what nobody can replace is not ended by force. */
static int check_choice(struct recovery *x, const char *whom, struct err *err)
{
	cleanup(candidate_list_free_p) struct candidate_list *list = NULL;
	struct failover unused = { 0 };
	struct recovery dry = { x->e, x->slot, &unused };
	int r = engine_candidates(x->e, x->f->vm, &list, err);

	if (r >= 0)
		r = try_choice(&dry, whom, list, err);
	recovery_clear(&dry);
	failover_clear(&unused);
	return r;
}

static bool has_failed(const struct hv_domain *d)
{
	return d->crashed || d->stuck || !d->active;
}

/* Without an order it is only for one that is off because it has crashed. */
static int check_state(struct recovery *x, const struct failover_wish *wish,
		       const struct hv_domain *d, struct err *err)
{
	if (!wish->ordered && (d->active || !d->crashed))
		return err_set(err, EALREADY, "the VM is %s", d->state);
	if (!d->persistent)
		return err_set(err, EOPNOTSUPP, "the VM is transient: once it is off nobody knows what "
			       "it was like");
	if (!has_failed(d) && !(wish->flags & RECOVER_FORCE))
		return err_set(err, EBUSY, "the VM is %s: write 'force' before it if it is to be ended, "
			       "and replaced", d->state);
	return wish->ordered ? check_choice(x, wish->whom, err) : 0;
}

static int begin(struct recovery *x, struct err *err)
{
	struct engine *e = x->e;
	int r;

	failover_put_off(e, x->f->vm, (struct timespec){ 0 });
	x->f->line = failover_line(e, x->f->vm);
	clock_gettime(CLOCK_REALTIME, &x->f->began);
	r = registry_failover_begin(e->registry, x->f, err);
	if (r >= 0)
		engine_event(e, &(struct engine_event){ "recovery-begun", x->f->vm }, "%s",
			     x->f->ordered ? "somebody has ordered that another VM takes its place"
					   : "it has crashed, and another VM is to take its place");
	return r;
}

/* Destroyed, and seen to be off; else nothing else happens. */
static int fence(struct recovery *x, const struct hv_domain *was, struct err *err)
{
	const struct hv_ops *ops = x->e->hv->ops;
	int r;

	free(x->f->fenced);
	x->f->fenced = xasprintf("%s%s", was->state, was->stuck ? " (I/O error)" :
				 was->crashed ? " (crashed)" : "");
	r = note(x, err);
	if (r >= 0)
		r = failover_at("fence", err);
	if (r >= 0)
		r = ops->destroy(x->e->hv, x->slot->uuid, err);
	if (r >= 0)
		r = failover_check_off(x->e, x->slot, err);
	look(x->e, x->slot, LOOK_AUTO, NULL);
	return r < 0 && r != -EHOSTDOWN ? err_wrap(err, "it cannot be seen to be off") : r;
}

/* For who has the VM. *ret_begun: the registry says so, and it has to be brought to its end. */
static int prepare(struct recovery *x, const struct failover_wish *wish, bool *ret_begun,
		   struct err *err)
{
	struct hv_domain d = { 0 };
	int r = slot_settle(x->e, x->slot, err);

	if (r >= 0)
		r = x->e->hv->ops->lookup(x->e->hv, x->slot->uuid, &d, err);
	if (r >= 0)
		r = check_state(x, wish, &d, err);
	if (r >= 0)
		r = begin(x, err);
	*ret_begun = r >= 0;
	if (r >= 0)
		r = fence(x, &d, err);
	free(d.name);
	return r;
}

/* ---- trying ---- */

static int try_one(struct recovery *x, const struct candidate *c, uint32_t *ret_vm, bool *ret_over,
		   struct err *err)
{
	struct failover *f = x->f;
	int r;

	set_text(&f->chosen, c->name);
	set_text(&f->replacement, NULL);
	f->vm_used = c->vm;
	f->snapshot = c->snapshot;
	f->similarity = c->similarity;
	f->way = way_of(c);
	r = note(x, err);
	if (r >= 0)
		r = failover_at("take", err);
	return r < 0 ? r : failover_take(x->e, x->slot, f, ret_vm, ret_over, err);
}

static bool is_stopped(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return e->failover.stopping;
}

/* If a named one cannot, no other one is taken: whoever named it wants that one. */
static int try_them(struct recovery *x, const char *whom, uint32_t *ret_vm, struct err *err)
{
	for (;;) {
		cleanup(candidate_list_free_p) struct candidate_list *list = NULL;
		const struct candidate *c = NULL;
		struct err why = ERR_INIT;
		bool over = false;
		int r = engine_candidates(x->e, x->f->vm, &list, err);

		if (r >= 0)
			r = choose(x, whom, list, &c, err);
		if (r < 0)
			return r;
		r = try_one(x, c, ret_vm, &over, &why);
		if (r >= 0)
			return r;
		if (is_stopped(x->e))
			return err_set(err, ESHUTDOWN, "kwsfs is ending");
		if (whom || over || r == -EHOSTDOWN)
			return err_set(err, -r, "%s: %s", c->name, why.msg);
		pass_over(x, c->name, why.msg);
	}
}

/* ---- afterwards ---- */

static double seconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (timespec_to_ns(&now) - timespec_to_ns(then)) / 1e9;
}

/* Who has taken its place is looked after as it was. */
static int keep(struct recovery *x, uint32_t vm, struct err *err)
{
	struct failover_vm old = failover_kept(x->e, x->f->vm).row, now = old;
	int r = x->f->ordered ? failover_forgive(x->e, x->f->vm, err) : 0;

	failover_take_unseen(x->e, x->f->vm);
	old.ran = false;
	old.replaced = true;
	now.vm = vm;
	now.automatic |= failover_kept(x->e, vm).row.automatic;
	now.line = x->f->line;
	now.given_up = false;
	now.ran = true;
	if (r >= 0 && x->f->way != WAY_RUNS)
		r = failover_keep(x->e, &now, FACT_AUTOMATIC | FACT_GIVEN_UP | FACT_RAN | FACT_LINE,
				  err);
	return r < 0 ? r : failover_keep(x->e, &old, FACT_RAN | FACT_REPLACED, err);
}

static int end_well(struct recovery *x, uint32_t vm, struct err *err)
{
	struct failover *f = x->f;
	int r = keep(x, vm, err);

	f->state = FAILOVER_DONE;
	f->seconds = seconds_since(&f->failed);
	set_text(&f->error, NULL);
	if (r >= 0)
		r = failover_at("record", err);
	if (r >= 0)
		r = note(x, err);
	if (r < 0)
		return r;
	if (f->way == WAY_RUNS)
		metrics_recovery_told(x->e);
	else
		metrics_recovery(x->e, f->seconds);
	engine_event(x->e, &(struct engine_event){ "recovery-done", f->vm, .new_name = f->replacement,
						   .seconds = f->seconds },
		     f->way == WAY_RUNS ? "'%s' runs, and is as good: nothing was started" :
					  "'%s' has taken its place", f->replacement);
	return 0;
}

static void end_badly(struct recovery *x, int code, const char *why)
{
	x->f->state = FAILOVER_FAILED;
	set_text(&x->f->error, why);
	note(x, NULL);
	metrics_recovery_failed(x->e);
	engine_set_last_error(x->e, x->f->vm, why);
	engine_recovery_set_last_error(x->e, why);
	engine_event(x->e, &(struct engine_event){ "recovery-failed", x->f->vm, .code = code,
						   .weight = EVENT_TROUBLE }, "%s", why);
}

static void stay_open(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	e->failover.unfinished = true;
}

/* Without libvirt, or when kwsfs ends, it stays begun, to be gone on with; but not what somebody
 * waits for. */
static int end(struct recovery *x, int r, uint32_t vm, struct err *err)
{
	if (r >= 0)
		r = end_well(x, vm, err);
	if (r >= 0)
		return 0;
	err_wrap(err, "cannot be recovered");
	if (!x->f->ordered && (r == -EHOSTDOWN || r == -ESHUTDOWN))
		stay_open(x->e);
	else
		end_badly(x, -r, err->msg);
	return r;
}

/* ---- all of it ---- */

int failover_run(struct engine *e, const struct failover_wish *wish, struct err *err)
{
	cleanup(failover_clear) struct failover f = { .vm = wish->vm, .failed = wish->failed,
						      .ordered = wish->ordered };
	cleanup(recovery_clear) struct recovery x = { e, slot_find(e, wish->vm), &f };
	uint32_t vm = 0;
	bool begun;
	int r;

	if (!x.slot)
		return err_set(err, ENOENT, "there is no such VM any more");
	r = slots_claim_within(e, &x.slot, 1, FAILOVER_CLAIM_SECONDS, err);
	if (r < 0)
		return r;
	r = prepare(&x, wish, &begun, err);
	slots_release(e, &x.slot, 1);
	if (!begun)
		return r;
	if (r >= 0)
		r = try_them(&x, wish->whom, &vm, err);
	return end(&x, r, vm, err);
}

/* Somebody waited for it, and has been told nothing. */
static int give_up_order(struct recovery *x, struct err *err)
{
	bool named = x->f->way == WAY_CLONE && x->f->replacement[0];

	err_set(err, ECANCELED, "kwsfs ended while it was recovered%s%s%s: order it again", named ?
		", and may have made the clone '" : "", named ? x->f->replacement : "",
		named ? "'" : "");
	end_badly(x, ECANCELED, err->msg);
	return -ECANCELED;
}

int failover_go_on(struct engine *e, struct failover *f, struct err *err)
{
	cleanup(recovery_clear) struct recovery x = { e, slot_find(e, f->vm), f };
	struct err why = ERR_INIT;
	uint32_t vm = 0;
	bool over = false;
	int r;

	if (f->ordered)
		return give_up_order(&x, err);
	if (!x.slot)
		return end(&x, err_set(err, ENOENT, "there is no such VM any more"), 0, err);
	r = failover_take_again(e, x.slot, f, &vm, &over, &why);
	if (r < 0 && !over && r != -EHOSTDOWN)
		r = try_them(&x, NULL, &vm, err);
	else if (r < 0)
		err_set(err, -r, "%s", why.msg);
	return end(&x, r, vm, err);
}
