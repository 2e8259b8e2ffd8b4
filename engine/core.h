/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the engine share: the engine itself, and what it keeps of
 * each VM. Nothing outside engine/ includes this. Threads: docs/THREADS.md.
 */
#ifndef KWS_ENGINE_CORE_H
#define KWS_ENGINE_CORE_H

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"
#include "engine/engine.h"
#include "engine/hv.h"
#include "engine/plan.h"
#include "engine/registry.h"

#include <pthread.h>

struct slot;
struct task;

/* What a task does; it runs without the engine's lock, alone on its VM. */
typedef int task_fn(struct engine *e, struct slot *s, struct task *t, struct err *err);

/* An operation that waits in its VM's queue, with its arguments. */
struct task {
	struct task *next;
	task_fn *run;
	engine_done *done;
	void *opaque;
	uint32_t snapshot;
	char *text; /* a name or a description */
	unsigned flags;
	enum quiesce quiesce;
	unsigned max_depth;
	uid_t uid;
	gid_t gid;
	mode_t mode;
};

/* An open image; `image` is NULL while it is being opened. */
struct holder {
	uint32_t snapshot;
	struct image *image;
};

/* Somebody who waits for a VM to become idle. */
struct waiter {
	uint64_t ticket;
	engine_done *done;
	void *opaque;
};

/* An event of a block job, for the job that waits for it. */
struct job_signal {
	char target[32];
	enum hv_job_event event;
};

/* A look at libvirt that somebody asked for, and waits for as long as is reasonable. */
struct refresh {
	bool wanted, running;
	uint64_t ended;      /* how many have */
	struct timespec due; /* CLOCK_MONOTONIC: from then on nobody waits for the one that runs */
};

/* Something about no VM or about all of them, for the housekeeper. */
struct chore {
	struct chore *next;
	int (*run)(struct engine *e, struct chore *c, struct err *err);
	engine_done *done;
	void *opaque;
	uint64_t orphan;
};

/* What the engine keeps of one VM. Lives until engine_close, also when the
 * domain goes: it may come back, and gets the same ids then. */
struct slot {
	/* Never changes. */
	uint32_t id;
	char uuid[37];

	/* Under engine.lock. */
	struct vm *view; /* published; NULL while the domain is not there */
	struct registry_vm row;
	struct task *first, *last; /* operations that wait */
	bool collect_wanted;       /* there may be tombstones to merge */
	bool busy;                 /* a thread works on it */
	bool exclusive;            /* ... and the tree is in flux: do not look */
	bool looking;              /* a thread asks libvirt about it */
	bool unsettled;            /* the journal holds something open: settle before looking */
	bool step_aside;           /* the background work shall make room */
	uint32_t dying;            /* a snapshot that is being deleted: do not open it */
	vec_of(struct holder) holders;
	vec_of(char *) foundations; /* files of this mount that its disks lie on: foundation.h */
	vec_of(struct layer_file) written; /* the layers that it writes to: written.h */
	vec_of(struct waiter) waiters;
	vec_of(struct job_signal) signals;
	struct job_status job;
	struct timespec job_began; /* CLOCK_MONOTONIC */
	uint32_t cancel;           /* the job that is to be broken off, 0 if none */
	time_t retry_at;           /* CLOCK_REALTIME: collect again then; 0: never */
	int job_code;    /* of the last collection, a positive errno; 0 if it went well */
	char *job_error; /* ... and its sentence, NULL if it went well */
	char *last_error;
	struct timespec looked; /* CLOCK_MONOTONIC, when the last look ended */
	struct refresh refresh; /* of what is known of it */
	char *seen;             /* what it saw: see look.c */
};

/* Slots that may be ready for a worker; who takes one out checks that it is. */
struct ready {
	vec_of(struct slot *) slots;
	pthread_cond_t wake;
};

#define OPERATION_WORKERS 16 /* mkdir waits in them for a guest agent: enough not to starve others */
#define COLLECT_WORKERS 4    /* merges at once */
#define REFRESHERS 4         /* looks at libvirt that somebody waits for */

struct engine {
	/* Never change after engine_open. */
	struct hv *hv;
	struct registry *registry;
	char *store, *state_dir;
	char *overlay_options; /* as after qemu-img's -o */
	unsigned max_depth;    /* of VMs that have no limit of their own */
	struct registry_vm defaults;
	const struct engine_observer *observer;
	struct hv_events hv_events;
	pthread_t workers[OPERATION_WORKERS + COLLECT_WORKERS + REFRESHERS + 3];
	size_t n_workers;

	/* The one lock. Held for a few instructions only: never across libvirt,
	 * qemu-img, sqlite, or a call to the observer or a `done`. */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a slot's flags or signals changed */
	vec_of(struct slot *) slots;
	struct vm_list *list;
	struct ready operations, collections, refreshes;
	struct refresh list_refresh; /* of the list of VMs; wakes refreshes.wake too */
	vec_of(char *) news; /* UUIDs of domains that libvirt told us about */
	bool all_new;        /* ... or all of them: the connection is back */
	bool connected;      /* to libvirt, as far as it has told us */
	pthread_cond_t news_wake;
	bool stopping;
	uint64_t next_ticket;
	struct {
		pthread_cond_t wake;
		struct chore *first, *last;
		struct refresh orphans_refresh;
		struct timespec looked;       /* CLOCK_MONOTONIC */
		struct orphan_list *orphans;  /* published */
		char *last_error;
	} house;
	vec_of(char *) folders; /* in which images were found; the housekeeper's own */
	struct {
		pthread_cond_t wake;
		bool wanted; /* there may be some to make */
		/* The one that is being made; bytes. */
		uint32_t snapshot;
		char target[64];
		enum disk_shape shape;
		uint64_t done, total;
	} sums;
};

/* As engine_open, on a hypervisor that is there already (taken over, unless it
 * fails before that is used); NULL: libvirt at opts->uri. Tests use it. */
int engine_open_on(struct hv *hv, const struct engine_options *opts,
		   const struct engine_observer *observer, struct engine **ret, struct err *err);

/* Without threads, and without a look at the VMs. If nothing is to be written the
 * registry is only read, and may be missing. */
int engine_open_to_check(const struct engine_options *opts, bool write, struct engine **ret,
			 struct err *err);

/* Where the kwsfs that has the state is mounted, "" if that is not known. The caller
 * frees it. */
char *engine_mountpoint(const char *state_dir);

/* ---- vms.c: slots and what is published of them ---- */

struct slot *slot_by_id(struct engine *e, uint32_t id);      /* lock held */
struct slot *slot_by_uuid(struct engine *e, const char *uuid); /* lock held */
/* Finds or makes the slot of a domain; without the lock. */
int slot_for(struct engine *e, const char *uuid, struct slot **ret, struct err *err);
/* The published VM, with a reference; NULL if the domain is not there. */
struct vm *slot_view(struct engine *e, struct slot *s);
/* Publishes `vm` (takes it over; NULL: the domain is gone) and tells the observer. */
void slot_publish(struct engine *e, struct slot *s, struct vm *vm);
void slots_free(struct engine *e);
void snapshot_clear(struct snapshot *s);
/* -ENOENT with a sentence if there is no such snapshot in `vm`. */
int need_snapshot(const struct vm *vm, uint32_t id, const struct snapshot **ret, struct err *err);

/* ---- look.c: what libvirt says, made into a struct vm ---- */

enum look {
	LOOK_NEW,  /* snapshots that are known are as they were: we know what we did */
	LOOK_AUTO, /* ... if no disk's source changed */
	LOOK_ALL,  /* read every snapshot anew */
};

/* Asks libvirt and publishes. The caller has the slot for itself: it runs as
 * the slot's task, or has set `looking`. */
int look(struct engine *e, struct slot *s, enum look how, struct err *err);

/* ---- refresh.c: who looks, and when ---- */

/* All domains; for start-up and after a reconnect. */
int look_at_all(struct engine *e, struct err *err);
void *look_thread(void *engine); /* works off engine.news */
void *refresh_thread(void *engine); /* ... and what engine_vm_refresh asks for */
/* For somebody who asked for it; the lock is held. */
void refresh_wait(struct engine *e, const struct refresh *refresh);
void refresh_begin(struct refresh *refresh);              /* the lock is held */
void refresh_end(struct engine *e, struct refresh *refresh); /* the same */
bool is_younger(const struct timespec *monotonic, unsigned ms);
/* As engine_vm_refresh, however long it takes. */
void vm_refresh_now(struct engine *e, struct slot *s);

/* ---- queue.c: one operation at a time per VM, VMs in parallel ---- */

struct task *task_new(task_fn *run, engine_done *done, void *opaque);
/* Takes the task over. */
void task_submit(struct engine *e, uint32_t vm_id, struct task *t);
/* Asks for a collection; without the lock. */
void collect_later(struct engine *e, struct slot *s);
int queue_start(struct engine *e, struct err *err);
void queue_stop(struct engine *e);
/* For background work: the tree is in flux from here to there. */
void slot_begin_exclusive(struct engine *e, struct slot *s);
void slot_end_exclusive(struct engine *e, struct slot *s);

/* ---- engine.c ---- */

/* Something that nobody waits for: kept as the VM's last error, and told upward.
 * Without the lock. */
void engine_tell(struct engine *e, uint32_t vm_id, int r, const char *what);

/* Whether all that takes long is to end. Without the lock. */
bool is_stopping(struct engine *e);

/* ---- housekeeping.c: what is about no single VM; one thread ---- */

void house_init(struct engine *e);
void house_free(struct engine *e);
void *house_thread(void *engine);
/* Takes the chore over. */
void chore_submit(struct engine *e, struct chore *c);

/* ---- recover.c ---- */

enum recover {
	RECOVER_TREE,  /* all but merges: they change no snapshot, and take their time */
	RECOVER_HURRY, /* somebody waits: merges that are not done are broken off */
	RECOVER_ALL,   /* merges go on where they were */
};

/* Finishes or undoes what the journal holds open of this VM. The caller has
 * the slot for itself. */
int recover(struct engine *e, struct slot *s, enum recover how, struct err *err);

/* ---- operations ---- */

task_fn task_create, task_delete, task_rename, task_revert, task_describe, task_pin, task_quiesce,
	task_max_depth, task_owner;

/* Takes a snapshot; for task_create, and for revert's `keep`. */
int snapshot_create(struct engine *e, struct slot *s, const char *name, enum quiesce quiesce,
		    struct err *err);

/* Merges what can be merged of a VM's tombstones, until nothing is left to do
 * or the job is told to step aside. */
int collect(struct engine *e, struct slot *s, struct err *err);

/* 0, or -EINVAL / -ENAMETOOLONG with a sentence. */
int snapshot_name_check(const char *name, struct err *err);

#endif
