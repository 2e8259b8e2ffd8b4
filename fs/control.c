/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/control.h"

#include "common/cleanup.h"
#include "common/utf8.h"
#include "fs/core.h"

#include <errno.h>

/* C0 and C1 but for tabs, and DEL. */
static bool is_control(uint32_t c)
{
	return (c < 0x20 && c != '\t') || (c >= 0x7f && c < 0xa0);
}

static int check_characters(const char *buf, size_t size, bool lines, struct err *err)
{
	for (size_t i = 0; i < size;) {
		uint32_t c = 0;
		size_t n = utf8_next(buf + i, size - i, &c);
		bool ends_line = lines && (c == '\n' || c == '\r');

		if (n == 0 || (is_control(c) && !ends_line))
			return err_set(err, EINVAL, "%s of UTF-8 text without control characters can "
				       "be written here", lines ? "lines" : "a line");
		i += n;
	}
	return 0;
}

static char *copy_of(const char *buf, size_t size)
{
	char *copy = xcalloc(1, size + 1);

	memcpy(copy, buf, size);
	return copy;
}

int control_text(const char *buf, size_t size, char **ret, struct err *err)
{
	int r = check_characters(buf, size, true, err);

	if (r >= 0)
		*ret = copy_of(buf, size);
	return r;
}

int control_line(const char *buf, size_t size, char **ret, struct err *err)
{
	int r;

	if (size > 0 && buf[size - 1] == '\n')
		size--;
	if (size > CONTROL_LINE_MAX)
		return err_set(err, EINVAL, "one line of %d bytes at most can be written here",
			       CONTROL_LINE_MAX);
	if (memchr(buf, '\n', size))
		return err_set(err, EINVAL, "several lines were written where one is one command");
	r = check_characters(buf, size, false, err);
	if (r >= 0)
		*ret = copy_of(buf, size);
	return r;
}

/* "1 [keep] [force] [start]" -> enum revert_flags. -EINVAL. */
static int parse_revert(const char *line, unsigned *ret_flags, struct err *err)
{
	static const struct {
		const char *word;
		unsigned flag;
	} words[] = { { "keep", REVERT_KEEP }, { "force", REVERT_FORCE }, { "start", REVERT_START } };
	cleanup_free char *copy = xstrdup(line);
	char *rest = NULL, *word = strtok_r(copy, " \t", &rest);
	unsigned flags = 0;

	if (!streq(word, "1"))
		return err_set(err, EINVAL, "write 1 [keep] [force] [start] to revert");
	while ((word = strtok_r(NULL, " \t", &rest))) {
		unsigned flag = 0;

		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if (streq(word, words[i].word))
				flag = words[i].flag;
		if (!flag)
			return err_set(err, EINVAL, "revert does not know '%s': write 1 [keep] "
				       "[force] [start]", word);
		flags |= flag;
	}
	*ret_flags = flags;
	return 0;
}

int store_quiesce(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		  void *opaque, struct err *err)
{
	enum quiesce quiesce;

	if (quiesce_from_string(line, &quiesce) < 0)
		return err_set(err, EINVAL, "quiesce is auto, yes or no, not '%s'", line);
	engine_set_quiesce(fs->e, n->vm->id, quiesce, done, opaque);
	return 0;
}

int store_description(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		      void *opaque, struct err *err)
{
	engine_set_description(fs->e, n->vm->id, n->snapshot->id, line, done, opaque);
	return 0;
}

int store_pin(struct fs *fs, const struct node *n, const char *line, engine_done *done,
	      void *opaque, struct err *err)
{
	if (!streq(line, "0") && !streq(line, "1"))
		return err_set(err, EINVAL, "pin is 0 or 1, not '%s'", line);
	engine_set_pinned(fs->e, n->vm->id, n->snapshot->id, line[0] == '1', done, opaque);
	return 0;
}

int store_cancel(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		 void *opaque, struct err *err)
{
	int r;

	if (!streq(line, "1"))
		return err_set(err, EINVAL, "write 1 to break the job off, not '%s'", line);
	r = engine_job_cancel(fs->e, n->vm->id, n->key.snapshot, err);
	if (r >= 0)
		done(opaque, 0, NULL);
	return r;
}

int store_checksums(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		    void *opaque, struct err *err)
{
	int r;

	if (!streq(line, "1"))
		return err_set(err, EINVAL, "write 1 to have the checksums made, not '%s'", line);
	r = engine_checksums_make(fs->e, n->vm->id, n->snapshot->id, err);
	if (r >= 0)
		done(opaque, 0, NULL);
	return r;
}

int ask_fsck(struct fs *fs, const struct node *n, const char *line, char **ret_answer,
	     engine_done *done, void *opaque, struct err *err)
{
	if (!streq(line, "check") && !streq(line, "repair"))
		return err_set(err, EINVAL, "write check or repair, not '%s'", line);
	engine_fsck(fs->e, streq(line, "repair"), ret_answer, done, opaque);
	return 0;
}

int store_revert(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		 void *opaque, struct err *err)
{
	unsigned flags;
	int r = parse_revert(line, &flags, err);

	if (r < 0)
		return r;
	engine_snapshot_revert(fs->e, n->vm->id, n->snapshot->id, flags, done, opaque);
	return 0;
}
