/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `sync DIR`: fsync of a directory of a VM waits for the VM's jobs, and can be
 * interrupted.
 *
 * The request is kept and the engine answers it. The interrupt is the delicate
 * part. libfuse calls us on another worker and holds the request's lock; ending
 * the wait there would answer the request, which takes that lock and frees it.
 * So the callback sets a flag and writes an eventfd, and a thread of its own,
 * the canceller, goes to the engine.
 *
 * A wait has two owners: the engine until `done`, and op_fsyncdir until it has
 * noted the ticket, because `done` may come before engine_wait returns. The
 * callback is taken away before the answer, under the request's lock, so that
 * it never sees a wait that was freed.
 *
 * The kernel holds the directory's lock during its fsync: as long as somebody
 * waits on a VM's directory, nobody can look a new name up in it or mkdir. Any
 * directory inside does the same wait without that, so `sync DIR/.kws` is what
 * the manual page recommends.
 */
#include "fs/core.h"

#include "common/cleanup.h"

#include <errno.h>
#include <sys/eventfd.h>

struct wait {
	struct waits *waits;
	fuse_req_t req;
	atomic_bool interrupted;
	uint64_t ticket; /* 0: not known yet */
	int owners;
};

struct waits {
	struct fs *fs;
	int wake; /* eventfd */
	pthread_t canceller;
	pthread_mutex_t lock; /* of all below, and of each wait */
	bool stopping;
	vec_of(struct wait *) list;
};

static void wake_canceller(struct waits *w)
{
	uint64_t one = 1;

	if (write(w->wake, &one, sizeof(one)) < 0)
		return; /* it is full: the canceller is awake already */
}

/* ---- a wait's life ---- */

/* NULL if the mount is about to end. */
static struct wait *wait_new(struct waits *w, fuse_req_t req)
{
	struct wait *wait;
	LOCK_SCOPE(&w->lock);

	if (w->stopping)
		return NULL;
	wait = xnew(struct wait);
	wait->waits = w;
	wait->req = req;
	wait->owners = 2;
	atomic_init(&wait->interrupted, false);
	vec_push(&w->list, wait);
	return wait;
}

/* The lock is held. */
static void wait_drop(struct wait *wait)
{
	struct waits *w = wait->waits;

	if (--wait->owners > 0)
		return;
	for (size_t i = 0; i < w->list.n; i++) {
		if (w->list.at[i] == wait) {
			w->list.at[i] = w->list.at[--w->list.n];
			break;
		}
	}
	free(wait);
	if (w->stopping)
		wake_canceller(w);
}

static void on_interrupt(fuse_req_t req, void *opaque)
{
	struct wait *wait = opaque;

	atomic_store(&wait->interrupted, true);
	wake_canceller(wait->waits);
}

/* A failed job was logged when it failed. */
static void wait_done(void *opaque, int r, const struct err *err)
{
	struct wait *wait = opaque;
	pthread_mutex_t *lock = &wait->waits->lock;

	fuse_req_interrupt_func(wait->req, NULL, NULL);
	fuse_reply_err(wait->req, -r);
	pthread_mutex_lock(lock);
	wait->ticket = 0;
	wait_drop(wait);
	pthread_mutex_unlock(lock);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;
	struct wait *wait;
	uint64_t ticket;

	if (node_open_ino(fs, ino, &n, &err) < 0 || !n.vm) {
		fuse_reply_err(req, err.code);
		return;
	}
	wait = wait_new(fs->waits, req);
	if (!wait) {
		fuse_reply_err(req, EINTR);
		return;
	}
	fuse_req_interrupt_func(req, on_interrupt, wait);
	ticket = engine_wait(fs->e, n.vm->id, wait_done, wait);

	LOCK_SCOPE(&fs->waits->lock);

	if (wait->owners == 2)
		wait->ticket = ticket;
	if (fs->waits->stopping || atomic_load(&wait->interrupted))
		wake_canceller(fs->waits);
	wait_drop(wait);
}

/* ---- the canceller ---- */

/* The ticket of a wait that is to end, 0 if there is none. */
static uint64_t next_to_cancel(struct waits *w)
{
	LOCK_SCOPE(&w->lock);

	for (size_t i = 0; i < w->list.n; i++) {
		struct wait *wait = w->list.at[i];

		if (wait->ticket && (w->stopping || atomic_load(&wait->interrupted))) {
			uint64_t ticket = wait->ticket;

			wait->ticket = 0;
			return ticket;
		}
	}
	return 0;
}

static bool is_over(struct waits *w)
{
	LOCK_SCOPE(&w->lock);

	return w->stopping && w->list.n == 0;
}

static void *canceller(void *waits)
{
	struct waits *w = waits;
	uint64_t count, ticket;

	while (!is_over(w)) {
		if (read(w->wake, &count, sizeof(count)) < 0)
			continue;
		while ((ticket = next_to_cancel(w)))
			engine_wait_cancel(w->fs->e, ticket);
	}
	return NULL;
}

int waits_start(struct fs *fs, struct err *err)
{
	struct waits *w = xnew(struct waits);
	int r;

	w->fs = fs;
	pthread_mutex_init(&w->lock, NULL);
	w->wake = eventfd(0, EFD_CLOEXEC);
	r = w->wake < 0 ? errno : pthread_create(&w->canceller, NULL, canceller, w);
	if (r) {
		waits_free(w);
		return err_sys(err, r, "cannot start a thread");
	}
	fs->waits = w;
	return 0;
}

void waits_stop(struct fs *fs)
{
	struct waits *w = fs->waits;

	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_mutex_unlock(&w->lock);
	wake_canceller(w);
	pthread_join(w->canceller, NULL);
}

void waits_free(struct waits *w)
{
	if (!w)
		return;
	if (w->wake >= 0)
		close(w->wake);
	vec_free(&w->list);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
