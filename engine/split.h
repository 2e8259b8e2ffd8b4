/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_ENGINE_SPLIT_H
#define KWS_ENGINE_SPLIT_H

#include "engine/core.h"

/* Gives the running VM an empty overlay on `active`, the layer that it writes to; that is
 * a tombstone then. */
int split_active(struct engine *e, struct slot *s, const char *target,
		 const struct layer_file *active, struct err *err);

#endif
