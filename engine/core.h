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
#include "engine/measure.h"
#include "engine/overlay-template.h"
#include "engine/plan.h"
#include "engine/registry.h"
#include "engine/space.h"

#include <pthread.h>

struct failover_order;
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
	time_t time;
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
	enum knob knob;
	char *text;
};

/* Something that is done by the calendar. */
struct timer {
	bool known;       /* it was looked at: what follows is true */
	char *expression; /* NULL: never */
	time_t next;      /* seconds since the epoch, 0: never */
};

enum timer_kind { TIMER_SNAPSHOT, TIMER_PRUNE, N_TIMERS };

/* What a VM does by itself: keeper.c. */
struct care {
	bool wanted;     /* something changed: the keeper is to look */
	bool at_work;    /* a task of the keeper's is in the queue, or runs */
	bool all_rules;  /* what the keep_ rules say is to be carried out */
	bool for_readers; /* something waits for images to be closed */
	bool has_floor;  /* min_free is set */
	time_t not_before; /* CLOCK_REALTIME: after a failure */
	time_t next;     /* when to look again by itself; 0: never */
	time_t expiry;   /* the next one, 0 if there is none */
	struct timer timers[N_TIMERS];
	char *error;     /* what the last task failed with, NULL if it went well */
	unsigned failures; /* ... and how many did, one after the other; as far as it counts */
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
	bool looking;              /* a thread asks libvirt about it, */
	uint64_t looks;            /* and so many have begun to */
	bool missed;               /* libvirt told of something while nobody might look */
	bool unsettled;            /* the journal holds something open: settle before looking */
	bool unverified;           /* what is published is remembered only: remembered.h */
	bool step_aside;           /* the background work shall make room */
	unsigned claims;           /* threads of groups that want to have it: slots_claim */
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
	struct timespec crashed; /* CLOCK_REALTIME, when that was seen last; 0: never */
	bool ran_unseen;         /* ... and nobody had seen it run: failover_take_unseen */
	struct refresh refresh; /* of what is known of it */
	struct measuring measuring;
	char *seen;             /* what it saw: see look.c */
	char *knobs[N_KNOBS];   /* values of its own: policy.h */
	struct care care;
};

/* What the engine keeps of a group besides. */
struct group_state {
	uint32_t id;
	bool busy; /* a thread works on it */
	char *last_error;
};

/* How far a spare has come: pool.h. */
struct spare_progress {
	uint32_t clone;
	unsigned stage; /* enum spare_stage */
	double started; /* metrics_now; 0: not in this process */
};

/* What the engine keeps of a pool besides. */
struct pool_fill {
	uint32_t pool;
	char *error;       /* what the last try failed with, NULL if it went well */
	time_t not_before; /* CLOCK_REALTIME: after a failure */
	unsigned failures; /* one after the other; as far as it counts */
};

/* What the engine keeps of a VM for its recovery. */
struct failover_kept {
	struct failover_vm row;
	struct timespec put_off; /* CLOCK_REALTIME: not before, for it has failed too often; 0: now */
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
	char *mountpoint;      /* NULL: none */
	char *hooks;           /* folder, NULL: none; see hooks.h */
	unsigned hook_timeout; /* seconds */
	struct overlay_templates overlay_templates; /* it has a lock of its own */
	unsigned max_depth;    /* where no knob says another */
	struct registry_vm defaults;
	const struct engine_observer *observer;
	struct hv_events hv_events;
	pthread_t workers[OPERATION_WORKERS + COLLECT_WORKERS + REFRESHERS + 5];
	size_t n_workers;

	/* The one lock. Held for a few instructions only: never across libvirt,
	 * qemu-img, sqlite, or a call to the observer or a `done`. */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a slot's flags or signals changed */
	vec_of(struct slot *) slots;
	struct vm_list *list;
	struct ready operations, collections, refreshes, measurings;
	struct engine_metrics metrics; /* all but what is exported: */
	uint64_t exported; /* bytes that were read from open disks; atomic */
	struct refresh list_refresh; /* of the list of VMs; wakes refreshes.wake too */
	vec_of(char *) news; /* UUIDs of domains that libvirt told us about */
	bool all_new;        /* ... or all of them: the connection is back */
	bool connected;      /* to libvirt, as far as it has told us */
	bool lost, back;     /* ... which nobody was told of yet */
	bool opened;         /* what there is now is told of: all of it is news */
	pthread_cond_t news_wake;
	pthread_cond_t keeper_wake;
	char *knobs[N_KNOBS]; /* for all VMs that have no value of their own */
	char *last_error;     /* of what is about no VM */
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
	struct {
		struct group_list *list; /* published */
		uint64_t asked, shown; /* which reading of the registry that is: see groups_publish */
		vec_of(struct group_state) states;
		size_t running; /* threads */
	} groups;
	struct clone_list *clones; /* published */
	vec_of(char *) undone_clones; /* UUIDs: see clone_is_undone */
	vec_of(char *) new_clones;    /* the same: see clone_is_new */
	size_t promotions; /* threads that make clones independent */
	struct {
		pthread_cond_t wake;
		pthread_t thread;
		bool started, stopping;
		bool wanted; /* something changed: the thread is to look */
		struct pool_list *list; /* published */
		uint64_t asked, shown;  /* as groups have it */
		vec_of(struct spare_progress) spares;
		vec_of(struct pool_fill) fills;
		char *last_error;
	} pools;
	struct {
		struct recovery_settings *settings; /* published */
		uint64_t asked, shown; /* as groups have it */
		char *last_error;
	} recovery;
	struct {
		pthread_cond_t wake;
		pthread_t thread;
		bool started, stopping;
		bool wanted;     /* something changed: the thread is to look */
		bool unfinished; /* the registry has recoveries that were begun and have not ended */
		pthread_mutex_t keeping; /* `kept` and the registry are changed by one at a time; taken
					  * before the lock */
		vec_of(struct failover_kept) kept;
		struct failover_order *first, *last; /* that wait */
	} failover;
	vec_of(char *) folders; /* in which images were found; the housekeeper's own */
	spaces_t spaces;        /* under the lock */
	double spaces_due;      /* seconds of CLOCK_BOOTTIME: samples are taken again then */
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
struct slot *slot_find(struct engine *e, uint32_t id);       /* the same, without the lock */
struct slot *slot_by_uuid(struct engine *e, const char *uuid); /* lock held */
/* Finds or makes the slot of a domain; without the lock. */
int slot_for(struct engine *e, const char *uuid, struct slot **ret, struct err *err);
/* The published VM, with a reference; NULL if the domain is not there. */
struct vm *slot_view(struct engine *e, struct slot *s);
/* Publishes `vm` (takes it over; NULL: the domain is gone) and tells the observer. */
void slot_publish(struct engine *e, struct slot *s, struct vm *vm);
void slots_free(struct engine *e);
void snapshot_clear(struct snapshot *s);
void snapshot_disk_clear(struct snapshot_disk *d);
/* -ENOENT with a sentence if there is no such snapshot in `vm`. */
int need_snapshot(const struct vm *vm, uint32_t id, const struct snapshot **ret, struct err *err);
/* -EBUSY with a sentence if the domain is saved with its memory, and its disks have to stay. */
int need_not_saved(const struct hv_domain *domain, struct err *err);

/* ---- look.c: what libvirt says, made into a struct vm ---- */

enum look {
	LOOK_NEW,  /* snapshots that are known are as they were: we know what we did */
	LOOK_AUTO, /* ... if no disk's source changed */
	LOOK_ALL,  /* read every snapshot anew */
	LOOK_MERGED, /* as LOOK_ALL, when we have just given snapshots other files */
	LOOK_START, /* as LOOK_AUTO, after a time in which nobody looked: it has to be verified */
};

/* Asks libvirt and publishes. The caller has the slot for itself: it runs as
 * the slot's task, or has set `looking`. */
int look(struct engine *e, struct slot *s, enum look how, struct err *err);
/* The same, of a domain that was listed just now; NULL: it was not. */
int look_at_listed(struct engine *e, struct slot *s, const struct hv_domain *listed, enum look how,
		   struct err *err);

/* ---- refresh.c: who looks, and when ---- */

/* All domains; for start-up and after a reconnect. For so many milliseconds every snapshot is
 * read anew, which does for some hundreds; the other VMs are verified by their collections. */
extern unsigned look_at_once_ms;
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
/* Something of `s` changed: sees who is to be woken. The lock is held, and may be let go of
 * meanwhile. */
void slot_kick(struct engine *e, struct slot *s);
/* Asks for a collection; without the lock. */
void collect_later(struct engine *e, struct slot *s);
int queue_start(struct engine *e, struct err *err);
void queue_stop(struct engine *e);
/* Has all of them for the caller, as a worker has one: waits until whoever works on them is
 * done. They must be in the order of their ids, so that two who want the same do not wait for
 * each other. Without the lock. */
void slots_claim(struct engine *e, struct slot *const *slots, size_t n);
/* The same for one, if nobody has it and nobody waits for it. To be released likewise. */
bool slot_try_claim(struct engine *e, struct slot *s);
/* The same, but all at once, and -EBUSY if somebody else has one of them for that long, or kwsfs
 * ends: whoever waits has none of them meanwhile, and so may come in any order. */
int slots_claim_within(struct engine *e, struct slot *const *slots, size_t n, unsigned seconds,
		       struct err *err);
void slots_release(struct engine *e, struct slot *const *slots, size_t n);
/* Before anything is done to a VM: libvirt is there, what was interrupted is settled, and what
 * is published is what libvirt says. For who has the VM for itself. */
int slot_settle(struct engine *e, struct slot *s, struct err *err);
/* For background work: the tree is in flux from here to there. */
void slot_begin_exclusive(struct engine *e, struct slot *s);
void slot_end_exclusive(struct engine *e, struct slot *s);

/* ---- engine.c ---- */

/* Something that nobody waits for: kept as the VM's last error, and told upward as the
 * event `trouble`. Without the lock. */
void engine_tell(struct engine *e, uint32_t vm_id, int r, const char *what);

/* Whether all that takes long is to end. Without the lock. */
bool is_stopping(struct engine *e);

/* ---- changes.c ---- */

/* Tells of what is published in the place of what; NULL: the domain was not, or is not, there. */
void changes_tell(struct engine *e, const struct vm *old, const struct vm *now);

/* ---- metrics.c: each counts one ---- */

void metrics_open(struct engine *e);
double metrics_now(void); /* seconds of a clock that only goes on */
void metrics_snapshot(struct engine *e, double seconds);
void metrics_freeze(struct engine *e, double seconds);
void metrics_merge(struct engine *e, double seconds, uint64_t bytes);
void metrics_clone(struct engine *e, double seconds);
void metrics_claim(struct engine *e, double seconds);
void metrics_recovery(struct engine *e, double seconds); /* a VM was started in its place */
void metrics_recovery_told(struct engine *e);            /* one runs that is as good */
void metrics_recovery_failed(struct engine *e);

/* ---- housekeeping.c: what is about no single VM; one thread ---- */

void house_init(struct engine *e);
void house_free(struct engine *e);
void *house_thread(void *engine);
/* Takes the chore over. */
void chore_submit(struct engine *e, struct chore *c);

/* ---- keeper.c: what VMs do by themselves; one thread ---- */

void *keeper_thread(void *engine);
/* Something changed by which it may have to do something. */
void keeper_want(struct engine *e, struct slot *s); /* the lock is held */
void keeper_want_all(struct engine *e);             /* the same */
void keeper_free(struct slot *s);

/* ---- prune.c ---- */

enum prune_flags {
	PRUNE_ALL_RULES = 1 << 0, /* also what the keep_ rules say */
	PRUNE_FOR_ROOM = 1 << 1,  /* the oldest that may go, if nothing else does */
	PRUNE_ONE = 1 << 2,       /* not more than one: others may wait */
};

/* What would be done; the caller frees it. */
struct verdict *prune_plan(struct engine *e, struct slot *s, const struct vm *vm, unsigned flags);

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

task_fn task_create, task_delete, task_rename, task_revert, task_describe, task_pin, task_expire,
	task_quiesce, task_owner, task_prune;

/* Takes a snapshot; for task_create, and for revert's `keep`. */
int snapshot_create(struct engine *e, struct slot *s, const char *name, enum quiesce quiesce,
		    struct err *err);

/* Takes one, as mkdir does. */
int snapshot_take(struct engine *e, struct slot *s, const char *name, struct err *err);

/* Whether nothing speaks against deleting it: a pin, a reader, a disk that lies on it. */
int snapshot_check_deletable(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			     struct err *err);

/* Deletes one, as rmdir does. */
int snapshot_delete(struct engine *e, struct slot *s, const struct snapshot *snapshot,
		    struct err *err);

/* Merges what can be merged of a VM's tombstones, until nothing is left to do
 * or the job is told to step aside. */
int collect(struct engine *e, struct slot *s, struct err *err);

/* 0, or -EINVAL / -ENAMETOOLONG with a sentence. */
int snapshot_name_check(const char *name, struct err *err);

#endif
