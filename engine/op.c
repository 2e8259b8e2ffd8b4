/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/merge.h"

#include <errno.h>

int (*op_fault)(const char *kind, const char *step, bool after);

const struct op_kind *const op_kinds[] = {
	&create_op, &delete_op, &rename_op, &revert_op, &merge_op, &pull_op, &split_op, &group_op,
	&clone_op, &unclone_op, &promote_op, &claim_op, &features_op, NULL,
};

static int fault(const struct op *op, size_t i, bool after, struct err *err)
{
	int r = op_fault ? op_fault(op->kind->name, op->kind->steps[i].name, after) : 0;

	return r < 0 ? err_set(err, -r, "a fault that a test asked for") : 0;
}

static int note(struct op *op, const char *step, bool lazily, struct err *err)
{
	cleanup_free char *plan = plan_to_json(op->plan);

	return journal_step(op->e->registry, op->id, step, plan, lazily, err);
}

int op_note(struct op *op, const char *step, struct err *err)
{
	return note(op, step, false, err);
}

static int run_step(struct op *op, size_t i, struct err *err)
{
	const struct step *step = &op->kind->steps[i];
	int r = 0;

	if (!op->begun && !step->unnoted) /* else the journal has just got it */
		r = note(op, step->name, step->note_lazily, err);
	op->begun = false;
	if (r < 0)
		return r;
	if (is_merge(op->kind->name))
		merge_announce(op, step->name);
	r = fault(op, i, false, err);
	if (r < 0)
		return r;
	r = step->run(op, err);
	if (r < 0)
		return r;
	return fault(op, i, true, err);
}

/* Undoes the steps from number `i` back. All are tried; the first error stays. */
static int undo_from(struct op *op, size_t i, struct err *err)
{
	int first = 0;

	for (size_t n = i + 1; n-- > 0;) {
		const struct step *step = &op->kind->steps[n];
		int r = step->undo ? step->undo(op, first ? NULL : err) : 0;

		if (r < 0 && !first)
			first = r;
	}
	return first;
}

/* Nobody may look at the tree before this operation has come to its end. A
 * merge changes no snapshot: it does not count. */
static void set_unsettled(struct op *op, bool unsettled)
{
	if (is_merge(op->kind->name))
		return;
	LOCK_SCOPE(&op->e->lock);

	op->slot->unsettled = unsettled;
}

/* The kind's settle. What it sees may have been done a moment ago: before anything
 * is built on that, it is made to outlive a power cut. */
static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	size_t from = *ret_from;
	int r = op->kind->settle(op, step, &from, err);

	if (r < 0)
		return r;
	r = op->e->hv->ops->sync(op->e->hv, op->slot->uuid, err);
	if (r < 0 && r != -ENOENT) /* the domain is gone: nothing is known of it */
		return r;
	*ret_from = from;
	return 0;
}

/* After step `i` failed: the number of the step to go on from, because it did
 * its work and only seemed to fail; or -ECANCELED when all is undone; or another
 * error: then the operation stays open, to be settled later. */
static int after_failure(struct op *op, size_t i, size_t *ret_from)
{
	size_t from = i;
	int r;

	if (i >= op->kind->no_return)
		return -EIO;
	op->failed = true;
	r = settle(op, i, &from, NULL);
	op->failed = false;
	if (r >= 0 && from > i) {
		*ret_from = from;
		return 0;
	}
	if (r < 0 && r != -ECANCELED)
		return r;
	r = undo_from(op, i, NULL);
	if (r >= 0)
		r = journal_end(op->e->registry, op->id, NULL);
	return r < 0 ? r : -ECANCELED;
}

static int run_steps(struct op *op, size_t i, struct err *err)
{
	int r = 0;

	set_unsettled(op, true);
	while (i < op->kind->n_steps) {
		r = run_step(op, i, err);
		if (r >= 0) {
			i++;
			continue;
		}
		switch (after_failure(op, i, &i)) {
		case 0:
			continue;
		case -ECANCELED:
			set_unsettled(op, false);
			return r;
		default:
			return r;
		}
	}
	r = journal_end(op->e->registry, op->id, err);
	if (r >= 0)
		set_unsettled(op, false);
	return r;
}

static int run_from(struct op *op, size_t i, struct err *err)
{
	int r = run_steps(op, i, err);

	if (is_merge(op->kind->name))
		merge_end(op, r, err);
	return r;
}

static void op_clear(struct op *op)
{
	if (op->lock_fd >= 0)
		close(op->lock_fd);
	plan_free(op->plan);
}

int op_run(struct engine *e, struct slot *s, const struct op_kind *kind, struct plan *plan,
	   struct err *err)
{
	cleanup(op_clear) struct op op = { .e = e, .slot = s, .kind = kind, .plan = plan,
					    .lock_fd = -1, .begun = true };
	cleanup_free char *json = plan_to_json(plan);
	int r;

	r = journal_begin(e->registry, s->id, kind->name, kind->steps[0].name, json, &op.id, err);
	return r < 0 ? r : run_from(&op, 0, err);
}

static size_t step_number(const struct op_kind *kind, const char *name)
{
	for (size_t i = 0; i < kind->n_steps; i++)
		if (streq(kind->steps[i].name, name))
			return i;
	return 0; /* begun, and no step yet */
}

int op_settle(struct engine *e, struct slot *s, const struct journal_op *j, bool hurry,
	      struct err *err)
{
	cleanup(op_clear) struct op op = { .e = e, .slot = s, .id = j->id, .hurry = hurry,
					    .lock_fd = -1 };
	size_t step, from;
	int r;

	for (size_t i = 0; op_kinds[i]; i++)
		if (streq(op_kinds[i]->name, j->kind))
			op.kind = op_kinds[i];
	if (!op.kind)
		return err_set(err, EIO, "the journal holds an operation '%s' that this version "
			       "does not know", j->kind);
	r = plan_from_json(j->plan, &op.plan, err);
	if (r < 0)
		return r;

	step = from = step_number(op.kind, j->step);
	r = settle(&op, step, &from, err);
	if (r == -ECANCELED) {
		r = undo_from(&op, step, err);
		return r < 0 ? r : journal_end(e->registry, op.id, err);
	}
	if (r < 0)
		return r;
	return run_from(&op, from, err);
}
