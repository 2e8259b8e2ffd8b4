/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parts of taking a snapshot, for those who take it with others. */
#ifndef KWS_ENGINE_CREATE_H
#define KWS_ENGINE_CREATE_H

#include "engine/op.h"

/* What is to be done for one: which overlays, and whether the guest agent takes part
 * (HV_CREATE_QUIESCE). Refuses what could be created but never reverted or merged. */
int snapshot_plan(struct engine *e, struct slot *s, const char *name, enum quiesce quiesce,
		  struct plan *plan, struct err *err);

/* Notes what only we know of the snapshot that the operation has taken. *ret_id is 0 if
 * somebody has deleted it since. */
int snapshot_record(struct op *op, uint32_t *ret_id, struct err *err);

/* Whether libvirt's snapshot of the plan's name is the one that the operation has taken. */
int snapshot_is_taken(struct op *op, bool *ret, struct err *err);

#endif
