/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A daemon that was killed leaves its mount behind, and everything in it answers
 * ENOTCONN. It is recognised by that answer and by its type in mountinfo, and
 * unmounted lazily, so that a restart after kill -9 just works. A mount of
 * another type that does not answer is left alone.
 */
#include "mount/mountpoint.h"

#include "common/cleanup.h"
#include "common/log.h"
#include "common/mem.h"

#include <errno.h>
#include <libgen.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define TYPE "fuse.kwsfs"

/* realpath, also for the root of a mount that does not answer. */
static char *absolute(const char *path)
{
	cleanup_free char *copy1 = NULL, *copy2 = NULL, *parent = NULL;
	char *whole = realpath(path, NULL);

	if (whole || errno != ENOTCONN)
		return whole;
	copy1 = xstrdup(path);
	copy2 = xstrdup(path);
	parent = realpath(dirname(copy1), NULL);
	return parent ? xasprintf("%s/%s", streq(parent, "/") ? "" : parent, basename(copy2)) :
			NULL;
}

/* mountinfo writes blanks and backslashes as three octal digits. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		unsigned c;

		if (*s == '\\' && sscanf(s + 1, "%3o", &c) == 1) {
			*to++ = (char)c;
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* The type of what is mounted on `path` last, "" if nothing is. See proc(5):
 * the mount point is the fifth field, the type follows " - ". */
static char *mounted_type(const char *path)
{
	cleanup_fclose FILE *f = fopen("/proc/self/mountinfo", "re");
	cleanup_free char *line = NULL;
	char *found = xstrdup("");
	size_t room = 0;

	while (f && getline(&line, &room, f) > 0) {
		cleanup_free char *where = NULL, *type = NULL;
		const char *tail = strstr(line, " - ");

		if (!tail || sscanf(line, "%*s %*s %*s %*s %ms", &where) != 1 ||
		    sscanf(tail, " - %ms", &type) != 1)
			continue;
		unescape(where);
		if (!streq(where, path))
			continue;
		free(found);
		found = xstrdup(type);
	}
	return found;
}

/* For those who may not unmount by themselves. */
static int unmount_as_user(const char *path)
{
	char *argv[] = { (char *)"fusermount3", (char *)"-u", (char *)"-z", (char *)path, NULL };
	int status;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ) != 0)
		return -ENOENT;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status == 0 ? 0 : -EPERM;
}

static int unmount_stale(const char *path, struct err *err)
{
	log_warning("%s was left mounted by a kwsfs that is no more: unmounting it", path);
	if (umount2(path, MNT_DETACH) == 0 || unmount_as_user(path) == 0)
		return 0;
	return err_set(err, EBUSY, "%s was left mounted by a kwsfs that is no more, and cannot be "
		       "unmounted", path);
}

/* stat can be answered from what the kernel remembers; statfs asks. */
static bool is_dead(const char *path)
{
	struct statvfs st;

	return statvfs(path, &st) < 0 && errno == ENOTCONN;
}

int mountpoint_prepare(const char *path, char **ret, struct err *err)
{
	cleanup_free char *whole = absolute(path), *type = NULL;
	struct stat st;
	int r;

	if (!whole)
		return err_sys(err, errno, "the mount point %s cannot be used", path);
	type = mounted_type(whole);
	if (streq(type, TYPE) && !is_dead(whole))
		return err_set(err, EBUSY, "kwsfs is mounted on %s already", whole);
	if (streq(type, TYPE)) {
		r = unmount_stale(whole, err);
		if (r < 0)
			return r;
	}
	if (stat(whole, &st) < 0)
		return err_sys(err, errno, "the mount point %s cannot be used", whole);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "the mount point %s is not a directory", whole);
	*ret = steal_pointer(&whole);
	return 0;
}
