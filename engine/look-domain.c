/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/look-domain.h"

#include "engine/backing.h"
#include "engine/own-mount.h"

/* ---- disks ---- */

static const struct vm_disk *disk_at(const struct vm *vm, const char *path)
{
	for (size_t i = 0; vm && i < vm->n_disks; i++)
		if (streq(vm->disks[i].path, path))
			return &vm->disks[i];
	return NULL;
}

/* Disks are not made larger often: the image is not opened for that at each look, but when it is
 * another one, or the VM was started or ended. */
static uint64_t size_of(const struct vm *vm, const struct vm_disk *d, const struct vm *old)
{
	const struct vm_disk *known = disk_at(old, d->path);
	uint64_t size = 0;

	if (known && known->size && old->active == vm->active)
		return known->size;
	if ((streq(d->format, "qcow2") || streq(d->format, "raw")) && !own_mount_has(d->path))
		(void)layer_virtual_size(d->path, d->format, &size, NULL);
	return size;
}

static void see_disks(struct vm *vm, const struct domain_xml *domain, const struct vm *old)
{
	vm->disks = xcalloc(domain->n_disks, sizeof(*vm->disks));
	for (size_t i = 0; i < domain->n_disks; i++) {
		const struct xml_disk *d = &domain->disks[i];
		struct vm_disk *disk;

		if (!d->path || d->readonly)
			continue;
		disk = &vm->disks[vm->n_disks++];
		*disk = (struct vm_disk){ xstrdup(d->target), xstrdup(d->path),
					  xstrdup(d->format ?: "raw") };
		disk->size = size_of(vm, disk, old);
	}
}

/* ---- features ---- */

/* Of all that it writes to; 0 if one of them is not known: it may be on a network. */
static uint64_t size_of_all(const struct vm *vm, const struct domain_xml *domain)
{
	uint64_t size = 0;

	for (size_t i = 0; i < domain->n_disks; i++)
		if (streq(domain->disks[i].device, "disk") && !domain->disks[i].path)
			return 0;
	for (size_t i = 0; i < vm->n_disks; i++) {
		if (!vm->disks[i].size)
			return 0;
		size += vm->disks[i].size;
	}
	return size;
}

static void see_features(struct vm *vm, const struct domain_xml *domain)
{
	cleanup(feature_set_clear) struct feature_set all = { 0 };
	uint64_t size = size_of_all(vm, domain);
	cleanup_free char *text = feature_size(size, 'G');

	feature_set_copy(&all, &domain->features);
	if (size)
		feature_set_add(&all, "disk", text, FEATURE_DOMAIN);
	feature_set_count(&vm->features, &all);
}

void look_at_definition(struct vm *vm, const struct domain_xml *domain, const struct vm *old)
{
	see_disks(vm, domain, old);
	see_features(vm, domain);
}
