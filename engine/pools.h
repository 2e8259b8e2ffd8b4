/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pools: snapshots that are published for clones to be made from, under a name that stays while
 * the snapshot is replaced by a newer one. engine.h includes this: it is a part of what fs/ and
 * mount/ see of the engine, in a file of its own.
 *
 * A pool may keep spares: clones that are made ahead, of which one is taken and renamed when
 * somebody wants a clone of what the pool publishes.
 */
#ifndef KWS_ENGINE_POOLS_H
#define KWS_ENGINE_POOLS_H

#include "engine/engine.h"

/* What a spare waits as. */
enum spare_state {
	SPARE_DEFINED, /* off, and never started */
	SPARE_PAUSED,  /* booted, and suspended */
	SPARE_SAVED,   /* booted, and off with its memory in a file */
};

const char *spare_state_to_string(enum spare_state s);              /* "defined", ... */
int spare_state_from_string(const char *s, enum spare_state *ret); /* 0 or -EINVAL */

#define SPARES_MOST 1000
#define SPARE_WAIT_DEFAULT 30  /* seconds */
#define SPARE_WAIT_MOST 86400

struct pool_settings {
	unsigned spare; /* how many are kept ready */
	enum spare_state spare_state;
	unsigned spare_wait; /* seconds that a guest has to boot, unless its agent answers earlier */
};

struct pool {
	uint32_t id; /* never used again */
	char *name;
	uint32_t vm, snapshot; /* that it publishes; either may be gone by now */
	char *path;            /* VM/SNAPSHOT, as they were called when it was published */
	struct pool_settings settings;
};

struct pool_list {
	int refs; /* the engine's */
	size_t n;
	struct pool *pools; /* by id */
	struct timespec changed;
};

struct pool_list *engine_pools(struct engine *e);
void pool_list_unref(struct pool_list *list); /* NULL is allowed */
const struct pool *pool_list_find(const struct pool_list *list, uint32_t id);
/* The oldest one that publishes a snapshot; NULL if none does. */
const struct pool *pool_list_of(const struct pool_list *list, uint32_t snapshot);

/* How the spares of a pool are. */
struct pool_health {
	size_t spares, ready;
	char *error; /* what making one failed with, "" if the last one was made. The caller frees it */
};
void engine_pool_health(struct engine *e, const struct pool *pool, struct pool_health *ret);

/* EINVAL for a name that is not allowed, EEXIST if it is taken. */
void engine_pool_publish(struct engine *e, const char *name, uint32_t vm_id, uint32_t snapshot_id,
			 engine_done *done, void *opaque);
int engine_pool_rename(struct engine *e, uint32_t id, const char *name, struct err *err);
/* The pool of that name, if there is one, publishes from now on what this one does, which is no
 * more: it keeps its settings and its instances. Else it is a rename. */
int engine_pool_replace(struct engine *e, uint32_t id, const char *name, struct err *err);
/* What was made for it stays, but for spares. */
int engine_pool_withdraw(struct engine *e, uint32_t id, struct err *err);
int engine_pool_set(struct engine *e, uint32_t id, const struct pool_settings *settings,
		    struct err *err);

/* As engine_last_error. */
char *engine_pools_last_error(struct engine *e);
void engine_pools_set_last_error(struct engine *e, const char *msg);

#endif
