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
	time_t expires; /* as struct snapshot has it */
	char *xml; /* libvirt's, as last seen; NULL in lists */
};

void registry_snapshots_free(struct registry_snapshot *s, size_t n);

/* All of a VM, by name, without their XML. */
int registry_snapshots(struct registry *r, uint32_t vm_id, struct registry_snapshot **ret,
		       size_t *ret_n, struct err *err);
/* Writes one by its name: s->id 0 makes a new row if there is none of that
 * name, and sets s->id to its id. It outlives a power cut as soon as something that is
 * written later does: until then nobody may see the id. */
int registry_snapshot_put(struct registry *r, uint32_t vm_id, struct registry_snapshot *s,
			  struct err *err);
int registry_snapshot_rename(struct registry *r, uint32_t id, const char *name, struct err *err);
int registry_snapshot_pin(struct registry *r, uint32_t id, bool pinned, struct err *err);
int registry_snapshot_expire(struct registry *r, uint32_t id, time_t expires, struct err *err);
/* What libvirt's XML says now; the rest of the row stays. */
int registry_snapshot_set_xml(struct registry *r, uint32_t id, const char *xml, struct err *err);
int registry_snapshot_forget(struct registry *r, uint32_t id, struct err *err);
/* The caller frees *ret. -ENOENT if there is none. */
int registry_snapshot_xml(struct registry *r, uint32_t id, char **ret, struct err *err);

/* ---- what was last published: registry-seen.c ---- */

/* What of a VM is kept besides its snapshots. */
struct registry_seen {
	char *sources;     /* slot.seen */
	char *foundations; /* slot.foundations, a line each */
	struct timespec changed; /* vm.changed */
};

void registry_seen_clear(struct registry_seen *seen);
/* -ENOENT if there is nothing. The caller clears *ret. */
int registry_seen(struct registry *r, uint32_t vm_id, struct registry_seen *ret, struct err *err);
/* Those of which something was kept, oldest first. They are the caller's, also on failure. */
int registry_seen_snapshots(struct registry *r, uint32_t vm_id, struct snapshot **ret, size_t *ret_n,
			    struct err *err);
/* Keeps these of the VM's snapshots; those that are kept already stay. Lazily: only a power cut
 * may take it back. */
int registry_see(struct registry *r, uint32_t vm_id, const struct registry_seen *seen,
		 const struct snapshot *const *snapshots, size_t n, bool lazily, struct err *err);

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

/* ---- policy: registry-policy.c; vm_id 0 is all VMs ---- */

/* Tells each that it has. */
int registry_knobs(struct registry *r, uint32_t vm_id,
		   void (*each)(void *opaque, const char *knob, const char *value), void *opaque,
		   struct err *err);
/* NULL takes it away. */
int registry_set_knob(struct registry *r, uint32_t vm_id, const char *knob, const char *value,
		      struct err *err);

/* When something was last done, in seconds since the epoch; -ENOENT. */
int registry_ran(struct registry *r, uint32_t vm_id, const char *what, time_t *ret,
		 struct err *err);
int registry_set_ran(struct registry *r, uint32_t vm_id, const char *what, time_t at,
		     struct err *err);

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
int journal_begin(struct registry *r, uint32_t vm_id, const char *kind, const char *step,
		  const char *plan, int64_t *ret_id, struct err *err);
/* `lazily`: a power cut may take it back as long as nothing else was written. */
int journal_step(struct registry *r, int64_t id, const char *step, const char *plan, bool lazily,
		 struct err *err);
int journal_end(struct registry *r, int64_t id, struct err *err);
/* The open operations of a VM, or of all if it is 0, oldest first. */
int journal_open_ops(struct registry *r, uint32_t vm_id, struct journal_op **ret, size_t *ret_n,
		     struct err *err);

/* ---- groups: registry-groups.c ---- */

/* As they are now; *ret has one reference, and `changed` is not set. Group snapshots of which no
 * part is left are forgotten. */
int registry_groups(struct registry *r, struct group_list **ret, struct err *err);

/* Names and VMs that are taken: EIO; so look before. */
int registry_group_make(struct registry *r, const char *name, struct err *err);
int registry_group_rename(struct registry *r, uint32_t id, const char *name, struct err *err);
int registry_group_forget(struct registry *r, uint32_t id, struct err *err);
int registry_group_add(struct registry *r, uint32_t id, const char *name, uint32_t vm,
		       struct err *err);
int registry_group_take_out(struct registry *r, uint32_t member, struct err *err);

/* A group snapshot that is being taken: of the members with their numbers in `members`. */
int registry_group_begin(struct registry *r, uint32_t id, const char *name,
			 const struct group_member *members, size_t n, uint32_t *ret,
			 struct err *err);
/* All its VMs have theirs: from here on it is there. */
int registry_group_agree(struct registry *r, uint32_t snapshot, struct err *err);
int registry_group_is_agreed(struct registry *r, uint32_t snapshot, bool *ret, struct err *err);
/* Notes which snapshot is that of the VM; 0: it is gone already. */
int registry_group_record(struct registry *r, uint32_t snapshot, uint32_t vm,
			  uint32_t vm_snapshot, struct err *err);
/* Forgets one that was not agreed on, or, if it is 0, all of those. */
int registry_group_give_up(struct registry *r, uint32_t snapshot, struct err *err);

/* ---- clones: registry-clones.c ---- */

/* By id. Each has one reference, and is the caller's, as the array is. */
int registry_clones(struct registry *r, struct clone ***ret, size_t *ret_n, struct err *err);
/* A VM is a clone once: if there is a row for it that one stays, and its id is told. */
int registry_clone_add(struct registry *r, const struct clone *c, uint32_t *ret_id,
		       struct err *err);
int registry_clone_update(struct registry *r, const struct clone *c, struct err *err);
int registry_clone_forget(struct registry *r, uint32_t id, struct err *err);

/* ---- what they are told: registry-clone-texts.c ---- */

/* -ENOENT if there is none. The caller frees *ret. */
int registry_clone_text(struct registry *r, uint32_t snapshot_id, enum clone_text which, char **ret,
			struct err *err);
/* NULL takes it away. */
int registry_set_clone_text(struct registry *r, uint32_t snapshot_id, enum clone_text which,
			    const char *text, struct err *err);

/* ---- pools: registry-pools.c ---- */

/* As they are now; *ret has one reference, and `changed` is not set. */
int registry_pools(struct registry *r, struct pool_list **ret, struct err *err);
/* A name that is taken: EIO; so look before. */
int registry_pool_add(struct registry *r, const struct pool *p, struct err *err);
int registry_pool_rename(struct registry *r, uint32_t id, const char *name, struct err *err);
/* The pool publishes what `by` does, which is forgotten. */
int registry_pool_replace(struct registry *r, uint32_t id, uint32_t by, struct err *err);
int registry_pool_set(struct registry *r, uint32_t id, const struct pool_settings *s,
		      struct err *err);
int registry_pool_forget(struct registry *r, uint32_t id, struct err *err);

/* Tells each clone of which a stage is kept: pool-spares.c. */
int registry_spares(struct registry *r,
		    void (*each)(void *opaque, uint32_t clone, const char *stage), void *opaque,
		    struct err *err);
/* NULL takes it away; of one that is "stale" it stays that. */
int registry_set_spare(struct registry *r, uint32_t clone, const char *stage, struct err *err);

/* ---- settings: registry-settings.c ---- */

/* *ret is NULL if nobody has set it; else the caller frees it. */
int registry_setting(struct registry *r, const char *name, char **ret, struct err *err);
/* NULL takes it away. */
int registry_set_setting(struct registry *r, const char *name, const char *value, struct err *err);

/* ---- recovery: registry-failover.c ---- */

/* What is kept of a VM. */
struct failover_vm {
	uint32_t vm;
	bool automatic; /* it is recovered when it crashes */
	bool given_up;  /* ... no more: it has crashed too often */
	bool ran;       /* it was seen to run, and nobody has shut it off since */
	bool replaced;  /* another one has taken its place since it ran */
	uint32_t line;  /* the VM whose place it has, directly or not; 0: its own */
};

/* All of them; the caller frees *ret. */
int registry_failover_vms(struct registry *r, struct failover_vm **ret, size_t *ret_n,
			  struct err *err);
/* `lazily`: only a power cut may take it back. */
int registry_set_failover_vm(struct registry *r, const struct failover_vm *v, bool lazily,
			     struct err *err);

enum failover_state { FAILOVER_BEGUN, FAILOVER_DONE, FAILOVER_FAILED };
enum failover_way { WAY_NONE, WAY_RUNS, WAY_START, WAY_CLONE };

/* A failure of a VM, and what became of it. Texts are NULL or "" if there are none. */
struct failover {
	int64_t id;
	uint32_t vm, line;
	struct timespec failed; /* when it was seen, or ordered, */
	struct timespec began;  /* and when it was begun to do something about it */
	bool ordered;           /* else it went by itself */
	enum failover_state state;
	char *fenced;           /* what it was when it was ended */
	char *chosen;           /* the candidate, and: */
	enum failover_way way;
	uint32_t vm_used;       /* that it is, or whose snapshot it is */
	uint32_t snapshot;      /* that is cloned */
	double similarity;
	char *replacement;
	double seconds;         /* from `failed` until that ran */
	char *error;            /* why there is none */
	char *passed;           /* who was passed over, and why: lines */
};

const char *failover_way_to_string(enum failover_way way); /* "clone", ... */
void failover_clear(struct failover *f);
void failovers_free(struct failover *f, size_t n);

/* Sets f->id. Of each VM so many are kept. */
#define FAILOVERS_KEPT 100
int registry_failover_begin(struct registry *r, struct failover *f, struct err *err);
/* All but the VM, its line and the time. */
int registry_failover_update(struct registry *r, const struct failover *f, struct err *err);
/* Those of a VM, newest first; of all VMs, if it is 0, those that have not ended, oldest first.
 * To be freed with failovers_free. */
int registry_failovers(struct registry *r, uint32_t vm, struct failover **ret, size_t *ret_n,
		       struct err *err);
/* How many were begun in a line since then, without an order, and when the last one was; but for
 * those that are forgiven. */
int registry_failover_count(struct registry *r, uint32_t line, const struct timespec *since,
			    size_t *ret_n, struct timespec *ret_last, struct err *err);
int registry_failover_forgive(struct registry *r, uint32_t line, struct err *err);

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
