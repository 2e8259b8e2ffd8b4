/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/overlay.h"

#include "engine/domain-xml.h"
#include "engine/qemu-img.h"

#include <errno.h>
#include <libgen.h>
#include <sys/random.h>

/* The store's directories are root's; QEMU, as a user without rights, has to go through. */
#define QEMU_CAN_PASS 0711

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

void overlay_new_id(char ret[17])
{
	uint64_t id;

	if (getrandom(&id, sizeof(id), 0) != sizeof(id))
		abort(); /* cannot fail for 8 bytes, see getrandom(2) */
	snprintf(ret, 17, "%016llx", (unsigned long long)id);
}

/* Clusters of 128 KiB with sub-clusters of 4 KiB: the first small write to a
 * cluster copies nothing, and the tables stay as small as those of 64 KiB. */
#define DEFAULT_OPTIONS "extended_l2=on,cluster_size=128k"
#define PLAIN_OPTIONS "compat=1.1" /* for QEMU before 5.2, which has no sub-clusters */

int overlay_choose_options(const char *wanted, const char *folder, char **ret, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/overlay-options.qcow2", folder);
	int r = qemu_img_try_options(path, wanted ?: DEFAULT_OPTIONS, wanted ? err : NULL);

	if (r < 0 && wanted)
		return err_wrap(err, "overlay_options");
	*ret = xstrdup(r < 0 ? PLAIN_OPTIONS : wanted ?: DEFAULT_OPTIONS);
	return 0;
}

void overlay_plan(const struct engine *e, const char *uuid, const char *id, struct plan_disk *d)
{
	const char *below = d->below.path, *slash = strrchr(below, '/');

	if (e->store)
		d->overlay.path = xasprintf("%s/%s/kws-%.8s-%s-%s.qcow2", e->store, uuid, uuid, id,
					    d->target);
	else
		d->overlay.path = xasprintf("%.*s/kws-%.8s-%s-%s.qcow2", (int)(slash - below), below,
					    uuid, id, d->target);
	d->overlay.format = xstrdup("qcow2");
}

int overlays_plan_xml(const struct domain_xml *domain, struct plan *plan, struct err *err)
{
	cleanup_free struct overlay *overlays = xcalloc(domain->n_disks, sizeof(*overlays));

	for (size_t i = 0; i < domain->n_disks; i++) {
		overlays[i].target = domain->disks[i].target;
		for (size_t d = 0; d < plan->n_disks; d++)
			if (streq(plan->disks[d].target, overlays[i].target))
				overlays[i].path = plan->disks[d].overlay.path;
	}
	return snapshot_xml_build(plan->name, "", overlays, domain->n_disks, &plan->xml, err);
}

static bool take_hex(const char **at, size_t digits, char *ret)
{
	if (strspn(*at, "0123456789abcdef") != digits)
		return false;
	memcpy(ret, *at, digits);
	ret[digits] = '\0';
	*at += digits;
	return true;
}

static bool take_text(const char **at, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(*at, text, n) != 0)
		return false;
	*at += n;
	return true;
}

bool overlay_name_parse(const char *path, struct overlay_name *ret)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
	const char *slash = strrchr(path, '/'), *at = slash ? slash + 1 : path;
	struct overlay_name name;
	size_t n;

	if (!take_text(&at, "kws-") || !take_hex(&at, 8, name.vm) || !take_text(&at, "-") ||
	    !take_hex(&at, 16, name.id) || !take_text(&at, "-"))
		return false;
	n = strspn(at, letters);
	if (n == 0 || n >= sizeof(name.target) || !streq(at + n, ".qcow2"))
		return false;
	snprintf(name.target, sizeof(name.target), "%.*s", (int)n, at);
	*ret = name;
	return true;
}

/* An empty file. */
static int make_file(const struct op *op, const struct plan_disk *d, struct err *err)
{
	int r;

	if (op->e->store) {
		cleanup_free char *path = xstrdup(d->overlay.path);

		r = folder_make(dirname(path), QEMU_CAN_PASS, err);
		if (r < 0)
			return r;
	}
	return file_create_private(d->overlay.path, d->below.path, err);
}

/* Learns what the overlay's file is; 0 also if there is none. */
static int identify(struct plan_disk *d, struct err *err)
{
	struct layer_file found;
	int r = layer_file_stat(d->overlay.path, "qcow2", &found, err);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	d->overlay.dev = found.dev;
	d->overlay.ino = found.ino;
	layer_file_clear(&found);
	return 0;
}

static int keep_file(struct plan_disk *d, struct err *err)
{
	int r = file_sync(d->overlay.path, err);

	if (r >= 0)
		r = file_sync_folder(d->overlay.path, err);
	return r < 0 ? r : identify(d, err);
}

static int create_one(const struct op *op, struct plan_disk *d, struct err *err)
{
	int r = make_file(op, d, err);

	if (r >= 0)
		r = overlay_write(&op->e->overlay_templates, d->overlay.path, d->below.path,
				  d->below.format, d->size, err);
	return r < 0 ? r : keep_file(d, err);
}

int overlays_create(struct op *op, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < op->plan->n_disks && r >= 0; i++)
		r = create_one(op, &op->plan->disks[i], err);
	return r;
}

int overlay_create_alone(const struct op *op, struct plan_disk *d, struct err *err)
{
	int r = make_file(op, d, err);

	if (r >= 0)
		r = qemu_img_create(d->overlay.path, d->size, op->e->overlay_options, err);
	return r < 0 ? r : keep_file(d, err);
}

/* ---- who uses them ---- */

struct use {
	struct domain_xml *live, *config;
};

static void use_clear(struct use *u)
{
	domain_xml_free(u->live);
	domain_xml_free(u->config);
}

static int use_read(struct op *op, bool config, struct domain_xml **ret, struct err *err)
{
	cleanup_free char *xml = NULL;
	int r = op->e->hv->ops->domain_xml(op->e->hv, op->slot->uuid, config, &xml, err);

	if (r == -ENOENT)
		return 0; /* the domain is gone: it uses nothing */
	return r < 0 ? r : domain_xml_parse(xml, ret, err);
}

static int use_open(struct op *op, struct use *ret, struct err *err)
{
	int r = use_read(op, false, &ret->live, err);

	return r < 0 ? r : use_read(op, true, &ret->config, err);
}

static bool has_source(const struct domain_xml *d, const char *path)
{
	for (size_t i = 0; d && i < d->n_disks; i++)
		if (streq(d->disks[i].path, path))
			return true;
	return false;
}

static bool uses(const struct use *u, const struct plan_disk *d)
{
	return has_source(u->live, d->overlay.path) || has_source(u->config, d->overlay.path);
}

int overlays_in_use(struct op *op, bool *ret, struct err *err)
{
	cleanup(use_clear) struct use use = { 0 };
	bool in_use = false;
	int r = use_open(op, &use, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < op->plan->n_disks; i++)
		in_use = in_use || uses(&use, &op->plan->disks[i]);
	*ret = in_use;
	return 0;
}

int overlays_settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	bool in_use;
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = overlays_in_use(op, &in_use, err);
	if (r < 0)
		return r;
	if (!in_use)
		return -ECANCELED;
	*ret_from = op->kind->no_return;
	return 0;
}

/* ---- taking them away ---- */

int overlay_bury_below(const struct op *op, const struct plan_disk *d, struct err *err)
{
	struct tombstone t = { .target = d->target, .file = d->below };
	struct registry_change change = { .vm_id = op->slot->id, .bury = &t, .n_bury = 1 };

	return registry_apply(op->e->registry, &change, err);
}

int overlay_delete(struct plan_disk *d, struct err *err)
{
	int r = 0;

	/* The name is random and the journal's own: what has it is ours, also
	 * when the process died before it could note the inode. */
	if (d->overlay.ino == 0)
		r = identify(d, err);
	if (r >= 0 && d->overlay.ino != 0)
		r = file_remove(&d->overlay, err);
	return r;
}

int overlays_remove(struct op *op, struct err *err)
{
	cleanup_free struct plan_disk **unknown = xcalloc(op->plan->n_disks, sizeof(*unknown));
	cleanup(use_clear) struct use use = { 0 };
	size_t n_unknown = 0;
	int r = use_open(op, &use, err);

	for (size_t i = 0; i < op->plan->n_disks && r >= 0; i++) {
		struct plan_disk *d = &op->plan->disks[i];

		if (uses(&use, d))
			r = overlay_bury_below(op, d, err);
		else
			unknown[n_unknown++] = d;
	}
	return r < 0 ? r : overlays_remove_unknown(op, unknown, n_unknown, err);
}
