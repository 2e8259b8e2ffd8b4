/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_ENGINE_MERGING_H
#define KWS_ENGINE_MERGING_H

#include "engine/chain.h"
#include "engine/core.h"

/* Puts the layers back into an image that was opened just now which QEMU took out of
 * its chain too early. -ENOENT if a merge has ended meanwhile: open it again. */
int merging_complete_chain(struct engine *e, struct image *image, struct err *err);

#endif
