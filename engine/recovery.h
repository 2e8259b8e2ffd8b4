/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Recovery by similarity, for the other files of the engine. What is seen of it is recoveries.h's. */
#ifndef KWS_ENGINE_RECOVERY_H
#define KWS_ENGINE_RECOVERY_H

#include "engine/core.h"
#include "engine/recoveries.h"

void recovery_init(struct engine *e);
int recovery_open(struct engine *e, struct err *err);
void recovery_free(struct engine *e);

/* ---- recovery-settings.c ---- */

int recovery_settings_open(struct engine *e, struct err *err);

/* ---- features-keep.c ---- */

/* Has a VM keep those of another one that are kept, and no others. For who has it for itself. */
int features_give(struct engine *e, struct slot *s, const struct feature_set *from,
		  struct err *err);

#endif
