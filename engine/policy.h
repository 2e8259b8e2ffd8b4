/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The knobs in .kws/: each has a value of the VM's own, or else the one for all VMs, or
 * else a default. They are kept as text, checked when they are written.
 */
#ifndef KWS_ENGINE_POLICY_H
#define KWS_ENGINE_POLICY_H

#include "engine/core.h"
#include "engine/retention.h"

/* How much of a file system is to stay free: bytes, or parts of it. */
struct room {
	uint64_t bytes;
	unsigned percent;
};

/* All that holds for a VM. */
struct policy {
	struct retention retention;
	struct room min_free; /* zero: no limit */
	char *schedule, *schedule_name, *prune_schedule; /* NULL: none */
};

#define POLICY_NONE "none"

void policy_clear(struct policy *p);
/* To be freed with policy_clear. */
void policy_of(struct engine *e, struct slot *s, struct policy *ret);

/* For who wants only these. */
struct duration policy_ttl(struct engine *e, uint32_t vm_id);
unsigned policy_max_depth(struct engine *e, struct slot *s);

/* The name that a snapshot of the schedule gets at a moment (seconds since the epoch). The
 * caller frees it. EINVAL if that is no name. */
int policy_snapshot_name(const char *format, time_t t, char **ret, struct err *err);

/* What the registry has of a VM, or, if vm_id is 0, for all. The caller frees the texts. */
int policy_load(struct registry *r, uint32_t vm_id, char *ret[N_KNOBS], struct err *err);
void policy_values_free(char *values[N_KNOBS]);

/* Whether less is free than min_free says, where its overlays are: prune.c. */
bool is_short_of_room(struct engine *e, struct slot *s);

#endif
