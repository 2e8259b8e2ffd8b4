/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMs that libvirt has, and those that it had: the registry remembers them. */
#ifndef KWS_ENGINE_KNOWN_H
#define KWS_ENGINE_KNOWN_H

#include "engine/core.h"

struct known {
	uint32_t id; /* in the registry, 0 if it has none */
	char uuid[37];
	char *name;  /* NULL if nobody knows it any more */
	bool there;  /* libvirt has it */
	bool saved;
};

typedef vec_of(struct known) known_t;

/* Of one that is gone, the name is not filled in. The caller frees them, also after a
 * failure. */
int know_vms(struct engine *e, known_t *ret, struct err *err);
void known_clear(known_t *k);

#endif
