/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What can only be told by looking at files: how deep the chain of a disk is, and how
 * much the layers of a snapshot occupy.
 */
#ifndef KWS_ENGINE_MEASURE_H
#define KWS_ENGINE_MEASURE_H

#include "engine/engine.h"

struct slot;

/* Of one VM; under engine.lock. */
struct measuring {
	bool wanted;
	struct vm_measures *known; /* NULL: nothing yet */
};

/* The files of a VM are not what they were: has them looked at. */
void measure_later(struct engine *e, struct slot *s);

void *measure_thread(void *engine);

#endif
