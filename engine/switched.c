/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlays that a guest has written to, and that nobody knows of.
 *
 * A live snapshot is switched over by QEMU first, and then noted by libvirt. From the one
 * moment to the other the guest writes to the overlays, and is told that it is on its
 * disk when it flushes. If the power goes in between, libvirt comes up again with
 * the config of before. The overlays must not be deleted then: the VM gets them.
 *
 * Unless it has run since, without them. Then there are two states
 * of its disks, neither of which is to be thrown away, and an admin has to choose.
 */
#include "engine/overlay.h"

#include "engine/chain-layer.h"
#include "engine/domain-xml.h"

#include <errno.h>
#include <sys/stat.h>

static void note_content(void *found, const struct qcow2_run *run)
{
	if (run->kind != QCOW2_UNALLOCATED)
		*(bool *)found = true;
}

static int holds_something(const struct layer_file *overlay, bool *ret, struct err *err)
{
	struct chain_layer layer = { .fd = -1 };
	int r = chain_layer_open(&layer, overlay->path, overlay->format, err);

	if (r >= 0)
		chain_layer_map(&layer, 0, layer.size, note_content, ret);
	chain_layer_close(&layer);
	return r == -ENOENT ? 0 : r;
}

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

static int keep_latest(const char *path, struct timespec *latest, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	if (is_later(&st.st_mtim, latest))
		*latest = st.st_mtim;
	return 0;
}

/* Nobody writes to the layers below once they are switched over. What a guest writes
 * to a new overlay makes that file longer, so its time is as durable as its content. */
static int has_run_since(struct op *op, bool *ret, struct err *err)
{
	struct timespec above = { 0 }, below = { 0 };
	struct hv_domain state = { 0 };
	int r = op->e->hv->ops->lookup(op->e->hv, op->slot->uuid, &state, err);

	for (size_t i = 0; i < op->plan->n_disks && r >= 0; i++) {
		r = keep_latest(op->plan->disks[i].overlay.path, &above, err);
		if (r >= 0)
			r = keep_latest(op->plan->disks[i].below.path, &below, err);
	}
	free(state.name);
	if (r >= 0)
		*ret = state.active || is_later(&below, &above);
	return r;
}

static int give(struct op *op, struct err *err)
{
	struct plan *plan = op->plan;
	cleanup_free struct xml_rename *renames = xcalloc(plan->n_disks, sizeof(*renames));
	cleanup_free char *xml = NULL, *edited = NULL;
	int r = op->e->hv->ops->domain_xml(op->e->hv, op->slot->uuid, true, &xml, err);

	for (size_t i = 0; i < plan->n_disks; i++)
		renames[i] = (struct xml_rename){ plan->disks[i].below.path,
						  plan->disks[i].overlay.path,
						  plan->disks[i].overlay.format };
	if (r >= 0)
		r = domain_xml_rename(xml, renames, plan->n_disks, &edited, NULL, err);
	return r < 0 ? r : op->e->hv->ops->define(op->e->hv, edited, err);
}

int overlays_take_up(struct op *op, struct err *err)
{
	const char *written = NULL;
	bool in_use, ran;
	int r = overlays_in_use(op, &in_use, err);

	if (r < 0 || in_use)
		return r;
	for (size_t i = 0; i < op->plan->n_disks && r >= 0 && !written; i++) {
		bool found = false;

		r = holds_something(&op->plan->disks[i].overlay, &found, err);
		if (found)
			written = op->plan->disks[i].overlay.path;
	}
	if (r < 0 || !written)
		return r;
	r = has_run_since(op, &ran, err);
	if (r < 0)
		return r;
	if (ran)
		return err_set(err, EIO, "the VM wrote to %s before the power went, and has run without it "
			       "since: that is not on its disks now; move the file away if what is "
			       "in it is not needed", written);
	return give(op, err);
}
