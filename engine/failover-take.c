/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A candidate takes the place of the VM that failed: it runs already, or it is started, or a clone
 * of it is made and started.
 *
 * Two VMs that are on a network with one identity are worse than none. So the failed one is seen
 * to be off while both are had for this alone, and right before the start; and who is to be started
 * has no MAC address that a VM has which runs. libvirt keeps names and UUIDs apart by itself. A
 * booted spare runs as soon as it is taken: if it then turns out to have such an address it goes
 * again at once.
 */
#include "engine/failover.h"

#include "engine/clone.h"
#include "engine/macs-xml.h"
#include "engine/op.h"
#include "engine/recovery.h"

#include <ctype.h>
#include <errno.h>

DEFINE_CLEANUP(struct clone, clone_unref);
DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

#define NAMES_MOST 10000

int failover_at(const char *step, struct err *err)
{
	return op_fault && op_fault("recovery", step, false) < 0 ?
		       err_set(err, EIO, "the step '%s' fails, as it was told", step) : 0;
}

/* ---- having the VMs ---- */

/* The failed one and one more, which may be the same. */
struct pair {
	struct slot *at[2];
	size_t n;
};

static int pair_begin(struct engine *e, struct slot *failed, uint32_t other, struct pair *ret,
		      struct err *err)
{
	struct pair p = { .at = { failed } };
	int r;

	p.at[1] = slot_find(e, other);
	if (!p.at[1])
		return err_set(err, ENOENT, "it has gone");
	p.n = p.at[1] == failed ? 1 : 2;
	r = slots_claim_within(e, p.at, p.n, FAILOVER_CLAIM_SECONDS, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < p.n && r >= 0; i++)
		r = slot_settle(e, p.at[i], err);
	if (r < 0)
		slots_release(e, p.at, p.n);
	else
		*ret = p;
	return r;
}

static void pair_end(struct engine *e, struct pair *p)
{
	slots_release(e, p->at, p->n);
}

int failover_check_off(struct engine *e, const struct slot *failed, struct err *err)
{
	struct hv_domain d = { 0 };
	int r = e->hv->ops->lookup(e->hv, failed->uuid, &d, err);

	if (r == -ENOENT)
		return 0;
	if (r >= 0 && d.active)
		r = err_set(err, EALREADY, "the VM that failed is %s again: somebody has started it",
			    d.state);
	free(d.name);
	return r;
}

/* ---- who it is ---- */

static int read_macs(struct engine *e, const char *uuid, struct macs *ret, struct err *err)
{
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->domain_xml(e->hv, uuid, false, &xml, err);

	return r < 0 ? r : macs_read(xml, ret, err);
}

static int compare(struct engine *e, const struct macs *own, const struct hv_domain *other,
		   struct err *err)
{
	cleanup(macs_clear) struct macs macs = { 0 };
	const char *common;
	int r = read_macs(e, other->uuid, &macs, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r; /* it ended just now */
	common = macs_common(own, &macs);
	return common ? err_set(err, EEXIST, "'%s', which runs, has its MAC address %s", other->name,
				common) : 0;
}

/* As libvirt has it now, interfaces that were plugged in while it runs too. */
int failover_check_identity(struct engine *e, const char *uuid, const char *but_for,
			    struct err *err)
{
	cleanup(macs_clear) struct macs own = { 0 };
	struct hv_domain *domains = NULL;
	size_t n = 0;
	int r = read_macs(e, uuid, &own, err);

	if (r < 0 || own.n == 0)
		return r;
	r = e->hv->ops->list(e->hv, &domains, &n, err);
	for (size_t i = 0; i < n && r >= 0; i++)
		if (domains[i].active && !streq(domains[i].uuid, uuid) &&
		    !streq(domains[i].uuid, but_for))
			r = compare(e, &own, &domains[i], err);
	hv_domains_free(domains, n);
	return r;
}

/* ---- starting ---- */

static int lookup_state(struct engine *e, const char *uuid, struct hv_domain *ret, struct err *err)
{
	int r = e->hv->ops->lookup(e->hv, uuid, ret, err);

	free(steal_pointer(&ret->name));
	return r;
}

static bool runs(const struct hv_domain *d)
{
	return streq(d->state, "running") || streq(d->state, "idle");
}

/* Both are had by the caller. One that an earlier process began to start may run by now. */
static int start(struct engine *e, const struct slot *failed, struct slot *s, bool *ret_over,
		 struct err *err)
{
	struct hv_domain d = { 0 };
	int r = failover_check_off(e, failed, err);

	*ret_over = r < 0;
	if (r >= 0)
		r = failover_check_identity(e, s->uuid, failed->uuid, err);
	if (r >= 0)
		r = failover_at("start", err);
	if (r < 0)
		return r;
	r = vm_start(e, s->uuid, err);
	if (lookup_state(e, s->uuid, &d, NULL) >= 0 && runs(&d))
		r = 0;
	else if (r >= 0)
		r = err_set(err, EIO, "it was started, and is %s", d.state ?: "gone");
	look(e, s, LOOK_AUTO, NULL);
	return r;
}

static int take_running(struct engine *e, struct failover *f, uint32_t *ret_vm, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, f->vm_used);
	struct hv_domain d = { 0 };
	int r = vm ? lookup_state(e, vm->uuid, &d, err) : err_set(err, ENOENT, "it has gone");

	if (r < 0)
		return r;
	if (!runs(&d))
		return err_set(err, EAGAIN, "it is %s by now", d.state);
	free(f->replacement);
	f->replacement = xstrdup(vm->name);
	*ret_vm = vm->id;
	return 0;
}

static int take_stopped(struct engine *e, struct slot *failed, struct failover *f,
			uint32_t *ret_vm, bool *ret_over, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = NULL;
	struct pair pair;
	int r = pair_begin(e, failed, f->vm_used, &pair, err);

	if (r < 0)
		return r;
	vm = slot_view(e, pair.at[pair.n - 1]);
	r = vm ? start(e, failed, pair.at[pair.n - 1], ret_over, err)
	       : err_set(err, ENOENT, "it has gone");
	pair_end(e, &pair);
	if (r < 0)
		return r;
	free(f->replacement);
	f->replacement = xstrdup(vm->name);
	*ret_vm = vm->id;
	return 0;
}

/* ---- clones ---- */

/* What the clones of a VM are called by: web1, also of web1-r1 that has taken its place. */
static char *base_name(struct engine *e, const struct failover *f)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, f->vm);
	cleanup_free char *name = xstrdup(vm ? vm->name : "recovered");
	cleanup_free char *longest = NULL;
	char *end = strrchr(name, '-');

	if (f->line != f->vm && end && end[1] == 'r' && isdigit((unsigned char)end[2]) &&
	    strspn(end + 2, "0123456789") == strlen(end + 2))
		*end = '\0';
	longest = xasprintf("%s-r%d", name, NAMES_MOST);
	/* A VM may be called as no clone can be. */
	return snapshot_name_check(longest, NULL) < 0 && vm ? xstrdup(vm->uuid) : steal_pointer(&name);
}

/* A booted spare that was taken has its name in libvirt later. */
static bool is_clone(const struct clone_list *list, const char *name)
{
	for (size_t i = 0; i < list->n; i++)
		if (streq(list->clones[i]->name, name))
			return true;
	return false;
}

/* The first one that is free. */
static int choose_name(struct engine *e, struct failover *f, struct err *err)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	cleanup_free char *base = base_name(e, f);

	for (int number = 1; number < NAMES_MOST; number++) {
		cleanup_free char *name = xasprintf("%s-r%d", base, number);
		cleanup(vm_unref_p) struct vm *vm = engine_vm_by_name(e, name);

		if (vm || is_clone(list, name))
			continue;
		free(f->replacement);
		f->replacement = steal_pointer(&name);
		return registry_failover_update(e->registry, f, err);
	}
	return err_set(err, EEXIST, "all names from %s-r1 on are taken", base);
}

static int make(struct engine *e, struct slot *failed, struct failover *f, uint32_t *ret_clone,
		bool *ret_over, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = NULL;
	const struct snapshot *snapshot = NULL;
	struct pair pair;
	int r = pair_begin(e, failed, f->vm_used, &pair, err);

	if (r < 0)
		return r;
	r = failover_check_off(e, failed, err);
	*ret_over = r < 0;
	vm = slot_view(e, pair.at[pair.n - 1]);
	if (r >= 0)
		r = need_snapshot(vm, f->snapshot, &snapshot, err);
	if (r >= 0)
		r = clone_make_or_claim(e, pair.at[pair.n - 1], snapshot, f->replacement, ret_clone,
					err);
	pair_end(e, &pair);
	return r;
}

/* One that cannot be started is nobody's. */
static void remove_clone(struct engine *e, struct slot *failed, const struct clone *c)
{
	struct pair pair;
	struct err err = ERR_INIT;
	int r = pair_begin(e, failed, c->vm, &pair, &err);

	if (r >= 0) {
		r = clone_remove(e, pair.at[pair.n - 1], c, &err);
		pair_end(e, &pair);
	}
	if (r < 0)
		engine_tell(e, c->vm, r, err.msg);
}

/* What it was made of may have been described since its snapshot was taken, and it was chosen for
 * that; else nobody could take its place in turn. It runs without that, too. */
static void describe(struct engine *e, struct slot *s, uint32_t source)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, source);
	struct err err = ERR_INIT;
	int r = vm ? features_give(e, s, &vm->features, &err) : 0;

	if (r < 0)
		engine_tell(e, s->id, r, err.msg);
}

static int start_clone(struct engine *e, struct slot *failed, uint32_t source, uint32_t id,
		       uint32_t *ret_vm, bool *ret_over, struct err *err)
{
	cleanup(clone_unref_p) struct clone *c = NULL;
	struct pair pair;
	int r = clones_get(e, id, &c, err);

	if (r >= 0)
		r = pair_begin(e, failed, c->vm, &pair, err);
	if (r < 0)
		return r;
	describe(e, pair.at[pair.n - 1], source);
	r = start(e, failed, pair.at[pair.n - 1], ret_over, err);
	pair_end(e, &pair);
	if (r < 0 && r != -EHOSTDOWN)
		remove_clone(e, failed, c);
	*ret_vm = c->vm;
	return r;
}

static int take_clone(struct engine *e, struct slot *failed, struct failover *f, uint32_t *ret_vm,
		      bool *ret_over, struct err *err)
{
	uint32_t clone;
	int r = choose_name(e, f, err);

	if (r >= 0)
		r = make(e, failed, f, &clone, ret_over, err);
	return r < 0 ? r : start_clone(e, failed, f->vm_used, clone, ret_vm, ret_over, err);
}

/* ---- all of them ---- */

int failover_take(struct engine *e, struct slot *failed, struct failover *f, uint32_t *ret_vm,
		  bool *ret_over, struct err *err)
{
	switch (f->way) {
	case WAY_RUNS:
		return take_running(e, f, ret_vm, err);
	case WAY_START:
		return take_stopped(e, failed, f, ret_vm, ret_over, err);
	case WAY_CLONE:
		return take_clone(e, failed, f, ret_vm, ret_over, err);
	case WAY_NONE:
		break;
	}
	return err_set(err, EINVAL, "nothing is to be done with it");
}

/* What was begun of making it is finished, or undone, by then. */
static int find_clone(struct engine *e, struct slot *failed, const struct failover *f,
		      uint32_t *ret, struct err *err)
{
	cleanup(clone_list_unref_p) struct clone_list *list = NULL;
	struct pair pair;
	int r = pair_begin(e, failed, f->vm_used, &pair, err);

	if (r < 0)
		return r;
	pair_end(e, &pair);
	list = engine_clones(e);
	for (size_t i = 0; i < list->n; i++) {
		if (list->clones[i]->snapshot != f->snapshot ||
		    !streq(list->clones[i]->name, f->replacement))
			continue;
		*ret = list->clones[i]->id;
		return 0;
	}
	return err_set(err, ENOENT, "the clone '%s' was not made", f->replacement);
}

int failover_take_again(struct engine *e, struct slot *failed, struct failover *f,
			uint32_t *ret_vm, bool *ret_over, struct err *err)
{
	uint32_t clone;
	int r;

	if (f->way == WAY_START)
		return take_stopped(e, failed, f, ret_vm, ret_over, err);
	r = f->way == WAY_CLONE && f->replacement[0] ? find_clone(e, failed, f, &clone, err)
						     : err_set(err, ENOENT, "nothing was made");
	return r < 0 ? r : start_clone(e, failed, f->vm_used, clone, ret_vm, ret_over, err);
}
