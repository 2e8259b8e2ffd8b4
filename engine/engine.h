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
 * disk that cannot take part: named), EINVAL, ETIMEDOUT (guest agent, hook), ECANCELED (a
 * hook refused it), EHOSTDOWN (libvirt is gone), EIO.
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

#define HOOK_TIMEOUT_DEFAULT 60 /* seconds */

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
	time_t expires; /* seconds since the epoch, or: */
#define EXPIRES_BY_TTL 0 /* as the VM's ttl says */
#define EXPIRES_NEVER -1
	size_t domain_length; /* of its domain XML, bytes */
	struct snapshot_disk *disks;
	size_t n_disks;
};

/* Where one is known from. Of one category that counts which comes first here. */
enum feature_source {
	FEATURE_WRITTEN, /* by somebody, to `features`; kept in libvirt's metadata */
	FEATURE_AGENT,   /* the guest's agent said so; kept there, too */
	FEATURE_DOMAIN,  /* libvirt's definition says so: cpu, memory, disk */
};

struct feature {
	char *category, *value;
	enum feature_source source;
};

/* Sorted by category, then by value, both as strcmp has it; nothing is in it twice. */
struct feature_set {
	struct feature *features;
	size_t n;
};

/* The file that a VM writes a disk to. */
struct vm_disk {
	char *target, *path, *format;
	uint64_t size; /* of the disk, bytes; 0 if it is not known */
};

struct vm {
	int refs;    /* the engine's */
	uint32_t id; /* never used again */
	char uuid[37];
	char *name;
	const char *state; /* libvirt's word: "running", "shut off", ... */
	bool active;       /* a QEMU process is there */
	bool crashed;      /* it ended, or stopped, without anybody having wanted that */
	uid_t uid;         /* who owns its directory, and what is in it */
	gid_t gid;
	mode_t mode; /* of its directory, permission bits only */
	enum quiesce quiesce;
	uint32_t current;           /* the snapshot it stands on, 0 if none */
	struct snapshot *snapshots; /* oldest first */
	size_t n_snapshots;
	struct vm_disk *disks; /* those in files */
	size_t n_disks;
	struct feature_set features;
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
	const char *hooks;      /* folder of programs to run, see hooks.h; NULL: none */
	unsigned hook_timeout;  /* seconds that each may take; 0: HOOK_TIMEOUT_DEFAULT */
	uid_t uid;             /* owner and mode of a VM's directory until it is changed */
	gid_t gid;
	mode_t mode;
};

/* How much whoever keeps a log wants to know of an event. */
enum event_weight {
	EVENT_NOTE,
	EVENT_TROUBLE, /* somebody has to do something about it */
	EVENT_DETAIL,  /* of use to programs only */
};

/* Something that happened. What does not apply is 0 or NULL. */
struct engine_event {
	const char *name;      /* "snapshot-created", ...: docs/MONITORING.md has all of them */
	uint32_t vm_id;        /* whose name and uuid are filled in, unless they are given */
	uint32_t snapshot_id;  /* likewise */
	const char *snapshot;  /* its name */
	const char *new_name;
	const char *disk;      /* its target */
	double seconds;        /* how long it took */
	uint64_t bytes;        /* how much it moved */
	int code;              /* a positive errno: how it ended */
	enum event_weight weight;
	const char *vm, *uuid;
	/* For who is told: */
	struct timespec time;
	const char *message; /* a sentence, without a newline */
};

/* Called from threads of the engine, without its locks. May call the engine's
 * looking functions, must not block for long. */
struct engine_observer {
	void *opaque;
	/* A VM came, went or changed its name. */
	void (*vms_changed)(void *opaque);
	/* The snapshots of a VM, or their names, changed. */
	void (*vm_changed)(void *opaque, uint32_t vm_id);
	/* Something happened; the event is only valid during the call. */
	void (*event)(void *opaque, const struct engine_event *event);
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
/* NULL if it is not in the list, which keeps the reference. */
struct vm *vm_list_find(const struct vm_list *vms, uint32_t vm_id);

/* Asks libvirt whether a VM's snapshots changed behind our back (it sends no
 * events for those) and publishes what it finds. With `max_age_ms` it does so
 * only if the last look is older. Keeps what is known if libvirt is gone. */
void engine_vm_refresh(struct engine *e, uint32_t vm_id, unsigned max_age_ms);

/* After kwsfs was started: returns when libvirt was asked for all of a VM's snapshots, and what
 * is published of them is more than what was known before. -EHOSTDOWN if it cannot be asked. */
int engine_vm_verify(struct engine *e, uint32_t vm_id, struct err *err);

/* The same for the list of VMs: those that libvirt's events have not told of yet. */
void engine_vms_refresh(struct engine *e);

const struct snapshot *vm_snapshot(const struct vm *vm, uint32_t snapshot_id);
const struct snapshot *vm_snapshot_by_name(const struct vm *vm, const char *name);
const struct snapshot *vm_latest(const struct vm *vm); /* NULL if there is none */

/* True while the connection to libvirt stands. */
bool engine_connected(struct engine *e);

/* The file system that overlays go to: the store's, else the state's. */
int engine_statvfs(struct engine *e, struct statvfs *ret);

/* A file system that VMs write to, and how its free space changes. */
struct space {
	char *folder; /* that it is mounted on */
	uint64_t total, free; /* bytes; free: to others than root, too */
	bool has_trend; /* false: it was not watched for long enough yet */
	double rate;    /* bytes by which `free` changes in a second; less than 0: it fills up */
	double span;    /* the seconds over which that was seen */
};

/* As they were a minute ago at the most; none right after the start. The caller frees *ret
 * with spaces_free. */
void engine_spaces(struct engine *e, struct space **ret, size_t *ret_n);
void spaces_free(struct space *spaces, size_t n);

/* What the layers that a snapshot froze take on their file systems, bytes. False if one of
 * them is not to be seen. */
bool snapshot_held(const struct snapshot *s, uint64_t *ret);

/* The last refusal or failure on a VM as one line, or, if vm_id is 0, of what is about no
 * VM; "" if there was none. The caller frees it. engine_set_last_error is for what fs
 * refuses by itself. */
char *engine_last_error(struct engine *e, uint32_t vm_id);
void engine_set_last_error(struct engine *e, uint32_t vm_id, const char *msg);

/* Tells the observer of an event, with a sentence, and counts its error. fs tells
 * of what it refuses by itself. */
void engine_event(struct engine *e, const struct engine_event *event, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- figures: known without asking anybody ---- */

#define HISTOGRAM_MAX 12

struct histogram {
	const double *bounds; /* of the buckets, rising; static */
	size_t n;
	uint64_t counts[HISTOGRAM_MAX + 1]; /* not added up; the last one: above all bounds */
	double sum;
};

#define ERRNO_END 134 /* Linux's are below */

/* Since the engine was opened, but for the jobs: those are as they are now. */
struct engine_metrics {
	struct histogram snapshots; /* seconds that taking one took, from its order to its record */
	struct histogram freezes;   /* seconds that guests' file systems were frozen, at most */
	struct histogram clones;    /* seconds that making a clone took, spares too */
	struct histogram claims;    /* seconds that taking a spare took */
	struct histogram recoveries; /* seconds from the failure of a VM to when its replacement ran */
	uint64_t recoveries_told;   /* of which another VM ran already */
	uint64_t recoveries_failed;
	struct histogram merges;    /* seconds, of those that were brought to their end */
	uint64_t merged;            /* bytes that these had to move */
	uint64_t exported;          /* bytes that were read from open disks */
	uint64_t errors[ERRNO_END]; /* by errno */
	size_t jobs_running, jobs_waiting, jobs_failed;
};
void engine_metrics(struct engine *e, struct engine_metrics *ret);

/* What takes a look at files, and was looked at in the background when it last changed. */
struct vm_measures {
	int refs; /* the engine's */
	size_t n_disks;
	struct disk_measure {
		char *target;
		unsigned depth; /* of its chain, with the layer that is written to */
	} *disks;
	size_t n_snapshots;
	struct snapshot_measure {
		uint32_t id;
		bool known;         /* its layers are to be seen */
		uint64_t exclusive; /* bytes that they occupy: snapshot_held */
		uint64_t shared;    /* ... and those of the snapshots below it */
	} *snapshots;
};

/* NULL if they are not known yet. The caller gives them back. */
struct vm_measures *engine_vm_measures(struct engine *e, uint32_t vm_id);
void vm_measures_unref(struct vm_measures *m); /* NULL is allowed */

/* Has orphans looked for in the background if the last look is older. */
void engine_orphans_refresh_later(struct engine *e, unsigned max_age_ms);

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

/* A layer of the chain that a disk stands on now. */
struct chain_layer_info {
	const char *target;               /* vm's */
	unsigned number;                  /* 0: the one that is written to */
	const struct snapshot *snapshot;  /* vm's, whose frozen layer it is; NULL: */
	bool base;                        /* the lowest one, that is nobody's */
	uint64_t allocated;               /* bytes of the file */
};

/* All layers under all disks, as the headers of the files say, without asking libvirt. An
 * image in this mount is the last one. The caller frees it. */
int engine_chains(const struct vm *vm, struct chain_layer_info **ret, size_t *ret_n,
		  struct err *err);

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
/* A moment to come, EXPIRES_BY_TTL or EXPIRES_NEVER. */
void engine_set_expires(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, time_t expires,
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

/* ---- policy: what a VM does by itself ---- */

enum knob {
	KNOB_KEEP_LAST, KNOB_KEEP_HOURLY, KNOB_KEEP_DAILY, KNOB_KEEP_WEEKLY, KNOB_KEEP_MONTHLY,
	KNOB_KEEP_YEARLY, /* in the order of enum keep_rule */
	KNOB_KEEP_WITHIN, KNOB_MAX_COUNT, KNOB_TTL, KNOB_MIN_FREE, KNOB_MAX_DEPTH,
	KNOB_SCHEDULE, KNOB_SCHEDULE_NAME, KNOB_PRUNE_SCHEDULE,
	N_KNOBS,
};

/* Where a value comes from. */
enum knob_source { KNOB_OWN, KNOB_INHERITED /* from all VMs' */, KNOB_DEFAULT };

/* The text of the value that holds for a VM, or, if vm_id is 0, for all that have none of
 * their own. The caller frees it; NULL if there is no such VM. */
char *engine_knob(struct engine *e, uint32_t vm_id, enum knob k, enum knob_source *ret_source);

/* Sets it; NULL takes the value away, so that the next one holds. EINVAL for a text that is
 * no value of that knob. */
void engine_set_knob(struct engine *e, uint32_t vm_id, enum knob k, const char *text,
		     engine_done *done, void *opaque);

/* What becomes of a snapshot. */
struct verdict {
	bool goes;
	bool waits;      /* it would go, but is in use */
	const char *why; /* the knob that says so, or "pinned", "expired", ...; static */
};

/* What engine_prune would do now, for each snapshot of `vm`; the caller frees it. */
struct verdict *engine_prune_plan(struct engine *e, const struct vm *vm);

/* Does it. EBUSY if something that shall go cannot, the others are gone then. */
void engine_prune(struct engine *e, uint32_t vm_id, engine_done *done, void *opaque);

/* When a snapshot goes by itself: as snapshot.expires, but never EXPIRES_BY_TTL. */
time_t engine_expiry(struct engine *e, uint32_t vm_id, const struct snapshot *s);

/* A moment to come: +14d after `now`, or 2026-12-24, 2026-12-24 18:00[:30] in local time,
 * or 2026-12-24T18:00:30Z. -EINVAL, also if it has passed. Seconds since the epoch. */
int engine_parse_moment(const char *text, time_t now, time_t *ret, struct err *err);

/* What a VM will do next by itself; seconds since the epoch, 0: nothing is planned. */
struct outlook {
	time_t next_snapshot, next_prune;
};
void engine_outlook(struct engine *e, uint32_t vm_id, struct outlook *ret);

/* ---- groups of VMs, of which snapshots are taken at one moment ---- */

struct group_member {
	uint32_t id; /* never used again, by no group */
	char *name;
	uint32_t vm;
};

/* What a snapshot of a group is in one of its VMs. */
struct group_part {
	unsigned number; /* from 0, and always the same */
	char *name;      /* the member's, when it was taken */
	uint32_t vm;
	uint32_t snapshot; /* may be gone from the VM by now */
};

struct group_snapshot {
	uint32_t id; /* never used again, by no group */
	char *name;
	struct timespec created;
	struct group_part *parts;
	size_t n_parts;
};

struct vm_group {
	uint32_t id; /* never used again */
	char *name;
	struct group_member *members;
	size_t n_members;
	struct group_snapshot *snapshots;
	size_t n_snapshots;
};

struct group_list {
	int refs; /* the engine's */
	size_t n;
	struct vm_group *groups;
	struct timespec changed;
};

struct group_list *engine_groups(struct engine *e);
void group_list_unref(struct group_list *list); /* NULL is allowed */

/* Names are checked as those of snapshots; EEXIST if one is taken. */
void engine_group_make(struct engine *e, const char *name, engine_done *done, void *opaque);
void engine_group_rename(struct engine *e, uint32_t group, const char *name, engine_done *done,
			 void *opaque);
/* ENOTEMPTY if it has members or snapshots. */
void engine_group_remove(struct engine *e, uint32_t group, engine_done *done, void *opaque);
/* Puts a VM in, once. */
void engine_group_add(struct engine *e, uint32_t group, const char *name, uint32_t vm_id,
		      engine_done *done, void *opaque);
void engine_group_take_out(struct engine *e, uint32_t group, uint32_t member, engine_done *done,
			   void *opaque);

/* A snapshot of that name of all its VMs, at one moment: of all of them or of none. The errnos
 * are those of engine_snapshot_create, and the sentence has the VM. */
void engine_group_snapshot_create(struct engine *e, uint32_t group, const char *name,
				  engine_done *done, void *opaque);
/* Deletes it in all its VMs. What can be seen to speak against it in one of them refuses it as a
 * whole; what comes up later leaves the snapshot of that VM, as all that is left of it. */
void engine_group_snapshot_delete(struct engine *e, uint32_t group, uint32_t snapshot,
				  engine_done *done, void *opaque);

/* As engine_last_error. */
char *engine_group_last_error(struct engine *e, uint32_t group);
void engine_group_set_last_error(struct engine *e, uint32_t group, const char *msg);

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
	bool looked; /* false: nobody has asked for them since kwsfs began */
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

#include "engine/clones.h"
#include "engine/pools.h"
#include "engine/recoveries.h"

#endif
