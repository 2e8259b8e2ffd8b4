/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of the mount.
 *
 * It is ended by a thread that waits for fs_stop (the stopper): waits (fsync)
 * are ended, the notifier is stopped, and libfuse's loop is told to end. That one
 * sleeps in sem_wait, which a signal interrupts; a signal sent between its look
 * at the flag and its sleep would be lost, so it is sent until the loop has ended.
 *
 * What the engine still does then is answered when it is done, before fs_free.
 * Images may be open at the end; their handles are closed, the unmount is lazy,
 * and their readers see ENOTCONN.
 */
#include "fs/fs.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "fs/core.h"
#include "fs/dashboard.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

struct fs *fs_new(const struct fs_options *opts)
{
	struct fs *fs = xnew(struct fs);

	fs->observer = (struct engine_observer){ fs, notifier_vms_changed, notifier_vm_changed,
						 events_tell, fs_find_disk };
	fs->mountpoint = xstrdup(opts->mountpoint);
	fs->source = xstrdup(opts->source);
	fs->allow_other = opts->allow_other;
	fs->ready = opts->ready;
	fs->opaque = opts->opaque;
	fs->uid = geteuid();
	fs->gid = getegid();
	clock_gettime(CLOCK_REALTIME, &fs->mounted);
	pthread_mutex_init(&fs->lock, NULL);
	fs->notifier = notifier_new();
	fs->dashboard = dashboard_new();
	fs->events = events_new();
	fs->stop = eventfd(0, EFD_CLOEXEC);
	return fs;
}

const struct engine_observer *fs_observer(struct fs *fs)
{
	return &fs->observer;
}

/* ---- mounting ---- */

/* What libfuse last said in this thread; the reason why it could not mount. */
static _Thread_local char said[256];

static void on_fuse_log(enum fuse_log_level level, const char *fmt, va_list ap)
{
	vsnprintf(said, sizeof(said), fmt, ap);
	said[strcspn(said, "\n")] = '\0';
	log_debug("%s", said);
}

/* libfuse takes options apart at commas. */
static char *escape(const char *s)
{
	char *out = xcalloc(1, 2 * strlen(s) + 1), *p = out;

	for (; *s; s++) {
		if (*s == ',' || *s == '\\')
			*p++ = '\\';
		*p++ = *s;
	}
	return out;
}

static int add_options(struct fs *fs, struct fuse_args *args)
{
	cleanup_free char *source = escape(fs->source);
	cleanup_free char *options =
		xasprintf("default_permissions,subtype=kwsfs,max_read=%d,fsname=%s%s", MAX_READ,
			  source, fs->allow_other ? ",allow_other" : "");

	if (fuse_opt_add_arg(args, "kwsfs") < 0 || fuse_opt_add_arg(args, "-o") < 0 ||
	    fuse_opt_add_arg(args, options) < 0)
		return -ENOMEM;
	return 0;
}

int fs_mount(struct fs *fs, struct engine *e, struct err *err)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

	if (fs->stop < 0)
		return err_set(err, EMFILE, "cannot make an eventfd");
	fs->e = e;
	fuse_set_log_func(on_fuse_log);
	if (add_options(fs, &args) == 0)
		fs->session = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), fs);
	fuse_opt_free_args(&args);
	if (!fs->session)
		return err_set(err, ENOMEM, "libfuse refuses its options");
	if (fuse_session_mount(fs->session, fs->mountpoint) < 0) {
		fuse_session_destroy(fs->session);
		fs->session = NULL;
		return err_set(err, EIO, "cannot mount at %s (%s)", fs->mountpoint, said);
	}
	return 0;
}

/* ---- running ---- */

static void interrupt_sleep(int signal)
{
}

static void *stopper(void *opaque)
{
	struct timespec pause = { .tv_nsec = 10 * 1000 * 1000 };
	struct fs *fs = opaque;
	uint64_t count;

	while (read(fs->stop, &count, sizeof(count)) < 0)
		; /* interrupted */
	waits_stop(fs);
	notifier_stop(fs->notifier);
	fuse_session_exit(fs->session);
	while (!atomic_load(&fs->loop_ended)) {
		pthread_kill(fs->loop, SIGUSR1);
		nanosleep(&pause, NULL);
	}
	return NULL;
}

void fs_stop(struct fs *fs)
{
	uint64_t one = 1;
	int saved = errno; /* of what a signal may have interrupted */

	while (write(fs->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved;
}

/* Most workers sleep most of the time. They are that many because a look at
 * libvirt (a lookup, an opendir) keeps one busy for as long as libvirt takes. */
#define WORKERS 64

static int loop(struct fs *fs)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, WORKERS);
	r = fuse_session_loop_mt(fs->session, config);
	fuse_loop_cfg_destroy(config);
	return r;
}

int fs_run(struct fs *fs, struct err *err)
{
	struct sigaction action = { .sa_handler = interrupt_sleep }, before;
	pthread_t thread;
	int r;

	r = waits_start(fs, err);
	if (r < 0)
		return r;
	r = notifier_start(fs, err);
	if (r < 0) {
		waits_stop(fs);
		return r;
	}
	sigaction(SIGUSR1, &action, &before);
	fs->loop = pthread_self();
	r = pthread_create(&thread, NULL, stopper, fs);
	if (r) {
		waits_stop(fs);
		notifier_stop(fs->notifier);
		return err_sys(err, r, "cannot start a thread");
	}
	r = loop(fs);
	atomic_store(&fs->loop_ended, true);
	fs_stop(fs);
	pthread_join(thread, NULL);
	sigaction(SIGUSR1, &before, NULL);
	handles_close(fs);
	return r < 0 ? err_sys(err, -r, "the connection to the kernel broke") : 0;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	if (fs->session) {
		fuse_session_unmount(fs->session);
		fuse_session_destroy(fs->session);
	}
	waits_free(fs->waits);
	notifier_free(fs->notifier);
	dashboard_free(fs->dashboard);
	events_free(fs->events);
	if (fs->stop >= 0)
		close(fs->stop);
	pthread_mutex_destroy(&fs->lock);
	free(fs->mountpoint);
	free(fs->source);
	free(fs);
}
