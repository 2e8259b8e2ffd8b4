/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/own-mount.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as the kernel has it */

static char *mountpoint;
static own_mount_fn *resolver;
static void *resolver_opaque;

void own_mount_set(const char *path, own_mount_fn *resolve, void *opaque)
{
	free(mountpoint);
	mountpoint = xstrdup(path);
	resolver = resolve;
	resolver_opaque = opaque;
}

/* Takes the first component off *rest; empty at the end. */
static char *next_component(char **rest)
{
	size_t slashes = strspn(*rest, "/");
	size_t n = strcspn(*rest + slashes, "/");
	char *component = xasprintf("%.*s", (int)n, *rest + slashes);
	char *left = xstrdup(*rest + slashes + n);

	free(*rest);
	*rest = left;
	return component;
}

static void go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash)
		*slash = '\0';
}

/* If `path` is a link, goes on with what it names. */
static bool follow(char *path, char **rest)
{
	char target[PATH_MAX], *left;
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	left = xasprintf("%s/%s", target, *rest);
	free(*rest);
	*rest = left;
	if (target[0] == '/')
		path[0] = '\0';
	else
		go_up(path);
	return true;
}

/* Goes on from `walked`, a folder without links (PATH_MAX bytes), as the kernel walks a
 * path, but it stops at the mount point, and returns what is behind that. NULL if `path`
 * does not lead there; then `walked` is where it leads. The caller frees it. */
static char *walk(char *walked, const char *path)
{
	cleanup_free char *rest = xstrdup(path);
	int links = 0;

	while (mountpoint) {
		cleanup_free char *component = next_component(&rest);
		size_t length = strlen(walked);

		if (!component[0])
			break;
		if (streq(component, "."))
			continue;
		if (streq(component, "..")) {
			go_up(walked);
			continue;
		}
		if (length + strlen(component) + 2 > PATH_MAX)
			break;
		sprintf(walked + length, "/%s", component);
		if (streq(walked, mountpoint))
			return xstrdup(rest + strspn(rest, "/"));
		if (follow(walked, &rest) && ++links > LINKS_MAX)
			break;
	}
	return NULL;
}

char *own_mount_inside(const char *path)
{
	char walked[PATH_MAX] = "";

	return walk(walked, path);
}

void own_mount_folder_clear(struct own_mount_folder *f)
{
	free(f->name);
	free(f->walked);
	*f = (struct own_mount_folder){ 0 };
}

/* The same as own_mount_inside; the folder is walked only if it is another one than before. */
static char *inside_from(const char *path, struct own_mount_folder *last)
{
	const char *slash = strrchr(path, '/');
	cleanup_free char *folder = slash ? xasprintf("%.*s", (int)(slash - path), path) : NULL;
	char walked[PATH_MAX] = "";
	char *inside;

	if (!folder)
		return own_mount_inside(path);
	if (!streq(folder, last->name)) {
		inside = walk(walked, folder);
		if (inside) {
			free(inside);
			return own_mount_inside(path);
		}
		own_mount_folder_clear(last);
		last->name = steal_pointer(&folder);
		last->walked = xstrdup(walked);
	}
	snprintf(walked, sizeof(walked), "%s", last->walked);
	return walk(walked, slash);
}

bool own_mount_has(const char *path)
{
	cleanup_free char *inside = own_mount_inside(path);

	return inside;
}

int own_mount_resolve(const char *path, struct own_mount_folder *last, char **ret_path,
		      char **ret_format, struct err *err)
{
	cleanup_free char *inside = inside_from(path, last);
	int r;

	if (!inside)
		return 0;
	r = resolver(resolver_opaque, inside, ret_path, ret_format, err);
	return r < 0 ? r : 1;
}
