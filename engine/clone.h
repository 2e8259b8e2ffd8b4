/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Clones, for the other files of the engine. What is published of them is clones.h's.
 */
#ifndef KWS_ENGINE_CLONE_H
#define KWS_ENGINE_CLONE_H

#include "engine/clones.h"
#include "engine/core.h"

/* ---- clone-list.c: which there are ---- */

void clones_init(struct engine *e);
int clones_open(struct engine *e, struct err *err);
void clones_free(struct engine *e);
/* Writes one into the registry, and publishes it; c->id is set. Takes nothing over. */
int clones_add(struct engine *e, struct clone *c, struct err *err);
/* The same for what may change: its name, its pool, whether it is a spare. */
int clones_update(struct engine *e, const struct clone *c, struct err *err);
int clones_forget(struct engine *e, uint32_t id, struct err *err);
/* A copy, with one reference; -ENOENT if there is none. */
int clones_get(struct engine *e, uint32_t id, struct clone **ret, struct err *err);
void clone_unref(struct clone *c); /* NULL is allowed */
/* -EPERM with their names if the snapshot has some. */
int clones_check_none(struct engine *e, const struct snapshot *snapshot, struct err *err);

/* ---- clone.c: making ---- */

struct clone_wish {
	const char *name; /* of the VM */
	uint32_t pool;    /* as in struct clone */
	bool spare;
};

/* 0, -EEXIST if there is a VM of that name, or what snapshot_name_check says. */
int clone_check_name(struct engine *e, const char *name, struct err *err);
/* Makes one, for who has the source for itself (its task, or slots_claim). What is published
 * has it then, as a clone and as a VM. */
int clone_make(struct engine *e, struct slot *source, const struct snapshot *snapshot,
	       const struct clone_wish *wish, uint32_t *ret_id, struct err *err);

/* The same, or takes a spare of the pool that publishes the snapshot: that is as good. */
int clone_make_or_claim(struct engine *e, struct slot *source, const struct snapshot *snapshot,
			const char *name, uint32_t *ret_id, struct err *err);

/* ---- clone-texts.c: what its guest is told ---- */

/* NULL for one that there is not. The caller frees both. */
int clone_texts(struct engine *e, uint32_t snapshot_id, char **ret_user_data, char **ret_meta,
		struct err *err);

/* Whether that is the UUID of a clone that an earlier process was killed over, and that was undone
 * since. libvirtd may define it late, when it was not to be found any more: then it has to go. */
bool clone_is_undone(struct engine *e, const char *uuid);
/* Whether that is one that is being made. It is shown as a VM when the list of clones has it: who
 * saw it before could take the spare of a pool for any VM. The lock is held. */
bool clone_is_new(struct engine *e, const char *uuid);

/* ---- clone-remove.c: the same for who has the clone for itself ---- */

int clone_remove(struct engine *e, struct slot *s, const struct clone *c, struct err *err);
/* When it has gone, or stands on nothing: what waited for that in its source is collected. */
void clone_collect_source(struct engine *e, const struct clone *c);

/* ---- clone-order.c ---- */

/* Starts a VM, or lets it go on if it is paused; 0 if it runs. */
int vm_start(struct engine *e, const char *uuid, struct err *err);

#endif
