/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registry against libvirt and the files: snapshots, tombstones, VMs. */
#include "engine/fsck.h"

#include "engine/backing.h"
#include "engine/overlay.h"
#include "engine/own-mount.h"

#include <errno.h>

/* ---- snapshots ---- */

static bool libvirt_has(const struct visit *v, const struct registry_snapshot *row)
{
	for (size_t i = 0; i < v->snapshots.n; i++) {
		const struct snapshot_xml *x = v->snapshots.at[i].snapshot;

		if (streq(x->name, row->name) && x->created == row->created.tv_sec)
			return true;
	}
	return false;
}

static int check_rows(struct visit *v, struct err *err)
{
	static const char remedy[] = "forget its pin, and what else is kept of it";
	struct registry *registry = v->f->e->registry;
	struct registry_snapshot *rows = NULL;
	size_t n = 0;
	int r = registry_snapshots(registry, v->id, &rows, &n, err);

	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;

		if (libvirt_has(v, &rows[i]) ||
		    !fsck_mendable(v->f, remedy, "%s/%s: the registry has a snapshot that libvirt has "
				   "not", v->domain->name, rows[i].name))
			continue;
		fsck_mended(v->f, remedy, registry_snapshot_forget(registry, rows[i].id, &why), &why);
	}
	registry_snapshots_free(rows, n);
	return r;
}

/* ---- tombstones ---- */

/* What is wrong with one, NULL if nothing is. */
static const char *judge_grave(const struct tombstone *t)
{
	struct layer_file file;
	const char *wrong = NULL;
	int r = layer_file_stat(t->file.path, t->file.format, &file, NULL);

	if (r == -ENOENT)
		return "is gone";
	if (r < 0)
		return NULL;
	if (!layer_file_same(&file, &t->file))
		wrong = "is another file by now";
	layer_file_clear(&file);
	return wrong;
}

static int check_graves(struct visit *v, struct err *err)
{
	static const char remedy[] = "forget the tombstone";
	struct tombstone *graves = NULL;
	size_t n = 0;
	int r = registry_tombstones(v->f->e->registry, v->id, &graves, &n, err);

	for (size_t i = 0; i < n; i++) {
		const char *wrong = judge_grave(&graves[i]);
		struct err why = ERR_INIT;

		if (!wrong || !fsck_mendable(v->f, remedy, "%s: %s: the layer %s of a deleted snapshot "
					     "%s", v->domain->name, graves[i].target,
					     graves[i].file.path, wrong))
			continue;
		fsck_mended(v->f, remedy,
			    registry_tombstone_drop(v->f->e->registry, graves[i].id, &why), &why);
	}
	tombstones_free(graves, n);
	return r;
}

/* ---- tombstones that were lost ---- */

typedef vec_of(struct layer_file) files_t;

static void files_clear(files_t *files)
{
	for (size_t i = 0; i < files->n; i++)
		layer_file_clear(&files->at[i]);
	vec_free(files);
}

static bool has_file(const files_t *files, const struct layer_file *file)
{
	for (size_t i = 0; i < files->n; i++)
		if (layer_file_same(&files->at[i], file))
			return true;
	return false;
}

/* All that lies under `path`, and it. Stops where it cannot be told: what is below
 * is left alone. */
static void add_chain(files_t *to, const char *path, const char *format)
{
	cleanup_free char *at = xstrdup(path), *as = xstrdup(format ?: "raw");

	while (at && !own_mount_has(at)) {
		cleanup_free char *this = steal_pointer(&at), *this_format = steal_pointer(&as);
		struct layer_file file;

		if (layer_file_stat(this, this_format ?: "raw", &file, NULL) < 0)
			break;
		if (has_file(to, &file)) {
			layer_file_clear(&file);
			break;
		}
		vec_push(to, file);
		if (layer_backing(this, this_format ?: "raw", &at, &as, NULL) < 0)
			break;
	}
}

static void add_disks(files_t *to, const struct domain_xml *d)
{
	for (size_t i = 0; d && i < d->n_disks; i++)
		if (d->disks[i].path)
			add_chain(to, d->disks[i].path, d->disks[i].format);
}

/* Everything that the disks and the snapshots of the VM reach. */
static void add_all(const struct visit *v, files_t *to)
{
	add_disks(to, v->live);
	add_disks(to, v->config);
	for (size_t i = 0; i < v->snapshots.n; i++)
		for (size_t d = 0; d < v->snapshots.at[i].snapshot->n_disks; d++)
			if (v->snapshots.at[i].snapshot->disks[d].frozen)
				add_chain(to, v->snapshots.at[i].snapshot->disks[d].frozen,
					  v->snapshots.at[i].snapshot->disks[d].frozen_format);
}

static bool is_disk_of(const struct domain_xml *d, const struct layer_file *file)
{
	for (size_t i = 0; d && i < d->n_disks; i++)
		if (layer_file_is_at(file, d->disks[i].path))
			return true;
	return false;
}

/* Now, and not only when the evidence was gathered. */
static bool is_disk_or_frozen(const struct visit *v, const struct layer_file *file)
{
	bool found = is_disk_of(v->live, file) || is_disk_of(v->config, file);

	for (size_t i = 0; i < v->snapshots.n && !found; i++) {
		const struct snapshot_metadata *m = &v->snapshots.at[i];

		found = is_disk_of(m->domain, file);
		for (size_t d = 0; d < m->snapshot->n_disks && !found; d++)
			found = layer_file_is_at(file, m->snapshot->disks[d].frozen);
	}
	return found;
}

/* In the middle of a chain, made by us for this VM, and of no snapshot of any VM. */
static bool is_lost(const struct visit *v, const struct layer_file *file,
		    struct overlay_name *ret_name)
{
	const struct layers *l = &v->f->ev.layers;
	size_t i = layers_find(l, file);

	if (i == NO_LAYER || !l->all.at[i].reached || l->all.at[i].top || l->all.at[i].frozen ||
	    is_disk_or_frozen(v, file))
		return false;
	return overlay_name_parse(file->path, ret_name) &&
	       strncmp(ret_name->vm, v->domain->uuid, strlen(ret_name->vm)) == 0;
}

static bool is_buried(const struct tombstone *graves, size_t n, const struct layer_file *file)
{
	for (size_t i = 0; i < n; i++)
		if (layer_file_same(&graves[i].file, file))
			return true;
	return false;
}

static int bury(const struct visit *v, const struct layer_file *file, char *target,
		struct err *err)
{
	struct tombstone t = { .target = target, .file = *file };
	struct registry_change change = { .vm_id = v->id, .bury = &t, .n_bury = 1 };

	t.file.format = (char *)"qcow2"; /* whatever is said of it: we made it */
	return registry_apply(v->f->e->registry, &change, err);
}

static int check_lost_graves(struct visit *v, struct err *err)
{
	static const char remedy[] = "have it merged, as a layer of a deleted snapshot";
	cleanup(files_clear) files_t files = { 0 };
	struct tombstone *graves = NULL;
	bool buried = false;
	size_t n = 0;
	int r = v->id ? registry_tombstones(v->f->e->registry, v->id, &graves, &n, err) : 0;

	add_all(v, &files);
	for (size_t i = 0; i < files.n && r >= 0; i++) {
		struct err why = ERR_INIT;
		struct overlay_name name;
		int done;

		if (!is_lost(v, &files.at[i], &name) || is_buried(graves, n, &files.at[i]) ||
		    !fsck_mendable(v->f, remedy, "%s: %s: the layer %s in the chain is of no snapshot, "
				   "and nobody knows it", v->domain->name, name.target,
				   files.at[i].path))
			continue;
		done = bury(v, &files.at[i], name.target, &why);
		fsck_mended(v->f, remedy, done, &why);
		buried = buried || done >= 0;
	}
	tombstones_free(graves, n);
	if (buried)
		collect_later(v->f->e, v->slot);
	return r;
}

int fsck_records(struct visit *v, struct err *err)
{
	int r = v->id ? check_rows(v, err) : 0;

	if (r >= 0 && v->id)
		r = check_graves(v, err);
	return r < 0 ? r : check_lost_graves(v, err);
}

/* ---- VMs that are gone ---- */

static int forget_operations(struct fsck *f, const struct registry_vm_seen *vm, struct err *err)
{
	static const char remedy[] = "forget it: what nobody needs of it is in lost+found then";
	struct journal_op *ops = NULL;
	size_t n = 0;
	int r = journal_open_ops(f->e->registry, vm->id, &ops, &n, err);

	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;

		if (fsck_mendable(f, remedy, "%s: this VM is gone in the middle of an operation (%s)",
				  vm->uuid, ops[i].kind))
			fsck_mended(f, remedy, journal_end(f->e->registry, ops[i].id, &why), &why);
	}
	journal_ops_free(ops, n);
	return r;
}

static int forget_graves(struct fsck *f, const struct registry_vm_seen *vm, struct err *err)
{
	static const char remedy[] = "forget the tombstone";
	struct tombstone *graves = NULL;
	size_t n = 0;
	int r = registry_tombstones(f->e->registry, vm->id, &graves, &n, err);

	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;

		if (fsck_mendable(f, remedy, "%s: this VM is gone, and the layer %s of a deleted snapshot "
				  "of it waits", vm->uuid, graves[i].file.path))
			fsck_mended(f, remedy,
				    registry_tombstone_drop(f->e->registry, graves[i].id, &why), &why);
	}
	tombstones_free(graves, n);
	return r;
}

static int forget_rows(struct fsck *f, const struct registry_vm_seen *vm, struct err *err)
{
	static const char remedy[] = "forget it";
	struct registry_snapshot *rows = NULL;
	size_t n = 0;
	int r = registry_snapshots(f->e->registry, vm->id, &rows, &n, err);

	for (size_t i = 0; i < n; i++) {
		struct err why = ERR_INIT;

		if (fsck_mendable(f, remedy, "%s/%s: the registry has a snapshot of a VM that is gone",
				  vm->uuid, rows[i].name))
			fsck_mended(f, remedy,
				    registry_snapshot_forget(f->e->registry, rows[i].id, &why), &why);
	}
	registry_snapshots_free(rows, n);
	return r;
}

/* Asked anew: it may have been defined since the domains were listed. */
static bool is_gone(struct fsck *f, const char *uuid)
{
	struct hv_domain found = { 0 };
	int r = f->e->hv->ops->lookup(f->e->hv, uuid, &found, NULL);

	free(found.name);
	return r == -ENOENT;
}

int fsck_gone(struct fsck *f, struct err *err)
{
	cleanup_free struct registry_vm_seen *seen = NULL;
	size_t n_seen = 0;
	int r = registry_vms(f->e->registry, &seen, &n_seen, err);

	for (size_t i = 0; i < n_seen && r >= 0; i++) {
		if (!is_gone(f, seen[i].uuid))
			continue;
		r = forget_operations(f, &seen[i], err);
		if (r >= 0)
			r = forget_graves(f, &seen[i], err);
		if (r >= 0)
			r = forget_rows(f, &seen[i], err);
	}
	return r;
}
