/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_ENGINE_FROZEN_H
#define KWS_ENGINE_FROZEN_H

#include "engine/domain-xml.h"
#include "engine/engine.h"

/* The layer that a snapshot froze. The metadata say it, unless the images know
 * better: when a snapshot is forgotten with `virsh snapshot-delete --metadata`,
 * libvirt writes into its children that they were made of its layer, as if it
 * had been merged. But what a snapshot's overlay lies on is what it froze.
 * The caller frees the texts of what is returned. */
struct snapshot_disk frozen_layer(const struct xml_snapshot_disk *d);

/* Whether the metadata, which say `now`, may be such: `was`, the layer that was frozen, is
 * still there, and `now` lies under it. */
bool is_forgotten_parents(const struct snapshot_disk *was, const struct snapshot_disk *now);

#endif
