/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libvirt's snapshots behind hv.h. */
#include "engine/hv-libvirt.h"

#include "common/mem.h"

#include <errno.h>

static void snap_p(virDomainSnapshotPtr *p)
{
	if (*p)
		virDomainSnapshotFree(*p);
}

#define cleanup_snap cleanup(snap_p)

static int get_snapshot(struct hv *hv, const char *uuid, const char *name,
			virConnectPtr *ret_connection, virDomainSnapshotPtr *ret, struct err *err)
{
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, ret_connection, &domain, err);

	if (r < 0)
		return r;
	*ret = virDomainSnapshotLookupByName(domain, name, 0);
	return *ret ? 0 : hv_libvirt_fail(of(hv), *ret_connection, err);
}

/* Takes the array and what is in it over. */
static char **names_of(virDomainSnapshotPtr *snapshots, int n)
{
	char **names = xcalloc(n, sizeof(*names));

	for (int i = 0; i < n; i++) {
		names[i] = xstrdup(virDomainSnapshotGetName(snapshots[i]));
		virDomainSnapshotFree(snapshots[i]);
	}
	free(snapshots);
	return names;
}

/* As many as there are at one moment: if there is no room for more, there may be more. */
static int list_names(virDomainPtr domain, char ***ret)
{
	for (int room = 256;; room *= 4) {
		char **names = xcalloc(room, sizeof(*names));
		int n = virDomainSnapshotListNames(domain, names, room, 0);

		if (n >= 0 && n < room) {
			*ret = names;
			return n;
		}
		for (int i = 0; i < n; i++)
			free(names[i]);
		free(names);
		if (n < 0)
			return -1;
	}
}

int hv_libvirt_snapshots(struct hv *hv, const char *uuid, char ***ret_names, size_t *ret_n,
			 char **ret_current, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	cleanup_snap virDomainSnapshotPtr current = NULL;
	int n, r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	n = list_names(domain, ret_names);
	if (n < 0)
		return hv_libvirt_fail(of(hv), c, err);
	*ret_n = n;
	if (n > 0)
		current = virDomainSnapshotCurrent(domain, 0);
	*ret_current = current ? xstrdup(virDomainSnapshotGetName(current)) : NULL;
	return 0;
}

int hv_libvirt_snapshot_children(struct hv *hv, const char *uuid, const char *name,
				 char ***ret_names, size_t *ret_n, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_snap virDomainSnapshotPtr snapshot = NULL;
	virDomainSnapshotPtr *children;
	int n, r = get_snapshot(hv, uuid, name, &c, &snapshot, err);

	if (r < 0)
		return r;
	n = virDomainSnapshotListAllChildren(snapshot, &children, 0);
	if (n < 0)
		return hv_libvirt_fail(of(hv), c, err);
	*ret_names = names_of(children, n);
	*ret_n = n;
	return 0;
}

int hv_libvirt_snapshot_xml(struct hv *hv, const char *uuid, const char *name, char **ret,
			    struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_snap virDomainSnapshotPtr snapshot = NULL;
	char *xml;
	int r = get_snapshot(hv, uuid, name, &c, &snapshot, err);

	if (r < 0)
		return r;
	xml = virDomainSnapshotGetXMLDesc(snapshot, VIR_DOMAIN_SNAPSHOT_XML_SECURE);
	if (!xml)
		return hv_libvirt_fail(of(hv), c, err);
	*ret = xml;
	return 0;
}

static int create(struct hv *hv, const char *uuid, const char *xml, unsigned flags,
		  bool with_agent, bool sync, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	cleanup_snap virDomainSnapshotPtr snapshot = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (with_agent)
		(void)virDomainAgentSetResponseTimeout(domain, AGENT_SECONDS, 0);
	snapshot = virDomainSnapshotCreateXML(domain, xml, flags);
	if (!snapshot)
		return hv_libvirt_fail(of(hv), c, err);
	return sync ? hv_libvirt_sync(c, domain, err) : 0;
}

/* A libvirtd that was killed while it took a snapshot left images in QEMU of which the next
 * one does not know: it comes past their names by trying. */
#define TRIES 3

int hv_libvirt_snapshot_create(struct hv *hv, const char *uuid, const char *xml,
			       unsigned flags, struct err *err)
{
	unsigned native = VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
			  VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT;
	int r = -EAGAIN;

	if (flags & HV_CREATE_QUIESCE)
		native |= VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE;
	if (flags & HV_CREATE_NO_METADATA)
		native |= VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA;
	for (int n = 0; n < TRIES && r == -EAGAIN; n++)
		r = create(hv, uuid, xml, native, flags & HV_CREATE_QUIESCE,
			   !(flags & HV_CREATE_UNSYNCED), err);
	return r;
}

/* Without DISK_ONLY: libvirt refuses it for snapshots of a VM that was shut off. */
int hv_libvirt_snapshot_redefine(struct hv *hv, const char *uuid, const char *xml,
				 bool current, struct err *err)
{
	return create(hv, uuid, xml, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE |
		      (current ? VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT : 0), false, true, err);
}

int hv_libvirt_snapshot_forget(struct hv *hv, const char *uuid, const char *name,
			       struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_snap virDomainSnapshotPtr snapshot = NULL;
	int r = get_snapshot(hv, uuid, name, &c, &snapshot, err);

	if (r == -ENOENT)
		return hv->ops->sync(hv, uuid, err); /* it may have gone just now */
	if (r < 0)
		return r;
	if (virDomainSnapshotDelete(snapshot, VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return hv_libvirt_sync(c, virDomainSnapshotGetDomain(snapshot), err);
}
