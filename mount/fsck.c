/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check, from the command line. Whoever has the state locked checks: this process
 * itself, or the kwsfs that is mounted, which is asked through the file `fsck` in its
 * mount. The report is the same.
 */
#include "mount/fsck.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"
#include "engine/engine.h"
#include "mount/options.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>

/* See fsck(8). */
enum {
	FSCK_CLEAN = 0,
	FSCK_FIXED = 1,
	FSCK_LEFT = 4,
	FSCK_FAILED = 8,
	FSCK_USAGE = 16,
};

bool fsck_is_meant(int argc, char **argv)
{
	cleanup_free char *copy = xstrdup(argv[0]);

	return streq(basename(copy), "fsck.kws") || (argc > 1 && streq(argv[1], "fsck"));
}

/* ---- asking the kwsfs that is mounted ---- */

static int read_answer(int fd, char **ret, struct err *err)
{
	size_t used = 0, room = 0;
	char *text = NULL;
	ssize_t n;

	do {
		if (room - used < BUFSIZ)
			text = xreallocarray(text, room += 2 * BUFSIZ, 1);
		n = pread(fd, text + used, room - used - 1, used);
		if (n > 0)
			used += n;
	} while (n > 0);
	if (n < 0) {
		free(text);
		return err_sys(err, errno, "cannot read what the kwsfs that is mounted has found");
	}
	text[used] = '\0';
	*ret = text;
	return 0;
}

/* What it had found when it failed is told, too. */
static int ask_daemon(const char *mountpoint, bool repair, char **ret_report, struct err *err)
{
	cleanup_free char *path = xasprintf("%s/fsck", mountpoint);
	const char *question = repair ? "repair\n" : "check\n";
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
	int failed = 0, r;

	if (fd < 0)
		return err_sys(err, errno, "cannot ask the kwsfs that is mounted: %s", path);
	if (write(fd, question, strlen(question)) < 0)
		failed = errno;
	r = read_answer(fd, ret_report, err);
	if (r < 0 || !failed)
		return r;
	if ((*ret_report)[0] == '#') /* the help that is there before: it has found nothing */
		(*ret_report)[0] = '\0';
	return err_sys(err, failed, "the kwsfs mounted on %s cannot check", mountpoint);
}

/* ---- the result ---- */

static int exit_code(const char *report, struct err *err)
{
	const char *line = report, *next;
	size_t fixed, left;

	while ((next = strchr(line, '\n')) && next[1])
		line = next + 1;
	if (sscanf(line, FSCK_SUMMARY, &fixed, &left) != 2)
		return err_set(err, EIO, "the check came to no end");
	return left ? FSCK_LEFT : fixed ? FSCK_FIXED : FSCK_CLEAN;
}

static int check(const struct options *o, char **ret_report, struct err *err)
{
	struct engine_options options = {
		.uri = o->uri, .state_dir = o->state_dir, .store = o->store,
		.mountpoint = o->mountpoint, .uid = o->uid, .gid = o->gid, .mode = 0777 & ~o->umask,
	};
	cleanup_free char *mountpoint = NULL;
	int r = engine_fsck_alone(&options, o->repair, ret_report, &mountpoint, err);

	if (r == -EBUSY && mountpoint && mountpoint[0])
		r = ask_daemon(mountpoint, o->repair, ret_report, err);
	return r;
}

int fsck_main(int argc, char **argv)
{
	cleanup_free char *report = NULL;
	struct err err = ERR_INIT;
	struct options o;
	int r;

	if (argc > 1 && streq(argv[1], "fsck")) {
		argc--;
		argv++;
	}
	if (options_parse_fsck(argc, argv, &o, &err) < 0) {
		fprintf(stderr, "fsck.kws: %s\nkwsfs --help shows how it is used.\n", err.msg);
		return FSCK_USAGE;
	}
	if (o.action == ACTION_HELP) {
		fputs(options_help, stdout);
		options_clear(&o);
		return FSCK_CLEAN;
	}
	log_open(LOG_TO_STDERR, LOG_WARNING);
	r = check(&o, &report, &err);
	if (report)
		fputs(report, stdout);
	if (r >= 0)
		r = exit_code(report, &err);
	if (r < 0)
		fprintf(stderr, "fsck.kws: %s\n", err.msg);
	options_clear(&o);
	return r < 0 ? FSCK_FAILED : r;
}
