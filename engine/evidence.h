/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether anybody needs an image. */
#ifndef KWS_ENGINE_EVIDENCE_H
#define KWS_ENGINE_EVIDENCE_H

#include "engine/core.h"
#include "engine/layers.h"

/* What speaks for a layer being needed. What is read first is what goes first: a file
 * whose operation ends, or that becomes a tombstone, while this is put together is
 * seen as what it is at one of the two ends. */
struct evidence {
	vec_of(struct plan *) plans; /* of the operations that are open */
	struct layers layers;
	vec_of(struct tombstone) graves; /* of VMs that libvirt knows */
};

/* With the images in e->folders. */
int evidence_gather(struct engine *e, struct evidence *ret, struct err *err);
void evidence_clear(struct evidence *ev);

/* Why it is needed, as the end of a sentence; NULL if it is not, as far as is seen. */
const char *evidence_for(const struct evidence *ev, const struct layer_file *file);

#endif
