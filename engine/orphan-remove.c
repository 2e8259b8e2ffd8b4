/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One orphan: read, or deleted. That nobody needs an image is no reason to delete it: a
 * person does that, one by one, and everything is proved anew then. What can't be read
 * could lie on any image: as long as there is such a layer nothing is deleted but that
 * layer itself.
 */
#include "engine/domain-xml.h"
#include "engine/evidence.h"
#include "engine/foundation.h"
#include "engine/known.h"
#include "engine/orphans.h"
#include "engine/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct orphan_list, orphan_list_unref);

int engine_orphan_open(const struct orphan *o, int *ret_fd, struct err *err)
{
	cleanup_close int fd = open(o->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot open %s", o->path);
	if (st.st_dev != o->dev || st.st_ino != o->ino)
		return err_set(err, ESTALE, "%s is another file by now", o->path);
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* ---- deleting ---- */

/* An image on it that nobody needs either: that has to go first. And what can't be read
 * may lie on it. */
static int check_overlays(const struct layers *l, const struct layer_file *file, struct err *err)
{
	size_t own = layers_find(l, file);

	for (size_t i = 0; i < l->all.n; i++) {
		const struct layer *layer = &l->all.at[i];

		if (own != NO_LAYER && layer->backing == own)
			return err_set(err, EBUSY, "%s lies on it: delete that first",
				       layer->file.path);
		if (layer->unreadable && i != own)
			return err_set(err, EBUSY, "%s cannot be read, and may lie on it",
				       layer->file.path);
	}
	return 0;
}

static int check_saved(struct engine *e, const struct orphan *o, struct err *err)
{
	cleanup(known_clear) known_t vms = { 0 };
	struct overlay_name name;
	int r = know_vms(e, &vms, err);

	for (size_t i = 0; i < vms.n && r >= 0 && overlay_name_parse(o->path, &name); i++)
		if (vms.at[i].saved && strncmp(vms.at[i].uuid, name.vm, strlen(name.vm)) == 0)
			r = err_set(err, EBUSY, "%s is saved with its memory, which may know it: "
				    "start the VM first, or virsh managedsave-remove",
				    vms.at[i].name);
	return r;
}

static int check_definition(struct engine *e, const char *uuid, bool config, const char *inside,
			    struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->domain_xml(e->hv, uuid, config, &xml, err);

	if (r == -ENOENT)
		return 0; /* it went since it was listed */
	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	for (size_t i = 0; r >= 0 && i < domain->n_disks; i++) {
		const struct xml_disk *d = &domain->disks[i];
		cleanup_free char *below = d->path ? foundation_of(d->path, d->format) : NULL;

		if (streq(below, inside))
			return err_set(err, EBUSY, "a disk of the VM %s lies on it", domain->name);
	}
	return r;
}

/* A VM may have its disk on the file in lost+found: then QEMU's locks are there, or will be.
 * What is published lags behind libvirt, and a disk that is only there from the next start on is
 * not in it: so libvirt is asked. */
static int check_tenants(struct engine *e, const struct orphan *o, struct err *err)
{
	cleanup_free char *inside = xasprintf("lost+found/%s", o->name);
	struct hv_domain *domains = NULL;
	size_t n = 0;
	int r = e->hv->ops->list(e->hv, &domains, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++) {
		if (domains[i].active)
			r = check_definition(e, domains[i].uuid, false, inside, err);
		if (r >= 0 && domains[i].persistent)
			r = check_definition(e, domains[i].uuid, true, inside, err);
	}
	hv_domains_free(domains, n);
	return r;
}

static int prove_unused(struct engine *e, const struct orphan *o, const struct layer_file *file,
			struct err *err)
{
	cleanup(evidence_clear) struct evidence ev = { 0 };
	const char *why;
	int r = file_check_unused(o->path, err);

	if (r >= 0)
		r = check_tenants(e, o, err);
	if (r >= 0)
		r = evidence_gather(e, &ev, err);
	if (r < 0)
		return r;
	why = evidence_for(&ev, file);
	if (why)
		return err_set(err, EBUSY, "%s", why);
	r = check_overlays(&ev.layers, file, err);
	return r < 0 ? r : check_saved(e, o, err);
}

static int remove_orphan(struct engine *e, const struct orphan *o, struct err *err)
{
	struct layer_file file = { .path = o->path, .format = (char *)"qcow2", .dev = o->dev,
				   .ino = o->ino };
	int r;

	if (!e->hv->ops->connected(e->hv))
		return err_set(err, EHOSTDOWN, "libvirt does not answer, and only it knows who uses "
			       "it");
	r = prove_unused(e, o, &file, err);
	return r < 0 ? r : file_remove(&file, err);
}

/* What was known, without one. */
static void publish_without(struct engine *e, const struct orphan_list *old, uint64_t id)
{
	struct orphan_list *list = xnew(struct orphan_list);

	list->refs = 1;
	list->orphans = xcalloc(old->n, sizeof(*list->orphans));
	for (size_t i = 0; i < old->n; i++) {
		struct orphan *o = &list->orphans[list->n];

		if (old->orphans[i].id == id)
			continue;
		*o = old->orphans[i];
		o->name = xstrdup(o->name);
		o->path = xstrdup(o->path);
		list->n++;
	}
	orphans_publish(e, list);
}

static int chore_remove(struct engine *e, struct chore *c, struct err *err)
{
	cleanup(orphan_list_unref_p) struct orphan_list *list = engine_orphans(e);
	const struct orphan *o = orphan_find(list, c->orphan);
	int r = o ? remove_orphan(e, o, err) : err_set(err, ENOENT, "it is not there any more");

	if (r < 0) {
		err_wrap(err, "cannot delete %s", o ? o->name : "an orphan");
		orphans_set_last_error(e, err->msg);
	} else {
		publish_without(e, list, c->orphan);
		engine_event(e, &(struct engine_event){ "orphan-removed" }, "%s was deleted", o->name);
	}
	return r;
}

void engine_orphan_remove(struct engine *e, uint64_t id, engine_done *done, void *opaque)
{
	struct chore *c = xnew(struct chore);

	*c = (struct chore){ .run = chore_remove, .done = done, .opaque = opaque, .orphan = id };
	chore_submit(e, c);
}
