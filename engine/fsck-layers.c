/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The chains of a VM: are the files there, are the headers whole, do they say the same
 * as libvirt's metadata of the snapshots? */
#include "engine/fsck.h"

#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/frozen.h"
#include "engine/own-mount.h"

#include <errno.h>
#include <fcntl.h>

/* A chain that is walked. */
struct walk {
	struct fsck *f;
	const char *of; /* "web1: vda" */
	vec_of(struct layer_file) layers; /* down to here */
};

static void walk_clear(struct walk *w)
{
	for (size_t i = 0; i < w->layers.n; i++)
		layer_file_clear(&w->layers.at[i]);
	vec_free(&w->layers);
}

static bool walk_has(const struct walk *w, const struct layer_file *file)
{
	for (size_t i = 0; i < w->layers.n; i++)
		if (layer_file_same(&w->layers.at[i], file))
			return true;
	return false;
}

/* ---- one layer ---- */

/* True at the first time. */
static bool is_new(struct fsck *f, const struct layer_file *file)
{
	for (size_t i = 0; i < f->seen.n; i++)
		if (layer_file_same(&f->seen.at[i], file))
			return false;
	layer_file_copy(vec_add(&f->seen), file);
	return true;
}

static void judge_header(const struct walk *w, const char *path, const struct qcow2_header *h)
{
	if (h->corrupt)
		fsck_by_hand(w->f, "shut off what uses it, copy it, and qemu-img check -r all",
			     "%s: %s says of itself that it is corrupt", w->of, path);
	/* QEMU sets it while it writes, with lazy refcounts. */
	else if (h->dirty && file_check_unused(path, NULL) >= 0)
		fsck_by_hand(w->f, "qemu-img check -r all, with everything off that uses it",
			     "%s: %s was not closed properly", w->of, path);
	if (h->backing_file && h->backing_file[0] && !h->backing_format)
		fsck_by_hand(w->f, "qemu-img rebase -u with -b and -F, with everything off that uses it",
			     "%s: %s does not say of which format its backing file is", w->of, path);
}

static void judge_qcow2(const struct walk *w, const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct qcow2_header *h = NULL;
	struct err err = ERR_INIT;

	if (fd < 0)
		err_sys(&err, errno, "cannot open %s", path);
	else if (qcow2_header_read(fd, path, &h, &err) >= 0)
		judge_header(w, path, h);
	if (err.code)
		fsck_by_hand(w->f, "put it back from a backup, or see what qemu-img check says",
			     "%s: %s", w->of, err.msg);
	qcow2_header_free(h);
}

static void judge_raw(const struct walk *w, const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char magic[4];

	if (fd >= 0 && pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	    memcmp(magic, "QFI\xfb", sizeof(magic)) == 0)
		fsck_by_hand(w->f, "if it is one: qemu-img rebase -u -F qcow2 of what lies on it, or "
				   "virsh edit", "%s: %s is named as raw and looks like a qcow2", w->of,
			     path);
}

/* ---- a chain ---- */

static void walk_down(struct walk *w, const char *path, const char *format)
{
	cleanup_free char *at = xstrdup(path), *as = xstrdup(format ?: "raw");

	while (at && !own_mount_has(at)) {
		cleanup_free char *this = steal_pointer(&at), *this_format = steal_pointer(&as);
		struct layer_file file;
		struct err err = ERR_INIT;

		if (layer_file_stat(this, this_format, &file, &err) < 0) {
			fsck_by_hand(w->f, "put the file back; what is left of the chain without it is not "
					   "whole", "%s: %s", w->of, err.msg);
			return;
		}
		if (walk_has(w, &file)) {
			fsck_by_hand(w->f, "qemu-img rebase -u onto what it was made on",
				     "%s: %s lies on itself", w->of, this);
			layer_file_clear(&file);
			return;
		}
		vec_push(&w->layers, file);
		if (!is_new(w->f, &file))
			return; /* of it, and of all under it, everything has been said */
		if (streq(this_format, "qcow2"))
			judge_qcow2(w, this);
		else
			judge_raw(w, this);
		if (layer_backing(this, this_format, &at, &as, NULL) < 0)
			return; /* that has been said */
		if (!as)
			as = xstrdup("raw");
	}
}

static void check_chain(struct fsck *f, const char *of, const char *path, const char *format)
{
	cleanup(walk_clear) struct walk w = { .f = f, .of = of };

	walk_down(&w, path, format);
}

static bool is_kept(const struct xml_disk *d)
{
	return d->path && (streq(d->device, "disk") || streq(d->device, "lun"));
}

static void check_disks(struct visit *v, const struct domain_xml *domain)
{
	for (size_t i = 0; domain && i < domain->n_disks; i++) {
		const struct xml_disk *d = &domain->disks[i];
		cleanup_free char *of = xasprintf("%s: %s", v->domain->name, d->target);

		if (is_kept(d))
			check_chain(v->f, of, d->path, d->format);
	}
}

void fsck_layers(struct visit *v)
{
	check_disks(v, v->live);
	check_disks(v, v->config);
	for (size_t i = 0; i < v->snapshots.n; i++) {
		const struct snapshot_xml *x = v->snapshots.at[i].snapshot;

		for (size_t d = 0; x->external && d < x->n_disks; d++) {
			cleanup_free char *of =
				xasprintf("%s/%s: %s", v->domain->name, x->name, x->disks[d].target);
			cleanup(snapshot_disk_clear) struct snapshot_disk frozen = { 0 };

			if (!x->disks[d].frozen)
				continue;
			frozen = frozen_layer(&x->disks[d]);
			check_chain(v->f, of, frozen.path, frozen.format);
		}
	}
}

/* ---- a snapshot and its parent ---- */

static const struct snapshot_xml *snapshot_of(const struct visit *v, const char *name)
{
	for (size_t i = 0; i < v->snapshots.n; i++)
		if (streq(v->snapshots.at[i].snapshot->name, name))
			return v->snapshots.at[i].snapshot;
	return NULL;
}

enum lies { LIES_ON_IT, LIES_ELSEWHERE, CANNOT_TELL };

/* Whether the chain of `path` goes through `below`. */
static enum lies goes_through(const char *path, const char *format, const struct layer_file *below)
{
	cleanup_free char *at = xstrdup(path), *as = xstrdup(format);

	for (int depth = 0; at && depth < CHAIN_MAX_LAYERS; depth++) {
		cleanup_free char *this = steal_pointer(&at), *this_format = steal_pointer(&as);

		if (own_mount_has(this))
			return CANNOT_TELL;
		if (layer_file_is_at(below, this))
			return LIES_ON_IT;
		if (access(this, F_OK) < 0 ||
		    layer_backing(this, this_format ?: "raw", &at, &as, NULL) < 0)
			return CANNOT_TELL;
	}
	return at ? CANNOT_TELL : LIES_ELSEWHERE;
}

static enum lies disk_goes_through(const struct xml_snapshot_disk *child,
				   const struct xml_snapshot_disk *parent)
{
	cleanup(snapshot_disk_clear) struct snapshot_disk above = frozen_layer(child);
	cleanup(snapshot_disk_clear) struct snapshot_disk below = frozen_layer(parent);
	struct layer_file file = { 0 };
	enum lies lies = CANNOT_TELL;

	if (above.path && below.path && layer_file_stat(below.path, "", &file, NULL) >= 0)
		lies = goes_through(above.path, above.format, &file);
	layer_file_clear(&file);
	return lies;
}

static void check_descent(struct visit *v, const struct snapshot_xml *child,
			  const struct snapshot_xml *parent)
{
	for (size_t c = 0; c < child->n_disks; c++)
		for (size_t p = 0; p < parent->n_disks; p++)
			if (child->disks[c].frozen && parent->disks[p].frozen &&
			    streq(child->disks[c].target, parent->disks[p].target) &&
			    disk_goes_through(&child->disks[c], &parent->disks[p]) == LIES_ELSEWHERE)
				fsck_by_hand(v->f, "nothing, if the chain was changed by hand: what the "
						   "snapshot holds is what its layers hold",
					     "%s/%s: %s: its chain does not go through the layer of its "
					     "parent '%s'", v->domain->name, child->name,
					     child->disks[c].target, parent->name);
}

static void check_parent(struct visit *v, const struct snapshot_xml *x)
{
	static const char remedy[] = "make it one without a parent";
	const struct snapshot_xml *parent = snapshot_of(v, x->parent);
	struct err why = ERR_INIT;

	if (parent && parent->external && x->external)
		check_descent(v, x, parent);
	if (!x->parent || parent ||
	    !fsck_mendable(v->f, remedy, "%s/%s: its parent '%s' is not there", v->domain->name,
			   x->name, x->parent))
		return;
	fsck_mended(v->f, remedy, metadata_set_parent(v->f->e, v->slot, x->name, "", &why), &why);
}

/* ---- the layer that was frozen, as libvirt has it and as the images do ---- */

static int write_frozen(struct visit *v, const char *name, const char *from,
			const struct snapshot_disk *to, struct err *err)
{
	struct xml_rename rename = { .from = from, .to = to->path, .format = to->format };
	struct snapshot_edit edit = { .renames = &rename, .n_renames = 1 };
	struct engine *e = v->f->e;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->snapshot_xml(e->hv, v->domain->uuid, name, &xml, err);

	return r < 0 ? r : metadata_redefine(e, v->slot, xml, &edit, false, err);
}

static void check_frozen(struct visit *v, const struct snapshot_xml *x)
{
	static const char remedy[] = "tell libvirt what the images say";

	for (size_t i = 0; x->external && i < x->n_disks; i++) {
		const struct xml_snapshot_disk *d = &x->disks[i];
		cleanup(snapshot_disk_clear) struct snapshot_disk frozen = { 0 };
		struct err why = ERR_INIT;

		if (!d->frozen)
			continue;
		frozen = frozen_layer(d);
		if (streq(frozen.path, d->frozen) ||
		    !fsck_mendable(v->f, remedy, "%s/%s: %s: libvirt has it that %s was frozen, and it "
				   "was %s", v->domain->name, x->name, d->target, d->frozen,
				   frozen.path))
			continue;
		fsck_mended(v->f, remedy, write_frozen(v, x->name, d->frozen, &frozen, &why), &why);
	}
}

void fsck_snapshots(struct visit *v)
{
	for (size_t i = 0; i < v->snapshots.n; i++) {
		check_parent(v, v->snapshots.at[i].snapshot);
		check_frozen(v, v->snapshots.at[i].snapshot);
	}
}
