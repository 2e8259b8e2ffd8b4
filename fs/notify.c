/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Telling the kernel what changed without it: an owner or a mode that makes
 * those of every file below others, a list of snapshots that virsh made longer.
 *
 * The engine's observer only notes which VMs there is news of. A thread of its
 * own compares what was published with what the kernel was told of last.
 *
 * Names are not told of (notify_inval_entry), on purpose. For that the kernel
 * takes the directory's lock, uninterruptibly, and whoever holds it may be
 * waiting for an answer of ours: a mkdir, an fsync. If the daemon is killed then,
 * the thread cannot die, /dev/fuse stays open through it, the answer is never
 * given up, and all of them hang for ever. Instead a name is cached for a second,
 * and one that has come to mean something else is found out by ESTALE at once.
 */
#include "fs/core.h"

#include "common/cleanup.h"

DEFINE_CLEANUP(struct vm, vm_unref);
DEFINE_CLEANUP(struct vm_list, vm_list_unref);

struct notifier {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping;
	bool vms_changed;
	bool event;
	vec_of(uint32_t) changed; /* ids of VMs */

	/* The thread's own: each VM as it was told of last. */
	vec_of(struct vm *) told;
};

/* ---- what the engine calls ---- */

void notifier_vms_changed(void *opaque)
{
	struct notifier *n = ((struct fs *)opaque)->notifier;
	LOCK_SCOPE(&n->lock);

	n->vms_changed = true;
	pthread_cond_signal(&n->wake);
}

void notifier_vm_changed(void *opaque, uint32_t vm_id)
{
	struct notifier *n = ((struct fs *)opaque)->notifier;
	LOCK_SCOPE(&n->lock);

	for (size_t i = 0; i < n->changed.n; i++)
		if (n->changed.at[i] == vm_id)
			return;
	vec_push(&n->changed, vm_id);
	pthread_cond_signal(&n->wake);
}

void notifier_event(struct fs *fs)
{
	struct notifier *n = fs->notifier;
	LOCK_SCOPE(&n->lock);

	n->event = true;
	pthread_cond_signal(&n->wake);
}

/* ---- what the kernel is told ---- */

/* Takes no lock. Errors say that the kernel knew nothing of it, or is gone. */
static void forget_attr(struct fs *fs, struct key key)
{
	fuse_lowlevel_notify_inval_inode(fs->session, key_to_ino(key), -1, 0);
}

static void forget_attrs_below(struct fs *fs, const struct node *dir);

static void forget_attrs_of(void *opaque, const char *name, struct key key)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = opaque;

	forget_attr(fs, key);
	if (row_of(key.kind)->type == ROW_DIR && node_open(fs, key, &n, NULL) >= 0)
		forget_attrs_below(fs, &n);
}

static void forget_attrs_below(struct fs *fs, const struct node *dir)
{
	node_each(fs, dir, forget_attrs_of, fs);
}

/* One of the directories of a VM. */
static void tell_attrs_of(struct fs *fs, enum kind kind, const struct vm *old,
			  const struct vm *now)
{
	struct key key = { .kind = kind, .vm = now->id };
	cleanup_node struct node n = NODE_INIT;

	forget_attr(fs, key);
	if (old->uid == now->uid && old->gid == now->gid && old->mode == now->mode)
		return;
	if (node_open(fs, key, &n, NULL) >= 0)
		forget_attrs_below(fs, &n);
}

static void tell_attrs(struct fs *fs, const struct vm *old, const struct vm *now)
{
	tell_attrs_of(fs, KIND_VM, old, now);
	tell_attrs_of(fs, KIND_BACKUP_VM, old, now);
	tell_attrs_of(fs, KIND_RECOVERY_VM, old, now);
}

/* ---- the thread ---- */

static struct vm **told_of(struct notifier *n, uint32_t vm_id)
{
	for (size_t i = 0; i < n->told.n; i++)
		if (n->told.at[i]->id == vm_id)
			return &n->told.at[i];
	return NULL;
}

static void tell_vm(struct fs *fs, uint32_t vm_id)
{
	struct notifier *n = fs->notifier;
	struct vm **place = told_of(n, vm_id);
	struct vm *now = engine_vm(fs->e, vm_id);
	cleanup(vm_unref_p) struct vm *old = place ? *place : NULL;

	if (old && now && old != now)
		tell_attrs(fs, old, now);
	if (now && place)
		*place = now;
	else if (now)
		vec_push(&n->told, now);
	else if (place)
		*place = n->told.at[--n->told.n];
}

/* Forgets those that are gone; new ones have news of their own. */
static void tell_vms(struct fs *fs)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);
	struct notifier *n = fs->notifier;

	forget_attr(fs, (struct key){ .kind = KIND_SNAPSHOTS });
	forget_attr(fs, (struct key){ .kind = KIND_BACKUP });
	forget_attr(fs, (struct key){ .kind = KIND_RECOVERY });
	for (size_t i = n->told.n; i-- > 0;)
		if (!vm_list_find(list, n->told.at[i]->id))
			tell_vm(fs, n->told.at[i]->id);
}

static void *notifier_thread(void *opaque)
{
	struct fs *fs = opaque;
	struct notifier *n = fs->notifier;

	pthread_mutex_lock(&n->lock);
	while (!n->stopping) {
		__typeof__(n->changed) changed = n->changed;
		bool vms_changed = n->vms_changed, event = n->event;

		if (!vms_changed && !changed.n && !event) {
			pthread_cond_wait(&n->wake, &n->lock);
			continue;
		}
		n->vms_changed = n->event = false;
		memset(&n->changed, 0, sizeof(n->changed));
		pthread_mutex_unlock(&n->lock);
		for (size_t i = 0; i < changed.n; i++)
			tell_vm(fs, changed.at[i]);
		vec_free(&changed);
		if (vms_changed)
			tell_vms(fs);
		if (event)
			events_wake(fs);
		pthread_mutex_lock(&n->lock);
	}
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

struct notifier *notifier_new(void)
{
	struct notifier *n = xnew(struct notifier);

	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->wake, NULL);
	return n;
}

/* What there is now is where news begin. */
static void learn_all(struct fs *fs)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);

	for (size_t i = 0; i < list->n; i++) {
		struct vm *vm = engine_vm(fs->e, list->vms[i]->id);

		if (vm)
			vec_push(&fs->notifier->told, vm);
	}
}

int notifier_start(struct fs *fs, struct err *err)
{
	int r;

	learn_all(fs);
	r = pthread_create(&fs->notifier->thread, NULL, notifier_thread, fs);
	return r ? err_sys(err, r, "cannot start a thread") : 0;
}

void notifier_stop(struct notifier *n)
{
	pthread_mutex_lock(&n->lock);
	n->stopping = true;
	pthread_cond_signal(&n->wake);
	pthread_mutex_unlock(&n->lock);
	pthread_join(n->thread, NULL);
}

void notifier_free(struct notifier *n)
{
	for (size_t i = 0; i < n->told.n; i++)
		vm_unref(n->told.at[i]);
	vec_free(&n->told);
	vec_free(&n->changed);
	pthread_cond_destroy(&n->wake);
	pthread_mutex_destroy(&n->lock);
	free(n);
}
