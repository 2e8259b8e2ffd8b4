/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools, for the other files of the engine. What is published of them is pools.h's. */
#ifndef KWS_ENGINE_POOL_H
#define KWS_ENGINE_POOL_H

#include "engine/clone.h"
#include "engine/pools.h"

/* ---- pool.c: which there are, and what they publish ---- */

void pools_init(struct engine *e);
int pools_open(struct engine *e, struct err *err);
void pools_free(struct engine *e);

/* -EPERM with the pool's name if one publishes the snapshot. */
int pool_check_unpublished(struct engine *e, const struct snapshot *snapshot, struct err *err);
/* The oldest pool that publishes it, 0 if none does: what a clone of it is made for. */
uint32_t pool_of_snapshot(struct engine *e, uint32_t snapshot);

task_fn task_publish;

/* ---- pool-spares.c: how spares are ---- */

/* How far a clone has come; those of which nothing is kept were never started. */
enum spare_stage {
	STAGE_FRESH,
	STAGE_BOOTING, /* it was started, or something went wrong: good for nothing once it is off */
	STAGE_PAUSED,
	STAGE_SAVED,
	STAGE_STALE, /* what it would be told has changed: to be removed, and that stays so */
	STAGE_UNNAMED, /* no spare any more: libvirt is to rename it when it is off */
};

enum spare_stage spare_stage(struct engine *e, uint32_t clone);
/* Durable when it returns. */
int spare_set_stage(struct engine *e, uint32_t clone, enum spare_stage stage, struct err *err);
/* For who has the source for itself: those of a snapshot are taken no more, and made anew. */
int spares_outdate(struct engine *e, uint32_t snapshot, struct err *err);
/* When a booting one was started, as metrics_now says; 0: not in this process. */
double spare_started(struct engine *e, uint32_t clone);

/* Drops what is kept of those that are gone. */
void spares_tidy(struct engine *e, const struct clone_list *clones);
int spares_open(struct engine *e, struct err *err);
void spares_free(struct engine *e);

/* Whether it can be taken, as far as is published. */
bool spare_is_ready(struct engine *e, const struct pool *pool, const struct clone *c);

/* The file that its memory is saved in. The caller frees it. */
char *spare_memory(const struct engine *e, const char *uuid);
int spare_forget_memory(const struct engine *e, const char *uuid, struct err *err);

/* ---- pool-claim.c ---- */

/* For who has the source for itself: makes a spare of the pool that publishes the snapshot the
 * clone `name`. -ENOENT if none is ready: then one is to be made. */
int pool_claim(struct engine *e, struct slot *source, const struct snapshot *snapshot,
	       const char *name, uint32_t *ret_clone, struct err *err);

/* ---- pool-make.c: what is done to one, for the thread ---- */

/* `known`: the clones of which it was told that one is to be made; -EAGAIN if there are others now. */
int spare_make(struct engine *e, const struct pool *pool, const struct clone_list *known,
	       struct err *err);
/* -EAGAIN if it was taken meanwhile. */
int spare_start(struct engine *e, const struct clone *c, struct err *err);
int spare_suspend(struct engine *e, const struct clone *c, struct err *err);
int spare_save(struct engine *e, const struct clone *c, struct err *err);
int spare_remove(struct engine *e, const struct clone *c, struct err *err);
/* Of one that was taken booted, and is off now: libvirt gives it its name. */
int instance_rename(struct engine *e, const struct clone *c, struct err *err);

/* ---- pool-fill.c: one thread ---- */

int pools_start(struct engine *e, struct err *err);
/* While there are workers yet: what waits for a VM that it has needs them. */
void pools_stop(struct engine *e);
bool pools_are_stopping(struct engine *e);
/* Something changed by which it may have to do something. The lock is held. */
void pools_want(struct engine *e);
/* Keeps why a spare could not be made or taken, and tells of it. */
void pool_complain(struct engine *e, const struct pool *pool, int r, const char *msg);

#endif
