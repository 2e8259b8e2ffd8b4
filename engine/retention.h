/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which snapshots of a VM stay, and which go: the plan that .kws/prune shows, and that
 * is carried out. A function of what it is given, and nothing else.
 */
#ifndef KWS_ENGINE_RETENTION_H
#define KWS_ENGINE_RETENTION_H

#include "engine/duration.h"
#include "engine/engine.h"

enum keep_rule { KEEP_LAST, KEEP_HOURLY, KEEP_DAILY, KEEP_WEEKLY, KEEP_MONTHLY, KEEP_YEARLY, N_KEEP_RULES };

struct retention {
	unsigned keep[N_KEEP_RULES]; /* how many; 0: there is no such rule */
	struct duration keep_within; /* before the newest snapshot; zero: no such rule */
	unsigned max_count;          /* 0: no limit */
	struct duration ttl;         /* zero: none */
};

/* What the plan depends on besides. */
struct circumstances {
	time_t now;
	bool all_rules;    /* also what the keep_ rules say; else only time and number */
	bool want_room;    /* too little is free: the oldest that may go goes */
	const bool *open;  /* for each snapshot: an image of it is open; NULL: none is */
	const bool *cloned; /* likewise: clones stand on it */
	const bool *published; /* likewise: a pool publishes it */
};

/* True if there is a rule that keeps: without one, all are kept. */
bool retention_has_keep_rules(const struct retention *r);

/* When a snapshot expires, in seconds since the epoch; EXPIRES_NEVER. */
time_t retention_expiry(const struct retention *r, const struct snapshot *s);

/* What becomes of each of vm->snapshots. */
void retention_plan(const struct vm *vm, const struct retention *r, const struct circumstances *c,
		    struct verdict *ret);

#endif
