/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlays of which libvirt does not know, and that a guest may have written to.
 *
 * A live snapshot is switched over by QEMU first, and then noted by libvirt. From the one
 * moment to the other the guest writes to the overlays, and is told that it is on its
 * disk when it flushes. If libvirtd is killed in between, or the power goes, libvirt comes
 * up again with the config of before. The overlays must not be deleted then: the VM gets
 * them; or, if it still runs on them, all waits until it is off.
 *
 * Unless it has run since, without them. Then there are two states of its disks that
 * do not fit together any more: the overlays stay, nobody needs them, and lost+found
 * shows them.
 */
#include "engine/overlay.h"

#include "common/timespec.h"
#include "engine/chain-layer.h"
#include "engine/metadata.h"

#include <errno.h>
#include <sys/stat.h>

/* What became of all of them together: they were switched over at one moment. */
struct state {
	const struct plan_disk *running_on; /* a QEMU writes to its overlay, not below */
	bool below_in_use;                  /* ... or to a layer below */
	struct timespec above, below;       /* when overlays, and layers below, were last written */
};

static void note_data(void *found, const struct qcow2_run *run)
{
	if (run->kind != QCOW2_UNALLOCATED)
		*(bool *)found = true;
}

static int holds_data(const struct layer_file *overlay, bool *ret, struct err *err)
{
	struct chain_layer layer = { .fd = -1 };
	int r = chain_layer_open(&layer, overlay->path, overlay->format, err);

	*ret = false;
	if (r >= 0)
		chain_layer_map(&layer, 0, layer.size, note_data, ret);
	chain_layer_close(&layer);
	return r;
}

static int keep_latest(const char *path, struct timespec *latest, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	if (timespec_compare(&st.st_mtim, latest) > 0)
		*latest = st.st_mtim;
	return 0;
}

/* Until all overlays are there and noted nobody is told of them. */
static bool was_told_of(const struct plan_disk *d)
{
	return d->overlay.ino != 0 && layer_file_is_at(&d->overlay, d->overlay.path);
}

static int look_at(const struct plan_disk *d, struct state *s, bool *ret_data, struct err *err)
{
	bool above = false, below = false;
	int r = file_has_writer(d->overlay.path, &above, err);

	if (r >= 0)
		r = file_has_writer(d->below.path, &below, err);
	if (r >= 0)
		r = holds_data(&d->overlay, ret_data, err);
	if (r >= 0 && *ret_data)
		r = keep_latest(d->overlay.path, &s->above, err);
	if (r >= 0)
		r = keep_latest(d->below.path, &s->below, err);
	if (above && !below)
		s->running_on = d;
	s->below_in_use |= below;
	return r;
}

/* Puts those that hold something to the front. */
static int look_at_all_of(struct plan_disk **disks, size_t n, struct state *ret, size_t *ret_n_data,
			  struct err *err)
{
	size_t n_data = 0;
	int r = 0;

	for (size_t i = 0; i < n && r >= 0; i++) {
		struct plan_disk *d = disks[i];
		bool data = false;

		if (was_told_of(d))
			r = look_at(d, ret, &data, err);
		if (data) {
			disks[i] = disks[n_data];
			disks[n_data++] = d;
		}
	}
	*ret_n_data = n_data;
	return r;
}

/* What a guest writes to a new overlay makes that file longer, so its time is as durable
 * as its content. */
static bool has_run_since(const struct state *s)
{
	return s->below_in_use || timespec_compare(&s->below, &s->above) > 0;
}

/* The VM's definition gets them, and what they lie on is buried. */
static int give(struct op *op, struct plan_disk *const *disks, size_t n, struct err *err)
{
	cleanup_free struct xml_rename *renames = xcalloc(n, sizeof(*renames));
	int r;

	for (size_t i = 0; i < n; i++)
		renames[i] = (struct xml_rename){ disks[i]->below.path, disks[i]->overlay.path,
						  disks[i]->overlay.format };
	r = config_rename(op->e, op->slot, renames, n, err);
	for (size_t i = 0; i < n && r >= 0; i++)
		r = overlay_bury_below(op, disks[i], err);
	return r;
}

int overlays_remove_unknown(struct op *op, struct plan_disk **disks, size_t n, struct err *err)
{
	struct state s = { 0 };
	size_t n_data;
	int r = look_at_all_of(disks, n, &s, &n_data, err);

	if (r >= 0 && s.running_on)
		return err_set(err, EBUSY, "libvirtd ended while it switched disk %s over to %s, and "
			       "does not know that the VM writes there: shut the VM down (nothing of "
			       "it is lost), then all goes on", s.running_on->target,
			       s.running_on->overlay.path);
	for (size_t i = n_data; i < n && r >= 0; i++)
		r = overlay_delete(disks[i], err);
	if (r < 0 || n_data == 0)
		return r;
	if (!has_run_since(&s)) {
		r = give(op, disks, n_data, err);
		if (r != -ENOENT)
			return r;
	}
	engine_tell(op->e, op->slot->id, -EIO, "the VM wrote to an overlay of which libvirt does not "
		    "know, and has run without it since: it is not on its disks, and lost+found "
		    "has it");
	return 0;
}
