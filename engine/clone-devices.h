/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The devices of a clone. */
#ifndef KWS_ENGINE_CLONE_DEVICES_H
#define KWS_ENGINE_CLONE_DEVICES_H

#include "engine/xml-tree.h"

struct clone_devices {
	const char *name;     /* of the clone */
	const char *old_name; /* of what it is made from */
	const struct overlay *overlays;
	size_t n_overlays;
};

/* Makes the devices of a <domain> those of the clone. -EOPNOTSUPP with the device for one that
 * two VMs cannot have, -ENAMETOOLONG for a file that cannot be called after the clone. */
int clone_devices_set(xmlNode *domain, const struct clone_devices *c, struct err *err);

/* Only what hangs on the name, for one that has another now. */
int clone_devices_rename(xmlNode *domain, const struct clone_devices *c, struct err *err);

#endif
