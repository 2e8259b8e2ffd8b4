/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting another VM in the place of one that failed, for the other files of the engine. What is
 * seen of it is recoveries.h's; "recover" means the journal's (recover.c).
 */
#ifndef KWS_ENGINE_FAILOVER_H
#define KWS_ENGINE_FAILOVER_H

#include "engine/core.h"
#include "engine/recoveries.h"

/* ---- failover-kept.c: what is kept of VMs ---- */

int failovers_open(struct engine *e, struct err *err);
void failovers_close(struct engine *e);

/* Of one of which nothing is kept all but its id is 0. */
struct failover_kept failover_kept(struct engine *e, uint32_t vm);
/* All of which something is; the caller frees *ret. */
void failover_kept_all(struct engine *e, struct failover_kept **ret, size_t *ret_n);
uint32_t failover_line(struct engine *e, uint32_t vm); /* never 0 */

enum failover_fact {
	FACT_AUTOMATIC = 1 << 0,
	FACT_GIVEN_UP = 1 << 1,
	FACT_RAN = 1 << 2,
	FACT_REPLACED = 1 << 3,
	FACT_LINE = 1 << 4,
};

/* Sets those of the facts, as row->vm's, to what `row` has. Durable when it returns, but for
 * FACT_RAN by itself: after a power cut no VM runs. */
int failover_keep(struct engine *e, const struct failover_vm *row, unsigned facts,
		  struct err *err);
/* Until when it waits; 0: it does not. Whether that is news. */
bool failover_put_off(struct engine *e, uint32_t vm, struct timespec until);
/* Whether it has crashed so soon that nobody saw it run. True once: FACT_RAN keeps it then. */
bool failover_take_unseen(struct engine *e, uint32_t vm);
/* Its line begins anew: what has failed does not count any more. */
int failover_forgive(struct engine *e, uint32_t vm, struct err *err);

/* What of its history speaks against a VM that is off taking the place of another; NULL if nothing
 * does. The caller frees it. */
char *failover_objection(struct engine *e, const struct vm *vm);

/* ---- failover.c: one thread ---- */

/* What is waited for after a failure, in milliseconds; after the next one twice as long, ... */
extern unsigned failover_wait_ms;

void failovers_init(struct engine *e);
int failovers_start(struct engine *e, struct err *err);
/* While there are workers yet, as pools_stop. */
void failovers_stop(struct engine *e);
/* Something changed by which it may have to do something. The lock is held. */
void failovers_want(struct engine *e);

/* ---- failover-run.c: one recovery ---- */

struct failover_wish {
	uint32_t vm;
	bool ordered;
	const char *whom; /* NULL: the best one */
	unsigned flags;   /* enum recover_flags */
	struct timespec failed; /* CLOCK_REALTIME */
};

/* -EALREADY if it is not by order and the VM has not failed any more. */
int failover_run(struct engine *e, const struct failover_wish *wish, struct err *err);
/* Goes on with one that was begun by an earlier process, or before libvirt was lost; one that was
 * ordered is only brought to its end. */
int failover_go_on(struct engine *e, struct failover *f, struct err *err);

/* ---- failover-take.c: a candidate takes the place ---- */

/* Does f->way with f->vm_used. f->replacement is set, and in the registry before a clone of
 * that name is made; *ret_vm is it. *ret_over: nobody else is to be tried, for it is not the
 * candidate that is wrong. */
int failover_take(struct engine *e, struct slot *failed, struct failover *f, uint32_t *ret_vm,
		  bool *ret_over, struct err *err);
/* The rest of that, if an earlier process has begun it: -ENOENT if it was not as far as that. */
int failover_take_again(struct engine *e, struct slot *failed, struct failover *f,
			uint32_t *ret_vm, bool *ret_over, struct err *err);
/* -EEXIST if a VM that runs, but for one that is or will be off, has one of its MAC addresses. */
int failover_check_identity(struct engine *e, const char *uuid, const char *but_for,
			    struct err *err);
/* That the failed one does not run; -EALREADY if it does. */
int failover_check_off(struct engine *e, const struct slot *failed, struct err *err);

#define FAILOVER_CLAIM_SECONDS 60 /* who works on a VM for longer than that stands in the way */

/* For tests: op_fault at points of it, as if they were steps of an operation "recovery". */
int failover_at(const char *step, struct err *err);

#endif
