/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds for all recoveries. The registry has the texts that were written, as far as somebody
 * has written any; what is published is made of them anew whenever one changes, and never changes
 * itself. So who looks for candidates has one moment of all four.
 */
#include "engine/recovery.h"
#include "engine/similarity.h"

#include <errno.h>

DEFINE_CLEANUP(struct recovery_settings, recovery_settings_unref);

/* ---- weights ---- */

/* Digits with at most one point among them: no sign, no exponent, nothing that is not finite. */
static int parse_decimal(const char *text, double most, double *ret)
{
	size_t whole = strspn(text, "0123456789");
	size_t decimals = text[whole] == '.' ? strspn(text + whole + 1, "0123456789") : 0;
	const char *end = text + whole + (text[whole] == '.') + decimals;
	double number;

	if (*end || whole + decimals == 0 || decimals > WEIGHT_DECIMALS)
		return -EINVAL;
	number = strtod(text, NULL);
	if (number > most)
		return -EINVAL;
	*ret = number;
	return 0;
}

static int add_weight(struct recovery_settings *s, const char *category, const char *text,
		      struct err *err)
{
	double weight;

	for (size_t i = 0; i < s->n_weights; i++)
		if (streq(s->weights[i].category, category))
			return err_set(err, EINVAL, "'%s' is given two weights", category);
	if (s->n_weights == WEIGHTS_MAX)
		return err_set(err, EINVAL, "there can be %d weights at most", WEIGHTS_MAX);
	if (parse_decimal(text, WEIGHT_MOST, &weight) < 0)
		return err_set(err, EINVAL, "the weight of '%s' is a number from 0 to %d with at most %d "
			       "decimals, as in 0.3, not '%s'", category, WEIGHT_MOST, WEIGHT_DECIMALS,
			       text);
	s->weights[s->n_weights++] = (struct weight){ xstrdup(category), weight };
	return 0;
}

/* "CATEGORY WEIGHT", a comment, or nothing. */
static int parse_weight(char *line, struct recovery_settings *s, struct err *err)
{
	char *rest = NULL;
	const char *category = strtok_r(line, " \t\r", &rest), *weight;

	if (!category || category[0] == '#')
		return 0;
	weight = strtok_r(NULL, " \t\r", &rest);
	if (!weight)
		return err_set(err, EINVAL, "'%s' is given no weight: write lines of a category and its "
			       "weight, as in language 0.3", category);
	if (strtok_r(NULL, " \t\r", &rest))
		return err_set(err, EINVAL, "the line of '%s' has more than a category and its weight: a "
			       "category has no blanks", category);
	return add_weight(s, category, weight, err);
}

static int by_category(const void *a, const void *b)
{
	return strcmp(((const struct weight *)a)->category, ((const struct weight *)b)->category);
}

static int parse_weights(const char *text, struct recovery_settings *s, struct err *err)
{
	cleanup_free char *copy = xstrdup(text);
	char *rest = copy, *line;

	s->weights = xcalloc(WEIGHTS_MAX, sizeof(*s->weights));
	while ((line = strsep(&rest, "\n"))) {
		int r = parse_weight(line, s, err);

		if (r < 0)
			return r;
	}
	if (s->n_weights == 0)
		return err_set(err, EINVAL, "no weight was written: write lines of a category and its "
			       "weight, or default");
	qsort(s->weights, s->n_weights, sizeof(*s->weights), by_category);
	return 0;
}

/* ---- the others ---- */

static int parse_threshold(const char *text, struct recovery_settings *s, struct err *err)
{
	if (parse_decimal(text, 1, &s->threshold) == 0)
		return 0;
	return err_set(err, EINVAL, "the threshold is a number from 0 to 1 with at most %d decimals, as "
		       "in 0.5, not '%s'", WEIGHT_DECIMALS, text);
}

static int parse_measure(const char *text, struct recovery_settings *s, struct err *err)
{
	if (similarity_measure_from_string(text, &s->measure) == 0)
		return 0;
	return err_set(err, EINVAL, "the measure is jaccard or paper, not '%s'", text);
}

static const struct {
	enum recovery_way way;
	const char *word;
} way_words[] = {
	{ RECOVER_BY_CLONE, "clone" },
	{ RECOVER_BY_START, "start" },
	{ RECOVER_BY_SNAPSHOT, "own_last_snapshot" },
};

#define N_WAYS (sizeof(way_words) / sizeof(way_words[0]))

const char *recovery_way_to_string(enum recovery_way way)
{
	for (size_t i = 0; i < N_WAYS; i++)
		if (way_words[i].way == way)
			return way_words[i].word;
	return NULL;
}

static unsigned way_of(const char *word)
{
	for (size_t i = 0; i < N_WAYS; i++)
		if (streq(word, way_words[i].word))
			return way_words[i].way;
	return 0;
}

/* None of them is for who only wants to be told of VMs that run. */
static int parse_ways(const char *text, struct recovery_settings *s, struct err *err)
{
	cleanup_free char *copy = xstrdup(text);
	char *rest = NULL, *word = strtok_r(copy, " \t", &rest);

	s->ways = 0;
	if (!word || streq(text, "none"))
		return 0;
	for (; word; word = strtok_r(NULL, " \t", &rest)) {
		if (!way_of(word))
			return err_set(err, EINVAL, "the policy does not know '%s': write clone, start "
				       "and own_last_snapshot, as many as shall be allowed, or none", word);
		s->ways |= way_of(word);
	}
	return 0;
}

/* ---- all of them ---- */

enum setting { SETTING_WEIGHTS, SETTING_THRESHOLD, SETTING_MEASURE, SETTING_WAYS, N_SETTINGS };

static const struct {
	const char *name;  /* in the registry */
	const char *value; /* where nobody has set one */
	int (*parse)(const char *text, struct recovery_settings *s, struct err *err);
} settings[N_SETTINGS] = {
	[SETTING_WEIGHTS] = { "recovery.weights",
			      "language 0.3\ndatabase 0.2\nwebserver 0.1\nos 0.2\n"
			      "cpu 0.05\nmemory 0.1\ndisk 0.05\n", parse_weights },
	[SETTING_THRESHOLD] = { "recovery.threshold", "0.5", parse_threshold },
	[SETTING_MEASURE] = { "recovery.measure", "jaccard", parse_measure },
	[SETTING_WAYS] = { "recovery.policy", "clone start", parse_ways },
};

static struct recovery_settings *settings_new(void)
{
	struct recovery_settings *s = xnew(struct recovery_settings);

	s->refs = 1;
	return s;
}

static int read_all(struct engine *e, struct recovery_settings *ret, struct err *err)
{
	for (enum setting which = 0; which < N_SETTINGS; which++) {
		cleanup_free char *text = NULL;
		int r = registry_setting(e->registry, settings[which].name, &text, err);

		if (r >= 0)
			r = settings[which].parse(text ?: settings[which].value, ret, err);
		if (r < 0)
			return err_wrap(err, "cannot read %s", settings[which].name);
	}
	return 0;
}

/* Of two at the same time that stays which began to read later: see groups_publish. */
static int publish(struct engine *e, struct err *err)
{
	cleanup(recovery_settings_unref_p) struct recovery_settings *now = settings_new();
	uint64_t number;
	int r;

	pthread_mutex_lock(&e->lock);
	number = ++e->recovery.asked;
	pthread_mutex_unlock(&e->lock);
	r = read_all(e, now, err);
	if (r < 0)
		return r;
	LOCK_SCOPE(&e->lock);

	if (number > e->recovery.shown) {
		struct recovery_settings *old = e->recovery.settings;

		e->recovery.settings = now;
		e->recovery.shown = number;
		now = old;
	}
	return 0;
}

int recovery_settings_open(struct engine *e, struct err *err)
{
	return publish(e, err);
}

struct recovery_settings *engine_recovery_settings(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	__atomic_add_fetch(&e->recovery.settings->refs, 1, __ATOMIC_RELAXED);
	return e->recovery.settings;
}

void recovery_settings_unref(struct recovery_settings *s)
{
	if (!s || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < s->n_weights; i++)
		free(s->weights[i].category);
	free(s->weights);
	free(s);
}

/* ---- setting ---- */

static bool is_default(const char *text)
{
	size_t n = strlen("default");

	return strncmp(text, "default", n) == 0 && strspn(text + n, " \t\r\n") == strlen(text + n);
}

static int set(struct engine *e, enum setting which, const char *text, struct err *err)
{
	cleanup(recovery_settings_unref_p) struct recovery_settings *unused = settings_new();
	const char *value = is_default(text) ? NULL : text;
	int r = value ? settings[which].parse(value, unused, err) : 0;

	if (r >= 0)
		r = registry_set_setting(e->registry, settings[which].name, value, err);
	return r < 0 ? r : publish(e, err);
}

int engine_set_weights(struct engine *e, const char *text, struct err *err)
{
	return set(e, SETTING_WEIGHTS, text, err);
}

int engine_set_threshold(struct engine *e, const char *text, struct err *err)
{
	return set(e, SETTING_THRESHOLD, text, err);
}

int engine_set_measure(struct engine *e, const char *text, struct err *err)
{
	return set(e, SETTING_MEASURE, text, err);
}

int engine_set_ways(struct engine *e, const char *text, struct err *err)
{
	return set(e, SETTING_WAYS, text, err);
}
