/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread of its own looks at the files of those VMs of which something new was
 * published, or whose layers were merged: the headers of its chains, and one stat for each
 * frozen layer. So whoever wants the figures waits for no disk, also if
 * that is on a server that does not answer, and the start does not wait for a hundred
 * thousand layers. A frozen layer changes by nothing but merges.
 */
#include "engine/depth.h"

void vm_measures_unref(struct vm_measures *m)
{
	if (!m || __atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < m->n_disks; i++)
		free(m->disks[i].target);
	free(m->disks);
	free(m->snapshots);
	free(m);
}

struct vm_measures *engine_vm_measures(struct engine *e, uint32_t vm_id)
{
	struct vm_measures *m;
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	m = s ? s->measuring.known : NULL;
	if (m)
		__atomic_add_fetch(&m->refs, 1, __ATOMIC_RELAXED);
	return m;
}

void measure_later(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	if (s->measuring.wanted)
		return;
	s->measuring.wanted = true;
	vec_push(&e->measurings.slots, s);
	pthread_cond_signal(&e->measurings.wake);
}

/* ---- disks ---- */

static void measure_disks(struct vm_measures *m, const struct vm *vm)
{
	m->disks = xcalloc(vm->n_disks, sizeof(*m->disks));
	for (size_t i = 0; i < vm->n_disks; i++) {
		const struct vm_disk *d = &vm->disks[i];
		unsigned depth;

		if (disk_depth(&(struct xml_disk){ .path = d->path, .format = d->format }, false,
			       &depth, NULL) < 0)
			continue; /* what cannot be told is not told */
		m->disks[m->n_disks++] = (struct disk_measure){ xstrdup(d->target), depth };
	}
}

/* ---- snapshots ---- */

static size_t *parents_of(const struct vm *vm)
{
	size_t *parents = xcalloc(vm->n_snapshots, sizeof(*parents));

	for (size_t i = 0; i < vm->n_snapshots; i++) {
		const struct snapshot *parent = vm_snapshot(vm, vm->snapshots[i].parent);

		parents[i] = parent ? (size_t)(parent - vm->snapshots) : SIZE_MAX;
	}
	return parents;
}

static void measure_snapshot(struct snapshot_measure *m, const struct snapshot *s)
{
	m->id = s->id;
	m->known = snapshot_held(s, &m->exclusive);
}

static void measure_snapshots(struct vm_measures *m, const struct vm *vm)
{
	cleanup_free size_t *parents = parents_of(vm);

	m->n_snapshots = vm->n_snapshots;
	m->snapshots = xcalloc(vm->n_snapshots, sizeof(*m->snapshots));
	for (size_t i = 0; i < vm->n_snapshots; i++)
		measure_snapshot(&m->snapshots[i], &vm->snapshots[i]);
	for (size_t i = 0; i < vm->n_snapshots; i++) {
		size_t at = parents[i];

		/* libvirt's tree has no circles; a record that had one is no reason to hang. */
		for (size_t n = 0; at != SIZE_MAX && n < vm->n_snapshots; n++, at = parents[at])
			m->snapshots[i].shared += m->snapshots[at].exclusive;
	}
}

/* ---- the thread ---- */

/* The lock is held, and let go of meanwhile. */
static void measure(struct engine *e, struct slot *s)
{
	struct vm_measures *m = xnew(struct vm_measures), *old;
	struct vm *vm;

	s->measuring.wanted = false;
	pthread_mutex_unlock(&e->lock);
	m->refs = 1;
	vm = slot_view(e, s);
	if (vm) {
		measure_disks(m, vm);
		measure_snapshots(m, vm);
	}
	vm_unref(vm);
	pthread_mutex_lock(&e->lock);
	old = s->measuring.known;
	s->measuring.known = m;
	vm_measures_unref(old);
}

void *measure_thread(void *engine)
{
	struct engine *e = engine;

	pthread_mutex_lock(&e->lock);
	while (!e->stopping) {
		if (e->measurings.slots.n)
			measure(e, e->measurings.slots.at[--e->measurings.slots.n]);
		else
			pthread_cond_wait(&e->measurings.wake, &e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}
