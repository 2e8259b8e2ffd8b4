/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A commit: an overlay C is committed into the layer F under it, after which F
 * reads as C did, and C goes. C may be the layer that the VM writes to, the
 * frozen layer of a snapshot, or a tombstone; F is always a tombstone that
 * only C needs, so nobody misses what F was.
 *
 * While the data move, every chain through C reads the same: only clusters
 * that C holds are written in F, and C is in front of them. At the end QEMU gives
 * C's overlay F as its backing file, and only then writes the last of F's tables:
 * whoever opens such a chain meanwhile gets C put back into it (merging.c).
 *
 * Steps
 *   data        the commit; can be broken off and repeated at any time.
 *   references  C's other overlays get F as their backing file, and so do the
 *               domain's config and the snapshots' metadata. From here on
 *               nothing is undone: F is as good as C, and only F will be kept.
 *   record      tombstones: F's goes; if C had one, it is F's now.
 *   remove      C's file.
 */
#include "engine/merge.h"

#include "engine/layers.h"
#include "engine/metadata.h"
#include "engine/qemu-img.h"

#include <errno.h>
#include <sys/statvfs.h>

#define MIB (1ULL << 20)

/* What a merge, or a copy, leaves free on a file system, so that no running VM stops for want of room:
 * a sixteenth, or this. */
#define SPARE_SHARE 16
#define SPARE_MOST (64 * MIB)

static const struct plan_disk *disk_of(const struct op *op)
{
	return &op->plan->disks[0];
}

/* ---- orders, progress ---- */

bool job_announce(struct op *op, const char *step)
{
	struct slot *s = op->slot;
	LOCK_SCOPE(&op->e->lock);
	bool begins = !s->job.running || s->job.id != op->id;

	if (begins) {
		clock_gettime(CLOCK_MONOTONIC, &s->job_began);
		s->job.done = s->job.total = 0;
	}
	s->job.running = true;
	s->job.id = op->id;
	s->job.kind = op->kind->name;
	s->job.step = step;
	snprintf(s->job.target, sizeof(s->job.target), "%s", disk_of(op)->target);
	return begins;
}

void merge_announce(struct op *op, const char *step)
{
	if (job_announce(op, step))
		engine_event(op->e, &(struct engine_event){ "merge-started", op->slot->id,
				.disk = disk_of(op)->target, .bytes = op->plan->moves,
				.weight = EVENT_DETAIL },
			     "a layer of %s is being merged", disk_of(op)->target);
}

void merge_end(struct op *op, int r, const struct err *err)
{
	struct slot *s = op->slot;
	double seconds;
	bool ran;

	pthread_mutex_lock(&op->e->lock);
	ran = s->job.running && s->job.id == op->id;
	seconds = metrics_now() - (s->job_began.tv_sec + s->job_began.tv_nsec / 1e9);
	s->job.running = false;
	pthread_mutex_unlock(&op->e->lock);
	if (!ran)
		return;
	if (r >= 0)
		metrics_merge(op->e, seconds, op->plan->moves);
	engine_event(op->e, &(struct engine_event){ "merge-ended", s->id,
			.disk = disk_of(op)->target, .code = r < 0 ? -r : 0, .seconds = seconds,
			.bytes = r < 0 ? 0 : op->plan->moves,
			.weight = r < 0 ? EVENT_DETAIL : EVENT_NOTE },
		     "a layer of %s %s%s", disk_of(op)->target,
		     r < 0 ? "is not merged yet: " : "was merged", r < 0 && err ? err->msg : "");
}

void merge_note_progress(struct op *op, uint64_t done, uint64_t total)
{
	LOCK_SCOPE(&op->e->lock);

	op->slot->job.done = done;
	op->slot->job.total = total;
}

/* A commit lets F grow, a pull C. */
static const struct layer_file *grows(const struct op *op)
{
	return op->kind == &merge_op ? &disk_of(op)->below : &disk_of(op)->overlay;
}

int room_missing(const struct layer_file *file, uint64_t bytes, uint64_t *ret, struct err *err)
{
	struct statvfs st;
	uint64_t free, spare;

	if (statvfs(file->path, &st) < 0)
		return err_sys(err, errno, "cannot look at the file system of %s", file->path);
	free = (uint64_t)st.f_bavail * st.f_frsize;
	spare = (uint64_t)st.f_blocks * st.f_frsize / SPARE_SHARE;
	if (spare > SPARE_MOST)
		spare = SPARE_MOST;
	*ret = free >= bytes + spare ? 0 : bytes + spare - free;
	return 0;
}

int merge_check_room(const struct layer_file *file, uint64_t bytes, struct err *err)
{
	uint64_t missing;
	int r = room_missing(file, bytes, &missing, err);

	if (r < 0 || !missing)
		return r;
	return err_set(err, ENOSPC, "merging into %s needs %llu MiB more than are free on its file "
		       "system: make room, and it goes on by itself", file->path,
		       (unsigned long long)((missing + MIB - 1) / MIB));
}

int merge_check_orders(struct op *op, struct err *err)
{
	struct engine *e = op->e;
	int r = merge_check_room(grows(op), 0, err);
	LOCK_SCOPE(&e->lock);

	if (r < 0)
		return r;

	if (e->stopping)
		return err_set(err, ESHUTDOWN, "shutting down");
	if (op->slot->cancel == op->id)
		return err_set(err, ECANCELED, "the job was canceled");
	if (op->slot->step_aside && !op->hurry) /* else it is what is waited for */
		return err_set(err, EINTR, "the merge made room for another operation");
	return 0;
}

/* ---- data ---- */

static bool is_live(const struct layers *l, const struct layer_file *file)
{
	size_t i = layers_find(l, file);

	return i != NO_LAYER && l->all.at[i].live;
}

int merge_is_live(struct op *op, bool *ret, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	struct layers layers;
	int r = layers_build(op->e, op->slot, NULL, 0, &layers, err);

	if (r < 0)
		return r;
	*ret = is_live(&layers, &d->below) || is_live(&layers, &d->overlay);
	layers_clear(&layers);
	return 0;
}

static int step_data(struct op *op, struct err *err)
{
	bool live;
	int r = merge_is_live(op, &live, err);

	if (r < 0)
		return r;
	if (!live)
		return commit_offline(op, err);
	r = commit_live(op, err);
	/* It is libvirt that has changed the config. */
	return r < 0 ? r : op->e->hv->ops->sync(op->e->hv, op->slot->uuid, err);
}

static int undo_data(struct op *op, struct err *err)
{
	/* The job goes on in QEMU, and the next process takes it up. */
	if (is_stopping(op->e))
		return err_set(err, ESHUTDOWN, "shutting down");
	return job_abort(op, err);
}

/* ---- references ---- */

static int rebase(const struct layer *on_top, const struct layer_file *below, struct err *err)
{
	return qemu_img_rebase_unsafe(on_top->file.path, on_top->file.format, below->path,
				      below->format, err);
}

/* Those that have it already got it from QEMU, at the end of a block job, and QEMU
 * does not flush that header: it has to be durable before C may go. */
static int rebase_overlays(struct op *op, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	struct layers layers;
	size_t c, f;
	int r = layers_build(op->e, op->slot, NULL, 0, &layers, err);

	if (r < 0)
		return r;
	c = layers_find(&layers, &d->overlay);
	f = layers_find(&layers, &d->below);
	for (size_t i = 0; i < layers.all.n && r >= 0; i++) {
		const struct layer *on_top = &layers.all.at[i];
		bool lies_on_c = c != NO_LAYER && on_top->backing == c;

		if (lies_on_c)
			r = rebase(on_top, &d->below, err);
		if (r >= 0 && (lies_on_c || (f != NO_LAYER && on_top->backing == f)))
			r = file_sync(on_top->file.path, err);
	}
	layers_clear(&layers);
	return r < 0 || f == NO_LAYER ? r : file_sync(d->below.path, err);
}

static int rename_in_snapshot(struct op *op, const struct xml_rename *rename, const char *name,
			      bool current, struct err *err)
{
	struct snapshot_edit edit = { .renames = rename, .n_renames = 1 };
	cleanup_free char *xml = NULL, *edited = NULL;
	int r;

	r = op->e->hv->ops->snapshot_xml(op->e->hv, op->slot->uuid, name, &xml, err);
	if (r == -ENOENT)
		return 0;
	if (r < 0 || !strstr(xml, "<disk"))
		return r;
	r = snapshot_xml_edit(xml, &edit, &edited, err);
	if (r < 0 || streq(xml, edited))
		return r;
	return op->e->hv->ops->snapshot_redefine(op->e->hv, op->slot->uuid, edited, current, err);
}

static int rename_in_snapshots(struct op *op, const struct xml_rename *rename, struct err *err)
{
	cleanup_free char *current = NULL;
	char **names = NULL;
	size_t n = 0;
	int r = op->e->hv->ops->snapshots(op->e->hv, op->slot->uuid, &names, &n, &current, err);

	for (size_t i = 0; i < n; i++) {
		if (r >= 0)
			r = rename_in_snapshot(op, rename, names[i], streq(names[i], current), err);
		free(names[i]);
	}
	free(names);
	return r;
}

int merge_rename(struct op *op, const struct xml_rename *rename, struct err *err)
{
	int r = config_rename(op->e, op->slot, rename, 1, err);

	if (r >= 0)
		r = rename_in_snapshots(op, rename, err);
	/* Who needs which layer is also read from what is published. */
	return r < 0 ? r : look(op->e, op->slot, LOOK_MERGED, err);
}

static int step_references(struct op *op, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	struct xml_rename rename = { d->overlay.path, d->below.path, d->below.format };
	int r;

	slot_begin_exclusive(op->e, op->slot);
	r = rebase_overlays(op, err);
	return r < 0 ? r : merge_rename(op, &rename, err);
}

/* ---- record, remove ---- */

static int step_record(struct op *op, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	struct registry_change change = {
		.vm_id = op->slot->id,
		.moved_from = &d->overlay,
		.moved_to = &d->below,
	};

	return registry_apply(op->e->registry, &change, err);
}

static int step_remove(struct op *op, struct err *err)
{
	const struct plan_disk *d = disk_of(op);
	struct layers layers;
	bool needed;
	size_t c;
	int r = layers_build(op->e, op->slot, NULL, 0, &layers, err);

	if (r < 0)
		return r;
	c = layers_find(&layers, &d->overlay);
	needed = c != NO_LAYER;
	layers_clear(&layers);
	/* Somebody took it into use meanwhile: then it is theirs. */
	return needed ? 0 : file_remove(&d->overlay, err);
}

/* What has become of the commit, told by who lies on what. */
enum commit_state {
	COMMIT_OPEN,     /* C is in its place: it can be broken off, or done again */
	COMMIT_WRITTEN,  /* ... and the VM writes to it, or will at its next start */
	COMMIT_SWITCHED, /* QEMU took C out of the chain; F need not be whole yet */
	COMMIT_PIVOTED,  /* the VM writes to F */
	COMMIT_GONE,     /* nobody needs C any more, or its file is gone */
};

static enum commit_state state_of(const struct layers *l, const struct plan_disk *d)
{
	size_t c = layers_find(l, &d->overlay), f = layers_find(l, &d->below);

	if (!layer_file_is_at(&d->overlay, d->overlay.path) || (c == NO_LAYER && f == NO_LAYER))
		return COMMIT_GONE;
	if (c != NO_LAYER && l->all.at[c].top)
		return COMMIT_WRITTEN;
	if (f != NO_LAYER && l->all.at[f].top)
		return COMMIT_PIVOTED;
	for (size_t i = 0; i < l->all.n; i++)
		if (i != c && l->all.at[i].backing == f && f != NO_LAYER)
			return COMMIT_SWITCHED;
	return c == NO_LAYER ? COMMIT_SWITCHED : COMMIT_OPEN;
}

/* While C is where the VM writes, or will at its next start, the data have to
 * be looked at again: it may have run and written since. Once it is not, F is
 * in its place and may have been written, and must not be committed into. But if F
 * has only taken C's place further down, nobody writes to it: then C is the one that
 * is known to be good, and as long as F is not, the merge must not be forgotten.
 *
 * If the VM was started when the data had been moved, and before anything lay on F, C is in
 * the way of a running QEMU, and only that one can take it out of its chain. And as long as libvirt
 * believes that the VM writes to C, all waits (merge-unnoted.c). */
static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	struct layers layers;
	enum commit_state state;
	bool live, active = false;
	int r = layers_build(op->e, op->slot, NULL, 0, &layers, err);

	if (r < 0)
		return r;
	state = state_of(&layers, disk_of(op));
	live = is_live(&layers, &disk_of(op)->overlay);
	layers_clear(&layers);
	if (state == COMMIT_WRITTEN || (state == COMMIT_OPEN && step == 1 && live) ||
	    (state == COMMIT_PIVOTED && step <= 1 && live))
		*ret_from = 0;
	else if (step == 0 && (state == COMMIT_PIVOTED || state == COMMIT_GONE))
		*ret_from = 1;
	else if (step == 0 && state == COMMIT_SWITCHED)
		return op->failed ? err_set(err, EAGAIN, "the merge is to be finished first") : 0;
	/* It is planned anew when there is time. But an order to pivot that may
	 * or may not have been carried out must not be forgotten. */
	if (*ret_from == 0 && op->failed && op->plan->flags & MERGE_PIVOTING)
		return err_set(err, EAGAIN, "it is not known which layer the VM writes to");
	if (*ret_from > 0 || !op->hurry || op->plan->flags & MERGE_PIVOTING)
		return 0;
	/* One on the active layer is waited for: see split.c. */
	return commit_live_is_active(op, &active, NULL) >= 0 && active ? 0 : -ECANCELED;
}

static const struct step steps[] = {
	{ "data", step_data, undo_data },
	{ "references", step_references, NULL },
	{ "record", step_record, NULL },
	{ "remove", step_remove, NULL },
};

const struct op_kind merge_op = { "merge", steps, 4, 1, settle };
