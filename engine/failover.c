/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The thread that recovers VMs: what somebody has ordered, and by itself those that are to be
 * looked after and have crashed. One after the other: when two fail at once, the second one sees
 * what has taken the place of the first. What is to be done is seen from what is published
 * and from what is kept, so it makes no difference whether a crash was noticed when it happened,
 * while another recovery went on, or by a later kwsfs.
 *
 * One that crashes again and again costs a new VM each time. So who has failed within the last
 * hour waits, the longer the more often that was, and in the end it is left to somebody.
 */
#include "engine/failover.h"

#include "common/timespec.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm, vm_unref);

#define WINDOW_SECONDS 3600
#define FAILURES_MOST 6
#define RETRY_SECONDS 10 /* when a VM could not be had */

unsigned failover_wait_ms = 10000;

struct failover_order {
	struct failover_order *next;
	struct failover_wish wish;
	char *whom;
	engine_done *done;
	void *opaque;
};

void failovers_init(struct engine *e)
{
	pthread_cond_init(&e->failover.wake, NULL);
	pthread_mutex_init(&e->failover.keeping, NULL);
	e->failover.unfinished = true;
}

void failovers_want(struct engine *e)
{
	e->failover.wanted = true;
	pthread_cond_signal(&e->failover.wake);
}

static struct timespec now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

static struct timespec later(struct timespec t, int64_t ns)
{
	return timespec_from_ns(timespec_to_ns(&t) + ns);
}

static void keep_earlier(struct timespec *next, struct timespec t)
{
	if (!next->tv_sec || timespec_compare(&t, next) < 0)
		*next = t;
}

/* ---- orders ---- */

/* The lock is held. NULL if there is none. */
static struct failover_order *take_order(struct engine *e)
{
	struct failover_order *o = e->failover.first;

	if (!o)
		return NULL;
	e->failover.first = o->next;
	if (!o->next)
		e->failover.last = NULL;
	return o;
}

/* Takes it over. */
static void end_order(struct engine *e, struct failover_order *o, int r, const struct err *err)
{
	if (r < 0) {
		engine_set_last_error(e, o->wish.vm, err->msg);
		engine_recovery_set_last_error(e, err->msg);
	}
	o->done(o->opaque, r, err);
	free(o->whom);
	free(o);
}

/* False if it ends. */
static bool put_order(struct engine *e, struct failover_order *o)
{
	LOCK_SCOPE(&e->lock);

	if (e->failover.stopping)
		return false;
	*(e->failover.last ? &e->failover.last->next : &e->failover.first) = o;
	e->failover.last = o;
	failovers_want(e);
	return true;
}

void engine_recover(struct engine *e, uint32_t vm_id, const char *whom, unsigned flags,
		    engine_done *done, void *opaque)
{
	struct failover_order *o = xnew(struct failover_order);
	struct err err = ERR_INIT;

	*o = (struct failover_order){ .whom = xstrdup(whom), .done = done, .opaque = opaque };
	o->wish = (struct failover_wish){ vm_id, true, o->whom, flags, now() };
	if (!put_order(e, o))
		end_order(e, o, err_set(&err, ESHUTDOWN, "kwsfs is ending"), &err);
}

static void obey(struct engine *e, struct failover_order *o)
{
	struct err err = ERR_INIT;

	end_order(e, o, failover_run(e, &o->wish, &err), &err);
}

/* The lock is held, and let go of meanwhile. */
static void refuse_orders(struct engine *e)
{
	struct err err = ERR_INIT;
	struct failover_order *o;

	while ((o = take_order(e))) {
		pthread_mutex_unlock(&e->lock);
		end_order(e, o, err_set(&err, ESHUTDOWN, "kwsfs is ending"), &err);
		pthread_mutex_lock(&e->lock);
	}
}

/* ---- how often ---- */

enum patience { AT_ONCE, LATER, NEVER };

static enum patience patience_with(struct engine *e, uint32_t vm, struct timespec *ret_until,
				   size_t *ret_n)
{
	struct timespec since = later(now(), -WINDOW_SECONDS * NSEC_PER_SEC), last, present = now();
	int64_t wait;

	if (registry_failover_count(e->registry, failover_line(e, vm), &since, ret_n, &last, NULL) < 0)
		return LATER;
	if (*ret_n >= FAILURES_MOST)
		return NEVER;
	wait = *ret_n ? failover_wait_ms * (NSEC_PER_SEC / 1000) << (*ret_n - 1) : 0;
	*ret_until = later(last, wait);
	return *ret_n && timespec_compare(ret_until, &present) > 0 ? LATER : AT_ONCE;
}

static void put_off(struct engine *e, uint32_t vm, struct timespec until, size_t n)
{
	if (failover_put_off(e, vm, until))
		engine_event(e, &(struct engine_event){ "recovery-waits", vm, .weight = EVENT_TROUBLE },
			     "it has failed %zu times within an hour, with those that have taken its "
			     "place: the next time is put off", n);
}

static void give_up(struct engine *e, uint32_t vm)
{
	struct failover_vm row = { .vm = vm, .given_up = true };
	const char *why = "it is given up: it has failed too often within an hour, with those that "
			  "have taken its place";

	if (failover_keep(e, &row, FACT_GIVEN_UP, NULL) < 0)
		return;
	engine_set_last_error(e, vm, why);
	engine_recovery_set_last_error(e, why);
	engine_event(e, &(struct engine_event){ "recovery-failed", vm, .code = ECANCELED,
						.weight = EVENT_TROUBLE }, "%s", why);
}

/* ---- one VM ---- */

/* When it was seen to have crashed; now, if an earlier process has seen it run. */
static struct timespec when_failed(struct engine *e, uint32_t vm)
{
	struct timespec t = { 0 };
	struct slot *s;

	pthread_mutex_lock(&e->lock);
	s = slot_by_id(e, vm);
	if (s)
		t = s->crashed;
	pthread_mutex_unlock(&e->lock);
	return t.tv_sec ? t : now();
}

static void recover_now(struct engine *e, uint32_t vm, struct timespec *next)
{
	struct failover_wish wish = { .vm = vm, .failed = when_failed(e, vm) };
	struct err err = ERR_INIT;

	/* What began is told of already, and counts; a VM that could not be had is asked for again. */
	failover_run(e, &wish, &err);
	keep_earlier(next, later(now(), RETRY_SECONDS * NSEC_PER_SEC));
}

static void see_to_crashed(struct engine *e, uint32_t vm, struct timespec *next)
{
	struct timespec until = { 0 };
	size_t n = 0;

	switch (patience_with(e, vm, &until, &n)) {
	case AT_ONCE:
		recover_now(e, vm, next);
		break;
	case LATER:
		put_off(e, vm, until, n);
		keep_earlier(next, until);
		break;
	case NEVER:
		give_up(e, vm);
		break;
	}
}

static void see_to(struct engine *e, const struct failover_vm *row, struct timespec *next)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, row->vm);
	struct failover_vm is = { .vm = row->vm, .ran = vm && vm->active };

	if (!vm)
		return;
	if (vm->active) {
		failover_put_off(e, vm->id, (struct timespec){ 0 });
		failover_keep(e, &is, FACT_RAN, NULL);
		if (row->replaced)
			failover_keep(e, &is, FACT_REPLACED, NULL);
	} else if (!vm->crashed) {
		failover_keep(e, &is, FACT_RAN, NULL); /* somebody has shut it off */
	} else if (row->ran || failover_take_unseen(e, vm->id)) {
		is.ran = true;
		failover_keep(e, &is, FACT_RAN, NULL);
		if (row->automatic && !row->given_up)
			see_to_crashed(e, vm->id, next);
	}
}

/* ---- all of them ---- */

/* Once after the start, and when libvirt is back. */
static void finish_begun(struct engine *e)
{
	struct failover *open = NULL;
	struct err err = ERR_INIT;
	size_t n = 0;

	pthread_mutex_lock(&e->lock);
	e->failover.unfinished = false;
	pthread_mutex_unlock(&e->lock);
	if (registry_failovers(e->registry, 0, &open, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		failover_go_on(e, &open[i], &err);
	failovers_free(open, n);
}

/* When to look again by itself; 0: when something changes. */
static struct timespec see_to_all(struct engine *e)
{
	cleanup_free struct failover_kept *kept = NULL;
	struct timespec next = { 0 };
	size_t n;

	failover_kept_all(e, &kept, &n);
	for (size_t i = 0; i < n; i++)
		see_to(e, &kept[i].row, &next);
	return next;
}

/* The lock is held. */
static void sleep_until(struct engine *e, const struct timespec *next)
{
	while (!e->failover.wanted && !e->failover.stopping) {
		if (!next->tv_sec)
			pthread_cond_wait(&e->failover.wake, &e->lock);
		else if (pthread_cond_timedwait(&e->failover.wake, &e->lock, next) == ETIMEDOUT)
			break;
	}
}

/* The lock is held, and let go of meanwhile. */
static struct timespec work(struct engine *e)
{
	struct failover_order *order = take_order(e);
	bool unfinished = e->failover.unfinished;
	struct timespec next = { 0 };

	e->failover.wanted = order; /* there may be more of them */
	if (!order && !e->connected)
		return next;
	pthread_mutex_unlock(&e->lock);
	if (order) {
		obey(e, order);
	} else {
		if (unfinished)
			finish_begun(e);
		next = see_to_all(e);
	}
	pthread_mutex_lock(&e->lock);
	return next;
}

static void *failover_thread(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	while (!e->failover.stopping) {
		struct timespec next = work(e);

		sleep_until(e, &next);
	}
	refuse_orders(e);
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int failovers_start(struct engine *e, struct err *err)
{
	int r = pthread_create(&e->failover.thread, NULL, failover_thread, e);

	if (r)
		return err_sys(err, r, "cannot start a thread");
	e->failover.started = true;
	return 0;
}

void failovers_stop(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	e->failover.stopping = true;
	pthread_cond_signal(&e->failover.wake);
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	if (e->failover.started)
		pthread_join(e->failover.thread, NULL);
	e->failover.started = false;
}
