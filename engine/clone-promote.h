/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two files that make a clone independent share: nothing else includes this. */
#ifndef KWS_ENGINE_CLONE_PROMOTE_H
#define KWS_ENGINE_CLONE_PROMOTE_H

#include "engine/op.h"

/* plan->flags; they are none of merge.h's. */
#define PROMOTE_RUNS (1u << 8)       /* it ran when it was planned */
#define PROMOTE_MAY_PAUSE (1u << 16) /* it may be we who paused it */

/* -ENOSPC, and how much is missing, if `file` cannot grow by so many bytes, or another one by
 * its side, with something left for the VMs. */
int promote_check_room(const struct layer_file *file, uint64_t bytes, struct err *err);

#endif
