/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/depth.h"

#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/own-mount.h"
#include "engine/policy.h"

#include <errno.h>

/* What cannot be opened here is one layer more, and the last that can be counted: an
 * image in this mount (foundation.h), and one that is not named by a path. */
static int chain_depth(const char *path, const char *format, unsigned *ret, struct err *err)
{
	cleanup_free char *at = xstrdup(path), *as = xstrdup(format);
	unsigned depth = 0;

	while (at && depth < CHAIN_MAX_LAYERS) {
		cleanup_free char *this = steal_pointer(&at), *this_format = steal_pointer(&as);
		int r;

		depth++;
		if (own_mount_has(this))
			break;
		r = layer_backing(this, this_format ?: "raw", &at, &as, err);
		if (r == -EOPNOTSUPP) {
			depth++;
			break;
		}
		if (r < 0)
			return r;
	}
	*ret = depth;
	return 0;
}

int disk_depth(const struct xml_disk *disk, bool live, unsigned *ret, struct err *err)
{
	if (!live)
		return chain_depth(disk->path, disk->format, ret, err);
	*ret = disk->n_backing + 1;
	return 0;
}

int depth_check(struct engine *e, struct slot *s, const char *target, unsigned depth,
		struct err *err)
{
	unsigned max = policy_max_depth(e, s);

	if (depth < max)
		return 0;
	return err_set(err, EMLINK, "disk %s would lie on a chain of %u layers, and max_depth is %u: "
		       "delete snapshots and wait until they are merged (sync on .kws), or write a "
		       "number up to %d to .kws/max_depth; nothing was done",
		       target, depth + 1, max, DEPTH_MOST);
}

int depth_check_snapshot(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			 struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < snapshot->n_disks && r >= 0; i++) {
		const struct snapshot_disk *d = &snapshot->disks[i];
		unsigned depth;

		r = chain_depth(d->path, d->format, &depth, err);
		if (r >= 0)
			r = depth_check(e, s, d->target, depth, err);
	}
	return r;
}
