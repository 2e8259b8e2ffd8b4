/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The mounted tree, as mount/ sees it. The order of a life:
 *
 *     fs_new, engine_open with fs_observer, fs_mount, fs_run,
 *     engine_close, fs_free
 *
 * The engine is closed before the tree is freed, because operations that still
 * run answer their requests when they end.
 */
#ifndef KWS_FS_FS_H
#define KWS_FS_FS_H

#include "common/err.h"
#include "engine/engine.h"

struct fs;

struct fs_options {
	const char *mountpoint; /* absolute */
	const char *source;     /* what /proc/mounts shows as the device: libvirt's URI */
	bool allow_other;
	/* Called once, from a thread of the mount, when the kernel is being answered. */
	void (*ready)(void *opaque);
	void *opaque;
};

/* `*opts` is copied. */
struct fs *fs_new(const struct fs_options *opts);

/* What the engine is to be opened with; lives as long as `fs`. */
const struct engine_observer *fs_observer(struct fs *fs);

/* Mounts. `e` stays the caller's, who closes it before fs_free. */
int fs_mount(struct fs *fs, struct engine *e, struct err *err);

/* Serves until fs_stop or an unmount from outside; open files are closed then. */
int fs_run(struct fs *fs, struct err *err);

/* Ends fs_run, also while files are open. May be called at any time between
 * fs_new and fs_free, by any thread and by signal handlers, and more than once. */
void fs_stop(struct fs *fs);

/* Unmounts, lazily if it must be. NULL is allowed. */
void fs_free(struct fs *fs);

#endif
