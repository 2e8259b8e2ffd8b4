/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The housekeeper: one thread for what is about no single VM and asks libvirt about
 * all of them. It looks for orphans when somebody lists them, deletes those that
 * somebody removes, and runs the checks. One after the other: two of these at the same
 * time would only ask the same. When it has nothing to do it looks every minute how
 * much room there is (space.h).
 *
 * Nobody who lists waits for it for more than a second (refresh.c says why): then what
 * was found last is shown.
 */
#include "common/timespec.h"
#include "engine/core.h"
#include "engine/orphans.h"

#include <errno.h>

void house_init(struct engine *e)
{
	pthread_cond_init(&e->house.wake, NULL);
	e->house.orphans = xnew(struct orphan_list);
	e->house.orphans->refs = 1;
	clock_gettime(CLOCK_REALTIME, &e->house.orphans->changed);
}

void house_free(struct engine *e)
{
	pthread_cond_destroy(&e->house.wake);
	orphan_list_unref(e->house.orphans);
	free(e->house.last_error);
	for (size_t i = 0; i < e->folders.n; i++)
		free(e->folders.at[i]);
	vec_free(&e->folders);
	space_samples_free(&e->spaces);
}

void chore_submit(struct engine *e, struct chore *c)
{
	LOCK_SCOPE(&e->lock);

	*(e->house.last ? &e->house.last->next : &e->house.first) = c;
	e->house.last = c;
	pthread_cond_signal(&e->house.wake);
}

/* The lock is held, and let go of meanwhile. */
static void do_chore(struct engine *e)
{
	struct chore *c = e->house.first;
	struct err err = ERR_INIT;
	bool stopping = e->stopping;
	int r;

	e->house.first = c->next;
	if (!c->next)
		e->house.last = NULL;
	pthread_mutex_unlock(&e->lock);
	r = stopping ? err_set(&err, ESHUTDOWN, "kwsfs is ending") : c->run(e, c, &err);
	c->done(c->opaque, r, &err);
	free(c->text);
	free(c);
	pthread_mutex_lock(&e->lock);
}

static void do_orphans(struct engine *e)
{
	refresh_begin(&e->house.orphans_refresh);
	pthread_mutex_unlock(&e->lock);
	orphans_look(e);
	pthread_mutex_lock(&e->lock);
	clock_gettime(CLOCK_MONOTONIC, &e->house.looked);
	refresh_end(e, &e->house.orphans_refresh);
}

/* The lock is held, and let go of meanwhile. */
static void do_spaces(struct engine *e)
{
	struct timespec until;

	pthread_mutex_unlock(&e->lock);
	spaces_sample(e);
	pthread_mutex_lock(&e->lock);
	if (e->house.first || e->stopping || e->house.orphans_refresh.wanted)
		return;
	until = monotonic_in((SPACE_EVERY + 1) * 1000LL); /* so that they are due by then */
	cond_wait_until(&e->house.wake, &e->lock, &until);
}

void *house_thread(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	for (;;) {
		if (e->house.first)
			do_chore(e);
		else if (e->stopping)
			break;
		else if (e->house.orphans_refresh.wanted)
			do_orphans(e);
		else
			do_spaces(e);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}
