/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/feature-set.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define CATEGORY_MAX 64 /* bytes */
#define VALUE_MAX 192

/* All that `features` shows can be written back: what was written, what the guest's file says, each
 * with a word that says so, and the few that the guest's agent and the domain say besides. */
_Static_assert(FEATURES_TEXT_MAX >= FEATURES_MAX * (CATEGORY_MAX + VALUE_MAX + 2) +
				    FEATURES_GUEST_FILE_MAX + FEATURES_MAX * 10 + 1000,
	       "FEATURES_TEXT_MAX is too small");

/* ---- sets ---- */

void feature_set_clear(struct feature_set *set)
{
	for (size_t i = 0; i < set->n; i++) {
		free(set->features[i].category);
		free(set->features[i].value);
	}
	free(set->features);
	*set = (struct feature_set){ 0 };
}

void feature_set_add(struct feature_set *set, const char *category, const char *value,
		     enum feature_source source)
{
	set->features = xreallocarray(set->features, set->n + 1, sizeof(*set->features));
	set->features[set->n++] = (struct feature){ xstrdup(category), xstrdup(value), source };
}

void feature_set_copy(struct feature_set *to, const struct feature_set *from)
{
	*to = (struct feature_set){ 0 };
	for (size_t i = 0; i < from->n; i++)
		feature_set_add(to, from->features[i].category, from->features[i].value,
				from->features[i].source);
}

static int compare(const void *a, const void *b)
{
	const struct feature *x = a, *y = b;
	int order = strcmp(x->category, y->category);

	if (!order)
		order = strcmp(x->value, y->value);
	return order ? order : (int)x->source - (int)y->source;
}

void feature_set_sort(struct feature_set *set)
{
	size_t n = 0;

	if (set->n)
		qsort(set->features, set->n, sizeof(*set->features), compare);
	for (size_t i = 0; i < set->n; i++) {
		if (n > 0 && compare(&set->features[n - 1], &set->features[i]) == 0) {
			free(set->features[i].category);
			free(set->features[i].value);
		} else {
			set->features[n++] = set->features[i];
		}
	}
	set->n = n;
}

bool feature_set_same(const struct feature_set *a, const struct feature_set *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (compare(&a->features[i], &b->features[i]) != 0)
			return false;
	return true;
}

bool feature_set_has(const struct feature_set *set, const char *category)
{
	for (size_t i = 0; i < set->n; i++)
		if (streq(set->features[i].category, category))
			return true;
	return false;
}

/* How many of a sorted set are of one category, from the first of them on. */
static size_t of_a_category(const struct feature *f, size_t left)
{
	size_t n = 1;

	while (n < left && streq(f[n].category, f->category))
		n++;
	return n;
}

static enum feature_source first_source(const struct feature *f, size_t n)
{
	enum feature_source first = f->source;

	for (size_t i = 1; i < n; i++)
		if (f[i].source < first)
			first = f[i].source;
	return first;
}

void feature_set_count(struct feature_set *ret, const struct feature_set *all)
{
	cleanup(feature_set_clear) struct feature_set sorted = { 0 };
	size_t n;

	feature_set_copy(&sorted, all);
	feature_set_sort(&sorted);
	*ret = (struct feature_set){ 0 };
	for (const struct feature *f = sorted.features; f < sorted.features + sorted.n; f += n) {
		enum feature_source first;

		n = of_a_category(f, sorted.features + sorted.n - f);
		first = first_source(f, n);
		for (size_t i = 0; i < n; i++)
			if (f[i].source == first)
				feature_set_add(ret, f[i].category, f[i].value, first);
	}
}

/* ---- what a feature may look like ---- */

/* C0 and C1 and DEL, which no line may have, and the two that XML cannot have. */
static bool is_no_text(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xfffe || c == 0xffff;
}

static bool is_text(const char *s)
{
	while (*s) {
		uint32_t c;
		size_t n = utf8_next(s, SIZE_MAX, &c);

		if (n == 0 || is_no_text(c))
			return false;
		s += n;
	}
	return true;
}

int feature_check(const char *category, const char *value, struct err *err)
{
	if (!is_text(category) || !is_text(value))
		return err_set(err, EINVAL, "a feature is UTF-8 text without control characters");
	if (strlen(category) > CATEGORY_MAX)
		return err_set(err, EINVAL, "a category has %d bytes at most", CATEGORY_MAX);
	if (!category[0] || category[0] == '#' || strpbrk(category, " =,"))
		return err_set(err, EINVAL, "'%s' is no category: it is a word without = and ,",
			       category);
	if (!value[0])
		return err_set(err, EINVAL, "'%s' has no value: a line is CATEGORY VALUE", category);
	if (strlen(value) > VALUE_MAX)
		return err_set(err, EINVAL, "the value of '%s' has more than %d bytes", category,
			       VALUE_MAX);
	return 0;
}

/* ---- a text ---- */

#define BLANKS " \t\r\n"

void feature_squeeze(char *text)
{
	char *to = text;

	for (const char *from = text + strspn(text, BLANKS); *from;) {
		size_t n = strspn(from, BLANKS);

		if (n && from[n])
			*to++ = ' ';
		from += n;
		if (*from)
			*to++ = *from++;
	}
	*to = '\0';
}

static int parse_line(char *line, enum feature_source source, struct feature_set *set,
		      struct err *err)
{
	char *value;
	int r;

	feature_squeeze(line);
	if (!line[0] || line[0] == '#')
		return 0;
	value = line + strcspn(line, " ");
	if (*value)
		*value++ = '\0';
	r = feature_check(line, value, err);
	if (r >= 0)
		feature_set_add(set, line, value, source);
	return r;
}

static int parse_lines(char *text, enum feature_source source, struct feature_set *set,
		       struct err *err)
{
	size_t number = 0;
	char *line;

	while ((line = strsep(&text, "\n"))) {
		int r = parse_line(line, source, set, err);

		number++;
		if (r < 0) {
			err_wrap(err, "line %zu", number);
			return r;
		}
	}
	feature_set_sort(set);
	if (set->n > FEATURES_MAX)
		return err_set(err, EINVAL, "a VM has %d features at most, and not %zu",
			       FEATURES_MAX, set->n);
	return 0;
}

int features_parse(const char *text, enum feature_source source, struct feature_set *ret,
		   struct err *err)
{
	cleanup(feature_set_clear) struct feature_set set = { 0 };
	cleanup_free char *copy = xstrdup(text);
	int r = parse_lines(copy, source, &set, err);

	if (r < 0)
		return r;
	*ret = set;
	set = (struct feature_set){ 0 };
	return 0;
}

/* ---- sizes ---- */

char *feature_size(uint64_t bytes, char largest)
{
	static const char units[] = "KMGT";
	const char *unit = NULL;

	for (const char *next = units; *next && bytes && bytes % 1024 == 0; next++) {
		bytes /= 1024;
		unit = next;
		if (*next == largest)
			break;
	}
	return unit ? xasprintf("%" PRIu64 "%c", bytes, *unit) : xasprintf("%" PRIu64, bytes);
}
