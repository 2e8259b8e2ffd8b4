/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper: one thread that sees what VMs are to do by themselves. It sleeps until the
 * next thing is due (a snapshot expires, the calendar says so), or until something
 * changes: a snapshot came, a knob was turned, an image was closed, libvirt is back. It
 * does nothing itself, but puts tasks into the VMs' queues, one at a time for each VM
 * and each for one snapshot only, so that a mkdir waits for one deletion at the most.
 *
 * Time and number (expires, ttl, max_count) count at once. The keep_ rules are carried
 * out after each snapshot of the schedule, when prune_schedule says so, and when
 * somebody writes to .kws/prune: a snapshot taken by hand does not vanish with the
 * next one only because it is of the same day.
 *
 * When something was last done by the calendar is in the registry. The next moment is the
 * first after that; if it has passed while nobody was there it is made up for, once.
 *
 * Nobody tells when a file system fills up. So those with a min_free are looked at now and
 * then, and of all VMs on them the oldest snapshot that may go goes; then not another one
 * before its layers are merged, because only that makes room.
 */
#include "engine/calendar.h"
#include "engine/policy.h"

#include "common/timespec.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm, vm_unref);

#define RETRY_SECONDS 10 /* after a failure; after the next one twice as long, ... */
#define RETRY_DOUBLINGS 8
#define ROOM_SECONDS 10

static const char *const timer_names[N_TIMERS] = {
	[TIMER_SNAPSHOT] = "schedule", [TIMER_PRUNE] = "prune_schedule",
};

/* ---- waking it ---- */

void keeper_want(struct engine *e, struct slot *s)
{
	s->care.wanted = true;
	pthread_cond_signal(&e->keeper_wake);
}

void keeper_want_all(struct engine *e)
{
	for (size_t i = 0; i < e->slots.n; i++)
		keeper_want(e, e->slots.at[i]);
}

void keeper_free(struct slot *s)
{
	for (size_t k = 0; k < N_TIMERS; k++)
		free(s->care.timers[k].expression);
	free(s->care.error);
}

/* ---- the calendar ---- */

/* The moment from which the next one is counted. A timer that is set anew counts from now;
 * one that was set in an earlier process, from when it last did something. */
static int timer_base(struct engine *e, struct slot *s, enum timer_kind k, bool anew, time_t *ret,
		      struct err *err)
{
	int r = anew ? -ENOENT : registry_ran(e->registry, s->id, timer_names[k], ret, err);

	if (r != -ENOENT)
		return r;
	*ret = time(NULL);
	return registry_set_ran(e->registry, s->id, timer_names[k], *ret, err);
}

static void timer_complain(struct engine *e, struct slot *s, enum timer_kind k,
			   const struct err *err)
{
	cleanup_free char *what = xasprintf("%s is not kept: %s", timer_names[k], err->msg);

	engine_tell(e, s->id, -err->code, what);
}

/* `expression` is NULL for never. */
static void timer_set(struct engine *e, struct slot *s, enum timer_kind k, const char *expression)
{
	struct err err = ERR_INIT;
	struct timer *t = &s->care.timers[k];
	time_t base, next = CALENDAR_NEVER;
	bool same, known;
	int r = 0;

	pthread_mutex_lock(&e->lock);
	known = t->known;
	same = known && streq(t->expression, expression);
	pthread_mutex_unlock(&e->lock);
	if (same)
		return;
	if (expression) {
		r = timer_base(e, s, k, known, &base, &err);
		if (r >= 0)
			r = calendar_next(expression, base, &next, &err);
	}
	pthread_mutex_lock(&e->lock);
	free(t->expression);
	*t = (struct timer){ true, xstrdup(expression), next };
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		timer_complain(e, s, k, &err);
}

/* What was due by the calendar was done. */
static int timer_ran(struct engine *e, struct slot *s, enum timer_kind k, struct err *err)
{
	int r = registry_set_ran(e->registry, s->id, timer_names[k], time(NULL), err);
	LOCK_SCOPE(&e->lock);

	/* As in a new process: it is counted from what the registry says now. */
	free(s->care.timers[k].expression);
	s->care.timers[k] = (struct timer){ 0 };
	return r;
}

/* The lock is held. */
static bool is_due(const struct slot *s, enum timer_kind k, time_t now)
{
	return s->care.timers[k].next && s->care.timers[k].next <= now;
}

/* ---- tasks ---- */

/* Takes the snapshot of the schedule. */
static int task_scheduled(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	cleanup(policy_clear) struct policy p = { 0 };
	cleanup_free char *name = NULL;
	int r;

	policy_of(e, s, &p);
	r = policy_snapshot_name(p.schedule_name, time(NULL), &name, err);
	if (r >= 0)
		r = snapshot_take(e, s, name, err);
	if (r == -EHOSTDOWN)
		return r; /* made up for when it is back */
	/* One that failed is not tried again before the next one is due. */
	timer_ran(e, s, TIMER_SNAPSHOT, NULL);
	pthread_mutex_lock(&e->lock);
	s->care.all_rules = true;
	pthread_mutex_unlock(&e->lock);
	return r < 0 ? err_wrap(err, "the scheduled snapshot was not taken") : 0;
}

/* Whether it is news. The lock is held. */
static bool note_result(struct slot *s, int r, const struct err *err)
{
	bool news = r < 0 && !streq(s->care.error, err->msg);

	free(s->care.error);
	s->care.error = r < 0 ? xstrdup(err->msg) : NULL;
	s->care.not_before = r < 0 ? time(NULL) + (RETRY_SECONDS << s->care.failures) : 0;
	s->care.failures = r >= 0 ? 0 : s->care.failures < RETRY_DOUBLINGS ? s->care.failures + 1 :
									     RETRY_DOUBLINGS;
	s->care.at_work = false;
	s->care.wanted = r >= 0;
	return news;
}

struct submitted {
	struct engine *e;
	struct slot *s;
};

static void task_ended(void *opaque, int r, const struct err *err)
{
	struct submitted *sub = opaque;
	struct engine *e = sub->e;
	bool news;

	pthread_mutex_lock(&e->lock);
	news = note_result(sub->s, r, err) && !e->stopping;
	pthread_cond_signal(&e->keeper_wake);
	pthread_mutex_unlock(&e->lock);
	if (news)
		engine_tell(e, sub->s->id, r, err->msg);
	free(sub);
}

/* care.at_work is set already. */
static void submit(struct engine *e, struct slot *s, task_fn *run, unsigned flags)
{
	struct submitted *sub = xnew(struct submitted);
	struct task *t = task_new(run, task_ended, sub);

	*sub = (struct submitted){ e, s };
	t->flags = flags;
	task_submit(e, s->id, t);
}

/* ---- one VM ---- */

static bool has(const struct vm *vm, const struct verdict *verdicts, bool waiting)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		if (waiting ? verdicts[i].waits : verdicts[i].goes)
			return true;
	return false;
}

/* When the next snapshot expires that may; 0 if none does. */
static time_t next_expiry(const struct vm *vm, const struct retention *r, time_t now)
{
	time_t next = 0;

	for (size_t i = 0; i < vm->n_snapshots; i++) {
		time_t t = retention_expiry(r, &vm->snapshots[i]);

		if (!vm->snapshots[i].pinned && t != EXPIRES_NEVER && t > now &&
		    (!next || t < next))
			next = t;
	}
	return next;
}

static void keep_earlier(time_t *next, time_t t)
{
	if (t && (!*next || t < *next))
		*next = t;
}

/* Nothing is to be done now: when is? `now` is from before it was looked for: what expires since is
 * yet to come. */
static void plan_ahead(struct engine *e, struct slot *s, const struct policy *p,
		       const struct vm *vm, time_t now, bool waits)
{
	struct care *care = &s->care;
	LOCK_SCOPE(&e->lock);

	care->all_rules = false;
	care->for_readers = waits;
	care->has_floor = p->min_free.bytes || p->min_free.percent;
	care->expiry = next_expiry(vm, &p->retention, now);
	care->next = care->expiry;
	for (size_t k = 0; k < N_TIMERS; k++)
		keep_earlier(&care->next, care->timers[k].next);
}

/* Whether it has put a task into the queue. */
static bool look_after(struct engine *e, struct slot *s, const struct vm *vm)
{
	cleanup(policy_clear) struct policy p = { 0 };
	cleanup_free struct verdict *verdicts = NULL;
	time_t now = time(NULL);
	bool snapshot_due, prune_due, all_rules;

	policy_of(e, s, &p);
	timer_set(e, s, TIMER_SNAPSHOT, p.schedule);
	timer_set(e, s, TIMER_PRUNE, retention_has_keep_rules(&p.retention) ? p.prune_schedule : NULL);

	pthread_mutex_lock(&e->lock);
	snapshot_due = is_due(s, TIMER_SNAPSHOT, now);
	prune_due = is_due(s, TIMER_PRUNE, now);
	all_rules = s->care.all_rules || prune_due;
	pthread_mutex_unlock(&e->lock);

	verdicts = prune_plan(e, s, vm, all_rules ? PRUNE_ALL_RULES : 0);
	if (snapshot_due) {
		submit(e, s, task_scheduled, 0);
		return true;
	}
	if (has(vm, verdicts, false)) {
		submit(e, s, task_prune, (all_rules ? PRUNE_ALL_RULES : 0) | PRUNE_ONE);
		return true;
	}
	if (prune_due && timer_ran(e, s, TIMER_PRUNE, NULL) >= 0)
		timer_set(e, s, TIMER_PRUNE, p.prune_schedule);
	plan_ahead(e, s, &p, vm, now, has(vm, verdicts, true));
	return false;
}

/* The lock is held. */
static bool wants_care(const struct slot *s, time_t now)
{
	const struct care *care = &s->care;

	return !care->at_work && care->not_before <= now &&
	       (care->wanted || care->not_before || (care->next && care->next <= now));
}

/* The lock is held, and let go of meanwhile. */
static void care_for(struct engine *e, struct slot *s)
{
	bool at_work;
	struct vm *vm;

	s->care.at_work = true;
	s->care.wanted = false;
	s->care.not_before = 0;
	s->care.next = 0;
	s->care.for_readers = true; /* it may wait for what is closed meanwhile */
	pthread_mutex_unlock(&e->lock);
	vm = slot_view(e, s);
	at_work = vm && look_after(e, s, vm);
	vm_unref(vm);
	pthread_mutex_lock(&e->lock);
	if (at_work)
		return; /* until task_ended */
	s->care.at_work = false;
	slot_kick(e, s);
}

/* ---- room ---- */

struct choice {
	struct slot *slot;
	struct timespec created;
};

static void consider(struct engine *e, struct slot *s, struct choice *best)
{
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	cleanup_free struct verdict *verdicts = vm ? prune_plan(e, s, vm, PRUNE_FOR_ROOM) : NULL;

	for (size_t i = 0; vm && i < vm->n_snapshots; i++)
		if (verdicts[i].goes &&
		    (!best->slot || timespec_compare(&vm->snapshots[i].created, &best->created) < 0))
			*best = (struct choice){ s, vm->snapshots[i].created };
}

/* Also if its merges wait for room: to delete more would not help them. The lock is held. */
static bool is_making_room(const struct slot *s)
{
	return s->care.at_work || s->care.not_before || s->first || s->busy || s->collect_wanted ||
	       s->retry_at;
}

typedef vec_of(struct slot *) slots_with_floor;

/* None if one of them makes room already. The lock is held. */
static void slots_to_look_at(struct engine *e, slots_with_floor *ret)
{
	for (size_t i = 0; i < e->slots.n; i++) {
		if (!e->slots.at[i]->care.has_floor)
			continue;
		if (is_making_room(e->slots.at[i])) {
			vec_free(ret);
			return;
		}
		vec_push(ret, e->slots.at[i]);
	}
}

/* The lock is held, and let go of meanwhile. */
static void see_to_room(struct engine *e)
{
	slots_with_floor slots = { 0 };
	struct choice best = { NULL };

	slots_to_look_at(e, &slots);
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < slots.n; i++)
		if (is_short_of_room(e, slots.at[i]))
			consider(e, slots.at[i], &best);
	vec_free(&slots);
	pthread_mutex_lock(&e->lock);
	if (!best.slot || best.slot->care.at_work)
		return;
	best.slot->care.at_work = true;
	pthread_mutex_unlock(&e->lock);
	submit(e, best.slot, task_prune, PRUNE_FOR_ROOM);
	pthread_mutex_lock(&e->lock);
}

/* The lock is held. */
static bool has_floors(const struct engine *e)
{
	for (size_t i = 0; i < e->slots.n; i++)
		if (e->slots.at[i]->care.has_floor)
			return true;
	return false;
}

/* ---- the thread ---- */

/* The first that wants something; NULL. *ret_next: when another one will. The lock is held. */
static struct slot *next_slot(struct engine *e, time_t *ret_next)
{
	time_t now = time(NULL);

	*ret_next = 0;
	for (size_t i = 0; i < e->slots.n; i++) {
		struct slot *s = e->slots.at[i];

		if (wants_care(s, now))
			return s;
		if (s->care.at_work)
			continue;
		keep_earlier(ret_next, s->care.not_before ?: s->care.next);
	}
	return NULL;
}

/* The lock is held. */
static void put_off(struct engine *e)
{
	for (size_t i = 0; i < e->slots.n; i++) {
		if (!e->slots.at[i]->care.wanted)
			continue;
		e->slots.at[i]->care.wanted = false;
		slot_kick(e, e->slots.at[i]);
	}
}

static void sleep_until(struct engine *e, time_t next)
{
	struct timespec until = { .tv_sec = next };

	if (next)
		pthread_cond_timedwait(&e->keeper_wake, &e->lock, &until);
	else
		pthread_cond_wait(&e->keeper_wake, &e->lock);
}

void *keeper_thread(void *engine)
{
	struct engine *e = engine;
	time_t room_at = 0;

	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		time_t next = 0;
		struct slot *s = e->connected ? next_slot(e, &next) : NULL;

		if (s) {
			care_for(e, s);
		} else if (e->connected && has_floors(e) && room_at <= time(NULL)) {
			room_at = time(NULL) + ROOM_SECONDS;
			see_to_room(e);
		} else {
			if (e->connected && has_floors(e))
				keep_earlier(&next, room_at);
			else if (!e->connected)
				put_off(e); /* until keeper_want_all */
			sleep_until(e, next);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

void engine_outlook(struct engine *e, uint32_t vm_id, struct outlook *ret)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	*ret = (struct outlook){ 0 };
	s = slot_by_id(e, vm_id);
	if (!s)
		return;
	ret->next_snapshot = s->care.timers[TIMER_SNAPSHOT].next;
	ret->next_prune = s->care.timers[TIMER_PRUNE].next;
	keep_earlier(&ret->next_prune, s->care.expiry);
}
