/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What becomes of tombstones: the layers of deleted snapshots, and of states
 * that a revert left. By the number of layers on top of one:
 *
 *   none      nobody needs it: the file is deleted;
 *   one       the two are merged the cheaper way, down (merge.c) or up (pull.c);
 *   more      others share it: it stays, until all but one of them are gone.
 *
 * Never touched is a layer that another VM reaches, or on which lies an image
 * that nobody names. After each step everything is looked at anew: the tree
 * has changed, and perhaps not by us alone. Merging begins at the bottom, so
 * that of several tombstones in a row nothing is moved twice.
 *
 * A tombstone that fails does not keep the others waiting; the collection as a
 * whole has failed then, and is tried again at the next event of the VM, at
 * the next operation on it, and at start-up.
 */
#include "engine/backing.h"
#include "engine/chain-layer.h"
#include "engine/layers.h"
#include "engine/merge-cost.h"
#include "engine/merge.h"
#include "engine/metadata.h"
#include "engine/op.h"
#include "engine/qcow2.h"
#include "engine/split.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

enum fate { KEEP, REMOVE, MERGE };

struct judgement {
	enum fate fate;
	bool commit, pull; /* MERGE: which of the two ways are possible */
};

/* One round: all tombstones, and who needs them. */
struct round {
	struct tombstone *graves;
	size_t n;
	struct layers layers;
	struct judgement *judgements;
};

static void round_clear(struct round *round)
{
	tombstones_free(round->graves, round->n);
	layers_clear(&round->layers);
	free(round->judgements);
}

/* ---- judging ---- */

/* Internal snapshots live in one file, and go with it. */
static int holds_internal(const struct layer_file *file, bool *ret, struct err *err)
{
	cleanup_close int fd = -1;
	struct qcow2_header *h;
	int r;

	*ret = false;
	if (!streq(file->format, "qcow2"))
		return 0;
	fd = open(file->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot open %s", file->path);
	r = qcow2_header_read(fd, file->path, &h, err);
	if (r < 0)
		return r;
	*ret = h->snapshots > 0;
	qcow2_header_free(h);
	return 0;
}

/* An overlay that is smaller than what it lies on cannot be committed: the
 * lower one would keep its size, and the disk grow. */
static int fits(const struct layer *from, const struct layer *into, bool *ret, struct err *err)
{
	uint64_t size, below;
	int r = layer_virtual_size(from->file.path, from->file.format, &size, err);

	if (r >= 0)
		r = layer_virtual_size(into->file.path, into->file.format, &below, err);
	if (r >= 0)
		*ret = size >= below;
	return r;
}

static void note_compressed(void *found, const struct qcow2_run *run)
{
	if (run->kind == QCOW2_COMPRESSED)
		*(bool *)found = true;
}

static uint64_t grain_of(const struct qcow2_header *h)
{
	return (1ULL << h->cluster_bits) / (h->incompatible & QCOW2_EXTENDED_L2 ? 32 : 1);
}

/* A commit that fills a part of a compressed cluster unpacks it to another place, and
 * QEMU may use the old one for other data before the table in the file says so.
 * Whoever reads the rest of that cluster through the old table would read those: so
 * this is not done. Where all that is committed covers whole clusters, nobody reads
 * what it replaces. */
static int moves_compressed(const struct layer *from, const struct layer *into, bool *ret,
			    struct err *err)
{
	struct chain_layer upper = { .fd = -1 }, lower = { .fd = -1 };
	int r = chain_layer_open(&upper, from->file.path, from->file.format, err);

	if (r >= 0)
		r = chain_layer_open(&lower, into->file.path, into->file.format, err);
	*ret = false;
	if (r >= 0 && lower.qcow2 &&
	    grain_of(qcow2_header(upper.qcow2)) < qcow2_cluster_size(lower.qcow2))
		chain_layer_map(&lower, 0, lower.size, note_compressed, ret);
	chain_layer_close(&upper);
	chain_layer_close(&lower);
	return r;
}

/* An image on top of `c` that the VM does not reach could not be told about the merge. */
static bool has_strangers(const struct layers *l, size_t c)
{
	for (size_t i = 0; i < l->all.n; i++)
		if (l->all.at[i].backing == c && !l->all.at[i].reached)
			return true;
	return false;
}

/* Whether C can be committed into F. */
static int can_commit(const struct layers *l, const struct layer *c, const struct layer *f,
		      bool *ret, struct err *err)
{
	bool internal = false, fit = false, compressed = false;
	int r;

	*ret = false;
	if (has_strangers(l, f->overlay))
		return 0;
	r = holds_internal(&c->file, &internal, err);
	if (r >= 0)
		r = fits(c, f, &fit, err);
	if (r >= 0)
		r = moves_compressed(c, f, &compressed, err);
	*ret = fit && !internal && !compressed;
	return r;
}

/* Whether F can be pulled into C. Not in a running VM: see pull.c. And not a base: that is
 * the file by which its admin knows the disk. */
static int can_pull(const struct layer *c, const struct layer *f, bool *ret, struct err *err)
{
	bool internal = false, fit = false;
	int r;

	*ret = false;
	if (c->live || f->live || f->backing == NO_LAYER)
		return 0;
	r = holds_internal(&f->file, &internal, err);
	if (r >= 0)
		r = fits(f, c, &fit, err);
	*ret = fit && !internal;
	return r;
}

static int judge_merge(const struct layers *l, const struct layer *f, struct judgement *ret,
		       struct err *err)
{
	const struct layer *c = &l->all.at[f->overlay];
	int r;

	if (!c->reached || c->foreign || !streq(c->file.format, "qcow2"))
		return 0;
	r = can_commit(l, c, f, &ret->commit, err);
	if (r >= 0)
		r = can_pull(c, f, &ret->pull, err);
	if (r >= 0 && (ret->commit || ret->pull))
		ret->fate = MERGE;
	return r;
}

static int judge(const struct round *round, const struct tombstone *t, struct judgement *ret,
		 struct err *err)
{
	const struct layers *l = &round->layers;
	size_t i = layers_find(l, &t->file);
	const struct layer *f = i == NO_LAYER ? NULL : &l->all.at[i];
	bool internal;
	int r;

	*ret = (struct judgement){ KEEP };
	if (f && (f->foreign || f->top || f->frozen))
		return 0;
	if (f && f->n_overlays == 1)
		return judge_merge(l, f, ret, err);
	if (f && (f->n_overlays > 1 || f->reached))
		return 0;
	/* Nobody reaches it; file_remove makes sure that it is what it was. */
	r = holds_internal(&t->file, &internal, err);
	if (r >= 0 && !internal)
		ret->fate = REMOVE;
	return r;
}

static bool is_merged_first(const struct round *round, size_t i)
{
	size_t below = layers_find(&round->layers, &round->graves[i].file);

	if (below != NO_LAYER)
		below = round->layers.all.at[below].backing;
	for (size_t n = 0; below != NO_LAYER && n < round->n; n++)
		if (round->judgements[n].fate == MERGE &&
		    layer_file_same(&round->graves[n].file, &round->layers.all.at[below].file))
			return false;
	return true;
}

/* The tombstone to do next; round->n if there is none. */
static size_t choose(const struct round *round)
{
	for (size_t i = 0; i < round->n; i++)
		if (round->judgements[i].fate == REMOVE)
			return i;
	for (size_t i = 0; i < round->n; i++)
		if (round->judgements[i].fate == MERGE && is_merged_first(round, i))
			return i;
	return round->n;
}

/* ---- doing ---- */

static int remove_layer(struct engine *e, struct slot *s, const struct tombstone *t,
			struct err *err)
{
	/* The config may still name it as a part of a chain, if somebody changed that with
	 * qemu-img while the VM was off; libvirt would believe it, and not start the VM. */
	struct xml_rename same = { t->file.path, t->file.path, NULL };
	int r = config_rename(e, s, &same, 1, err);

	if (r >= 0)
		r = file_remove(&t->file, err);

	/* Another file by that name: ours is gone, and that one is not our business. */
	if (r == -ESTALE)
		r = 0;
	return r < 0 ? r : registry_tombstone_drop(e->registry, t->id, err);
}

static bool is_left_open(struct engine *e, struct slot *s)
{
	struct journal_op *ops = NULL;
	size_t n = 0;

	journal_open_ops(e->registry, s->id, &ops, &n, NULL);
	journal_ops_free(ops, n);
	return n > 0;
}

/* Broken off on purpose: there is nothing to be finished in a hurry. */
static bool is_order(int r)
{
	return r == -EINTR || r == -ESHUTDOWN || r == -ECANCELED;
}

/* Chooses the cheaper way that is possible, and sees that there is room for it. */
static int choose_way(const struct judgement *j, const struct layer *c, const struct layer *f,
		      bool *ret_commit, uint64_t *ret_moves, struct err *err)
{
	struct merge_cost cost;
	int r = merge_cost(&c->file, &f->file, &cost, err);

	if (r < 0)
		return r;
	*ret_commit = j->commit && !(j->pull && cost.pull.moves < cost.commit.moves);
	*ret_moves = *ret_commit ? cost.commit.moves : cost.pull.moves;
	return *ret_commit ? merge_check_room(&f->file, cost.commit.grows, err)
			   : merge_check_room(&c->file, cost.pull.grows, err);
}

/* What is committed out of the layer that a VM writes to, at most; bytes. It cannot be
 * broken off (split.c), and a mkdir waits for it. */
#define ACTIVE_MOST (16ULL << 20)

/* Its tables may still be in QEMU's memory: but what was written is in the file. */
static bool holds_much(const struct layer_file *active)
{
	struct stat st;

	return stat(active->path, &st) == 0 && st.st_blocks * 512ULL > ACTIVE_MOST;
}

static int merge_layer(struct engine *e, struct slot *s, const struct round *round, size_t number,
		       struct err *err)
{
	const struct tombstone *t = &round->graves[number];
	const struct layer *f = &round->layers.all.at[layers_find(&round->layers, &t->file)];
	const struct layer *c = &round->layers.all.at[f->overlay];
	struct plan *plan;
	struct plan_disk *d;
	uint64_t moves;
	bool commit;
	int r = choose_way(&round->judgements[number], c, f, &commit, &moves, err);

	if (r < 0)
		return r;
	if (c->live && c->top && (moves > ACTIVE_MOST || holds_much(&c->file)))
		return split_active(e, s, t->target, &c->file, err);
	plan = plan_new();
	plan->moves = moves;
	d = plan_add_disk(plan, t->target);
	layer_file_copy(&d->below, &f->file);
	layer_file_copy(&d->overlay, &c->file);
	r = op_run(e, s, commit ? &merge_op : &pull_op, plan, err);
	/* QEMU may have ended in the middle of it: then it can be finished now. */
	if (r < 0 && !is_order(r) && is_left_open(e, s))
		r = recover(e, s, RECOVER_ALL, err);
	if (is_order(r))
		return r; /* somebody waits, and no snapshot has changed */
	slot_begin_exclusive(e, s);
	look(e, s, LOOK_ALL, NULL);
	slot_end_exclusive(e, s);
	return r;
}

/* ---- rounds ---- */

static int told_to_stop(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	return e->stopping ? -ESHUTDOWN : s->step_aside ? -EINTR : 0;
}

static bool was_tried(const int64_t *tried, size_t n, int64_t id)
{
	for (size_t i = 0; i < n; i++)
		if (tried[i] == id)
			return true;
	return false;
}

static int round_open(struct engine *e, struct slot *s, struct round *ret, struct err *err)
{
	int r = registry_tombstones(e->registry, s->id, &ret->graves, &ret->n, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	s->job.tombstones = ret->n;
	pthread_mutex_unlock(&e->lock);
	ret->judgements = xcalloc(ret->n, sizeof(*ret->judgements));
	if (ret->n == 0)
		return 0;
	vm_refresh_now(e, s);
	r = layers_build(e, s, ret->graves, ret->n, &ret->layers, err);
	if (r >= 0 && ret->layers.missing)
		r = err_set(err, EBUSY, "%s is missing, and nobody can tell what it lies on: until it is "
			    "there again, or the snapshots that need it are deleted, no layer of "
			    "this VM is merged or deleted", ret->layers.missing);
	return r;
}

/* A domain that is not defined is not proof that its layers are not needed. */
static bool is_there(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	return s->view != NULL;
}

static bool is_saved(struct engine *e, struct slot *s)
{
	struct hv_domain state = { 0 };
	bool saved = e->hv->ops->lookup(e->hv, s->uuid, &state, NULL) < 0 || state.saved;

	free(state.name);
	return saved;
}

int collect(struct engine *e, struct slot *s, struct err *err)
{
	vec_of(int64_t) tried = { 0 }; /* and failed */
	struct err first = ERR_INIT;
	int r = 0;

	while (r >= 0 && is_there(e, s)) {
		cleanup(round_clear) struct round round = { 0 };
		size_t next;

		r = told_to_stop(e, s);
		if (r >= 0)
			r = round_open(e, s, &round, err);
		for (size_t i = 0; i < round.n && r >= 0; i++)
			if (!was_tried(tried.at, tried.n, round.graves[i].id))
				r = judge(&round, &round.graves[i], &round.judgements[i], err);
		if (r < 0)
			break;
		next = choose(&round);
		/* The memory of a saved VM names the layers: none may go until it runs. */
		if (next == round.n || is_saved(e, s))
			break;
		if (round.judgements[next].fate == REMOVE)
			r = remove_layer(e, s, &round.graves[next], err);
		else
			r = merge_layer(e, s, &round, next, err);
		if (r < 0 && !is_order(r) && r != -EHOSTDOWN) {
			vec_push(&tried, round.graves[next].id);
			if (!first.code)
				first = *err;
			r = 0;
		}
	}
	vec_free(&tried);
	if (r >= 0 && first.code) {
		*err = first;
		r = -first.code;
	}
	return r;
}
