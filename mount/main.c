/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kwsfs: options, then the engine, then the mount, until somebody ends it.
 *
 * The engine is opened after the fork, for threads do not survive one. Signals
 * that end it only write to an eventfd (fs_stop), so a second one changes
 * nothing; before there is a mount they end the process as they always do, and
 * the journal takes care of what was open.
 */
#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"
#include "engine/engine.h"
#include "fs/fs.h"
#include "mount/daemon.h"
#include "mount/fsck.h"
#include "mount/journal.h"
#include "mount/mountpoint.h"
#include "mount/options.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define EXIT_USAGE 2

static struct fs *stop_on_signal;

static void on_signal(int signal)
{
	fs_stop(stop_on_signal);
}

static void handle_signals(struct fs *fs)
{
	struct sigaction stop = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	stop_on_signal = fs;
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	sigaction(SIGHUP, &stop, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
}

/* Each layer of an image that is being read is an open file, and chains are long. */
static void raise_limit_of_open_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("cannot raise the limit of open files");
}

static void on_ready(void *d)
{
	daemon_ready(d);
	log_info("mounted");
}

static int serve(struct fs *fs, const struct options *o, const char *mountpoint, struct err *err)
{
	struct engine_options engine_options = {
		.uri = o->uri, .state_dir = o->state_dir, .store = o->store,
		.overlay_options = o->overlay_options, .max_depth = o->max_depth,
		.mountpoint = mountpoint, .hooks = o->hooks, .hook_timeout = o->hook_timeout,
		.uid = o->uid, .gid = o->gid, .mode = 0777 & ~o->umask,
	};
	struct engine *e = NULL;
	int r = engine_open(&engine_options, fs_observer(fs), &e, err);

	if (r < 0)
		return r;
	handle_signals(fs);
	r = fs_mount(fs, e, err);
	if (r >= 0)
		r = fs_run(fs, err);
	daemon_stopping();
	engine_close(e);
	return r;
}

static int run(const struct options *o, struct err *err)
{
	struct daemon d = DAEMON_INIT;
	cleanup_free char *mountpoint = NULL;
	struct fs_options fs_options = { .source = o->uri, .allow_other = o->allow_other,
					 .ready = on_ready, .opaque = &d };
	struct fs *fs;
	int r = mountpoint_prepare(o->mountpoint, &mountpoint, err);

	if (r >= 0 && !o->foreground) {
		d.keep_stderr = o->log_target == LOG_TO_STDERR;
		r = daemon_begin(&d, err);
	}
	if (r < 0)
		return r;
	raise_limit_of_open_files();
	umask(S_IWGRP | S_IWOTH); /* whatever it is started with: modes say what is meant */
	fs_options.mountpoint = mountpoint;
	fs = fs_new(&fs_options);
	r = serve(fs, o, mountpoint, err);
	fs_free(fs);
	if (r >= 0)
		log_info("unmounted");
	return r;
}

/* To whom it is started by, and to the log if that is elsewhere. */
static void complain(const struct options *o, const struct err *err)
{
	fprintf(stderr, "kwsfs: %s\n", err->msg);
	if (o->log_target == LOG_TO_SYSLOG)
		log_error("%s", err->msg);
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct options o;
	int r;

	if (fsck_is_meant(argc, argv))
		return fsck_main(argc, argv);
	if (options_parse(argc, argv, &o, &err) < 0) {
		fprintf(stderr, "kwsfs: %s\nkwsfs --help shows how it is used.\n", err.msg);
		return EXIT_USAGE;
	}
	switch (o.action) {
	case ACTION_HELP:
		fputs(options_help, stdout);
		break;
	case ACTION_VERSION:
		puts("kwsfs " KWSFS_VERSION);
		break;
	case ACTION_MOUNT:
		log_open(o.log_target, o.log_level);
		journal_use(o.log_target);
		r = run(&o, &err);
		if (r < 0)
			complain(&o, &err);
		options_clear(&o);
		return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	options_clear(&o);
	return EXIT_SUCCESS;
}
