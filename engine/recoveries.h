/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VM is like, which others are like it, and what takes its place when it fails. engine.h
 * includes this: it is a part of what fs/ and mount/ see of the engine, in a file of its own.
 *
 * A VM is described by its features, each a category and a value ("database", "MySQL"). Categories
 * have weights. How similar a candidate is to the VM that failed is said by the weights of the
 * features that both have beside those of all that either has. docs/RECOVERY.md has the rest.
 */
#ifndef KWS_ENGINE_RECOVERIES_H
#define KWS_ENGINE_RECOVERIES_H

#include "engine/engine.h"

/* ---- features ---- */

void feature_set_clear(struct feature_set *set);

#define FEATURES_MAX 256      /* of one VM */
#define FEATURES_TEXT_MAX 98304 /* bytes, as they are written or shown */

/* Puts what `text` says, a line "CATEGORY VALUE" each, in the place of what was written before.
 * -EINVAL with a sentence through `done`. */
void engine_set_features(struct engine *e, uint32_t vm_id, const char *text, engine_done *done,
			 void *opaque);
/* Asks the guest's agent, and keeps what it says in the place of what it said before. -EINVAL if
 * the VM does not run, -EOPNOTSUPP if it has no agent or that says nothing, -ETIMEDOUT. */
void engine_ask_features(struct engine *e, uint32_t vm_id, engine_done *done, void *opaque);

/* ---- similarity ---- */

enum similarity_measure {
	MEASURE_JACCARD, /* score(A and B) / score(A or B) */
	MEASURE_PAPER,   /* score(A) / score(A or B): docs/RECOVERY.md says why not */
};

const char *similarity_measure_to_string(enum similarity_measure m);
int similarity_measure_from_string(const char *s, enum similarity_measure *ret); /* 0 or -EINVAL */

enum recovery_way {
	RECOVER_BY_CLONE = 1 << 0,    /* of a template, or of a stopped VM's newest snapshot */
	RECOVER_BY_START = 1 << 1,    /* of a VM that is stopped */
	RECOVER_BY_SNAPSHOT = 1 << 2, /* a clone of the VM's own newest snapshot */
};

struct weight {
	char *category;
	double weight; /* finite, not negative */
};

/* What holds for all recoveries. */
struct recovery_settings {
	int refs; /* the engine's */
	struct weight *weights; /* sorted by category; what is not in it weighs nothing */
	size_t n_weights;
	double threshold; /* 0 to 1: who is less similar is no candidate for `best` */
	enum similarity_measure measure;
	unsigned ways; /* enum recovery_way */
};

struct recovery_settings *engine_recovery_settings(struct engine *e);
void recovery_settings_unref(struct recovery_settings *s); /* NULL is allowed */

#define WEIGHTS_MAX 256
#define WEIGHTS_TEXT_MAX 32768 /* bytes, as they are written */
#define WEIGHT_MOST 1000000

/* The word of `policy` for one of them, NULL if it is none. */
const char *recovery_way_to_string(enum recovery_way way);

/* Each checks, keeps and publishes; -EINVAL with a sentence. "default" takes away what was set. */
int engine_set_weights(struct engine *e, const char *text, struct err *err); /* "CATEGORY WEIGHT" lines */
int engine_set_threshold(struct engine *e, const char *text, struct err *err);
int engine_set_measure(struct engine *e, const char *text, struct err *err);
int engine_set_ways(struct engine *e, const char *text, struct err *err); /* words of `policy` */

/* ---- candidates ---- */

enum candidate_kind {
	CANDIDATE_VM,       /* as it is: it runs, or may be started or cloned */
	CANDIDATE_POOL,     /* what a pool publishes */
	CANDIDATE_SNAPSHOT, /* the VM's own newest snapshot */
};

struct candidate {
	enum candidate_kind kind;
	char *name;         /* of the VM; "pool/NAME"; "snapshot/NAME" */
	uint32_t vm;        /* that it is, or whose snapshot it is */
	uint32_t snapshot;  /* that a clone of it would be made from, 0 if none */
	uint32_t pool;
	const char *state;  /* of the VM, libvirt's word; "template", "snapshot" */
	double similarity;
	bool good;          /* not below the threshold */
	/* What recovery would do with it; 0: nothing, for it runs. */
	enum recovery_way way;
	/* Why recovery may not use it; one sentence, or NULL. */
	char *objection;
	double lost;        /* CANDIDATE_SNAPSHOT: seconds since it was taken */
	/* Of the features that weigh something: those that both have, that only the failed VM has,
	 * that only this one has. The texts belong to the VMs, so to the list. */
	struct feature_set has, lacks, too_much;
};

struct candidate_list {
	/* Best first: by similarity; of those that are as similar VMs that run, VMs that do not,
	 * pools, the own snapshot; then by name. */
	struct candidate *candidates;
	size_t n;
	struct vm_list *vms; /* that they are, at one moment */
};

/* All that could take the VM's place. Of one of which only its definition is known that is what was
 * made of itself, at 1; -ENODATA if there is none. The caller frees with candidate_list_free. */
int engine_candidates(struct engine *e, uint32_t vm_id, struct candidate_list **ret,
		      struct err *err);
void candidate_list_free(struct candidate_list *list); /* NULL is allowed */

/* ---- recovering ---- */

enum recover_flags {
	RECOVER_FORCE = 1 << 0, /* also a VM that runs: it is destroyed */
};

/* `whom`: NULL for the best one, or a candidate's name. `done` is called when its replacement
 * runs. Before anything is done: EBUSY if the VM runs and is not to be forced, EOPNOTSUPP if it is
 * transient, ENOENT if there is no such candidate, EPERM if something speaks against it, ESRCH if
 * none is good enough, and those of engine_candidates. EEXIST if a VM that runs has a MAC address
 * of who was to be started, EALREADY if somebody starts the failed one meanwhile. */
void engine_recover(struct engine *e, uint32_t vm_id, const char *whom, unsigned flags,
		    engine_done *done, void *opaque);

/* Whether it is recovered by itself when it crashes; no more once it was given up. */
bool engine_recovery_auto(struct engine *e, uint32_t vm_id);
int engine_set_recovery_auto(struct engine *e, uint32_t vm_id, bool on, struct err *err);

/* What became of its failures, as lines; the caller frees *ret. */
int engine_recovery_report(struct engine *e, uint32_t vm_id, char **ret, struct err *err);

/* As engine_last_error. */
char *engine_recovery_last_error(struct engine *e);
void engine_recovery_set_last_error(struct engine *e, const char *msg);

#endif
