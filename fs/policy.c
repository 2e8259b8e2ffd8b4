/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files by which a VM looks after itself: knobs, `expires`, `prune`.
 *
 * A knob reads as the value that holds, and, if that is not the VM's own, one word more:
 * `inherited` is what /kws/snapshots/.kws says for all VMs, `default` what holds where
 * nobody has said anything. Such a word written takes the VM's own value away. So what
 * is read can be written back, and means the same.
 */
#include "fs/control.h"
#include "fs/text.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <errno.h>

/* ---- knobs ---- */

static const char *const sources[] = {
	[KNOB_OWN] = "", [KNOB_INHERITED] = " inherited", [KNOB_DEFAULT] = " default",
};

int show_knob(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	enum knob_source source;
	cleanup_free char *text = engine_knob(fs->e, n->key.vm, n->row->knob, &source);

	if (!text)
		return err_set(err, ESTALE, "there is no such VM any more");
	fprintf(out, "%s%s\n", text, sources[source]);
	return 0;
}

static bool ends_with(const char *line, const char *word)
{
	size_t n = strlen(line), m = strlen(word);

	return n >= m && streq(line + n - m, word);
}

static bool says_whose(const char *line)
{
	for (enum knob_source source = KNOB_INHERITED; source <= KNOB_DEFAULT; source++)
		if (streq(line, sources[source] + 1) || ends_with(line, sources[source]))
			return true;
	return false;
}

/* Numbers of nothing, and an empty line, are what people write to switch something off. */
static bool means_none(enum knob k, const char *line)
{
	return k != KNOB_SCHEDULE_NAME && k != KNOB_MAX_DEPTH && (!*line || streq(line, "0"));
}

/* Of all values only a name could end in such a word by itself. */
static int check_name(struct fs *fs, const char *line, struct err *err)
{
	enum knob_source source;
	cleanup_free char *all = engine_knob(fs->e, 0, KNOB_SCHEDULE_NAME, &source);

	if (!strchr(line, ' ') || strncmp(line, all, strlen(all)) == 0)
		return 0;
	return err_set(err, EINVAL, "schedule_name cannot be '%s': names that end in 'default' or "
		       "'inherited' say that it is not the VM's own", line);
}

int store_knob(struct fs *fs, const struct node *n, const char *line, engine_done *done,
	       void *opaque, struct err *err)
{
	enum knob k = n->row->knob;
	bool whose = says_whose(line);
	const char *value = whose ? NULL : means_none(k, line) ? "none" : line;

	if (whose && k == KNOB_SCHEDULE_NAME && check_name(fs, line, err) < 0)
		return -EINVAL;
	engine_set_knob(fs->e, n->key.vm, k, value, done, opaque);
	return 0;
}

int show_all_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *msg = engine_last_error(fs->e, 0);

	if (msg[0])
		fprintf(out, "%s\n", msg);
	return 0;
}

/* ---- expires ---- */

int show_expires(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	time_t t = engine_expiry(fs->e, n->vm->id, n->snapshot);

	if (t == EXPIRES_NEVER)
		fputs("none", out);
	else
		print_seconds(t, out);
	fprintf(out, "%s\n", n->snapshot->expires == EXPIRES_BY_TTL ? " default" : "");
	return 0;
}

int store_expires(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		  void *opaque, struct err *err)
{
	time_t expires;
	int r = 0;

	if (streq(line, "default") || ends_with(line, " default"))
		expires = EXPIRES_BY_TTL;
	else if (streq(line, "none") || !*line)
		expires = EXPIRES_NEVER;
	else
		r = engine_parse_moment(line, time(NULL), &expires, err);
	if (r < 0)
		return r;
	engine_set_expires(fs->e, n->vm->id, n->snapshot->id, expires, done, opaque);
	return 0;
}

/* ---- prune ---- */

static const char *word_of(const struct verdict *v)
{
	return v->goes ? "remove" : v->waits ? "wait  " : "keep  ";
}

/* Oldest first, as they go. The name is last: it may have spaces. */
int show_prune(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free struct verdict *verdicts = engine_prune_plan(fs->e, n->vm);

	fputs("# write now to carry this out\n", out);
	for (size_t i = 0; i < n->vm->n_snapshots; i++) {
		fprintf(out, "%s  ", word_of(&verdicts[i]));
		print_seconds(n->vm->snapshots[i].created.tv_sec, out);
		fprintf(out, "  %-12s  %s\n", verdicts[i].why, n->vm->snapshots[i].name);
	}
	return 0;
}

int store_prune(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		void *opaque, struct err *err)
{
	if (!streq(line, "now"))
		return err_set(err, EINVAL, "write now to carry out what prune reads, not '%s'", line);
	engine_prune(fs->e, n->vm->id, done, opaque);
	return 0;
}
