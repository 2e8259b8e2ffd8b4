/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who a clone is: what its guest can see of it without an agent, and its MAC addresses. */
#ifndef KWS_ENGINE_CLONE_IDENTITY_H
#define KWS_ENGINE_CLONE_IDENTITY_H

#include "engine/xml-tree.h"

/* Has the firmware tell the guest, in the <domain>, whose <name> and <uuid> are the clone's
 * already. The texts may be NULL. -EOPNOTSUPP if there are some and the VM's firmware has no
 * tables in which they could be told, -EFBIG if those would be too long. */
int clone_identity_set(xmlNode *domain, const char *user_data, const char *meta, struct err *err);

/* The same for one that has another name now; the texts are those it has. */
void clone_identity_rename(xmlNode *domain);

#define MAC_SIZE sizeof("06:00:00:00:00:00")

/* The address of the interface with this number, counted from 0: always the same for a name. */
void clone_mac(const char *name, unsigned number, char ret[MAC_SIZE]);

#endif
