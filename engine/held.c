/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/engine.h"
#include "engine/own-mount.h"

#include <sys/stat.h>

#define BLOCK 512 /* the unit of st_blocks */

bool snapshot_held(const struct snapshot *s, uint64_t *ret)
{
	uint64_t held = 0;

	for (size_t i = 0; i < s->n_disks; i++) {
		struct stat st;

		if (own_mount_has(s->disks[i].path))
			continue; /* it is held by the snapshot that it is an image of */
		if (stat(s->disks[i].path, &st) < 0 || !S_ISREG(st.st_mode))
			return false;
		held += (uint64_t)st.st_blocks * BLOCK;
	}
	*ret = held;
	return true;
}
