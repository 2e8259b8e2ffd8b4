/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The governor of chains: how many layers a disk's chain has, and may have. All
 * count, also those of deleted snapshots that wait to be merged, because libvirt
 * counts them, too: a VM on a chain of more than it takes does not start.
 */
#ifndef KWS_ENGINE_DEPTH_H
#define KWS_ENGINE_DEPTH_H

#include "engine/core.h"
#include "engine/domain-xml.h"

/* The layers of the chain that the disk has now. `live`: the VM runs, and its XML
 * names the chain; else the headers of the images are read. */
int disk_depth(const struct xml_disk *disk, bool live, unsigned *ret, struct err *err);

/* -EMLINK, with a sentence, if there may be no layer on top of a chain of `depth`. */
int depth_check(struct engine *e, struct slot *s, const char *target, unsigned depth,
		struct err *err);

/* The same for going back to a snapshot, whose layers get new ones on top. */
int depth_check_snapshot(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			 struct err *err);

#endif
