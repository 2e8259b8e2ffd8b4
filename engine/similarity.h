/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How similar one set of features is to another, by the weights of their categories. Nothing here
 * knows VMs, or changes anything.
 *
 * Scores are counted in billionths, as whole numbers: then .1 and .2 are .3, whatever the order, and
 * who is exactly as similar as the threshold demands is not below it.
 */
#ifndef KWS_ENGINE_SIMILARITY_H
#define KWS_ENGINE_SIMILARITY_H

#include "engine/recoveries.h"

#define WEIGHT_DECIMALS 9

/* The features that weigh something, of two sets together. The texts belong to those. */
struct overlap {
	struct feature_set has;      /* in both */
	struct feature_set lacks;    /* in the failed VM's only */
	struct feature_set too_much; /* in the candidate's only */
	uint64_t score_has, score_lacks, score_too_much;
};

/* The caller frees *ret with overlap_clear. Takes time by the length of both sets, and of the
 * weights. */
void features_overlap(const struct feature_set *failed, const struct feature_set *candidate,
		      const struct recovery_settings *settings, struct overlap *ret);
void overlap_clear(struct overlap *o);

/* 0 to 1; also 0 if nothing in either set weighs anything. */
double overlap_similarity(const struct overlap *o, enum similarity_measure m);

#endif
