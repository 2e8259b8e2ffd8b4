/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The chain in a VM's definition against the headers of the images. libvirt writes what
 * it knows of a chain into the definition and at the next start believes that, not the
 * headers: what was changed since by qemu-img would be missing, or read wrongly.
 */
#include "engine/fsck.h"

#include "engine/backing.h"
#include "engine/own-mount.h"

/* Whether two names mean the same file, which may be missing. */
static bool same_path(const char *a, const char *b)
{
	struct layer_file file;
	bool same;

	if (streq(a, b) || layer_file_stat(a, "", &file, NULL) < 0)
		return streq(a, b);
	same = layer_file_is_at(&file, b);
	layer_file_clear(&file);
	return same;
}

/* The first place where they differ: *ret_layer lies on *ret_backing (NULL: on
 * nothing), and the definition says otherwise. False if there is none, or if a header
 * cannot be read: that is a finding of its own. The caller frees both. */
static bool find_difference(const struct xml_disk *d, char **ret_layer, char **ret_backing)
{
	cleanup_free char *at = xstrdup(d->path), *as = xstrdup(d->format ?: "raw");

	for (size_t i = 0; i < d->n_backing + d->backing_ends; i++) {
		const struct xml_layer *said = i < d->n_backing ? &d->backing[i] : NULL;
		cleanup_free char *under = NULL, *format = NULL;

		if (own_mount_has(at) || layer_backing(at, as, &under, &format, NULL) < 0)
			return false;
		if (said && !said->path)
			return false; /* not a file here */
		if (said ? !under || !same_path(said->path, under) ||
			   (format && !streq(said->format, format)) : under != NULL) {
			*ret_layer = steal_pointer(&at);
			*ret_backing = steal_pointer(&under);
			return true;
		}
		free(at);
		free(as);
		at = steal_pointer(&under);
		as = format ? steal_pointer(&format) : xstrdup("raw");
	}
	return false;
}

static int forget_chain(struct visit *v, const char *target, struct err *err)
{
	struct hv *hv = v->f->e->hv;
	cleanup_free char *xml = NULL, *edited = NULL;
	int r = hv->ops->domain_xml(hv, v->domain->uuid, true, &xml, err);

	if (r >= 0)
		r = domain_xml_forget_chain(xml, target, &edited, err);
	return r < 0 ? r : hv->ops->define(hv, edited, err);
}

void fsck_config(struct visit *v)
{
	static const char remedy[] = "take the chain out of the definition, so that libvirt looks at "
				     "the images";

	for (size_t i = 0; v->config && i < v->config->n_disks; i++) {
		const struct xml_disk *d = &v->config->disks[i];
		cleanup_free char *layer = NULL, *backing = NULL;
		struct err why = ERR_INIT;

		if (!d->path || !find_difference(d, &layer, &backing))
			continue;
		if (fsck_mendable(v->f, remedy, "%s: %s: the definition has another chain than the images: "
				  "%s lies on %s", v->domain->name, d->target, layer,
				  backing ?: "nothing"))
			fsck_mended(v->f, remedy, forget_chain(v, d->target, &why), &why);
	}
}
