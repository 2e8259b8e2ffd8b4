/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a VM's definition says of it: which disks it has, and what it is like. */
#ifndef KWS_ENGINE_LOOK_DOMAIN_H
#define KWS_ENGINE_LOOK_DOMAIN_H

#include "engine/core.h"
#include "engine/domain-xml.h"

/* Sets the disks and the features of `vm`. `old` is what was published of it by now; NULL: nothing
 * is taken from that. */
void look_at_definition(struct vm *vm, const struct domain_xml *domain, const struct vm *old);

#endif
