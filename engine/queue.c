/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who works when. Each VM has a queue of operations that somebody waits for,
 * and a wish for background work (a collection: merging the layers of deleted
 * snapshots). A VM is worked on by one thread at a time; two pools of workers
 * take VMs that have something to do, one for operations, one for collections,
 * so that merges which take minutes never use up the threads for a mkdir.
 *
 * An operation that arrives while its VM is being collected tells the
 * collection to step aside. That one gives up its place at the next point
 * where nothing is half done, and is queued again behind the operation.
 */
#include "common/timespec.h"
#include "engine/checksums.h"
#include "engine/failover.h"
#include "engine/pool.h"

#include <errno.h>

static int thread_start(struct engine *e, void *(*run)(void *), struct err *err)
{
	int r = pthread_create(&e->workers[e->n_workers], NULL, run, e);

	if (r)
		return err_sys(err, r, "cannot start a thread");
	e->n_workers++;
	return 0;
}

static struct slot *ready_take(struct ready *ready)
{
	struct slot *s = ready->slots.at[0];

	ready->slots.n--;
	memmove(&ready->slots.at[0], &ready->slots.at[1],
		ready->slots.n * sizeof(ready->slots.at[0]));
	return s;
}

static void ready_put(struct ready *ready, struct slot *s)
{
	vec_push(&ready->slots, s);
	pthread_cond_signal(&ready->wake);
}

/* ---- waiting for a VM to become idle ---- */

static bool is_idle(const struct slot *s)
{
	/* The keeper has something to do, and not only later because it has failed. */
	bool keeper = s->care.at_work || (s->care.wanted && !s->care.not_before);

	return !s->busy && !s->first && !s->collect_wanted && !keeper;
}

/* What it has to do can take any time. */
static bool waits_for_libvirt(const struct engine *e, const struct slot *s)
{
	return !e->connected && !is_idle(s);
}

static int refuse_to_wait(struct err *err)
{
	return err_set(err, EHOSTDOWN, "libvirt does not answer; what is to be merged waits for it");
}

/* Answers the waiters. Lets go of the lock meanwhile. */
static void answer_waiters(struct engine *e, struct slot *s)
{
	struct err err = ERR_INIT;
	__typeof__(s->waiters) waiters = s->waiters;
	int r = 0;

	if (!waiters.n)
		return;
	memset(&s->waiters, 0, sizeof(s->waiters));
	if (waits_for_libvirt(e, s))
		r = refuse_to_wait(&err);
	else if (s->job_error)
		r = err_set(&err, s->job_code, "%s", s->job_error);
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < waiters.n; i++)
		waiters.at[i].done(waiters.at[i].opaque, r, &err);
	vec_free(&waiters);
	pthread_mutex_lock(&e->lock);
}

uint64_t engine_wait(struct engine *e, uint32_t vm_id, engine_done *done, void *opaque)
{
	struct err err = ERR_INIT;
	struct slot *s;
	uint64_t ticket = 0;
	bool down;

	pthread_mutex_lock(&e->lock);
	s = slot_by_id(e, vm_id);
	down = s && waits_for_libvirt(e, s);
	if (s && !down) {
		ticket = ++e->next_ticket;
		vec_push(&s->waiters, ((struct waiter){ ticket, done, opaque }));
		if (is_idle(s))
			answer_waiters(e, s);
	}
	pthread_mutex_unlock(&e->lock);
	if (down)
		done(opaque, refuse_to_wait(&err), &err);
	else if (!s)
		done(opaque, err_set(&err, ENOENT, "there is no such VM any more"), &err);
	return ticket;
}

void engine_wait_cancel(struct engine *e, uint64_t ticket)
{
	struct err err = ERR_INIT;
	struct waiter found = { 0 };

	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->slots.n && !found.done; i++) {
		struct slot *s = e->slots.at[i];

		for (size_t w = 0; w < s->waiters.n; w++) {
			if (s->waiters.at[w].ticket != ticket)
				continue;
			found = s->waiters.at[w];
			s->waiters.at[w] = s->waiters.at[--s->waiters.n];
			break;
		}
	}
	pthread_mutex_unlock(&e->lock);
	if (found.done)
		found.done(found.opaque, err_set(&err, EINTR, "interrupted"), &err);
}

/* ---- the queue ---- */

/* The lock is held. */
static void look_at_missed(struct engine *e, struct slot *s)
{
	if (!s->missed || s->exclusive)
		return;
	s->missed = false;
	vec_push(&e->news, xstrdup(s->uuid));
	pthread_cond_signal(&e->news_wake);
}

void slot_kick(struct engine *e, struct slot *s)
{
	look_at_missed(e, s);
	if (s->busy) {
		s->step_aside = s->first || s->claims;
	} else if (s->claims) {
		; /* who waits in slots_claim takes it */
	} else if (s->first) {
		ready_put(&e->operations, s);
	} else if (s->collect_wanted && e->connected) {
		ready_put(&e->collections, s);
	} else if (is_idle(s) || waits_for_libvirt(e, s)) {
		answer_waiters(e, s);
	}
	pthread_cond_broadcast(&e->changed);
}

struct task *task_new(task_fn *run, engine_done *done, void *opaque)
{
	struct task *t = xnew(struct task);

	t->run = run;
	t->done = done;
	t->opaque = opaque;
	return t;
}

static void task_free(struct task *t)
{
	free(t->text);
	free(t);
}

void task_submit(struct engine *e, uint32_t vm_id, struct task *t)
{
	struct err err = ERR_INIT;
	struct slot *s;

	pthread_mutex_lock(&e->lock);
	s = slot_by_id(e, vm_id);
	if (s && s->view && !e->stopping) {
		*(s->last ? &s->last->next : &s->first) = t;
		s->last = t;
		slot_kick(e, s);
		t = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	if (t) {
		t->done(t->opaque, err_set(&err, ENOENT, "there is no such VM any more"), &err);
		task_free(t);
	}
}

void collect_later(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	s->collect_wanted = true;
	slot_kick(e, s);
}

static struct task *task_take(struct slot *s)
{
	struct task *t = s->first;

	s->first = t->next;
	if (!s->first)
		s->last = NULL;
	return t;
}

/* Keeps looks away, and waits for one that runs. The lock is held. */
static void begin_exclusive(struct engine *e, struct slot *s)
{
	s->exclusive = true;
	while (s->looking)
		pthread_cond_wait(&e->changed, &e->lock);
}

void slot_begin_exclusive(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	begin_exclusive(e, s);
}

void slot_end_exclusive(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	s->exclusive = false;
	look_at_missed(e, s);
	pthread_cond_broadcast(&e->changed);
}

/* ---- several VMs for one thread ---- */

static void claim(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	s->claims++;
	slot_kick(e, s);
	while (s->busy)
		pthread_cond_wait(&e->changed, &e->lock);
	s->claims--;
	s->busy = true;
	begin_exclusive(e, s);
}

bool slot_try_claim(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	if (s->busy || s->claims || s->first)
		return false;
	s->busy = true;
	begin_exclusive(e, s);
	return true;
}

void slots_claim(struct engine *e, struct slot *const *slots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		claim(e, slots[i]);
}

static struct slot *first_busy(struct slot *const *slots, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slots[i]->busy)
			return slots[i];
	return NULL;
}

/* Waits until nobody works on any of them. The lock is held. */
static struct slot *wait_for_all(struct engine *e, struct slot *const *slots, size_t n,
				 unsigned seconds)
{
	struct timespec until = monotonic_in(seconds * 1000LL);

	while (first_busy(slots, n) && !e->failover.stopping)
		if (!cond_wait_until(&e->changed, &e->lock, &until))
			break;
	return first_busy(slots, n);
}

int slots_claim_within(struct engine *e, struct slot *const *slots, size_t n, unsigned seconds,
		       struct err *err)
{
	struct slot *busy;
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < n; i++) {
		slots[i]->claims++;
		slot_kick(e, slots[i]);
	}
	busy = wait_for_all(e, slots, n, seconds);
	for (size_t i = 0; i < n; i++) {
		slots[i]->claims--;
		slots[i]->busy |= !busy;
	}
	for (size_t i = 0; i < n; i++) {
		if (busy)
			slot_kick(e, slots[i]);
		else
			begin_exclusive(e, slots[i]);
	}
	return busy ? err_set(err, EBUSY, "something else is being done to '%s'",
			      busy->view ? busy->view->name : busy->uuid) : 0;
}

void slots_release(struct engine *e, struct slot *const *slots, size_t n)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < n; i++) {
		slots[i]->exclusive = false;
		slots[i]->busy = false;
		slots[i]->collect_wanted |= slots[i]->job.failed; /* perhaps it goes now */
		slot_kick(e, slots[i]);
	}
}

/* ---- workers ---- */

/* Nothing is done by what is only remembered. */
static int verify(struct engine *e, struct slot *s, struct err *err)
{
	bool unverified;

	pthread_mutex_lock(&e->lock);
	unverified = s->unverified;
	pthread_mutex_unlock(&e->lock);
	return unverified ? look(e, s, LOOK_ALL, err) : 0;
}

int slot_settle(struct engine *e, struct slot *s, struct err *err)
{
	int r;

	if (!e->hv->ops->connected(e->hv))
		return err_set(err, EHOSTDOWN, "libvirt does not answer; nothing was changed, try "
			       "again when it is back");
	r = recover(e, s, RECOVER_HURRY, err);
	return r < 0 ? r : verify(e, s, err);
}

static void work_operation(struct engine *e, struct slot *s)
{
	struct task *t = task_take(s);
	struct err err = ERR_INIT;
	int r;

	s->busy = true;
	begin_exclusive(e, s);
	pthread_mutex_unlock(&e->lock);

	r = slot_settle(e, s, &err);
	if (r >= 0)
		r = t->run(e, s, t, &err);
	if (r < 0)
		engine_set_last_error(e, s->id, err.msg);

	pthread_mutex_lock(&e->lock);
	s->exclusive = false;
	s->busy = false;
	s->job.running = false;
	s->collect_wanted |= s->job.failed; /* perhaps it goes now */
	pthread_mutex_unlock(&e->lock);
	t->done(t->opaque, r, &err);
	task_free(t);
	pthread_mutex_lock(&e->lock);
	slot_kick(e, s);
}

/* What waits for something that nobody tells us about: room, or a lock. */
#define RETRY_SECONDS 10

/* Keeps how a collection ended. Whether it is news. The lock is held. */
static bool note_result(struct slot *s, int r, const struct err *err)
{
	bool news = r < 0 && !streq(s->job_error, err->msg);

	free(s->job_error);
	s->job_error = r < 0 ? xstrdup(err->msg) : NULL;
	s->job_code = r == -ENOSPC || r == -ECANCELED ? -r : EIO;
	s->job.failed = r < 0;
	s->retry_at = r == -ENOSPC || r == -EBUSY ? time(NULL) + RETRY_SECONDS : 0;
	return news;
}

static void tell_result(struct engine *e, struct slot *s, const struct err *err)
{
	const char *name = err->code == ECANCELED ? "job-canceled" : "merge-failed";

	engine_set_last_error(e, s->id, err->msg);
	engine_event(e, &(struct engine_event){ name, s->id, .code = err->code,
						.weight = EVENT_TROUBLE }, "%s", err->msg);
}

static void work_collection(struct engine *e, struct slot *s)
{
	struct err err = ERR_INIT;
	bool put_off;
	int r;

	s->busy = true;
	s->collect_wanted = false;
	s->step_aside = false;
	begin_exclusive(e, s);
	pthread_mutex_unlock(&e->lock);

	r = recover(e, s, RECOVER_TREE, &err);
	if (r >= 0)
		r = verify(e, s, &err);
	slot_end_exclusive(e, s);
	if (r >= 0)
		r = recover(e, s, RECOVER_ALL, &err);
	if (r >= 0)
		r = collect(e, s, &err);

	pthread_mutex_lock(&e->lock);
	s->busy = false;
	s->job.running = false;
	/* Without libvirt it is put off: look_at_all asks for it again. */
	put_off = r == -EINTR || (r < 0 && (e->stopping || !e->connected));
	if (put_off) {
		s->collect_wanted = true;
	} else if (note_result(s, r, &err)) {
		pthread_mutex_unlock(&e->lock);
		tell_result(e, s, &err);
		pthread_mutex_lock(&e->lock);
	}
	slot_kick(e, s);
}

static void *operation_worker(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		struct slot *s;

		if (e->operations.slots.n == 0) {
			if (e->stopping)
				break;
			pthread_cond_wait(&e->operations.wake, &e->lock);
			continue;
		}
		s = ready_take(&e->operations);
		if (!s->busy && !s->claims && s->first)
			work_operation(e, s);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* Asks again for the collections whose time has come; returns when the next one's does.
 * The lock is held. */
static time_t wake_retries(struct engine *e)
{
	time_t now = time(NULL), next = now + RETRY_SECONDS;

	for (size_t i = 0; i < e->slots.n; i++) {
		struct slot *s = e->slots.at[i];

		if (s->retry_at && s->retry_at <= now) {
			s->retry_at = 0;
			s->collect_wanted = true;
			slot_kick(e, s);
		} else if (s->retry_at && s->retry_at < next) {
			next = s->retry_at;
		}
	}
	return next;
}

static void *collect_worker(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		struct slot *s;

		if (e->collections.slots.n == 0) {
			struct timespec until = { .tv_sec = wake_retries(e) };

			if (e->collections.slots.n == 0)
				pthread_cond_timedwait(&e->collections.wake, &e->lock, &until);
			continue;
		}
		s = ready_take(&e->collections);
		if (!s->busy && !s->claims && !s->first && s->collect_wanted)
			work_collection(e, s);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int queue_start(struct engine *e, struct err *err)
{
	int r = thread_start(e, look_thread, err);

	if (r >= 0)
		r = thread_start(e, checksum_thread, err);
	if (r >= 0)
		r = thread_start(e, house_thread, err);
	if (r >= 0)
		r = thread_start(e, keeper_thread, err);
	if (r >= 0)
		r = thread_start(e, measure_thread, err);
	if (r >= 0)
		r = pools_start(e, err);
	if (r >= 0)
		r = failovers_start(e, err);
	for (int i = 0; i < REFRESHERS && r >= 0; i++)
		r = thread_start(e, refresh_thread, err);
	for (int i = 0; i < OPERATION_WORKERS && r >= 0; i++)
		r = thread_start(e, operation_worker, err);
	for (int i = 0; i < COLLECT_WORKERS && r >= 0; i++)
		r = thread_start(e, collect_worker, err);
	return r;
}

void queue_stop(struct engine *e)
{
	failovers_stop(e);
	pools_stop(e);
	pthread_mutex_lock(&e->lock);
	/* What waits for a VM that one of these has needs the workers yet. */
	while (e->groups.running)
		pthread_cond_wait(&e->changed, &e->lock);
	e->stopping = true;
	pthread_cond_broadcast(&e->operations.wake);
	pthread_cond_broadcast(&e->collections.wake);
	pthread_cond_broadcast(&e->news_wake);
	pthread_cond_broadcast(&e->sums.wake);
	pthread_cond_broadcast(&e->refreshes.wake);
	pthread_cond_broadcast(&e->measurings.wake);
	pthread_cond_broadcast(&e->house.wake);
	pthread_cond_broadcast(&e->keeper_wake);
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < e->n_workers; i++)
		pthread_join(e->workers[i], NULL);
	e->n_workers = 0;
	pthread_mutex_lock(&e->lock);
	while (e->promotions)
		pthread_cond_wait(&e->changed, &e->lock);
	pthread_mutex_unlock(&e->lock);
}
