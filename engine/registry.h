/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libvirt cannot remember for us: ids that never come back, owners, pins,
 * the layers of deleted snapshots, and the journal of operations. One SQLite
 * file (WAL, synchronous=FULL): when a call that changes something returns, the
 * change is on disk. Losing the file loses no image.
 *
 * registry*.c are the only users of sqlite. All calls are thread-safe.
 */
#ifndef KWS_ENGINE_REGISTRY_H
#define KWS_ENGINE_REGISTRY_H

#include "engine/engine.h"
#include "engine/files.h"
#include "engine/partitions.h"

struct registry;

/* Makes file and schema if they are missing. EBUSY if another process has the
 * registry open: two daemons over one state would undo each other's work. */
int registry_open(const char *path, struct registry **ret, struct err *err);
/* For looking only: nothing is written, and a file that is missing is as an empty one.
 * EBUSY as above. */
int registry_open_to_look(const char *path, struct registry **ret, struct err *err);
void registry_close(struct registry *r); /* NULL is allowed */

/* Says to who finds the registry locked where the process that has it is mounted. */
void registry_say_mountpoint(struct registry *r, const char *mountpoint);
/* What it said, "" if nothing; the caller frees it. */
char *registry_mountpoint(const char *path);

/* What sqlite finds wrong with the file, "" if nothing. The caller frees *ret. */
int registry_integrity(struct registry *r, char **ret, struct err *err);

/* ---- VMs ---- */

struct registry_vm {
	uint32_t id;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	enum quiesce quiesce;
	unsigned max_depth; /* 0: none of its own */
};

/* The row of a VM; made from *defaults if there is none yet. */
int registry_vm(struct registry *r, const char *uuid, const struct registry_vm *defaults,
		struct registry_vm *ret, struct err *err);
/* The row of a VM that was seen before; -ENOENT. */
int registry_vm_find(struct registry *r, const char *uuid, uint32_t *ret_id, struct err *err);

/* Every VM that was ever seen. The caller frees *ret. */
struct registry_vm_seen {
	uint32_t id;
	char uuid[37];
};
int registry_vms(struct registry *r, struct registry_vm_seen **ret, size_t *ret_n,
		 struct err *err);
int registry_vm_update(struct registry *r, const struct registry_vm *vm, struct err *err);

/* ---- snapshots ---- */

struct registry_snapshot {
	uint32_t id;
	char *name;
	struct timespec created;
	enum consistency consistency;
	bool pinned;
	char *xml; /* libvirt's, as last seen; NULL in lists */
};

void registry_snapshots_free(struct registry_snapshot *s, size_t n);

/* All of a VM, without their XML. */
int registry_snapshots(struct registry *r, uint32_t vm_id, struct registry_snapshot **ret,
		       size_t *ret_n, struct err *err);
/* Writes one by its name: s->id 0 makes a new row if there is none of that
 * name, and sets s->id to its id. */
int registry_snapshot_put(struct registry *r, uint32_t vm_id, struct registry_snapshot *s,
			  struct err *err);
int registry_snapshot_rename(struct registry *r, uint32_t id, const char *name, struct err *err);
int registry_snapshot_pin(struct registry *r, uint32_t id, bool pinned, struct err *err);
/* What libvirt's XML says now; the rest of the row stays. */
int registry_snapshot_set_xml(struct registry *r, uint32_t id, const char *xml, struct err *err);
int registry_snapshot_forget(struct registry *r, uint32_t id, struct err *err);
/* The caller frees *ret. -ENOENT if there is none. */
int registry_snapshot_xml(struct registry *r, uint32_t id, char **ret, struct err *err);

/* How much of an image is data, once it was counted. -ENOENT if not known. */
int registry_allocated(struct registry *r, uint32_t snapshot_id, const char *target,
		       uint64_t *ret_size, uint64_t *ret_allocated, struct err *err);
int registry_set_allocated(struct registry *r, uint32_t snapshot_id, const char *target,
			   uint64_t size, uint64_t allocated, struct err *err);

/* What an image as a qcow2 is made of. */
struct layout {
	uint32_t snapshot;
	const char *target;
	enum disk_shape shape;
	uint32_t parent;     /* snapshot that it lies on, 0 if it stands alone */
	const char *backing; /* ... and the name of its file, "" */
	uint64_t size;       /* of the file, bytes */
	uint64_t disk_size;  /* of the image, bytes */
	unsigned cluster_bits;
	struct timespec changed;
	size_t runs_bytes; /* what is kept of it besides: disk-shape.c */
};

/* Finds the layout with the first five fields, and fills in the others; *ret_runs
 * (NULL if they are not wanted) are as they were given, and the caller frees them.
 * -ENOENT if there is none. */
int registry_layout(struct registry *r, struct layout *l, void **ret_runs, struct err *err);
/* Keeps one, all but `changed`: that is when the snapshot was taken, or, if it takes
 * the place of one on another parent, now. If there is one on the same already, that
 * one stays: what has been seen of a file never changes. */
int registry_add_layout(struct registry *r, const struct layout *l, const void *runs,
			struct err *err);

/* The partitions of a disk, by number. -ENOENT if they were never looked for. The
 * caller frees *ret. */
int registry_partitions(struct registry *r, uint32_t snapshot_id, const char *target,
			struct partition **ret, size_t *ret_n, struct err *err);
int registry_set_partitions(struct registry *r, uint32_t snapshot_id, const char *target,
			    const struct partition *partitions, size_t n, struct err *err);

/* ---- checksums: registry-checksums.c ---- */

/* A file whose checksum was asked for. */
struct checksum_wish {
	int64_t id;
	uint32_t vm, snapshot;
	char *target;
	enum disk_shape shape;
};

/* Nothing if it was asked for before. */
int registry_checksum_wish(struct registry *r, uint32_t snapshot_id, const char *target,
			   enum disk_shape shape, struct err *err);
/* The oldest one that is not made yet; -ENOENT if there is none. The caller frees
 * its target. */
int registry_checksum_next(struct registry *r, struct checksum_wish *ret, struct err *err);
/* Whether it still waits to be made: its snapshot may have been deleted. */
bool registry_checksum_is_wished(struct registry *r, int64_t id);
int registry_checksum_set(struct registry *r, int64_t id, const char *sha256, struct err *err);
/* Gives up those of a snapshot that are not made yet. */
int registry_checksum_give_up(struct registry *r, uint32_t snapshot_id, struct err *err);
/* All of a snapshot, in the order in which they were asked for. To be freed with
 * checksums_free. */
int registry_checksums(struct registry *r, uint32_t snapshot_id, struct checksum **ret,
		       size_t *ret_n, struct err *err);

/* ---- tombstones: layers of deleted snapshots, and of states left by a revert ---- */

struct tombstone {
	int64_t id;
	char *target;
	struct layer_file file;
};

void tombstones_free(struct tombstone *t, size_t n);
/* Of one that was noted in an earlier boot the device, which has another number now, is
 * what lies at its path, if the inode is the same; 0 if not. */
int registry_tombstones(struct registry *r, uint32_t vm_id, struct tombstone **ret, size_t *ret_n,
			struct err *err);
int registry_tombstone_drop(struct registry *r, int64_t id, struct err *err);
/* Keeps what was found of those. */
int registry_tombstones_locate(struct registry *r, uint32_t vm_id, struct err *err);

/* ---- journal ---- */

struct journal_op {
	int64_t id;
	uint32_t vm;
	char *kind;
	char *step; /* the one that was begun last, "" if none was */
	char *plan; /* JSON, see plan.h */
};

void journal_ops_free(struct journal_op *ops, size_t n);
int journal_begin(struct registry *r, uint32_t vm_id, const char *kind, const char *plan,
		  int64_t *ret_id, struct err *err);
int journal_step(struct registry *r, int64_t id, const char *step, const char *plan,
		 struct err *err);
int journal_end(struct registry *r, int64_t id, struct err *err);
/* The open operations of a VM, or of all if it is 0, oldest first. */
int journal_open_ops(struct registry *r, uint32_t vm_id, struct journal_op **ret, size_t *ret_n,
		     struct err *err);

/* ---- several of these at once: all or none ---- */

struct registry_change {
	uint32_t vm_id;
	uint32_t forget_snapshot;         /* 0: none */
	const struct tombstone *bury;     /* new tombstones; their ids are not looked at */
	size_t n_bury;
	/* Wherever `moved_from` is a tombstone of the VM it becomes `moved_to`,
	 * and a tombstone that was `moved_to` before is dropped. NULL: none. */
	const struct layer_file *moved_from, *moved_to;
};

int registry_apply(struct registry *r, const struct registry_change *change, struct err *err);

#endif
