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

DEFINE_CLEANUP(struct domain_xml, domain_xml_free);

static int step_switch(struct op *op, struct err *err)
{
	return op->e->hv->ops->snapshot_create(op->e->hv, op->slot->uuid, op->plan->xml,
					       HV_CREATE_NO_METADATA, err);
}

static int step_bury(struct op *op, struct err *err)
{
	return overlay_bury_below(op, &op->plan->disks[0], err);
}

static const struct step steps[] = {
	{ "overlays", overlays_create, overlays_remove },
	{ "switch", step_switch, NULL },
	{ "bury", step_bury, NULL },
};

const struct op_kind split_op = { "split", steps, 3, 2, overlays_settle };

static int make_plan(struct engine *e, struct slot *s, const char *target,
		     const struct layer_file *active, struct plan *plan, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	struct plan_disk *d = plan_add_disk(plan, target);
	cleanup_free char *xml = NULL;
	char id[17];
	int r = layer_virtual_size(active->path, active->format, &d->size, err);

	plan->name = xstrdup("split");
	layer_file_copy(&d->below, active);
	overlay_new_id(id);
	overlay_plan(e, s->uuid, id, d);
	if (r >= 0)
		r = e->hv->ops->domain_xml(e->hv, s->uuid, false, &xml, err);
	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	return r < 0 ? r : overlays_plan_xml(domain, plan, err);
}

int split_active(struct engine *e, struct slot *s, const char *target,
		 const struct layer_file *active, struct err *err)
{
	struct plan *plan = plan_new();
	int r = make_plan(e, s, target, active, plan, err);

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
