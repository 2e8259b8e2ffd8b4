/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/evidence.h"

#include "engine/known.h"

void evidence_clear(struct evidence *ev)
{
	for (size_t i = 0; i < ev->plans.n; i++)
		plan_free(ev->plans.at[i]);
	vec_free(&ev->plans);
	layers_clear(&ev->layers);
	for (size_t i = 0; i < ev->graves.n; i++) {
		free(ev->graves.at[i].target);
		layer_file_clear(&ev->graves.at[i].file);
	}
	vec_free(&ev->graves);
}

static int add_plans(struct engine *e, struct evidence *ev, struct err *err)
{
	struct journal_op *ops = NULL;
	size_t n = 0;
	int r = journal_open_ops(e->registry, 0, &ops, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++) {
		struct plan *plan;

		r = plan_from_json(ops[i].plan, &plan, err);
		if (r >= 0)
			vec_push(&ev->plans, plan);
	}
	journal_ops_free(ops, n);
	return r;
}

static int add_graves(struct engine *e, struct evidence *ev, struct err *err)
{
	cleanup(known_clear) known_t vms = { 0 };
	int r = know_vms(e, &vms, err);

	for (size_t i = 0; i < vms.n && r >= 0; i++) {
		struct tombstone *graves = NULL;
		size_t n = 0;

		if (!vms.at[i].there || !vms.at[i].id)
			continue;
		r = registry_tombstones(e->registry, vms.at[i].id, &graves, &n, err);
		for (size_t g = 0; g < n; g++)
			vec_push(&ev->graves, graves[g]);
		free(graves);
	}
	return r;
}

int evidence_gather(struct engine *e, struct evidence *ret, struct err *err)
{
	struct evidence ev = { 0 };
	int r = add_plans(e, &ev, err);

	if (r >= 0)
		r = layers_build_all(e, e->folders.at, e->folders.n, &ev.layers, err);
	/* An operation that has begun since, and perhaps ended. */
	if (r >= 0)
		r = add_plans(e, &ev, err);
	if (r >= 0)
		r = add_graves(e, &ev, err);
	if (r < 0) {
		evidence_clear(&ev);
		return r;
	}
	*ret = ev;
	return 0;
}

static bool is_file(const struct layer_file *a, const struct layer_file *b)
{
	/* Of a file that an operation is about to make only the name is known. */
	return a->path && (streq(a->path, b->path) || layer_file_same(a, b));
}

static bool plan_needs(const struct plan *plan, const struct layer_file *file)
{
	for (size_t i = 0; i < plan->n_disks; i++)
		if (is_file(&plan->disks[i].below, file) || is_file(&plan->disks[i].overlay, file) ||
		    is_file(&plan->disks[i].left, file))
			return true;
	return false;
}

const char *evidence_for(const struct evidence *ev, const struct layer_file *file)
{
	size_t i = layers_find(&ev->layers, file);

	if (i != NO_LAYER && ev->layers.all.at[i].top)
		return "a VM has it as its disk";
	if (i != NO_LAYER && ev->layers.all.at[i].frozen)
		return "a snapshot is made of it";
	if (i != NO_LAYER && ev->layers.all.at[i].reached)
		return "a VM or a snapshot needs it";
	for (size_t p = 0; p < ev->plans.n; p++)
		if (plan_needs(ev->plans.at[p], file))
			return "an operation that has not ended needs it";
	for (size_t g = 0; g < ev->graves.n; g++)
		if (is_file(&ev->graves.at[g].file, file))
			return "it is the layer of a deleted snapshot, and goes by itself";
	return NULL;
}
