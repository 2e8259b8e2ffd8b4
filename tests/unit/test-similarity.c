/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The paper's case, exact, by both measures; and sums that come out the same in whatever order. */
#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/similarity.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#define N_VMS 5

/* "category=value ...", sorted as features always are. */
static const char *const vms[N_VMS] = {
	"database=MySQL language=Node.JS os=Ubuntu-20.04 webserver=Nginx",
	"database=PostgreSQL language=Node.JS os=Ubuntu-20.04 webserver=Apache",
	"database=PostgreSQL os=Ubuntu-20.04",
	"os=Ubuntu-20.04 webserver=Nginx",
	"database=MySQL database=PostgreSQL language=Node.JS os=Ubuntu-20.04 webserver=Apache "
	"webserver=Nginx",
};

static const char papers_weights[] = "database=.2 language=.3 webserver=.1";

/* Calls `each` for each "category=value". */
static void split(const char *text, void (*each)(void *opaque, char *category, char *value),
		  void *opaque)
{
	char *copy = xstrdup(text), *rest = NULL;

	for (char *at = strtok_r(copy, " ", &rest); at; at = strtok_r(NULL, " ", &rest)) {
		char *value = strchr(at, '=');

		*value = '\0';
		each(opaque, at, value + 1);
	}
	free(copy);
}

static void add_feature(void *opaque, char *category, char *value)
{
	struct feature_set *set = opaque;

	set->features = xreallocarray(set->features, set->n + 1, sizeof(*set->features));
	set->features[set->n++] = (struct feature){ xstrdup(category), xstrdup(value),
						    FEATURE_WRITTEN };
}

static struct feature_set set_of(const char *text)
{
	struct feature_set set = { 0 };

	split(text, add_feature, &set);
	return set;
}

static void add_weight(void *opaque, char *category, char *value)
{
	struct recovery_settings *s = opaque;

	s->weights = xreallocarray(s->weights, s->n_weights + 1, sizeof(*s->weights));
	s->weights[s->n_weights++] = (struct weight){ xstrdup(category), strtod(value, NULL) };
}

static void settings_clear(struct recovery_settings *s)
{
	for (size_t i = 0; i < s->n_weights; i++)
		free(s->weights[i].category);
	free(s->weights);
}

static double similarity(const char *failed, const char *candidate, const char *weights,
			 enum similarity_measure m)
{
	cleanup(feature_set_clear) struct feature_set a = set_of(failed), b = set_of(candidate);
	cleanup(settings_clear) struct recovery_settings settings = { 0 };
	cleanup(overlap_clear) struct overlap o = { 0 };

	split(weights, add_weight, &settings);
	features_overlap(&a, &b, &settings, &o);
	return overlap_similarity(&o, m);
}

static void check_table(enum similarity_measure m, const double wanted[N_VMS][N_VMS])
{
	for (size_t a = 0; a < N_VMS; a++) {
		for (size_t b = 0; b < N_VMS; b++) {
			double is = similarity(vms[a], vms[b], papers_weights, m);

			if (is != wanted[a][b])
				fail_msg("VM-00%zu and VM-00%zu: %.17g, not %.17g", a + 1, b + 1, is,
					 wanted[a][b]);
		}
	}
}

/* What fails is in front; Ubuntu has no weight. */
static void test_the_papers_case_by_jaccard(void **state)
{
	static const double wanted[N_VMS][N_VMS] = {
		{ 1, 3. / 9, 0, 1. / 6, 6. / 9 },
		{ 3. / 9, 1, 2. / 6, 0, 6. / 9 },
		{ 0, 2. / 6, 1, 0, 2. / 9 },
		{ 1. / 6, 0, 0, 1, 1. / 9 },
		{ 6. / 9, 6. / 9, 2. / 9, 1. / 9, 1 },
	};

	check_table(MEASURE_JACCARD, wanted);
}

/* The formula as it is printed: who has a little of it, or nothing, and nothing else is the best. */
static void test_the_papers_case_by_its_formula(void **state)
{
	static const double wanted[N_VMS][N_VMS] = {
		{ 1, 6. / 9, 6. / 8, 1, 6. / 9 },
		{ 6. / 9, 1, 1, 6. / 7, 6. / 9 },
		{ 2. / 8, 2. / 6, 1, 2. / 3, 2. / 9 },
		{ 1. / 6, 1. / 7, 1. / 3, 1, 1. / 9 },
		{ 1, 1, 1, 1, 1 },
	};

	check_table(MEASURE_PAPER, wanted);
	assert_true(similarity(vms[0], "", papers_weights, MEASURE_PAPER) == 1);
	assert_true(similarity(vms[0], "", papers_weights, MEASURE_JACCARD) == 0);
}

static void check_set(const struct feature_set *set, const char *const *values, size_t n)
{
	assert_int_equal(set->n, n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(set->features[i].value, values[i]);
}

static void test_what_it_has_and_lacks(void **state)
{
	static const char *const has[] = { "Node.JS" }, *const lacks[] = { "MySQL", "Nginx" },
			  *const too_much[] = { "PostgreSQL", "Apache" };
	cleanup(feature_set_clear) struct feature_set a = set_of(vms[0]), b = set_of(vms[1]);
	cleanup(settings_clear) struct recovery_settings settings = { 0 };
	cleanup(overlap_clear) struct overlap o = { 0 };

	split(papers_weights, add_weight, &settings);
	features_overlap(&a, &b, &settings, &o);
	check_set(&o.has, has, 1);
	check_set(&o.lacks, lacks, 2);
	check_set(&o.too_much, too_much, 2);
	assert_int_equal(o.score_has, 300000000);
	assert_int_equal(o.score_lacks, 300000000);
	assert_int_equal(o.score_too_much, 300000000);
}

/* As sums of doubles these are .6 and .6000000000000001, and who is just as similar as the threshold
 * demands would be below it. */
static void test_exactly_the_threshold(void **state)
{
	static const char weights[] = "a=.1 b=.2 c=.3 d=.7 e=.000000001 f=1000000";
	static const struct {
		const char *failed, *candidate;
		double wanted;
	} cases[] = {
		{ "a=x b=x c=x", "c=x", .5 },   { "a=x b=x c=x", "a=x b=x", .5 },
		{ "a=x d=x", "d=x", .875 },     { "a=x d=x", "a=x", .125 },
		{ "e=x", "e=x", 1 },            { "e=x f=x", "e=x", 1 / 1000000000000001. },
		{ "e=x f=x", "f=x", 1000000000000000. / 1000000000000001. },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_true(similarity(cases[i].failed, cases[i].candidate, weights,
				       MEASURE_JACCARD) == cases[i].wanted);
}

static void test_nothing_that_weighs(void **state)
{
	for (enum similarity_measure m = MEASURE_JACCARD; m <= MEASURE_PAPER; m++) {
		assert_true(similarity(vms[0], vms[4], "", m) == 0);
		assert_true(similarity(vms[0], vms[4], "os=0", m) == 0);
		assert_true(similarity("", "", papers_weights, m) == 0);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_papers_case_by_jaccard),
		cmocka_unit_test(test_the_papers_case_by_its_formula),
		cmocka_unit_test(test_what_it_has_and_lacks),
		cmocka_unit_test(test_exactly_the_threshold),
		cmocka_unit_test(test_nothing_that_weighs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
