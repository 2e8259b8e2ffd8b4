/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/layers.h"

#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/domain-xml.h"
#include "engine/frozen.h"
#include "engine/metadata.h"
#include "engine/own-mount.h"
#include "engine/qcow2.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>

DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct vm, vm_unref);

/* Why a chain is walked: what its layers are marked with. */
struct reason {
	bool reached, live, foreign;
};

void layers_clear(struct layers *l)
{
	for (size_t i = 0; i < l->all.n; i++)
		layer_file_clear(&l->all.at[i].file);
	vec_free(&l->all);
	free(l->missing);
}

size_t layers_find(const struct layers *l, const struct layer_file *file)
{
	for (size_t i = 0; i < l->all.n; i++)
		if (layer_file_same(&l->all.at[i].file, file))
			return i;
	return NO_LAYER;
}

static bool has_qcow2_magic(int fd)
{
	char magic[4];

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	       memcmp(magic, "QFI\xfb", sizeof(magic)) == 0;
}

/* The layer at `path`, new or known. -ENOENT if there is no such file. */
static int take_layer(struct layers *l, const char *path, const char *format, size_t *ret,
		      struct err *err)
{
	struct layer_file file;
	struct layer *layer;
	size_t i;
	int r = layer_file_stat(path, format, &file, err);

	if (r < 0)
		return r;
	i = layers_find(l, &file);
	if (i != NO_LAYER) {
		layer_file_clear(&file);
		*ret = i;
		return 0;
	}
	layer = vec_add(&l->all);
	layer->file = file;
	layer->backing = layer->overlay = NO_LAYER;
	*ret = l->all.n - 1;
	return 0;
}

static bool already(const struct layer *layer, struct reason why)
{
	return layer->known && layer->reached >= why.reached && layer->live >= why.live &&
	       layer->foreign >= why.foreign;
}

/* An image whose format nobody named may be a qcow2 to a tool that looks. */
static const char *look_for_format(const struct layers *l, const char *path)
{
	cleanup_close int fd = l->of_everybody ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	return fd >= 0 && has_qcow2_magic(fd) ? "qcow2" : "raw";
}

/* A raw one lies on nothing, a CD-ROM that was taken away for example. */
static void note_missing(struct layers *l, const char *path, const char *format, bool own)
{
	if (own && !l->missing && !streq(format, "raw"))
		l->missing = xstrdup(path);
}

static int find_backing(struct layers *l, size_t i, struct err *err)
{
	cleanup_free char *path = NULL, *format = NULL;
	size_t below;
	int r;

	r = layer_backing(l->all.at[i].file.path, l->all.at[i].file.format, &path, &format, err);
	if (r < 0 && l->of_everybody)
		l->all.at[i].unreadable = true;
	else if (r < 0)
		return r;
	l->all.at[i].known = true;
	if (!path)
		return 0;
	if (own_mount_has(path))
		return 0; /* an image of a snapshot: foundation.h */
	r = take_layer(l, path, format ?: look_for_format(l, path), &below, err);
	if (r == -ENOENT) {
		note_missing(l, path, format, l->all.at[i].reached);
		return 0;
	}
	if (r < 0)
		return r;
	l->all.at[i].backing = below;
	l->all.at[below].overlay = i;
	l->all.at[below].n_overlays++;
	return 0;
}

/* Walks down from `path`. *ret_top (may be NULL) is the layer at `path`, or
 * NO_LAYER if there is no such file. */
static int walk(struct layers *l, const char *path, const char *format, struct reason why,
		size_t *ret_top, struct err *err)
{
	size_t i;
	bool is_ours = own_mount_has(path);
	int r = is_ours ? -ENOENT : take_layer(l, path, format, &i, err);

	if (ret_top)
		*ret_top = r < 0 ? NO_LAYER : i;
	if (r == -ENOENT) {
		if (!is_ours)
			note_missing(l, path, format, why.reached);
		return 0;
	}
	if (r < 0)
		return r;
	while (i != NO_LAYER && !already(&l->all.at[i], why)) {
		struct layer *layer = &l->all.at[i];

		layer->reached |= why.reached;
		layer->live |= why.live;
		layer->foreign |= why.foreign;
		if (!layer->known) {
			r = find_backing(l, i, err);
			if (r < 0)
				return r;
		}
		i = l->all.at[i].backing;
	}
	return 0;
}

/* ---- where chains begin ---- */

static int walk_disks(struct layers *l, struct engine *e, const char *uuid, bool config,
		      struct reason why, struct err *err)
{
	cleanup_free char *xml = NULL;
	cleanup(domain_xml_free_p) struct domain_xml *d = NULL;
	int r = e->hv->ops->domain_xml(e->hv, uuid, config, &xml, err);

	if (r == -ENOENT)
		return 0; /* it went since it was listed */
	if (r >= 0)
		r = domain_xml_parse(xml, &d, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < d->n_disks; i++) {
		size_t top;

		if (!d->disks[i].path)
			continue;
		r = walk(l, d->disks[i].path, d->disks[i].format ?: "raw", why, &top, err);
		if (r < 0)
			return err_wrap(err, "disk %s of %s", d->disks[i].target, d->name);
		if (top != NO_LAYER && why.reached)
			l->all.at[top].top = true;
	}
	return 0;
}

static int walk_domain(struct layers *l, struct engine *e, const struct hv_domain *domain, bool own,
		       struct err *err)
{
	struct reason why = { .reached = own, .foreign = !own };
	int r = 0;

	if (domain->active) {
		struct reason now = why;

		now.live = own;
		r = walk_disks(l, e, domain->uuid, false, now, err);
	}
	if (r >= 0 && domain->persistent)
		r = walk_disks(l, e, domain->uuid, true, why, err);
	return r;
}

/* `s` is the VM from whose point of view it is, NULL: everybody's. */
static int walk_domains(struct layers *l, struct engine *e, const struct slot *s, struct err *err)
{
	struct hv_domain *domains = NULL;
	size_t n = 0;
	int r = e->hv->ops->list(e->hv, &domains, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++)
		r = walk_domain(l, e, &domains[i], !s || streq(domains[i].uuid, s->uuid), err);
	hv_domains_free(domains, n);
	return r;
}

static int walk_snapshots(struct layers *l, const struct vm *vm, bool own, struct err *err)
{
	struct reason why = { .reached = own, .foreign = !own };

	for (size_t i = 0; i < vm->n_snapshots; i++) {
		const struct snapshot *s = &vm->snapshots[i];

		for (size_t d = 0; d < s->n_disks; d++) {
			size_t top;
			int r = walk(l, s->disks[d].path, s->disks[d].format, why, &top, err);

			if (r < 0)
				return err_wrap(err, "snapshot '%s' of %s", s->name, vm->name);
			if (top != NO_LAYER && own)
				l->all.at[top].frozen = true;
		}
	}
	return 0;
}

static int walk_all_snapshots(struct layers *l, struct engine *e, const struct slot *s,
			      struct err *err)
{
	struct vm_list *vms = engine_vms(e);
	int r = 0;

	for (size_t i = 0; i < vms->n && r >= 0; i++)
		r = walk_snapshots(l, vms->vms[i], !s || vms->vms[i]->id == s->id, err);
	vm_list_unref(vms);
	return r;
}

/* What clones stand on, wherever their disks are: on a store that is not mounted just now, or
 * left over after somebody undefined them. */
static int walk_cloned(struct layers *l, struct engine *e, struct slot *s, struct err *err)
{
	cleanup(clone_list_unref_p) struct clone_list *clones = engine_clones(e);
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	struct reason why = { .foreign = true };
	int r = 0;

	for (size_t i = 0; vm && i < vm->n_snapshots && r >= 0; i++) {
		const struct snapshot *snapshot = &vm->snapshots[i];
		size_t n;

		clone_list_of(clones, snapshot->id, &n);
		for (size_t d = 0; n && d < snapshot->n_disks && r >= 0; d++)
			r = walk(l, snapshot->disks[d].path, snapshot->disks[d].format, why, NULL, err);
	}
	return r;
}

/* ---- all that libvirt's metadata name ---- */

static int walk_frozen(struct layers *l, const struct xml_snapshot_disk *d, struct reason why,
		       struct err *err)
{
	cleanup(snapshot_disk_clear) struct snapshot_disk frozen = frozen_layer(d);
	size_t top;
	int r = walk(l, frozen.path, frozen.format, why, &top, err);

	if (r >= 0 && top != NO_LAYER && why.reached)
		l->all.at[top].frozen = true;
	/* It is the overlay by which this is known: see frozen.h. */
	if (r >= 0 && !streq(frozen.path, d->frozen))
		r = walk(l, d->overlay, "qcow2", why, NULL, err);
	return r;
}

static int walk_metadata_of(struct layers *l, const struct snapshot_metadata *m,
			    struct reason why, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < m->snapshot->n_disks && r >= 0; i++)
		if (m->snapshot->disks[i].frozen)
			r = walk_frozen(l, &m->snapshot->disks[i], why, err);
	/* An internal snapshot lies in the file that was the disk's then. */
	for (size_t i = 0; m->domain && i < m->domain->n_disks && r >= 0; i++)
		if (m->domain->disks[i].path)
			r = walk(l, m->domain->disks[i].path, m->domain->disks[i].format ?: "raw",
				 why, NULL, err);
	return r < 0 ? err_wrap(err, "snapshot '%s'", m->snapshot->name) : 0;
}

/* What is published of a VM may not be all of it: it waits to be settled, or verified. */
static bool is_published(struct engine *e, const char *uuid)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_uuid(e, uuid);
	return s && s->view && !s->unsettled && !s->unverified;
}

/* Of all, or but for `s` and those that are published. */
static int walk_all_metadata(struct layers *l, struct engine *e, const struct slot *s,
			     struct err *err)
{
	struct reason why = { .reached = !s, .foreign = s };
	struct hv_domain *domains = NULL;
	size_t n = 0;
	int r = e->hv->ops->list(e->hv, &domains, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++) {
		cleanup(snapshots_metadata_clear) snapshots_metadata_t found = { 0 };

		if (s && (streq(domains[i].uuid, s->uuid) || is_published(e, domains[i].uuid)))
			continue;
		r = snapshots_metadata_read(e, domains[i].uuid, &found, err);
		for (size_t m = 0; m < found.n && r >= 0; m++)
			r = walk_metadata_of(l, &found.at[m], why, err);
		if (r < 0)
			err_wrap(err, "%s", domains[i].name);
	}
	hv_domains_free(domains, n);
	return r;
}

/* ---- images that nobody names ---- */

/* An image beside a layer may have it as its backing file without libvirt
 * knowing: made by hand, or the disk of a domain that is undefined just now. */
static int walk_file(struct layers *l, int folder_fd, const char *folder, const char *name,
		     struct err *err)
{
	cleanup_close int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	cleanup_free char *path = xasprintf("%s/%s", folder, name);
	struct reason why = { 0 };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !has_qcow2_magic(fd))
		return 0;
	return walk(l, path, "qcow2", why, NULL, err);
}

static int walk_folder(struct layers *l, const char *folder, struct err *err)
{
	cleanup_closedir DIR *dir = opendir(folder);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return errno == ENOENT ? 0 : err_sys(err, errno, "cannot list %s", folder);
	while (r >= 0 && (entry = readdir(dir)))
		if (entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN)
			r = walk_file(l, dirfd(dir), folder, entry->d_name, err);
	return r;
}

static int walk_folders(struct layers *l, const struct tombstone *beside, size_t n,
			struct err *err)
{
	cleanup_free char *last = NULL;

	for (size_t i = 0; i < n; i++) {
		cleanup_free char *copy = xstrdup(beside[i].file.path);
		const char *folder = dirname(copy);
		int r;

		if (streq(folder, last))
			continue; /* most lie in one */
		r = walk_folder(l, folder, err);
		if (r < 0)
			return r;
		free(last);
		last = xstrdup(folder);
	}
	return 0;
}

int layers_build(struct engine *e, struct slot *s, const struct tombstone *beside, size_t n,
		 struct layers *ret, struct err *err)
{
	struct layers l = { 0 };
	int r = walk_domains(&l, e, s, err);

	if (r >= 0)
		r = walk_all_snapshots(&l, e, s, err);
	if (r >= 0)
		r = walk_cloned(&l, e, s, err);
	if (r >= 0)
		r = walk_all_metadata(&l, e, s, err);
	if (r >= 0)
		r = walk_folders(&l, beside, n, err);
	if (r < 0) {
		layers_clear(&l);
		return err_wrap(err, "it cannot be told who needs which layer");
	}
	*ret = l;
	return 0;
}

int layers_build_all(struct engine *e, char *const *folders, size_t n, struct layers *ret,
		     struct err *err)
{
	struct layers l = { .of_everybody = true };
	int r = walk_domains(&l, e, NULL, err);

	/* What is published, too: while a snapshot is renamed it is there all the time. */
	if (r >= 0)
		r = walk_all_snapshots(&l, e, NULL, err);
	if (r >= 0)
		r = walk_all_metadata(&l, e, NULL, err);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = walk_folder(&l, folders[i], err);
	if (r < 0) {
		layers_clear(&l);
		return err_wrap(err, "it cannot be told who needs which layer");
	}
	*ret = l;
	return 0;
}
