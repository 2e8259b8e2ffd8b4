/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who looks, and when: whoever lists a VM, a thread that follows libvirt's
 * events, and everybody at start-up and after a reconnect. One look at a VM at
 * a time; who finds one going on waits for what it finds.
 *
 * Who lists a VM does not look by itself but has it done, and waits for a second at
 * most: libvirtd may be the one that asks, because the disk of a VM lies on an image
 * in the mount, and may answer nobody until it has been answered.
 */
#include "engine/core.h"

#include <errno.h>

/* True if `s` may be looked at, and nobody else looks; the lock is held. */
static bool begin_look(struct engine *e, struct slot *s)
{
	if (s->looking) {
		/* What the other one finds is as good. */
		while (s->looking)
			pthread_cond_wait(&e->changed, &e->lock);
		return false;
	}
	if (s->exclusive || (s->unsettled && s->busy))
		return false;
	s->looking = true;
	return true;
}

/* A look from outside of the VM's queue. */
static void look_as_guest(struct engine *e, struct slot *s, enum look how)
{
	struct err err = ERR_INIT;
	bool unsettled;
	int r = 0;

	pthread_mutex_lock(&e->lock);
	if (!begin_look(e, s)) {
		pthread_mutex_unlock(&e->lock);
		return;
	}
	unsettled = s->unsettled;
	pthread_mutex_unlock(&e->lock);

	/* What was known stays, if libvirt does not answer. */
	if (unsettled)
		r = recover(e, s, RECOVER_TREE, &err);
	if (r >= 0)
		r = look(e, s, how, &err);
	if (r < 0 && r != -EHOSTDOWN)
		engine_tell(e, s->id, r, err.msg);

	pthread_mutex_lock(&e->lock);
	s->looking = false;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

bool is_younger(const struct timespec *monotonic, unsigned ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - monotonic->tv_sec) * 1000 +
	       (now.tv_nsec - monotonic->tv_nsec) / 1000000 < (long)ms;
}

void vm_refresh_now(struct engine *e, struct slot *s)
{
	if (e->hv->ops->connected(e->hv))
		look_as_guest(e, s, LOOK_AUTO);
}

static void look_at_news(struct engine *e, const char *uuid)
{
	struct slot *s;
	bool waiting;

	if (slot_for(e, uuid, &s, NULL) < 0)
		return;
	look_as_guest(e, s, LOOK_AUTO);
	/* What could not be merged while it ran, or while it did not, perhaps can now. */
	pthread_mutex_lock(&e->lock);
	waiting = s->job.tombstones > 0;
	pthread_mutex_unlock(&e->lock);
	if (waiting)
		collect_later(e, s);
}

/* Whether what is published of a domain is not what libvirt lists. */
static bool is_news(struct engine *e, const struct hv_domain *domain)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_uuid(e, domain->uuid);
	return !s || !s->view || !streq(s->view->name, domain->name) ||
	       !streq(s->view->state, domain->state);
}

static bool is_listed(const struct vm *vm, const struct hv_domain *domains, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (streq(domains[i].uuid, vm->uuid))
			return true;
	return false;
}

static void look_at_list(struct engine *e)
{
	struct hv_domain *domains = NULL;
	struct vm_list *vms;
	size_t n = 0;

	if (!e->hv->ops->connected(e->hv) || e->hv->ops->list(e->hv, &domains, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (is_news(e, &domains[i]))
			look_at_news(e, domains[i].uuid);
	vms = engine_vms(e);
	for (size_t i = 0; i < vms->n; i++)
		if (!is_listed(vms->vms[i], domains, n))
			look_at_news(e, vms->vms[i]->uuid);
	vm_list_unref(vms);
	hv_domains_free(domains, n);
}

/* ---- on behalf of who must not wait for long ---- */

#define WAIT_MS 1000

static bool is_over(const struct timespec *due)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > due->tv_sec ||
	       (now.tv_sec == due->tv_sec && now.tv_nsec >= due->tv_nsec);
}

/* For one that begins from now on. The lock is held; it is asked for. */
void refresh_wait(struct engine *e, const struct refresh *refresh)
{
	uint64_t wanted = refresh->ended + (refresh->running ? 2 : 1);
	struct timespec until;

	if (refresh->running && is_over(&refresh->due))
		return;
	clock_gettime(CLOCK_REALTIME, &until); /* as the condition has it */
	until.tv_sec += WAIT_MS / 1000;
	while (refresh->ended < wanted && !e->stopping)
		if (pthread_cond_timedwait(&e->changed, &e->lock, &until) == ETIMEDOUT)
			break;
}

static void put_refresh(struct engine *e, struct slot *s)
{
	vec_push(&e->refreshes.slots, s);
	pthread_cond_signal(&e->refreshes.wake);
}

void engine_vm_refresh(struct engine *e, uint32_t vm_id, unsigned max_age_ms)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	if (!s || !e->connected || (max_age_ms && is_younger(&s->looked, max_age_ms)))
		return;
	if (!s->refresh.wanted && !s->refresh.running)
		put_refresh(e, s);
	s->refresh.wanted = true;
	refresh_wait(e, &s->refresh);
}

void engine_vms_refresh(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	if (!e->connected)
		return;
	e->list_refresh.wanted = true;
	pthread_cond_signal(&e->refreshes.wake);
	refresh_wait(e, &e->list_refresh);
}

void refresh_begin(struct refresh *refresh)
{
	clock_gettime(CLOCK_MONOTONIC, &refresh->due);
	refresh->due.tv_sec += WAIT_MS / 1000;
	refresh->wanted = false;
	refresh->running = true;
}

void refresh_end(struct engine *e, struct refresh *refresh)
{
	refresh->running = false;
	refresh->ended++;
	pthread_cond_broadcast(&e->changed);
}

/* The lock is held, and let go of meanwhile. `s` is NULL for the list. */
static void do_refresh(struct engine *e, struct refresh *refresh, struct slot *s)
{
	refresh_begin(refresh);
	pthread_mutex_unlock(&e->lock);
	if (s)
		vm_refresh_now(e, s);
	else
		look_at_list(e);
	pthread_mutex_lock(&e->lock);
	refresh_end(e, refresh);
	/* Somebody asked meanwhile. */
	if (refresh->wanted && s)
		put_refresh(e, s);
}

void *refresh_thread(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		if (e->list_refresh.wanted && !e->list_refresh.running) {
			do_refresh(e, &e->list_refresh, NULL);
		} else if (e->refreshes.slots.n) {
			struct slot *s = e->refreshes.slots.at[--e->refreshes.slots.n];

			do_refresh(e, &s->refresh, s);
		} else {
			pthread_cond_wait(&e->refreshes.wake, &e->lock);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

int look_at_all(struct engine *e, struct err *err)
{
	struct hv_domain *domains = NULL;
	vec_of(struct slot *) slots = { 0 };
	size_t n = 0;
	int r;

	r = e->hv->ops->list(e->hv, &domains, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r >= 0; i++) {
		struct slot *s;

		r = slot_for(e, domains[i].uuid, &s, err);
	}
	hv_domains_free(domains, n);
	if (r < 0)
		return r;

	/* Those that went while nobody listened are slots too. */
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->slots.n; i++)
		vec_push(&slots, e->slots.at[i]);
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < slots.n; i++) {
		look_as_guest(e, slots.at[i], LOOK_ALL);
		/* Its journal or its tombstones may wait since long. */
		collect_later(e, slots.at[i]);
	}
	vec_free(&slots);
	return 0;
}

void *look_thread(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		if (e->all_new) {
			e->all_new = false;
			pthread_mutex_unlock(&e->lock);
			look_at_all(e, NULL);
			pthread_mutex_lock(&e->lock);
		} else if (e->news.n) {
			char *uuid = e->news.at[--e->news.n];

			pthread_mutex_unlock(&e->lock);
			look_at_news(e, uuid);
			free(uuid);
			pthread_mutex_lock(&e->lock);
		} else {
			pthread_cond_wait(&e->news_wake, &e->lock);
		}
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}
