/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/similarity.h"

#include "common/mem.h"

#include <errno.h>
#include <stdlib.h>

/* ---- measures ---- */

static const char *const measure_names[] = {
	[MEASURE_JACCARD] = "jaccard", [MEASURE_PAPER] = "paper",
};

const char *similarity_measure_to_string(enum similarity_measure m)
{
	return measure_names[m];
}

int similarity_measure_from_string(const char *s, enum similarity_measure *ret)
{
	for (size_t i = 0; i < sizeof(measure_names) / sizeof(measure_names[0]); i++) {
		if (!streq(s, measure_names[i]))
			continue;
		*ret = i;
		return 0;
	}
	return -EINVAL;
}

double overlap_similarity(const struct overlap *o, enum similarity_measure m)
{
	uint64_t failed = o->score_has + o->score_lacks, either = failed + o->score_too_much;

	if (either == 0)
		return 0;
	return (double)(m == MEASURE_PAPER ? failed : o->score_has) / (double)either;
}

/* ---- comparing ---- */

/* Goes through the weights as a walk over features does, whose categories come in the same order. */
struct scale {
	const struct weight *at, *end;
};

static uint64_t score_of(struct scale *s, const struct feature *f)
{
	while (s->at < s->end && strcmp(s->at->category, f->category) < 0)
		s->at++;
	if (s->at == s->end || !streq(s->at->category, f->category))
		return 0;
	return s->at->weight * 1e9 + .5;
}

static int compare(const struct feature *a, const struct feature *b)
{
	int order = strcmp(a->category, b->category);

	return order ? order : strcmp(a->value, b->value);
}

static void add(struct feature_set *set, uint64_t *score, struct scale *s, const struct feature *f)
{
	uint64_t more = score_of(s, f);

	if (more == 0)
		return;
	set->features[set->n++] = *f;
	*score += more;
}

static struct feature_set room_for(size_t n)
{
	return (struct feature_set){ .features = xcalloc(n, sizeof(struct feature)) };
}

void features_overlap(const struct feature_set *failed, const struct feature_set *candidate,
		      const struct recovery_settings *settings, struct overlap *ret)
{
	const struct feature *a = failed->features, *a_end = a + failed->n;
	const struct feature *b = candidate->features, *b_end = b + candidate->n;
	struct scale scale = { settings->weights, settings->weights + settings->n_weights };
	struct overlap o = { .has = room_for(failed->n), .lacks = room_for(failed->n),
			     .too_much = room_for(candidate->n) };

	while (a < a_end || b < b_end) {
		int order = a == a_end ? 1 : b == b_end ? -1 : compare(a, b);

		if (order == 0)
			add(&o.has, &o.score_has, &scale, a);
		else if (order < 0)
			add(&o.lacks, &o.score_lacks, &scale, a);
		else
			add(&o.too_much, &o.score_too_much, &scale, b);
		a += order <= 0;
		b += order >= 0;
	}
	*ret = o;
}

void overlap_clear(struct overlap *o)
{
	free(o->has.features);
	free(o->lacks.features);
	free(o->too_much.features);
	*o = (struct overlap){ 0 };
}
