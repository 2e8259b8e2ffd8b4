/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All that fs/ and mount/ see of the engine.
 *
 * Looking is synchronous and cheap: the engine publishes each VM as an
 * immutable, reference-counted `struct vm`; whoever holds a reference reads it
 * without a lock, and a change publishes a new one.
 *
 * Doing is asynchronous: an operation is put into its VM's queue, `done` is
 * called once from a thread of the engine when it has ended, and what it did
 * is durable then. One operation at a time per VM, VMs in parallel.
 *
 * Errnos of the operations: EEXIST, ENOENT, EBUSY (job, holder, running VM),
 * ENOSPC, EPERM (pinned), EMLINK (the chain is as long as it may be), EOPNOTSUPP (a
 * disk that cannot take part: named), EINVAL, ETIMEDOUT (guest agent), EHOSTDOWN
 * (libvirt is gone), EIO.
 */
#ifndef KWS_ENGINE_ENGINE_H
#define KWS_ENGINE_ENGINE_H

#include "common/err.h"
#include "common/gather.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <time.h>

struct engine;

/* The longest name of a snapshot in bytes: libvirt appends to it in its own file names. */
#define SNAPSHOT_NAME_MAX 240

/* How many layers a disk's chain may have. libvirt starts no VM on more than 200, and some
 * may come by virsh: docs/LIBVIRT.md. */
#define DEPTH_LEAST 2 /* a disk, and one layer on it */
#define DEPTH_DEFAULT 128
#define DEPTH_MOST 200

enum quiesce { QUIESCE_AUTO, QUIESCE_YES, QUIESCE_NO };

/* What a snapshot's disks agree with: a stopped VM, frozen file systems, or a power cut. */
enum consistency { CONSISTENCY_UNKNOWN, CONSISTENCY_OFFLINE, CONSISTENCY_FILESYSTEM, CONSISTENCY_CRASH };

const char *quiesce_to_string(enum quiesce q);           /* "auto", "yes", "no" */
int quiesce_from_string(const char *s, enum quiesce *ret); /* 0 or -EINVAL */
const char *consistency_to_string(enum consistency c);   /* "unknown", "offline", ... */

/* One disk of a snapshot: the layer that was frozen. */
struct snapshot_disk {
	char *target; /* "vda" */
	char *path;   /* absolute */
	char *format; /* "qcow2" or "raw" */
};

struct snapshot {
	uint32_t id;     /* never used again, for no snapshot of any VM */
	uint32_t parent; /* id of the snapshot it was taken on, 0 if none */
	char *name;
	char *description; /* never NULL */
	struct timespec created;
	enum consistency consistency;
	bool pinned;
	struct snapshot_disk *disks;
	size_t n_disks;
};

struct vm {
	int refs;    /* the engine's */
	uint32_t id; /* never used again */
	char uuid[37];
	char *name;
	const char *state; /* libvirt's word: "running", "shut off", ... */
	bool active;       /* a QEMU process is there */
	uid_t uid;         /* who owns its directory, and what is in it */
	gid_t gid;
	mode_t mode; /* of its directory, permission bits only */
	enum quiesce quiesce;
	unsigned max_depth;         /* the limit that holds for it */
	uint32_t current;           /* the snapshot it stands on, 0 if none */
	struct snapshot *snapshots; /* oldest first */
	size_t n_snapshots;
	struct timespec changed; /* when the list of snapshots last changed */
};

struct vm_list {
	int refs;
	size_t n;
	struct vm **vms; /* sorted by id */
	struct timespec changed;
};

enum disk_shape {
	SHAPE_RAW,   /* flat, as the VM sees it */
	SHAPE_QCOW2, /* the same content as one qcow2 that stands alone */
	SHAPE_LAYER, /* only what differs from its parent, as a qcow2 that lies on the parent's */
	SHAPE_PARTITION, /* one partition, flat */
	SHAPE_MAP,   /* what of the disk differs from its parent, as lines of JSON */
};

/* Which file: a disk of a snapshot in a shape. */
struct disk_id {
	uint32_t vm, snapshot;
	unsigned disk; /* its number in the snapshot */
	enum disk_shape shape;
	unsigned partition; /* SHAPE_PARTITION: its number in the table, from 1 */
};

struct engine_options {
	const char *uri;       /* libvirt's, "qemu:///system" */
	const char *state_dir; /* registry and journal; made if missing */
	const char *store;     /* where overlays go; NULL: beside their disks */
	const char *overlay_options; /* as after qemu-img's -o; NULL: what is best */
	unsigned max_depth;    /* of a VM that has no limit of its own; 0: DEPTH_DEFAULT */
	const char *mountpoint; /* absolute, without links; NULL: none. Never opened from here */
	uid_t uid;             /* owner and mode of a VM's directory until it is changed */
	gid_t gid;
	mode_t mode;
};

/* Called from threads of the engine, without its locks. May call the engine's
 * looking functions, must not block for long. */
struct engine_observer {
	void *opaque;
	/* A VM came, went or changed its name. */
	void (*vms_changed)(void *opaque);
	/* The snapshots of a VM, or their names, changed. */
	void (*vm_changed)(void *opaque, uint32_t vm_id);
	/* Something ended that nobody waits for: a background merge (r 0 or -errno).
	 * `what` is a sentence. */
	void (*happened)(void *opaque, uint32_t vm_id, int r, const char *what);
	/* Which disk of a snapshot the file at `path`, relative to the mount point, is, as
	 * far as is known without asking libvirt. -ENOENT if it is none. NULL is allowed. */
	int (*find_disk)(void *opaque, const char *path, struct disk_id *ret);
};

/* Opens registry and libvirt, finishes or undoes what an earlier process left
 * open. `*opts` is copied, `*observer` must live until engine_close. */
int engine_open(const struct engine_options *opts, const struct engine_observer *observer,
		struct engine **ret, struct err *err);

/* Waits for running operations; a background merge is left to go on in QEMU,
 * or in the next process. NULL is allowed. */
void engine_close(struct engine *e);

/* ---- looking ---- */

/* The caller gives each of these back with the matching unref; NULL if there is no such VM. */
struct vm_list *engine_vms(struct engine *e);
struct vm *engine_vm(struct engine *e, uint32_t vm_id);
struct vm *engine_vm_by_name(struct engine *e, const char *name);
void vm_unref(struct vm *vm);           /* NULL is allowed */
void vm_list_unref(struct vm_list *vms); /* NULL is allowed */

/* Asks libvirt whether a VM's snapshots changed behind our back (it sends no
 * events for those) and publishes what it finds. With `max_age_ms` it does so
 * only if the last look is older. Keeps what is known if libvirt is gone. */
void engine_vm_refresh(struct engine *e, uint32_t vm_id, unsigned max_age_ms);

/* The same for the list of VMs: those that libvirt's events have not told of yet. */
void engine_vms_refresh(struct engine *e);

const struct snapshot *vm_snapshot(const struct vm *vm, uint32_t snapshot_id);
const struct snapshot *vm_snapshot_by_name(const struct vm *vm, const char *name);
const struct snapshot *vm_latest(const struct vm *vm); /* NULL if there is none */

/* True while the connection to libvirt stands. */
bool engine_connected(struct engine *e);

/* The file system that overlays go to: the store's, else the state's. */
int engine_statvfs(struct engine *e, struct statvfs *ret);

/* The last refusal or failure on a VM as one line; "" if there was none. The
 * caller frees it. engine_set_last_error is for what fs refuses by itself. */
char *engine_last_error(struct engine *e, uint32_t vm_id);
void engine_set_last_error(struct engine *e, uint32_t vm_id, const char *msg);

/* The background work of a VM. */
struct job_status {
	bool running;       /* a merge is going on: */
	uint32_t id;        /* never used again */
	const char *kind;   /* "merge" or "pull"; static */
	const char *step;   /* of those that docs/DESIGN.md tells of; static */
	char target[64];    /* the disk */
	uint64_t done;      /* bytes; 0 of 0 where QEMU does not say */
	uint64_t total;
	double seconds;     /* for how long it has been going on */

	size_t tombstones; /* layers of deleted snapshots that others still need */
	bool failed;       /* the last one failed: see last_error */
};
void engine_job_status(struct engine *e, uint32_t vm_id, struct job_status *ret);

/* Breaks a merge off; what it moves is moved again at the next occasion. Returns when
 * that is ordered: engine_wait tells when it has ended. -ENOENT if it does not run,
 * -EBUSY if it has gone too far. */
int engine_job_cancel(struct engine *e, uint32_t vm_id, uint32_t job_id, struct err *err);

/* The domain XML of the moment of a snapshot. The caller frees it. */
int engine_domain_xml(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, char **ret,
		      struct err *err);

/* ---- doing ---- */

/* r is 0 or -errno; err is only valid during the call. */
typedef void engine_done(void *opaque, int r, const struct err *err);

/* Takes a snapshot of all disks at one moment. EINVAL for a name that is not
 * allowed, EEXIST if it is taken. */
void engine_snapshot_create(struct engine *e, uint32_t vm_id, const char *name,
			    engine_done *done, void *opaque);

/* Deletes a snapshot: it has left the tree when this is done, its layers are
 * merged by a job. EBUSY if an image of it is open, EPERM if it is pinned. */
void engine_snapshot_delete(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			    engine_done *done, void *opaque);

/* EEXIST if the new name is taken. */
void engine_snapshot_rename(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			    const char *name, engine_done *done, void *opaque);

enum revert_flags {
	REVERT_KEEP = 1 << 0,  /* take before-revert-<UTC> of the state being left first */
	REVERT_FORCE = 1 << 1, /* end the VM if it runs; EBUSY without it */
	REVERT_START = 1 << 2, /* start the VM afterwards */
};
void engine_snapshot_revert(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			    unsigned flags, engine_done *done, void *opaque);

void engine_set_description(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			    const char *description, engine_done *done, void *opaque);
void engine_set_pinned(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, bool pinned,
		       engine_done *done, void *opaque);
void engine_set_quiesce(struct engine *e, uint32_t vm_id, enum quiesce quiesce,
			engine_done *done, void *opaque);
/* From DEPTH_LEAST to DEPTH_MOST; 0: what engine_options say. */
void engine_set_max_depth(struct engine *e, uint32_t vm_id, unsigned max_depth,
			  engine_done *done, void *opaque);
/* Owner and permission bits of a VM's directory: (uid_t)-1, (gid_t)-1 and
 * (mode_t)-1 leave as it is. */
void engine_set_owner(struct engine *e, uint32_t vm_id, uid_t uid, gid_t gid, mode_t mode,
		      engine_done *done, void *opaque);

/* Calls done when the VM's queue and its jobs have come to an end: 0; with the reason if
 * a job failed: -ENOSPC for want of room, -ECANCELED if somebody canceled it, else -EIO;
 * -EHOSTDOWN if one waits for libvirt. Returns a
 * ticket for engine_wait_cancel, which the caller uses on all that still wait
 * before engine_close. */
uint64_t engine_wait(struct engine *e, uint32_t vm_id, engine_done *done, void *opaque);

/* Ends a wait at once with -EINTR, if it is still there. */
void engine_wait_cancel(struct engine *e, uint64_t ticket);

/* ---- files that nobody needs ---- */

/* The largest id: it has to fit into an inode number. */
#define ORPHAN_ID_MAX ((UINT64_C(1) << 57) - 1)

/* An image in our naming that no domain, no snapshot and no operation needs. */
struct orphan {
	uint64_t id;  /* of this file, and the same in the next process */
	char *name;   /* what it was: VM, disk, moment; no other one has it */
	char *path;
	uint64_t dev, ino;
	uint64_t size, allocated; /* bytes */
	struct timespec changed;
};

struct orphan_list {
	int refs; /* the engine's */
	size_t n;
	struct orphan *orphans; /* by name */
	struct timespec changed; /* when one came or went */
};

/* Looks for them anew if the last look is older; waits for a second at most, and
 * then what is known stays. */
void engine_orphans_refresh(struct engine *e, unsigned max_age_ms);
struct orphan_list *engine_orphans(struct engine *e);
void orphan_list_unref(struct orphan_list *list); /* NULL is allowed */

/* The file for reading; -ESTALE if it is another one by now. The caller closes it. */
int engine_orphan_open(const struct orphan *o, int *ret_fd, struct err *err);

/* Deletes one for good, after proving anew that nothing uses it. EBUSY if something
 * does, or may. */
void engine_orphan_remove(struct engine *e, uint64_t id, engine_done *done, void *opaque);

/* ---- checking ---- */

/* What the last line of a report says: findings that are mended, and that are not. */
#define FSCK_SUMMARY "%zu fixed, %zu left"

/* Checks registry, journal, libvirt, images and files against each other, and with
 * `repair` mends what can be mended without risk. *ret_report is set before `done` is
 * called, and the caller frees it: a line for each finding, and the summary. After a
 * failure it has no summary, or is not set. */
void engine_fsck(struct engine *e, bool repair, char **ret_report, engine_done *done,
		 void *opaque);

/* The same where no kwsfs is mounted. -EBUSY if one is: *ret_mountpoint says where, ""
 * if it is not known (the caller frees it). Without `repair` nothing is written. */
int engine_fsck_alone(const struct engine_options *opts, bool repair, char **ret_report,
		      char **ret_mountpoint, struct err *err);

/* As engine_last_error, of what is about no VM. */
char *engine_orphans_last_error(struct engine *e);

/* ---- disks of snapshots, as files ---- */

/* A disk that is open. It may be used by many threads at once. */
struct disk_file;

enum extent_kind {
	EXTENT_HOLE, /* no layer holds it: reads as zeroes */
	EXTENT_ZERO, /* a layer says that it is zero */
	EXTENT_DATA, /* lies in a layer */
};

struct extent {
	uint64_t start;  /* in the file, bytes */
	uint64_t length; /* bytes, never 0 */
	enum extent_kind kind;
	unsigned layer;  /* not for EXTENT_HOLE: 0 is the top of the chain */
	bool compressed; /* EXTENT_DATA */
	uint64_t offset; /* EXTENT_DATA: where in that layer's data, bytes, unless compressed */
};

/* Opens a disk of a snapshot. The snapshot cannot be deleted until
 * engine_disk_close. EOPNOTSUPP, with the name of the reason, for what the reader
 * cannot read. The bytes and the size of a file never change while it is open,
 * and but for SHAPE_LAYER and SHAPE_MAP as long as the snapshot is there. */
int engine_disk_open(struct engine *e, const struct disk_id *id, struct disk_file **ret,
		     struct err *err);
void engine_disk_close(struct engine *e, struct disk_file *f); /* NULL is allowed */

struct disk_stat {
	uint64_t size, allocated; /* of the file, and how much of it is data; bytes */
	struct timespec changed;  /* when its bytes last did */
};

/* Without keeping it open. The first call for a disk may read its map, later ones
 * are free. */
int engine_disk_stat(struct engine *e, const struct disk_id *id, struct disk_stat *ret,
		     struct err *err);

/* SHA-256 of a file of a snapshot. */
struct checksum {
	char *target;
	enum disk_shape shape;
	char *sha256;         /* in hexadecimal, NULL if it is not made yet */
	uint64_t done, total; /* bytes, of the one that is being made */
};

/* Has the checksums of a snapshot's disks made in the background, raw and as qcow2;
 * those that are made already stay. */
int engine_checksums_make(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, struct err *err);
/* Those that were asked for; the caller frees *ret with checksums_free. */
int engine_checksums(struct engine *e, uint32_t snapshot_id, struct checksum **ret, size_t *ret_n,
		     struct err *err);
void checksums_free(struct checksum *c, size_t n);

/* The numbers of a disk's partitions, in order; none if it has no table, or cannot
 * be read. The first call for a disk reads its table. The caller frees *ret. */
void engine_disk_partitions(struct engine *e, const struct disk_id *id, unsigned **ret,
			    size_t *ret_n);

uint64_t disk_file_size(const struct disk_file *f); /* bytes */

/* Describes [offset, offset + length), clipped to the file's size, from its
 * start on with up to `max` extents, adjacent ones joined. *ret_n is 0 only
 * for an empty range. -EIO for a damaged map, with the layer's name. */
int disk_file_extents(struct disk_file *f, uint64_t offset, uint64_t length,
		      struct extent *extents, size_t max, size_t *ret_n, struct err *err);

/* Reads up to `length` bytes; fewer only at the end of the file. -EIO if
 * the range is damaged: never partial, never made up. */
ssize_t disk_file_read(struct disk_file *f, void *buf, size_t length, uint64_t offset,
		       struct err *err);

/* The same, put together out of memory that stays as long as the file is open. Only
 * the kernel may copy it (engine/mapping.h): EFAULT then means EIO. */
ssize_t disk_file_gather(struct disk_file *f, struct gather *g, size_t length, uint64_t offset,
			 struct err *err);

#endif
