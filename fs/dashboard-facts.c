/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/dashboard.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <sys/utsname.h>

DEFINE_CLEANUP(struct orphan_list, orphan_list_unref);
DEFINE_CLEANUP(struct vm_measures, vm_measures_unref);
DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct candidate_list, candidate_list_free);

#define ORPHANS_AGE_MS (10 * 60 * 1000)

/* web2 before web10. */
static int by_name(const void *a, const void *b)
{
	const struct vm_facts *x = a, *y = b;

	return strverscmp(x->vm->name, y->vm->name);
}

/* Its bytes; the snapshots of `m` are nearly always those of the VM, in the same order. */
static uint64_t held_by(const struct vm_measures *m, size_t number, uint32_t id)
{
	size_t at = number;

	if (at >= m->n_snapshots || m->snapshots[at].id != id)
		for (at = 0; at < m->n_snapshots && m->snapshots[at].id != id;)
			at++;
	return at < m->n_snapshots && m->snapshots[at].known ? m->snapshots[at].exclusive :
							       HELD_UNKNOWN;
}

/* What the engine has last seen of the files. */
static void gather_measures(struct engine *e, struct vm_facts *to)
{
	cleanup(vm_measures_unref_p) struct vm_measures *m = engine_vm_measures(e, to->vm->id);

	to->held = xcalloc(to->vm->n_snapshots + 1, sizeof(*to->held));
	for (size_t i = 0; i < to->vm->n_snapshots; i++) {
		to->held[i] = m ? held_by(m, i, to->vm->snapshots[i].id) : HELD_UNKNOWN;
		if (to->held[i] != HELD_UNKNOWN)
			to->held_by_all += to->held[i];
	}
	for (size_t i = 0; m && i < m->n_disks; i++)
		if (m->disks[i].depth > to->depth)
			to->depth = m->disks[i].depth;
}

/* "none" of a VM that has gone meanwhile, too. */
static char *text_knob(struct engine *e, uint32_t vm_id, enum knob k)
{
	enum knob_source source;

	return engine_knob(e, vm_id, k, &source) ?: xstrdup("none");
}

static unsigned number_knob(struct engine *e, uint32_t vm_id, enum knob k)
{
	cleanup_free char *text = text_knob(e, vm_id, k);

	return strtoul(text, NULL, 10);
}

static void gather_vm(struct engine *e, struct vm_facts *to, const struct vm *vm)
{
	to->vm = vm;
	to->folder = vm_dir_name(vm);
	to->last_error = engine_last_error(e, vm->id);
	to->max_depth = number_knob(e, vm->id, KNOB_MAX_DEPTH);
	to->ttl = text_knob(e, vm->id, KNOB_TTL);
	engine_outlook(e, vm->id, &to->outlook);
	engine_job_status(e, vm->id, &to->job);
	gather_measures(e, to);
}

/* ---- pools ---- */

static void count_instances(const struct clone_list *clones, struct pool_facts *p)
{
	for (size_t i = 0; i < clones->n; i++) {
		const struct clone *c = clones->clones[i];
		bool is_current = c->snapshot == p->pool->snapshot;

		p->current += is_current && !c->spare;
		p->outdated += !is_current && !c->spare && c->pool == p->pool->id;
	}
}

static void gather_pools(struct engine *e, struct facts *f)
{
	cleanup(clone_list_unref_p) struct clone_list *clones = engine_clones(e);

	f->pool_list = engine_pools(e);
	f->pools = xcalloc(f->pool_list->n, sizeof(*f->pools));
	for (f->n_pools = 0; f->n_pools < f->pool_list->n; f->n_pools++) {
		struct pool_facts *p = &f->pools[f->n_pools];

		p->pool = &f->pool_list->pools[f->n_pools];
		engine_pool_health(e, p->pool, &p->health);
		count_instances(clones, p);
	}
}

/* ---- recovery ---- */

/* So many comparisons of one VM with another one: the page is not to be waited for. */
#define COMPARISONS_MAX 20000

static bool is_described(const struct vm *vm)
{
	for (size_t i = 0; i < vm->features.n; i++)
		if (vm->features.features[i].source != FEATURE_DOMAIN)
			return true;
	return false;
}

static void gather_successor(struct engine *e, struct vm_facts *to)
{
	cleanup(candidate_list_free_p) struct candidate_list *list = NULL;

	if (engine_candidates(e, to->vm->id, &list, NULL) < 0)
		return;
	to->successor.looked = true;
	for (size_t i = 0; i < list->n; i++) {
		const struct candidate *c = &list->candidates[i];

		if (!c->good || c->objection)
			continue;
		to->successor = (struct successor){ true, xstrdup(c->name), c->similarity, c->way };
		return;
	}
}

static void gather_recovery(struct engine *e, struct facts *f)
{
	size_t most = f->n_vms ? COMPARISONS_MAX / f->n_vms : 0;

	for (size_t i = 0; i < f->n_vms; i++) {
		if (!is_described(f->vms[i].vm))
			continue;
		if (f->n_compared < most)
			gather_successor(e, &f->vms[i]);
		else
			f->n_not_compared++;
		f->n_compared += f->vms[i].successor.looked;
	}
}

/* ---- all of it ---- */

static char *host_name(void)
{
	struct utsname name;

	return xstrdup(uname(&name) == 0 ? name.nodename : "");
}

void facts_gather(struct fs *fs, struct facts *ret)
{
	cleanup(orphan_list_unref_p) struct orphan_list *orphans = engine_orphans(fs->e);
	struct facts f = { .mountpoint = fs->mountpoint, .host = host_name() };

	clock_gettime(CLOCK_REALTIME, &f.now);
	engine_orphans_refresh_later(fs->e, ORPHANS_AGE_MS); /* for the next page */
	f.connected = engine_connected(fs->e);
	f.n_orphans = orphans->n;
	f.orphans_looked = orphans->looked;
	f.orphans_error = engine_orphans_last_error(fs->e);
	f.last_error = engine_last_error(fs->e, 0);
	engine_spaces(fs->e, &f.spaces, &f.n_spaces);
	f.list = engine_vms(fs->e);
	f.n_vms = f.list->n;
	f.vms = xcalloc(f.n_vms + 1, sizeof(*f.vms));
	for (size_t i = 0; i < f.n_vms; i++)
		gather_vm(fs->e, &f.vms[i], f.list->vms[i]);
	qsort(f.vms, f.n_vms, sizeof(*f.vms), by_name);
	gather_pools(fs->e, &f);
	gather_recovery(fs->e, &f);
	*ret = f;
}

void facts_clear(struct facts *f)
{
	for (size_t i = 0; i < f->n_vms; i++) {
		free(f->vms[i].last_error);
		free(f->vms[i].ttl);
		free(f->vms[i].held);
		free(f->vms[i].successor.name);
	}
	for (size_t i = 0; i < f->n_pools; i++)
		free(f->pools[i].health.error);
	free(f->pools);
	pool_list_unref(f->pool_list);
	free(f->vms);
	free(f->host);
	free(f->orphans_error);
	free(f->last_error);
	spaces_free(f->spaces, f->n_spaces);
	vm_list_unref(f->list);
}
