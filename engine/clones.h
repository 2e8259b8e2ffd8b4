/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VMs that were made from a snapshot, and share its blocks. engine.h includes this: it is a part
 * of what fs/ and mount/ see of the engine, in a file of its own.
 *
 * A clone is a VM like any other, with snapshots and clones of its own. What is kept of it
 * besides is what it was made from: that snapshot cannot be deleted as long as the clone is
 * there, and its layers are never written.
 */
#ifndef KWS_ENGINE_CLONES_H
#define KWS_ENGINE_CLONES_H

#include "engine/engine.h"

struct clone {
	int refs;          /* the engine's */
	uint32_t id;       /* never used again */
	uint32_t source;   /* the VM that it was made from, */
	uint32_t snapshot; /* and the snapshot */
	uint32_t vm;       /* what it is as a VM; engine_vm gives none if somebody undefined it */
	char uuid[37];
	char *name;        /* in clones/, and that of the VM unless somebody renamed that */
	uint32_t pool;     /* that it was made for, 0 if for none */
	bool spare;        /* it waits there to be taken */
	struct timespec created;
};

struct clone_list {
	int refs; /* the engine's */
	size_t n;
	struct clone **clones; /* by snapshot, those of one by id */
};

struct clone_list *engine_clones(struct engine *e);
void clone_list_unref(struct clone_list *list); /* NULL is allowed */
/* Those of a snapshot; *ret_n is 0 if there are none. */
struct clone *const *clone_list_of(const struct clone_list *list, uint32_t snapshot, size_t *ret_n);
const struct clone *clone_list_find(const struct clone_list *list, uint32_t id);

/* Makes a VM out of a snapshot, shut off, of which overlays are all that it has for itself.
 * EEXIST if there is a VM of that name, EOPNOTSUPP for what a copy of the VM could not have,
 * EMLINK if the chain is as long as it may be. */
void engine_clone_create(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, const char *name,
			 engine_done *done, void *opaque);

/* Ends it by force if it runs, and deletes its definition and its disks. EPERM if it has
 * snapshots, or something else lies on its disks. */
void engine_clone_remove(struct engine *e, uint32_t clone_id, engine_done *done, void *opaque);

enum clone_order {
	CLONE_START,    /* or goes on, if it is paused */
	CLONE_STOP,     /* as pulling the plug */
	CLONE_SHUTDOWN, /* the guest is asked to; done is not when it has */
	CLONE_RESET,    /* as its button */
};
void engine_clone_order(struct engine *e, uint32_t clone_id, enum clone_order order,
			engine_done *done, void *opaque);

/* Makes it independent of what it was made from: its disks then hold all of their data, and it
 * is no clone any more. It may run meanwhile. EBUSY if it has snapshots of its own. */
void engine_clone_promote(struct engine *e, uint32_t clone_id, engine_done *done, void *opaque);

/* What the guests of a snapshot's clones are told: docs/CLONES.md. */
enum clone_text { CLONE_USER_DATA, CLONE_META };

/* Bytes. Both and the hostname, in base64, fit into the 4096 that every guest reads. */
#define CLONE_USER_DATA_MAX 2304
#define CLONE_META_MAX 512

/* "" if there is none; the caller frees *ret. */
int engine_clone_text(struct engine *e, uint32_t snapshot_id, enum clone_text which, char **ret,
		      struct err *err);
/* For clones that are made from now on. Nothing but blanks takes it away. */
void engine_set_clone_text(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			   enum clone_text which, const char *text, engine_done *done, void *opaque);

#endif
