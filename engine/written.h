/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots that were written into by others: `virsh blockcommit --active` makes the layer of
 * a snapshot the one that the VM writes to, and so does who gives a VM that layer as its
 * disk. From then on no image that lies on it is what it was, and none is served.
 *
 * It is told by the layers of an image: one of them is what a VM writes to now; or a
 * snapshot was made of it later, which the image's does not lie on, so it has been.
 * A merge into the layer of a snapshot that leaves no such trace is not seen: qemu-img
 * commit, blockcommit further down.
 */
#ifndef KWS_ENGINE_WRITTEN_H
#define KWS_ENGINE_WRITTEN_H

#include "engine/chain.h"
#include "engine/core.h"

/* -EIO, with a sentence, if that happened to an image of this snapshot. */
int written_check(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, const struct image *image,
		  struct err *err);

/* The same for all disks of a snapshot; those that cannot be opened here pass. */
int written_check_snapshot(struct engine *e, uint32_t vm_id, const struct snapshot *snapshot,
			   struct err *err);

#endif
