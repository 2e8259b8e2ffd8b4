/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Merging one layer into the one under it; how, see merge.c. */
#ifndef KWS_ENGINE_MERGE_H
#define KWS_ENGINE_MERGE_H

#include "engine/op.h"

/* The VM was told to switch to the lower layer: see commit-live.c. */
#define MERGE_PIVOTING 1u

/* Moves what plan->disks[0].overlay holds into .below, by a block job of the
 * running VM; the VM has left the overlay then. Takes up a job that runs
 * already. -EINTR if it was told to step aside: the job is ended then. */
int commit_live(struct op *op, struct err *err);

/* Ends the block job, if there is one, and waits until it has gone. */
int commit_live_abort(struct op *op, struct err *err);

/* The same by qemu-img, while no VM runs with the two. */
int commit_offline(struct op *op, struct err *err);

/* Whether F reads, wherever C holds something, as C does; and if it does, that this
 * will outlast a power cut. Reads all that C holds. */
int commit_verify(struct op *op, bool *ret, struct err *err);

#endif
