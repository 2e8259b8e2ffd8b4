/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is kept about VMs and snapshots, and touches no disk. */
#include "engine/core.h"

#include <errno.h>

static const char *const quiesce_names[] = {
	[QUIESCE_AUTO] = "auto", [QUIESCE_YES] = "yes", [QUIESCE_NO] = "no",
};

static const char *const consistency_names[] = {
	[CONSISTENCY_UNKNOWN] = "unknown",
	[CONSISTENCY_OFFLINE] = "offline",
	[CONSISTENCY_FILESYSTEM] = "filesystem",
	[CONSISTENCY_CRASH] = "crash",
};

const char *quiesce_to_string(enum quiesce q)
{
	return quiesce_names[q];
}

int quiesce_from_string(const char *s, enum quiesce *ret)
{
	for (enum quiesce q = QUIESCE_AUTO; q <= QUIESCE_NO; q++) {
		if (streq(s, quiesce_names[q])) {
			*ret = q;
			return 0;
		}
	}
	return -EINVAL;
}

const char *consistency_to_string(enum consistency c)
{
	return consistency_names[c];
}

int task_pin(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	vm_unref(vm);
	if (r >= 0)
		r = registry_snapshot_pin(e->registry, t->snapshot, t->flags, err);
	return r < 0 ? r : look(e, s, LOOK_NEW, err);
}

int task_expire(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	vm_unref(vm);
	if (r >= 0)
		r = registry_snapshot_expire(e->registry, t->snapshot, t->time, err);
	return r < 0 ? r : look(e, s, LOOK_NEW, err);
}

/* Writes the VM's row, and then lets it count. */
static int set_row(struct engine *e, struct slot *s, const struct registry_vm *row, struct err *err)
{
	int r = registry_vm_update(e->registry, row, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	s->row = *row;
	pthread_mutex_unlock(&e->lock);
	return look(e, s, LOOK_NEW, err);
}

/* Only this VM's tasks write the row, one at a time: so reading it is safe here. */
int task_quiesce(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct registry_vm row = s->row;

	row.quiesce = t->quiesce;
	return set_row(e, s, &row, err);
}

int task_owner(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct registry_vm row = s->row;

	if (t->uid != (uid_t)-1)
		row.uid = t->uid;
	if (t->gid != (gid_t)-1)
		row.gid = t->gid;
	if (t->mode != (mode_t)-1)
		row.mode = t->mode & 07777;
	return set_row(e, s, &row, err);
}
