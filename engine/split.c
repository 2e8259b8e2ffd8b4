/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting an empty overlay on the layer that a running VM writes to, without a snapshot
 * of libvirt's: so that what the VM has written by now is in a layer that is frozen, and can
 * be merged by a block job that may be broken off at any time.
 *
 * A commit of the layer that is written to may not: when it is broken off QEMU (7.2) keeps
 * the lower layer open for writing, and what later jobs put into its tables stays in
 * QEMU's memory until it ends. So only as little is committed in that way as can be
 * waited for, and more is split off first.
 *
 * Steps: `overlays`, `switch`, `bury`. Found open before `bury`: if the VM has the overlay
 * the rest is done, else it is removed.
 */
#include "engine/split.h"

#include "engine/backing.h"
#include "engine/domain-xml.h"
#include "engine/op.h"
#include "engine/overlay.h"

#include <errno.h>

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

static int step_switch(struct op *op, struct err *err)
{
	return op->e->hv->ops->snapshot_create(op->e->hv, op->slot->uuid, op->plan->xml,
					       HV_CREATE_NO_METADATA, err);
}

static int step_bury(struct op *op, struct err *err)
{
	const struct plan_disk *d = &op->plan->disks[0];
	struct tombstone t = { .target = d->target, .file = d->below };
	struct registry_change change = { .vm_id = op->slot->id, .bury = &t, .n_bury = 1 };

	return registry_apply(op->e->registry, &change, err);
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
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

static const struct step steps[] = {
	{ "overlays", overlays_create, overlays_remove },
	{ "switch", step_switch, NULL },
	{ "bury", step_bury, NULL },
};

const struct op_kind split_op = { "split", steps, 3, 2, settle };

/* All other disks take no part. */
static int plan_xml(struct engine *e, struct slot *s, struct plan *plan, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free struct overlay *overlays = NULL;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->domain_xml(e->hv, s->uuid, false, &xml, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	if (r < 0)
		return r;
	overlays = xcalloc(domain->n_disks, sizeof(*overlays));
	for (size_t i = 0; i < domain->n_disks; i++) {
		overlays[i].target = domain->disks[i].target;
		if (streq(overlays[i].target, plan->disks[0].target))
			overlays[i].path = plan->disks[0].overlay.path;
	}
	return snapshot_xml_build("split", "", overlays, domain->n_disks, &plan->xml, err);
}

int split_active(struct engine *e, struct slot *s, const char *target,
		 const struct layer_file *active, struct err *err)
{
	struct plan *plan = plan_new();
	struct plan_disk *d = plan_add_disk(plan, target);
	char id[17];
	int r = layer_virtual_size(active->path, active->format, &d->size, err);

	overlay_new_id(id);
	layer_file_copy(&d->below, active);
	d->overlay.path = overlay_path(e, s->uuid, id, target, active->path);
	d->overlay.format = xstrdup("qcow2");
	if (r >= 0)
		r = plan_xml(e, s, plan, err);
	if (r < 0) {
		plan_free(plan);
		return r;
	}
	slot_begin_exclusive(e, s);
	r = op_run(e, s, &split_op, plan, err);
	look(e, s, LOOK_ALL, NULL);
	slot_end_exclusive(e, s);
	return r;
}
