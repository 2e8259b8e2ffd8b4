/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/remembered.h"

#include "common/timespec.h"

#include <errno.h>

#define VERIFY_SECONDS 20

struct vm *remembered_vm(struct engine *e, const struct slot *s, struct registry_seen *ret)
{
	struct vm *vm = xnew(struct vm);

	vm->refs = 1;
	vm->id = s->id;
	if (registry_seen(e->registry, s->id, ret, NULL) < 0 ||
	    registry_seen_snapshots(e->registry, s->id, &vm->snapshots, &vm->n_snapshots, NULL) < 0) {
		vm_unref(vm);
		return NULL;
	}
	vm->changed = ret->changed;
	return vm;
}

static bool is_remembered(const struct snapshot *s, const struct snapshot *old)
{
	if (!old || s->parent != old->parent || s->n_disks != old->n_disks ||
	    s->domain_length != old->domain_length ||
	    !streq(s->description, old->description))
		return false;
	for (size_t i = 0; i < s->n_disks; i++)
		if (!streq(s->disks[i].target, old->disks[i].target) ||
		    !streq(s->disks[i].path, old->disks[i].path) ||
		    !streq(s->disks[i].format, old->disks[i].format))
			return false;
	return true;
}

int remember_vm(struct engine *e, const struct vm *vm, const struct registry_seen *seen,
		const struct vm *old, const struct registry_seen *old_seen, bool new_ids,
		struct err *err)
{
	vec_of(const struct snapshot *) changed = { 0 };
	int r = 0;

	for (size_t i = 0; i < vm->n_snapshots; i++) {
		const struct snapshot *s = &vm->snapshots[i];

		if (!is_remembered(s, old ? vm_snapshot(old, s->id) : NULL))
			vec_push(&changed, s);
	}
	if (new_ids || changed.n || !old || timespec_compare(&seen->changed, &old->changed) ||
	    !streq(seen->sources, old_seen->sources) ||
	    !streq(seen->foundations, old_seen->foundations))
		r = registry_see(e->registry, vm->id, seen, changed.at, changed.n, !new_ids, err);
	vec_free(&changed);
	/* What cannot be kept is looked at again by the next process, but for ids. */
	return new_ids ? r : 0;
}

static bool is_verified(struct engine *e, uint32_t vm_id)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	return !s || !s->unverified;
}

/* A look, or a task of the VM, that is under way does it as well. */
static void wait_for_verification(struct engine *e, uint32_t vm_id)
{
	struct timespec until = monotonic_in(1000);
	LOCK_SCOPE(&e->lock);

	while (slot_by_id(e, vm_id)->unverified && !e->stopping)
		if (!cond_wait_until(&e->changed, &e->lock, &until))
			break;
}

int engine_vm_verify(struct engine *e, uint32_t vm_id, struct err *err)
{
	for (int i = 0; i < VERIFY_SECONDS; i++) {
		if (is_verified(e, vm_id))
			return 0;
		if (!engine_connected(e))
			break;
		engine_vm_refresh(e, vm_id, 0);
		wait_for_verification(e, vm_id);
	}
	return err_set(err, EHOSTDOWN, "libvirt does not answer, and since kwsfs was started nobody "
		       "could look at where this lies");
}
