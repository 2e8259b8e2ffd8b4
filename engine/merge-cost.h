/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two ways of merging a layer C with the one under it, F, would move. */
#ifndef KWS_ENGINE_MERGE_COST_H
#define KWS_ENGINE_MERGE_COST_H

#include "engine/files.h"

/* All in bytes. What is moved is data that are read and written; what the file that
 * stays grows by is at most `grows`, tables included. */
struct merge_way {
	uint64_t moves, grows;
};

struct merge_cost {
	struct merge_way commit; /* what C holds into F */
	struct merge_way pull;   /* what F holds and C does not into C */
};

/* Reads both maps; the layers may be in use. */
int merge_cost(const struct layer_file *c, const struct layer_file *f, struct merge_cost *ret,
	       struct err *err);

#endif
