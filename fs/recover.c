/* SPDX-License-Identifier: GPL-2.0-or-later */
/* recovery/VM/recover, auto and report. */
#include "fs/recover.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <errno.h>

#define FORCE "force "

int show_recover_help(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fputs("# write best, or the name of a candidate; with 'force' before it if the VM runs\n", out);
	return 0;
}

int store_recover(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		  void *opaque, struct err *err)
{
	unsigned flags = 0;

	if (strncmp(line, FORCE, strlen(FORCE)) == 0) {
		flags |= RECOVER_FORCE;
		line += strlen(FORCE);
	}
	if (!line[0])
		return err_set(err, EINVAL, "write best, or the name of a candidate");
	engine_recover(fs->e, n->vm->id, streq(line, "best") ? NULL : line, flags, done, opaque);
	return 0;
}

/* One that was given up is not looked after any more. */
int show_recovery_auto(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%d\n", engine_recovery_auto(fs->e, n->vm->id));
	return 0;
}

int store_recovery_auto(struct fs *fs, const struct node *n, const char *line, engine_done *done,
			void *opaque, struct err *err)
{
	int r;

	if (!streq(line, "0") && !streq(line, "1"))
		return err_set(err, EINVAL, "auto is 0 or 1, not '%s'", line);
	r = engine_set_recovery_auto(fs->e, n->vm->id, line[0] == '1', err);
	if (r >= 0)
		done(opaque, 0, NULL);
	return r;
}

int show_recovery_report(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *report = NULL;
	int r = engine_recovery_report(fs->e, n->vm->id, &report, err);

	if (r >= 0)
		fputs(report, out);
	return r;
}
