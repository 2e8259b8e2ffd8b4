/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What recovery goes by, and a VM's `candidates`. */
#include "fs/similarity.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "fs/core.h"

#include <errno.h>

DEFINE_CLEANUP(struct recovery_settings, recovery_settings_unref);
DEFINE_CLEANUP(struct candidate_list, candidate_list_free);

/* ---- settings ---- */

/* As it can be written: without an exponent, and without zeroes that say nothing. */
static void print_decimal(double number, FILE *out)
{
	char text[64];
	size_t n = snprintf(text, sizeof(text), "%.9f", number);

	while (text[n - 1] == '0')
		n--;
	if (text[n - 1] == '.')
		n--;
	fprintf(out, "%.*s", (int)n, text);
}

int show_weights(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(recovery_settings_unref_p) struct recovery_settings *s =
		engine_recovery_settings(fs->e);

	for (size_t i = 0; i < s->n_weights; i++) {
		fprintf(out, "%s ", s->weights[i].category);
		print_decimal(s->weights[i].weight, out);
		fputc('\n', out);
	}
	return 0;
}

int show_threshold(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(recovery_settings_unref_p) struct recovery_settings *s =
		engine_recovery_settings(fs->e);

	print_decimal(s->threshold, out);
	fputc('\n', out);
	return 0;
}

int show_measure(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(recovery_settings_unref_p) struct recovery_settings *s =
		engine_recovery_settings(fs->e);

	fprintf(out, "%s\n", similarity_measure_to_string(s->measure));
	return 0;
}

int show_recovery_policy(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(recovery_settings_unref_p) struct recovery_settings *s =
		engine_recovery_settings(fs->e);
	const char *before = "";

	for (unsigned way = 1; way <= s->ways; way <<= 1) {
		if (!(s->ways & way))
			continue;
		fprintf(out, "%s%s", before, recovery_way_to_string(way));
		before = " ";
	}
	fputs(s->ways ? "\n" : "none\n", out);
	return 0;
}

static int set(struct fs *fs, int (*engine_set)(struct engine *, const char *, struct err *),
	       const char *text, engine_done *done, void *opaque, struct err *err)
{
	int r = engine_set(fs->e, text, err);

	if (r < 0)
		engine_recovery_set_last_error(fs->e, err->msg);
	else
		done(opaque, 0, NULL);
	return r;
}

int store_weights(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		  void *opaque, struct err *err)
{
	return set(fs, engine_set_weights, line, done, opaque, err);
}

int store_threshold(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		    void *opaque, struct err *err)
{
	return set(fs, engine_set_threshold, line, done, opaque, err);
}

int store_measure(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		  void *opaque, struct err *err)
{
	return set(fs, engine_set_measure, line, done, opaque, err);
}

int store_recovery_policy(struct fs *fs, const struct node *n, const char *line, engine_done *done,
			  void *opaque, struct err *err)
{
	return set(fs, engine_set_ways, line, done, opaque, err);
}

/* ---- candidates ---- */

/* Tabs are the table's own, and a VM's name may have one. */
static void print_name(const char *s, FILE *out)
{
	for (; *s; s++)
		fputc((unsigned char)*s < ' ' ? ' ' : *s, out);
}

static void print_set(const struct feature_set *set, FILE *out)
{
	fputs(set->n ? "\t" : "\t-", out);
	for (size_t i = 0; i < set->n; i++) {
		if (i > 0)
			fputc(',', out);
		fputs(set->features[i].category, out);
		fputc('=', out);
		fputs(set->features[i].value, out);
	}
}

/* The two largest units say enough. */
static void print_span(double seconds, FILE *out)
{
	static const struct {
		const char *name;
		long seconds;
	} units[] = { { "d", 86400 }, { "h", 3600 }, { "min", 60 }, { "s", 1 } };
	long left = seconds;
	size_t u = 0;

	while (u < 3 && left < units[u].seconds)
		u++;
	fprintf(out, "%ld%s", left / units[u].seconds, units[u].name);
	left %= units[u].seconds;
	if (u < 3 && left >= units[u + 1].seconds)
		fprintf(out, "%ld%s", left / units[u + 1].seconds, units[u + 1].name);
}

static void print_state(const struct candidate *c, FILE *out)
{
	if (c->kind != CANDIDATE_SNAPSHOT) {
		fputs(c->state, out);
		return;
	}
	fputs("loses ", out);
	print_span(c->lost, out);
}

static void print_way(const struct candidate *c, FILE *out)
{
	if (c->objection) {
		fputs("no: ", out);
		print_name(c->objection, out);
	} else {
		fprintf(out, "%s%s", c->good ? "" : "by name only: ",
			!c->way ? "runs already" : c->way == RECOVER_BY_START ? "start" : "clone");
	}
}

static void print_candidate(const struct candidate *c, FILE *out)
{
	fprintf(out, "%.3f\t", c->similarity);
	print_name(c->name, out);
	fputc('\t', out);
	print_state(c, out);
	fputc('\t', out);
	print_way(c, out);
	print_set(&c->has, out);
	print_set(&c->lacks, out);
	print_set(&c->too_much, out);
	fputc('\n', out);
}

/* Who only looks gets the reason in the place of a table: a walk through the tree does not fail. */
int show_candidates(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(candidate_list_free_p) struct candidate_list *list = NULL;
	struct err why = ERR_INIT;
	int r = engine_candidates(fs->e, n->vm->id, &list, &why);
	bool below = false;

	if (r == -ENODATA) {
		fprintf(out, "# %s\n", why.msg);
		return 0;
	}
	if (r < 0)
		return err_set(err, -r, "%s", why.msg);
	fputs("# similarity\tname\tstate\tway\thas\tlacks\ttoo much\n", out);
	for (size_t i = 0; i < list->n; i++) {
		if (!list->candidates[i].good && !below)
			fputs("# below the threshold:\n", out);
		below = !list->candidates[i].good;
		print_candidate(&list->candidates[i], out);
	}
	return 0;
}
