/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Groups of VMs. What is done to a group runs in a thread of its own, one at a time for each
 * group; it is given the VMs that it works on (slots_claim), and works on all of them at once.
 */
#ifndef KWS_ENGINE_GROUPS_H
#define KWS_ENGINE_GROUPS_H

#include "engine/core.h"

void groups_init(struct engine *e);
int groups_open(struct engine *e, struct err *err);
void groups_free(struct engine *e);
/* Shows what the registry holds. */
int groups_publish(struct engine *e, struct err *err);

/* ---- threads of groups ---- */

/* Something that is done to a group. */
struct group_task {
	struct engine *e;
	int (*run)(struct engine *e, const struct group_task *t, struct err *err);
	uint32_t group; /* 0: of a new one */
	uint32_t item;  /* a member, or a snapshot */
	uint32_t vm;
	char *name;
	engine_done *done;
	void *opaque;
};

/* Begins it; the name is copied. The group is shown anew before `done` is called. */
void group_submit(struct engine *e, struct group_task t);

/* For a task. The caller unrefs *ret_list, which *ret is a part of; -ENOENT. */
int group_need(struct engine *e, uint32_t id, struct group_list **ret_list,
	       const struct vm_group **ret, struct err *err);
/* -EEXIST if something in the group has that name. */
int group_check_free(const struct vm_group *g, const char *name, struct err *err);

/* ---- something done to several VMs at once ---- */

/* One of the VMs. */
struct guest {
	struct engine *e;
	struct slot *slot;
	void *opaque;      /* for who runs it */
	uint32_t snapshot; /* the same: one of the VM's */
	double held;       /* the same: since when the VM is, as metrics_now says */
	int r;             /* how it ended */
	struct err err;
	bool gave_up;      /* ... only because another one failed */
	/* guests_run's own. */
	int (*run)(struct guest *g, struct err *err);
	struct gate *gate;
	pthread_t thread;
};

/* Runs `run` for each, all at the same time or none, and returns when the last has ended. The
 * results are the guests'. */
void guests_run(struct guest *guests, size_t n, int (*run)(struct guest *, struct err *));

/* The error of the first that failed by itself, with the VM's name in front; 0 if all went well. */
int guests_result(const struct guest *guests, size_t n, struct err *err);

/* group-take.c: takes the snapshot `name` of all guests' VMs, at one moment; `id` is the group
 * snapshot that registry_group_begin made. */
void group_take(struct guest *guests, size_t n, const char *name, uint32_t id);

#endif
