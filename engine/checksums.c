/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checksums of the disks of snapshots. Made in the background, one file at a time and
 * with the lowest priority, because they read all of it; kept in the registry, because
 * no byte of it ever changes. A wish outlives the daemon.
 *
 * The snapshot is not held meanwhile: whoever deletes it need not wait, its wishes go
 * with it, and so does what was read.
 */
#include "engine/checksums.h"

#include "engine/disk-files.h"
#include "engine/disk-shape.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <sys/resource.h>

#define PART (1u << 20)      /* bytes that are read at a time */
#define LOOK_EVERY (64 * PART) /* ... after which it is seen whether they are still wanted */

/* ---- asking ---- */

static int wish(struct engine *e, const struct snapshot *s, struct err *err)
{
	static const enum disk_shape shapes[] = { SHAPE_RAW, SHAPE_QCOW2 };
	int r = 0;

	for (size_t i = 0; i < s->n_disks && r >= 0; i++)
		for (size_t n = 0; n < sizeof(shapes) / sizeof(shapes[0]) && r >= 0; n++)
			r = registry_checksum_wish(e->registry, s->id, s->disks[i].target,
						   shapes[n], err);
	return r;
}

int engine_checksums_make(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, struct err *err)
{
	struct vm *vm = engine_vm(e, vm_id);
	const struct snapshot *s;
	int r = need_snapshot(vm, snapshot_id, &s, err);

	if (r >= 0)
		r = wish(e, s, err);
	vm_unref(vm);
	if (r < 0)
		return r;
	LOCK_SCOPE(&e->lock);
	e->sums.wanted = true;
	pthread_cond_signal(&e->sums.wake);
	return 0;
}

int engine_checksums(struct engine *e, uint32_t snapshot_id, struct checksum **ret, size_t *ret_n,
		     struct err *err)
{
	int r = registry_checksums(e->registry, snapshot_id, ret, ret_n, err);
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; r >= 0 && i < *ret_n; i++) {
		struct checksum *c = &(*ret)[i];

		if (c->sha256 || e->sums.snapshot != snapshot_id || e->sums.shape != c->shape ||
		    !streq(e->sums.target, c->target))
			continue;
		c->done = e->sums.done;
		c->total = e->sums.total;
	}
	return r;
}

/* ---- making ---- */

/* NULL: none is being made. */
static void note_progress(struct engine *e, const struct checksum_wish *w, uint64_t done,
			  uint64_t total)
{
	LOCK_SCOPE(&e->lock);

	e->sums.snapshot = w ? w->snapshot : 0;
	e->sums.shape = w ? w->shape : 0;
	snprintf(e->sums.target, sizeof(e->sums.target), "%s", w ? w->target : "");
	e->sums.done = done;
	e->sums.total = total;
}

/* -ECANCELED if nobody wants it any more. */
static int go_on(struct engine *e, const struct checksum_wish *w, uint64_t at, uint64_t total)
{
	note_progress(e, w, at, total);
	if (is_stopping(e))
		return -ECANCELED;
	return at % LOOK_EVERY || registry_checksum_is_wished(e->registry, w->id) ? 0 : -ECANCELED;
}

static int sum(struct engine *e, const struct checksum_wish *w, struct disk_file *f,
	       struct sha256_ctx *ctx, struct err *err)
{
	cleanup_free uint8_t *buf = xcalloc(1, PART);
	uint64_t size = disk_file_size(f);

	for (uint64_t at = 0; at < size;) {
		int r = go_on(e, w, at, size);
		ssize_t n = r < 0 ? r : disk_file_read(f, buf, PART, at, err);

		if (n < 0)
			return n;
		sha256_update(ctx, n, buf);
		at += n;
	}
	return 0;
}

static char *to_hex(const uint8_t *digest, size_t n)
{
	char *hex = xcalloc(1, 2 * n + 1);

	for (size_t i = 0; i < n; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
	return hex;
}

static int disk_number(struct engine *e, const struct checksum_wish *w, unsigned *ret,
		       struct err *err)
{
	struct vm *vm = engine_vm(e, w->vm);
	const struct snapshot *s;
	const struct snapshot_disk *disk;
	int r = need_snapshot(vm, w->snapshot, &s, err);

	if (r >= 0) {
		disk = snapshot_disk_of(s, w->target);
		if (disk)
			*ret = disk - s->disks;
		else
			r = err_set(err, ENOENT, "the snapshot has no disk %s", w->target);
	}
	vm_unref(vm);
	return r;
}

static int make(struct engine *e, const struct checksum_wish *w, struct err *err)
{
	struct disk_id id = { .vm = w->vm, .snapshot = w->snapshot, .shape = w->shape };
	uint8_t digest[SHA256_DIGEST_SIZE];
	cleanup_free char *hex = NULL;
	struct disk_file *f = NULL;
	struct sha256_ctx ctx;
	int r = disk_number(e, w, &id.disk, err);

	if (r >= 0)
		r = disk_file_open_unheld(e, &id, &f, err);
	if (r < 0)
		return r;
	sha256_init(&ctx);
	r = sum(e, w, f, &ctx, err);
	disk_file_free(f);
	if (r < 0)
		return r;
	sha256_digest(&ctx, sizeof(digest), digest);
	hex = to_hex(digest, sizeof(digest));
	r = registry_checksum_set(e->registry, w->id, hex, err);
	if (r >= 0)
		engine_event(e, &(struct engine_event){ "checksum-made", w->vm, w->snapshot,
							.disk = w->target },
			     "the checksum of %s%s was made", w->target,
			     w->shape == SHAPE_RAW ? "" : " as a qcow2");
	return r;
}

/* What cannot be read has no checksum, and the others of its snapshot are of little use. */
static void give_up(struct engine *e, const struct checksum_wish *w, struct err *err)
{
	registry_checksum_give_up(e->registry, w->snapshot, NULL);
	err_wrap(err, "no checksums could be made");
	engine_tell(e, w->vm, -err->code, err->msg);
}

/* False if there is nothing left to do. */
static bool make_next(struct engine *e)
{
	struct checksum_wish w = { 0 };
	struct err err = ERR_INIT;
	int r = registry_checksum_next(e->registry, &w, &err);

	if (r < 0)
		return false;
	r = make(e, &w, &err);
	note_progress(e, NULL, 0, 0);
	if (r < 0 && r != -ECANCELED && registry_checksum_is_wished(e->registry, w.id))
		give_up(e, &w, &err);
	free(w.target);
	return true;
}

#define NICEST 19

void *checksum_thread(void *engine)
{
	struct engine *e = engine;

	setpriority(PRIO_PROCESS, 0, NICEST); /* of this thread alone, in Linux */
	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		bool more;

		if (!e->sums.wanted) {
			pthread_cond_wait(&e->sums.wake, &e->lock);
			continue;
		}
		e->sums.wanted = false;
		pthread_mutex_unlock(&e->lock);
		more = make_next(e);
		pthread_mutex_lock(&e->lock);
		e->sums.wanted |= more;
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}
