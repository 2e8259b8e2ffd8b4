/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations as journaled lists of steps. Each kind of operation is one table
 * of steps; the runner writes into the journal which step it begins, and runs
 * it. If one fails, `settle` looks whether it had its effect all the same (an
 * answer can be lost); if not, what was done is undone, from the failed step
 * back. From the kind's point of no return on, an operation is only finished,
 * never undone.
 *
 * A step can be repeated: after a crash it may run again although it had done
 * all or part of its work. An undo likewise, also for a step that never ran.
 *
 * A failure of a step past the point of no return leaves the operation open:
 * it is settled before the next operation on that VM, after a reconnect, or
 * by the next process.
 */
#ifndef KWS_ENGINE_OP_H
#define KWS_ENGINE_OP_H

#include "engine/core.h"

struct op {
	struct engine *e;
	struct slot *slot;
	const struct op_kind *kind;
	int64_t id;
	struct plan *plan;
	bool begun;  /* the journal has its first step already */
	bool hurry;  /* settle: somebody waits, break off what takes long */
	bool failed; /* settle: a step failed just now, rather than long ago */
	int lock_fd; /* a lock that is held until the operation ends, -1 if none */
};

struct step {
	const char *name;
	int (*run)(struct op *op, struct err *err);
	int (*undo)(struct op *op, struct err *err); /* NULL: nothing to undo */
	/* For haste: the journal does not say that it is begun, only that the one before was.
	 * Undoing that one has to undo this, too. */
	bool unnoted;
	/* After a power cut the operation may be found at the step before this one: it can be
	 * told there whether that has done its work, and what this one did needs nothing that
	 * the plan did not have by then. */
	bool note_lazily;
};

struct op_kind {
	const char *name;
	const struct step *steps;
	size_t n_steps;
	/* The first step that is past the point of no return. */
	size_t no_return;
	/* For an operation found open, of which `step` was begun last: looks at what
	 * is there and tells the step to go on from, or -ECANCELED to undo it.
	 * Other errors: it cannot be told now, try later. Past the point of no
	 * return *ret_from is set already, and good unless the kind knows better. */
	int (*settle)(struct op *op, size_t step, size_t *ret_from, struct err *err);
};

extern const struct op_kind create_op, delete_op, rename_op, revert_op, merge_op, split_op, group_op,
	clone_op, unclone_op, promote_op, claim_op, features_op;

/* All of them, and NULL at the end. */
extern const struct op_kind *const op_kinds[];

/* Journals the plan and runs the steps. Takes the plan over. */
int op_run(struct engine *e, struct slot *s, const struct op_kind *kind, struct plan *plan,
	   struct err *err);

/* Writes the plan as it is now into the journal, within a step. */
int op_note(struct op *op, const char *step, struct err *err);

/* Finishes or undoes an operation from the journal. */
int op_settle(struct engine *e, struct slot *s, const struct journal_op *j, bool hurry,
	      struct err *err);

/* For tests: called before and after each step; a negative return before a
 * step makes it fail, one after it too. NULL in the daemon. */
extern int (*op_fault)(const char *kind, const char *step, bool after);

#endif
