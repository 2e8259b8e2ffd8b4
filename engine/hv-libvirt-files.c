/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where libvirt keeps what it knows, so that it outlives a power cut. libvirt
 * syncs each file that it writes, then gives it its name by a rename, and syncs
 * no folder: for seconds after it has answered, the old file may be the one that
 * a power cut leaves, or one that was deleted. A VM would start again with a disk
 * that is a snapshot's layer, or with one that was merged and deleted since. So
 * the folders are synced here, before anybody goes on.
 *
 * There is no way to ask libvirt for these folders. They are those that it has
 * in every distribution; of a libvirt on another machine, and of one whose
 * folders are not to be seen from here, there is nothing to sync.
 */
#include "engine/hv-libvirt.h"

#include "common/mem.h"
#include "engine/files.h"

#include <errno.h>

/* Whether a URI has that path, and no host in front of it: then it is libvirt on this machine. */
static bool is_local(const char *uri, const char *path)
{
	const char *found = strstr(uri, "://");
	size_t n = strlen(path);

	return found && strncmp(found + 3, path, n) == 0 &&
	       (found[3 + n] == '\0' || found[3 + n] == '?');
}

static char *users_config(void)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	if (xdg && xdg[0])
		return xasprintf("%s/libvirt/qemu", xdg);
	return home ? xasprintf("%s/.config/libvirt/qemu", home) : NULL;
}

static void folders_of(const char *uri, char **ret_domains, char **ret_snapshots)
{
	if (is_local(uri, "/system")) {
		*ret_domains = xstrdup("/etc/libvirt/qemu");
		*ret_snapshots = xstrdup("/var/lib/libvirt/qemu/snapshot");
	} else if (is_local(uri, "/session") && (*ret_domains = users_config())) {
		*ret_snapshots = xasprintf("%s/lib/snapshot", *ret_domains);
	}
}

static int sync_folder(const char *path, struct err *err)
{
	int r = file_sync(path, err);

	return r == -ENOENT ? 0 : r;
}

int hv_libvirt_sync(virConnectPtr connection, virDomainPtr domain, struct err *err)
{
	cleanup_free char *domains = NULL, *snapshots = NULL, *its_own = NULL;
	char *uri = virConnectGetURI(connection);
	int r;

	if (uri)
		folders_of(uri, &domains, &snapshots);
	free(uri);
	if (!domains)
		return 0;
	its_own = xasprintf("%s/%s", snapshots, virDomainGetName(domain));
	r = sync_folder(domains, err);
	if (r >= 0)
		r = sync_folder(its_own, err);
	if (r >= 0)
		r = sync_folder(snapshots, err);
	return r;
}
