/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merging two layers, F and the only one that lies on it, C: plan->disks[0].below and
 * .overlay. Either way F is a tombstone, and one file is left of the two:
 *
 *   merge   C is committed into F, and goes (merge.c)
 *   pull    what C needs of F is copied into C, and F goes (pull.c)
 */
#ifndef KWS_ENGINE_MERGE_H
#define KWS_ENGINE_MERGE_H

#include "engine/domain-xml.h"
#include "engine/op.h"

extern const struct op_kind pull_op;

static inline bool is_merge(const char *kind)
{
	return streq(kind, merge_op.name) || streq(kind, pull_op.name);
}

/* ---- the data ---- */

/* The VM was told to switch to the lower layer: see merge-live.c. */
#define MERGE_PIVOTING 1u

/* Whether the VM runs with one of the two in its chains. */
int merge_is_live(struct op *op, bool *ret, struct err *err);

/* Commit by a block job of the running VM; the VM has left C then. Takes up a job
 * that runs already. Unless C is what the VM writes to, ended by an order: see
 * merge_check_orders. */
int commit_live(struct op *op, struct err *err);

/* Whether such a job runs, and C is what the VM writes to. */
int commit_live_is_active(struct op *op, bool *ret, struct err *err);

/* By QEMU's tools, while no VM runs with the two. */
int commit_offline(struct op *op, struct err *err);
int pull_offline(struct op *op, struct err *err);

/* What is read of a layer while nobody holds it is good only if it was not written by then: when
 * it was (ns since the epoch), and holding it against writers until the operation ends, -EBUSY
 * if it was since. */
int layer_last_written(const char *path, uint64_t *ret, struct err *err);
int layer_hold(struct op *op, const char *path, uint64_t written, struct err *err);

/* Whether libvirt's chain is the one that QEMU has, as far as C is concerned; there is no job.
 * `above` is what lies on C there, NULL if C is what the VM writes to. */
int commit_is_noted(struct op *op, const struct xml_layer *above, bool *ret, struct err *err);

/* If it is not: -EBUSY, and the domain's config names what the VM writes to. */
int commit_refuse_unnoted(struct op *op, bool active, struct err *err);

/* Whether F reads, wherever C holds something, as C does; and if it does, that this
 * will outlast a power cut. Reads all that C holds; or, if the job is known to have
 * `completed`, the maps only: what QEMU's tables in the file tell of is there then. */
int commit_verify(struct op *op, bool completed, bool *ret, struct err *err);

/* Whether C reads as F does wherever F holds something and C by itself nothing; and if
 * so, that this will outlast a power cut. Reads all that F holds. */
int pull_verify(struct op *op, bool *ret, struct err *err);

/* ---- jobs on the plan's first disk, for promoting, too ---- */

/* Shows that this is the job that runs, and its step. Whether it begins. */
bool job_announce(struct op *op, const char *step);

enum wake { WAKE_LOOK, WAKE_READY, WAKE_ENDED, WAKE_FAILED };

/* Before one is started: what was heard of an earlier one. */
void job_forget_signals(struct op *op);

/* Waits for something to happen to it, a tenth of a second at most; but for an `active` one that is
 * not broken off, not when somebody wants it to end. */
enum wake job_wait(struct op *op, bool active);

/* A job that QEMU has ended is none any more that could be asked for, but libvirt takes note of its
 * end, and tells us, a moment later. After so many looks the event is lost. */
#define LOOKS_FOR_EVENT 4

/* Also shows how far it is. */
int job_ask(struct op *op, struct hv_job *ret, struct err *err);

/* Ends it, if there is one, and waits until it has gone. */
int job_abort(struct op *op, struct err *err);

/* ---- what both do ---- */

/* As job_announce, and tells that it begins. */
void merge_announce(struct op *op, const char *step);

/* Shows that it runs no more, and tells how it ended (r 0 or -errno). */
void merge_end(struct op *op, int r, const struct err *err);

/* Shows how far it is; bytes. */
void merge_note_progress(struct op *op, uint64_t done, uint64_t total);

/* -EINTR if an operation waits for the VM, -ECANCELED if somebody wrote to the job's
 * `cancel`, -ESHUTDOWN, -ENOSPC if the file system of what grows is nearly full; else 0. */
int merge_check_orders(struct op *op, struct err *err);

/* How many bytes more must become free so that `file` can grow by `bytes` with something left for the
 * VMs; 0 if it can. */
int room_missing(const struct layer_file *file, uint64_t bytes, uint64_t *ret, struct err *err);

/* -ENOSPC, and how much is missing, if `file` cannot grow by so many bytes with something
 * left for the VMs. */
int merge_check_room(const struct layer_file *file, uint64_t bytes, struct err *err);

/* Puts a file in the place of another one in the domain's config and in all snapshots'
 * metadata, and publishes what has become of them. */
int merge_rename(struct op *op, const struct xml_rename *rename, struct err *err);

#endif
