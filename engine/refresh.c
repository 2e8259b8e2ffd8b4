/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who looks, and when: whoever lists a VM, a thread that follows libvirt's
 * events, and everybody at start-up and after a reconnect. One look at a VM at
 * a time.
 *
 * Who lists a VM does not look by itself but has it done, and waits for a second at
 * most: libvirtd may be the one that asks, because the disk of a VM lies on an image
 * in the mount, and may answer nobody until it has been answered.
 */
#include "common/timespec.h"
#include "engine/clone.h"

#include <errno.h>

/* False if somebody else has looked, and began after this was called: who began before may have
 * asked before it happened that is to be seen. False, too, if somebody has the VM for itself: then
 * it is looked at when that is over. The lock is held, and let go of meanwhile. */
static bool begin_look(struct engine *e, struct slot *s)
{
	uint64_t begun = s->looks;

	while (s->looking && s->looks <= begun + 1)
		pthread_cond_wait(&e->changed, &e->lock);
	if (s->looks > begun)
		return false;
	if (s->exclusive || (s->unsettled && s->busy)) {
		s->missed = true;
		return false;
	}
	s->looks++;
	s->looking = true;
	return true;
}

/* A look from outside of the VM's queue. */
static void look_as_guest(struct engine *e, struct slot *s, const struct hv_domain *listed,
			  enum look how)
{
	struct err err = ERR_INIT;
	bool unsettled;
	int r = 0;

	pthread_mutex_lock(&e->lock);
	if (clone_is_new(e, s->uuid) || !begin_look(e, s)) {
		pthread_mutex_unlock(&e->lock);
		return;
	}
	unsettled = s->unsettled;
	pthread_mutex_unlock(&e->lock);

	/* What was known stays, if libvirt does not answer. */
	if (unsettled)
		r = recover(e, s, RECOVER_TREE, &err);
	if (r >= 0)
		r = look_at_listed(e, s, listed, how, &err);
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
		look_as_guest(e, s, NULL, LOOK_AUTO);
}

static void look_at_news(struct engine *e, const char *uuid)
{
	struct slot *s;
	bool waiting;

	if (clone_is_undone(e, uuid)) {
		e->hv->ops->undefine(e->hv, uuid, NULL);
		return;
	}
	if (slot_for(e, uuid, &s, NULL) < 0)
		return;
	look_as_guest(e, s, NULL, LOOK_AUTO);
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
	return timespec_compare(&now, due) >= 0;
}

/* For one that begins from now on. The lock is held; it is asked for. */
void refresh_wait(struct engine *e, const struct refresh *refresh)
{
	uint64_t wanted = refresh->ended + (refresh->running ? 2 : 1);
	struct timespec until = monotonic_in(WAIT_MS);

	if (refresh->running && is_over(&refresh->due))
		return;
	while (refresh->ended < wanted && !e->stopping)
		if (!cond_wait_until(&e->changed, &e->lock, &until))
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
	if (!s || !e->connected ||
	    (max_age_ms && !s->unverified && is_younger(&s->looked, max_age_ms)))
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
	refresh->due = monotonic_in(WAIT_MS);
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

/* ---- everybody ---- */

unsigned look_at_once_ms = 250;

#define SWEEPERS 4 /* libvirtd answers five questions of one client at a time */

struct visit {
	struct slot *slot;
	const struct hv_domain *listed; /* NULL: it was not */
};

/* A look at each slot. */
struct sweep {
	struct engine *e;
	vec_of(struct visit) slots;
	size_t next; /* of them; atomic */
	struct timespec begin;
};

static void *sweep_thread(void *sweep)
{
	struct sweep *w = sweep;
	size_t i;

	while ((i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->slots.n) {
		struct slot *s = w->slots.at[i].slot;

		look_as_guest(w->e, s, w->slots.at[i].listed,
			      is_younger(&w->begin, look_at_once_ms) ? LOOK_ALL : LOOK_START);
		/* Its journal or its tombstones may wait since long. */
		collect_later(w->e, s);
	}
	return NULL;
}

/* This thread does what others cannot be started for. */
static void sweep(struct sweep *w)
{
	pthread_t threads[SWEEPERS - 1];
	size_t n = 0;

	clock_gettime(CLOCK_MONOTONIC, &w->begin);
	while (n < SWEEPERS - 1 && pthread_create(&threads[n], NULL, sweep_thread, w) == 0)
		n++;
	sweep_thread(w);
	while (n > 0)
		pthread_join(threads[--n], NULL);
}

/* Those that went while nobody listened are slots too. */
static void collect_slots(struct engine *e, struct sweep *w, const struct hv_domain *domains,
			  size_t n)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->slots.n; i++) {
		struct visit *v = vec_add(&w->slots);

		v->slot = e->slots.at[i];
		for (size_t d = 0; d < n && !v->listed; d++)
			if (streq(domains[d].uuid, v->slot->uuid))
				v->listed = &domains[d];
	}
}

int look_at_all(struct engine *e, struct err *err)
{
	struct hv_domain *domains = NULL;
	struct sweep w = { .e = e };
	size_t n = 0;
	int r;

	r = e->hv->ops->list(e->hv, &domains, &n, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r >= 0; i++) {
		struct slot *s;

		r = slot_for(e, domains[i].uuid, &s, err);
	}
	if (r >= 0) {
		collect_slots(e, &w, domains, n);
		sweep(&w);
	}
	vec_free(&w.slots);
	hv_domains_free(domains, n);
	return r;
}

/* The lock is held, and let go of meanwhile. */
static void tell_connection(struct engine *e)
{
	bool lost = e->lost, back = e->back;

	e->lost = e->back = false;
	pthread_mutex_unlock(&e->lock);
	if (lost)
		engine_event(e, &(struct engine_event){ "libvirt-lost", .weight = EVENT_TROUBLE,
							.code = EHOSTDOWN },
			     "the connection to libvirt is lost; it is tried again by itself");
	if (back)
		engine_event(e, &(struct engine_event){ "libvirt-back" }, "libvirt is there again");
	pthread_mutex_lock(&e->lock);
}

void *look_thread(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		if (e->lost || e->back) {
			tell_connection(e);
		} else if (e->all_new) {
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
