/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who looks, and when: whoever lists a VM, a thread that follows libvirt's
 * events, and everybody at start-up and after a reconnect. One look at a VM at
 * a time; who finds one going on waits for what it finds.
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
	if (r < 0 && r != -EHOSTDOWN) {
		engine_set_last_error(e, s->id, err.msg);
		if (e->observer->happened)
			e->observer->happened(e->observer->opaque, s->id, r, err.msg);
	}

	pthread_mutex_lock(&e->lock);
	s->looking = false;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

static bool is_fresh(const struct slot *s, unsigned max_age_ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - s->looked.tv_sec) * 1000 +
	       (now.tv_nsec - s->looked.tv_nsec) / 1000000 < (long)max_age_ms;
}

void engine_vm_refresh(struct engine *e, uint32_t vm_id, unsigned max_age_ms)
{
	struct slot *s;
	bool fresh;

	pthread_mutex_lock(&e->lock);
	s = slot_by_id(e, vm_id);
	fresh = !s || (max_age_ms && is_fresh(s, max_age_ms));
	pthread_mutex_unlock(&e->lock);
	if (!fresh && e->hv->ops->connected(e->hv))
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

void engine_vms_refresh(struct engine *e)
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
