/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plan of an operation: all that a later process needs to finish it or to
 * undo it, kept in the journal as JSON. One form for every kind of operation;
 * each uses the fields that it needs.
 */
#ifndef KWS_ENGINE_PLAN_H
#define KWS_ENGINE_PLAN_H

#include "engine/files.h"

#include <stddef.h>
#include <stdint.h>

struct plan_disk {
	char *target;
	/* create: the layer that is frozen. revert: the one gone back to. delete:
	 * the snapshot's. merge, pull: the lower one of the two.
	 * promote: the overlay that is left. */
	struct layer_file below;
	/* create, revert: the overlay that is made. merge, pull: the upper one.
	 * promote: the file that takes its place.
	 * dev and ino are 0 until the file is there. */
	struct layer_file overlay;
	/* revert: the active layer that is left. ino 0: it stays. */
	struct layer_file left;
	uint64_t size;    /* virtual, of the overlay to be made; bytes */
	uint64_t written; /* merge: when the overlay was last written; ns since the epoch */
};

struct plan {
	char *name;     /* of the snapshot */
	char *new_name; /* rename: the new one; delete: the parent's, "" if it has none */
	char *xml;      /* create: what libvirt is asked; rename: the old metadata; features:
			 * those that are to be kept */
	char *old_xml;  /* features: those that were */
	uint32_t snapshot; /* id, 0 if it has none yet */
	uint32_t group;    /* group: the group snapshot's id */
	char *uuid;        /* clone: of the VM that is made */
	char *nvram_from;  /* clone: what its UEFI variables are copied from, NULL: of nothing */
	struct layer_file nvram; /* clone: that copy; unclone: what is deleted */
	uint32_t clone;    /* unclone, promote: id of the clone */
	uint32_t pool;     /* clone: that it is made for */
	unsigned flags;    /* of the operation: enum revert_flags, hv_create_flags, clone_flags */
	uint64_t moves;    /* merge, pull: how much data is expected to be moved, bytes */
	struct plan_disk *disks;
	size_t n_disks;
	char **children; /* delete: names of the snapshots that were taken on it */
	size_t n_children;
	struct guest *guest; /* group: its part in it; only while it runs, not in the journal */
};

struct plan *plan_new(void);
void plan_free(struct plan *p); /* NULL is allowed */

/* Appends a disk; the pointer is good until the next one. */
struct plan_disk *plan_add_disk(struct plan *p, const char *target);

void plan_add_child(struct plan *p, const char *name);

/* The caller frees the text. */
char *plan_to_json(const struct plan *p);
int plan_from_json(const char *json, struct plan **ret, struct err *err);

#endif
