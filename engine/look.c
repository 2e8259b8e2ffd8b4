/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libvirt says about a domain, made into the struct vm that is published.
 *
 * libvirt sends events for domains, but none for snapshots. So whoever lists a
 * VM looks: three cheap calls (state, snapshot names, disks). Taking, reverting
 * or merging an external snapshot always changes a disk's source, so as long as
 * the disks are what they were, a snapshot that is known is not read again;
 * its XML is the expensive part, about .15 ms each. The first look begins with what
 * an earlier process knew (remembered.h).
 *
 * A look is never thrown across an operation: `exclusive` keeps looks away
 * while the tree is in flux, and an operation waits for one that runs.
 *
 * Snapshots that hold internal parts are left alone and not shown; children of
 * one that is not shown belong to the nearest ancestor that is.
 */
#include "common/timespec.h"
#include "engine/core.h"
#include "engine/foundation.h"
#include "engine/frozen.h"
#include "engine/look-domain.h"
#include "engine/own-mount.h"
#include "engine/remembered.h"

#include <errno.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct snapshot_xml, snapshot_xml_free);

/* One snapshot of libvirt's while it is being looked at. */
struct sight {
	char *name;
	char *parent; /* name, NULL if none */
	bool shown;
	struct snapshot snapshot;
};

/* What one look works with. */
struct view {
	struct engine *e;
	struct slot *slot;
	struct vm *old; /* NULL at the first look, if nothing is remembered */
	struct registry_seen old_seen, seen; /* what is kept with that, and with the new one */
	struct registry_snapshot *rows; /* by name */
	size_t n_rows;
	vec_of(struct sight) sights; /* by name */
	char *current; /* name */
	struct domain_xml *domain;
	bool thorough; /* read every snapshot anew */
	bool merged;   /* we have just given snapshots other files */
	bool new_ids;  /* the registry has given some, and may yet forget them */
	struct vm *vm;
};

static void view_clear(struct view *v)
{
	for (size_t i = 0; i < v->sights.n; i++) {
		free(v->sights.at[i].name);
		free(v->sights.at[i].parent);
		snapshot_clear(&v->sights.at[i].snapshot);
	}
	vec_free(&v->sights);
	registry_snapshots_free(v->rows, v->n_rows);
	free(v->current);
	registry_seen_clear(&v->seen);
	registry_seen_clear(&v->old_seen);
	domain_xml_free(v->domain);
	vm_unref(v->old);
	vm_unref(v->vm);
}

/* ---- one snapshot ---- */

static struct snapshot_disk snapshot_disk_copy(const struct snapshot_disk *d)
{
	return (struct snapshot_disk){ xstrdup(d->target), xstrdup(d->path), xstrdup(d->format) };
}

static void snapshot_copy(struct snapshot *to, const struct snapshot *from)
{
	*to = *from;
	to->name = xstrdup(from->name);
	to->description = xstrdup(from->description);
	to->disks = xcalloc(from->n_disks, sizeof(*to->disks));
	for (size_t d = 0; d < from->n_disks; d++)
		to->disks[d] = snapshot_disk_copy(&from->disks[d]);
}

static int row_by_name(const void *name, const void *row)
{
	return strcmp(name, ((const struct registry_snapshot *)row)->name);
}

static const struct registry_snapshot *row_of(const struct view *v, const char *name)
{
	return v->n_rows ? bsearch(name, v->rows, v->n_rows, sizeof(*v->rows), row_by_name) : NULL;
}

/* Of one that others made only the second is known; it is later than its parent. */
static struct timespec moment(const struct view *v, const struct snapshot_xml *x)
{
	const struct registry_snapshot *parent = x->parent ? row_of(v, x->parent) : NULL;
	struct timespec t = { .tv_sec = x->created };

	if (parent && parent->created.tv_sec == t.tv_sec)
		t.tv_nsec = parent->created.tv_nsec;
	return t;
}

/* Finds or makes the registry's row, and takes what it alone knows. */
static int match_row(struct view *v, const struct snapshot_xml *x, const char *xml,
		     struct snapshot *s, struct err *err)
{
	const struct registry_snapshot *row = row_of(v, x->name);
	struct registry_snapshot fresh = { .name = x->name, .xml = (char *)xml,
					   .created = moment(v, x) };
	int r;

	if (row && row->created.tv_sec == x->created) {
		s->id = row->id;
		s->created = row->created;
		s->consistency = row->consistency;
		s->pinned = row->pinned;
		s->expires = row->expires;
		return registry_snapshot_set_xml(v->e->registry, row->id, xml, err);
	}
	/* Another snapshot of the same name: it must not inherit id and pin. */
	if (row) {
		r = registry_snapshot_forget(v->e->registry, row->id, err);
		if (r < 0)
			return r;
	}
	fresh.consistency = streq(x->state, "shutoff") ? CONSISTENCY_OFFLINE : CONSISTENCY_UNKNOWN;
	r = registry_snapshot_put(v->e->registry, v->slot->id, &fresh, err);
	if (r < 0)
		return r;
	v->new_ids = true;
	s->id = fresh.id;
	s->created = fresh.created;
	s->consistency = fresh.consistency;
	return 0;
}

/* 0 if libvirt did not keep it. */
static size_t domain_length(const char *snapshot_xml)
{
	cleanup_free char *domain = NULL;

	return snapshot_xml_domain(snapshot_xml, &domain, NULL) < 0 ? 0 : strlen(domain);
}

static const struct snapshot_disk *disk_of(const struct snapshot *s, const char *target)
{
	for (size_t i = 0; i < s->n_disks; i++)
		if (streq(s->disks[i].target, target))
			return &s->disks[i];
	return NULL;
}

static const char *overlay_of(const struct snapshot_xml *x, const char *target)
{
	for (size_t i = 0; i < x->n_disks; i++)
		if (streq(x->disks[i].target, target))
			return x->disks[i].overlay;
	return NULL;
}

/* The snapshot's XML as it was seen last; NULL if there is none. */
static struct snapshot_xml *known_xml(const struct view *v, uint32_t id)
{
	cleanup_free char *xml = NULL;
	struct snapshot_xml *x = NULL;

	if (registry_snapshot_xml(v->e->registry, id, &xml, NULL) >= 0)
		snapshot_xml_parse(xml, &x, NULL);
	return x;
}

/* What was frozen does not move, but by a merge of ours. If the metadata name a layer that
 * lies under the one that they named before, with the same overlay on it, libvirt has
 * written into a child that it was made of the layer of a parent that it has forgotten, and
 * the overlay is gone that would know better (frozen.h): so what was known is right. */
static void keep_frozen(const struct view *v, const struct snapshot_xml *x, struct snapshot *s)
{
	const struct registry_snapshot *row = row_of(v, x->name);
	const struct snapshot *known = v->old && row ? vm_snapshot(v->old, row->id) : NULL;

	if (!known || row->created.tv_sec != x->created || v->merged)
		return;
	for (size_t i = 0; i < s->n_disks; i++) {
		const struct snapshot_disk *was = disk_of(known, s->disks[i].target);
		cleanup(snapshot_xml_free_p) struct snapshot_xml *before = NULL;

		if (!was || !is_forgotten_parents(was, &s->disks[i]))
			continue;
		before = known_xml(v, row->id);
		if (!before || !streq(overlay_of(before, was->target), overlay_of(x, was->target)))
			continue;
		snapshot_disk_clear(&s->disks[i]);
		s->disks[i] = snapshot_disk_copy(was);
	}
}

static int see_snapshot(struct view *v, struct sight *sight, struct err *err)
{
	cleanup_free char *xml = NULL;
	cleanup(snapshot_xml_free_p) struct snapshot_xml *x = NULL;
	struct snapshot *s = &sight->snapshot;
	int r;

	r = v->e->hv->ops->snapshot_xml(v->e->hv, v->slot->uuid, sight->name, &xml, err);
	if (r >= 0)
		r = snapshot_xml_parse(xml, &x, err);
	if (r < 0)
		return r;
	sight->parent = xstrdup(x->parent);
	sight->shown = x->external;
	if (!sight->shown)
		return 0;

	s->name = xstrdup(x->name);
	s->description = xstrdup(x->description);
	s->domain_length = domain_length(xml);
	s->disks = xcalloc(x->n_disks, sizeof(*s->disks));
	for (size_t i = 0; i < x->n_disks; i++) {
		if (x->disks[i].frozen)
			s->disks[s->n_disks++] = frozen_layer(&x->disks[i]);
	}
	keep_frozen(v, x, s);
	return match_row(v, x, xml, s, err);
}

static int sight_by_name(const void *name, const void *sight)
{
	return strcmp(name, ((const struct sight *)sight)->name);
}

static struct sight *sight_of(struct view *v, const char *name)
{
	if (!name || v->sights.n == 0)
		return NULL;
	return bsearch(name, v->sights.at, v->sights.n, sizeof(*v->sights.at), sight_by_name);
}

/* Takes a snapshot over from the last look, with its parent as a name again. */
static bool see_again(struct view *v, struct sight *sight)
{
	const struct registry_snapshot *row = row_of(v, sight->name);
	const struct snapshot *known = v->old && row ? vm_snapshot(v->old, row->id) : NULL;
	const struct snapshot *parent;

	if (v->thorough || !known || !streq(known->name, sight->name))
		return false;
	parent = vm_snapshot(v->old, known->parent);
	/* A snapshot that is gone took its children's parent with it, and, if it was
	 * virsh that deleted it, wrote into their metadata: see delete.c. */
	if (parent && !sight_of(v, parent->name))
		return false;
	snapshot_copy(&sight->snapshot, known);
	sight->snapshot.pinned = row->pinned;
	sight->snapshot.expires = row->expires;
	sight->parent = xstrdup(parent ? parent->name : NULL);
	sight->shown = true;
	return true;
}

/* ---- all of them ---- */

static const struct sight *nearest_shown(struct view *v, const char *name)
{
	struct sight *s = sight_of(v, name);

	for (size_t depth = 0; s && !s->shown && depth <= v->sights.n; depth++)
		s = sight_of(v, s->parent);
	return s && s->shown ? s : NULL;
}

static int by_name(const void *a, const void *b)
{
	const struct sight *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int see_names(struct view *v, struct err *err)
{
	char **names = NULL;
	size_t n = 0;
	int r;

	r = v->e->hv->ops->snapshots(v->e->hv, v->slot->uuid, &names, &n, &v->current, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		vec_add(&v->sights)->name = names[i];
	free(names);
	if (n)
		qsort(v->sights.at, v->sights.n, sizeof(*v->sights.at), by_name);
	return 0;
}

static int see_snapshots(struct view *v, struct err *err)
{
	int r = see_names(v, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < v->sights.n; i++) {
		if (see_again(v, &v->sights.at[i]))
			continue;
		r = see_snapshot(v, &v->sights.at[i], err);
		if (r == -ENOENT) /* deleted between the two calls */
			r = 0;
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < v->n_rows; i++) {
		struct sight *s = sight_of(v, v->rows[i].name);

		if (s && s->shown)
			continue;
		r = registry_snapshot_forget(v->e->registry, v->rows[i].id, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int see_disks(struct view *v, struct err *err)
{
	cleanup_free char *xml = NULL;
	cleanup_fclose FILE *text = NULL;
	const struct domain_xml *d;
	size_t size;
	int r;

	r = v->e->hv->ops->domain_xml(v->e->hv, v->slot->uuid, false, &xml, err);
	if (r >= 0)
		r = domain_xml_parse(xml, &v->domain, err);
	if (r < 0)
		return r;
	d = v->domain;
	text = open_memstream(&v->seen.sources, &size);
	for (size_t i = 0; i < d->n_disks; i++)
		fprintf(text, "%s=%s\n", d->disks[i].target, d->disks[i].path ?: "");
	return 0;
}

/* Takes the paths over. */
static void set_foundations(struct view *v, char **paths, size_t n)
{
	LOCK_SCOPE(&v->e->lock);

	for (size_t i = 0; i < v->slot->foundations.n; i++)
		free(v->slot->foundations.at[i]);
	vec_free(&v->slot->foundations);
	for (size_t i = 0; i < n; i++)
		vec_push(&v->slot->foundations, paths[i]);
}

/* What the disks lie on, if that is in this mount. It changes only with a source. */
static void see_foundations(struct view *v)
{
	size_t size;
	cleanup_fclose FILE *text = open_memstream(&v->seen.foundations, &size);
	vec_of(char *) found = { 0 };

	for (size_t i = 0; i < v->domain->n_disks; i++) {
		const struct xml_disk *disk = &v->domain->disks[i];
		char *inside = disk->path ? foundation_of(disk->path, disk->format) : NULL;

		if (inside)
			vec_push(&found, inside);
	}
	for (size_t i = 0; i < found.n; i++)
		fprintf(text, "%s\n", found.at[i]);
	set_foundations(v, found.at, found.n);
	vec_free(&found);
}

/* The same as an earlier process found it. */
static void recall_foundations(struct view *v)
{
	cleanup_free char *text = xstrdup(v->old_seen.foundations);
	vec_of(char *) found = { 0 };
	char *rest = NULL;

	v->seen.foundations = xstrdup(v->old_seen.foundations);
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		vec_push(&found, xstrdup(line));
	set_foundations(v, found.at, found.n);
	vec_free(&found);
}

/* What the VM writes to. It changes only with a source, too. */
static void see_written(struct view *v)
{
	vec_of(struct layer_file) found = { 0 };

	for (size_t i = 0; i < v->domain->n_disks; i++) {
		const struct xml_disk *disk = &v->domain->disks[i];
		struct layer_file file;

		if (!disk->readonly && disk->path && !own_mount_has(disk->path) &&
		    layer_file_stat(disk->path, disk->format ?: "raw", &file, NULL) >= 0)
			vec_push(&found, file);
	}
	LOCK_SCOPE(&v->e->lock);
	for (size_t i = 0; i < v->slot->written.n; i++)
		layer_file_clear(&v->slot->written.at[i]);
	vec_free(&v->slot->written);
	for (size_t i = 0; i < found.n; i++)
		vec_push(&v->slot->written, found.at[i]);
	vec_free(&found);
}

/* ---- the result ---- */

static int oldest_first(const void *a, const void *b)
{
	const struct snapshot *x = a, *y = b;

	int order = timespec_compare(&x->created, &y->created);

	if (order)
		return order;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void build_vm(struct view *v, const struct hv_domain *domain, const struct registry_vm *row)
{
	struct vm *vm = xnew(struct vm);
	const struct sight *current;

	vm->refs = 1;
	vm->id = v->slot->id;
	memcpy(vm->uuid, v->slot->uuid, sizeof(vm->uuid));
	vm->name = xstrdup(domain->name);
	vm->state = domain->state;
	vm->active = domain->active;
	vm->crashed = domain->crashed;
	vm->uid = row->uid;
	vm->gid = row->gid;
	vm->mode = row->mode;
	vm->quiesce = row->quiesce;

	current = nearest_shown(v, v->current);
	vm->current = current ? current->snapshot.id : 0;
	for (size_t i = 0; i < v->sights.n; i++) {
		struct sight *s = &v->sights.at[i];
		const struct sight *parent = s->shown ? nearest_shown(v, s->parent) : NULL;

		s->snapshot.parent = parent ? parent->snapshot.id : 0;
	}
	vm->snapshots = xcalloc(v->sights.n, sizeof(*vm->snapshots));
	for (size_t i = 0; i < v->sights.n; i++) {
		if (!v->sights.at[i].shown)
			continue;
		vm->snapshots[vm->n_snapshots++] = v->sights.at[i].snapshot;
		memset(&v->sights.at[i].snapshot, 0, sizeof(struct snapshot));
	}
	qsort(vm->snapshots, vm->n_snapshots, sizeof(*vm->snapshots), oldest_first);
	look_at_definition(vm, v->domain, v->thorough ? NULL : v->old);
	v->vm = vm;
}

static bool same_snapshots(const struct vm *a, const struct vm *b)
{
	if (a->n_snapshots != b->n_snapshots)
		return false;
	for (size_t i = 0; i < a->n_snapshots; i++) {
		const struct snapshot *x = &a->snapshots[i], *y = &b->snapshots[i];

		if (x->id != y->id || x->parent != y->parent || x->pinned != y->pinned ||
		    x->expires != y->expires || x->n_disks != y->n_disks || !streq(x->name, y->name) ||
		    !streq(x->description, y->description) || x->domain_length != y->domain_length)
			return false;
		for (size_t d = 0; d < x->n_disks; d++)
			if (!streq(x->disks[d].path, y->disks[d].path))
				return false;
	}
	return true;
}

static bool same_disks(const struct vm *a, const struct vm *b)
{
	if (a->n_disks != b->n_disks)
		return false;
	for (size_t i = 0; i < a->n_disks; i++)
		if (!streq(a->disks[i].target, b->disks[i].target) ||
		    !streq(a->disks[i].path, b->disks[i].path) ||
		    !streq(a->disks[i].format, b->disks[i].format) ||
		    a->disks[i].size != b->disks[i].size)
			return false;
	return true;
}

static bool same_vm(const struct vm *a, const struct vm *b)
{
	return streq(a->name, b->name) && streq(a->state, b->state) && a->crashed == b->crashed &&
	       a->uid == b->uid && a->gid == b->gid && a->mode == b->mode &&
	       a->quiesce == b->quiesce && a->current == b->current && same_snapshots(a, b) &&
	       same_disks(a, b) && feature_set_same(&a->features, &b->features);
}

/* The moment when the list last changed; at the first look, the newest snapshot's. */
static struct timespec when_changed(const struct vm *old, const struct vm *now)
{
	struct timespec t = { 0 };

	if (old && same_snapshots(old, now))
		return old->changed;
	if (!old && now->n_snapshots)
		return now->snapshots[now->n_snapshots - 1].created;
	clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

static int finish(struct view *v, enum look how, struct err *err)
{
	struct engine *e = v->e;
	bool same = v->old && same_vm(v->old, v->vm);
	int r;

	v->vm->changed = when_changed(v->old, v->vm);
	v->seen.changed = v->vm->changed;
	r = remember_vm(e, v->vm, &v->seen, v->old, &v->old_seen, v->new_ids, err);
	if (r < 0)
		return r;
	if (!same)
		slot_publish(e, v->slot, steal_pointer(&v->vm));
	if (!same || v->thorough)
		measure_later(e, v->slot);
	LOCK_SCOPE(&e->lock);
	free(v->slot->seen);
	v->slot->seen = steal_pointer(&v->seen.sources);
	v->slot->unverified = !v->thorough && (v->slot->unverified || how == LOOK_START);
	pthread_cond_broadcast(&e->changed);
	clock_gettime(CLOCK_MONOTONIC, &v->slot->looked);
	return 0;
}

/* The lock is held. */
static char *foundations_text(const struct slot *s)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (size_t i = 0; i < s->foundations.n; i++)
		fprintf(out, "%s\n", s->foundations.at[i]);
	fclose(out);
	return text;
}

/* What the last look knew, of this process or of the one before. */
static void know_old(struct view *v)
{
	struct engine *e = v->e;

	if (!v->old) {
		v->old = remembered_vm(e, v->slot, &v->old_seen);
		return;
	}
	LOCK_SCOPE(&e->lock);

	v->old_seen.sources = xstrdup(v->slot->seen);
	v->old_seen.foundations = foundations_text(v->slot);
}

static bool has_other_disks(const struct view *v)
{
	return !streq(v->old_seen.sources, v->seen.sources);
}

/* Where the disks lie, and on what. */
static void see_below(struct view *v)
{
	if (v->thorough || has_other_disks(v))
		see_foundations(v);
	else
		recall_foundations(v);
	see_written(v);
}

static bool is_thorough(const struct view *v, enum look how)
{
	bool other_disks = has_other_disks(v);
	LOCK_SCOPE(&v->e->lock);

	if (how == LOOK_START)
		return other_disks;
	return how == LOOK_ALL || how == LOOK_MERGED || v->slot->unverified || (how == LOOK_AUTO && other_disks);
}

/* Asks for the domain, unless it was listed just now. The caller frees the name. */
static int find_domain(struct engine *e, const struct slot *s, const struct hv_domain *listed,
		       struct hv_domain *ret, struct err *err)
{
	if (!listed)
		return e->hv->ops->lookup(e->hv, s->uuid, ret, err);
	*ret = *listed;
	ret->name = xstrdup(listed->name);
	return 0;
}

int look(struct engine *e, struct slot *s, enum look how, struct err *err)
{
	return look_at_listed(e, s, NULL, how, err);
}

int look_at_listed(struct engine *e, struct slot *s, const struct hv_domain *listed, enum look how,
		   struct err *err)
{
	cleanup(view_clear) struct view v = { .e = e, .slot = s };
	struct hv_domain domain = { 0 };
	struct registry_vm row;
	bool unsettled;
	int r;

	pthread_mutex_lock(&e->lock);
	unsettled = s->unsettled;
	pthread_mutex_unlock(&e->lock);
	if (unsettled)
		return 0; /* half of an operation must not be taken for what is */

	v.old = slot_view(e, s);
	r = find_domain(e, s, listed, &domain, err);
	if (r == -ENOENT) {
		if (v.old)
			slot_publish(e, s, NULL);
		return 0;
	}
	if (r < 0)
		return r;
	r = see_disks(&v, err);
	if (r >= 0)
		r = registry_snapshots(e->registry, s->id, &v.rows, &v.n_rows, err);
	if (r >= 0) {
		know_old(&v);
		v.thorough = is_thorough(&v, how);
		v.merged = how == LOOK_MERGED;
		see_below(&v);
		r = see_snapshots(&v, err);
	}
	if (r >= 0) {
		pthread_mutex_lock(&e->lock);
		row = s->row;
		pthread_mutex_unlock(&e->lock);
		build_vm(&v, &domain, &row);
		r = finish(&v, how, err);
	}
	free(domain.name);
	return r < 0 ? r : 0;
}
