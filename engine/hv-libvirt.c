/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's verbs behind hv.h. This and hv-libvirt-connection.c are the only
 * files that include libvirt. What they rely on is written down, with versions,
 * in docs/LIBVIRT.md.
 */
#include "engine/hv-libvirt.h"

#include "common/mem.h"
#include "engine/xml-tree.h"

#include <errno.h>

#define AGENT_SECONDS 10 /* how long a guest agent may take to answer */

static void dom_p(virDomainPtr *p)
{
	if (*p)
		virDomainFree(*p);
}

static void snap_p(virDomainSnapshotPtr *p)
{
	if (*p)
		virDomainSnapshotFree(*p);
}

#define cleanup_dom cleanup(dom_p)
#define cleanup_snap cleanup(snap_p)

static int get_domain(struct libvirt *l, const char *uuid, virConnectPtr *ret_connection,
		      virDomainPtr *ret, struct err *err)
{
	int r = hv_libvirt_get(l, ret_connection, err);

	if (r < 0)
		return r;
	*ret = virDomainLookupByUUIDString(*ret_connection, uuid);
	return *ret ? 0 : hv_libvirt_fail(l, *ret_connection, err);
}

/* ---- domains ---- */

static const char *state_word(int state)
{
	switch (state) { /* as virsh says them */
	case VIR_DOMAIN_RUNNING:
		return "running";
	case VIR_DOMAIN_BLOCKED:
		return "idle";
	case VIR_DOMAIN_PAUSED:
		return "paused";
	case VIR_DOMAIN_SHUTDOWN:
		return "in shutdown";
	case VIR_DOMAIN_SHUTOFF:
		return "shut off";
	case VIR_DOMAIN_CRASHED:
		return "crashed";
	case VIR_DOMAIN_PMSUSPENDED:
		return "pmsuspended";
	default:
		return "no state";
	}
}

static int describe(virDomainPtr domain, struct hv_domain *ret)
{
	int state, reason, active, persistent, saved;
	struct hv_domain d = { 0 };

	active = virDomainIsActive(domain);
	persistent = virDomainIsPersistent(domain);
	saved = persistent == 1 ? virDomainHasManagedSaveImage(domain, 0) : 0;
	if (active < 0 || persistent < 0 || saved < 0 ||
	    virDomainGetState(domain, &state, &reason, 0) < 0 ||
	    virDomainGetUUIDString(domain, d.uuid) < 0)
		return -1;
	d.name = xstrdup(virDomainGetName(domain));
	d.state = state_word(state);
	d.active = active;
	d.persistent = persistent;
	d.saved = saved;
	*ret = d;
	return 0;
}

void hv_domains_free(struct hv_domain *domains, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(domains[i].name);
	free(domains);
}

static int libvirt_list(struct hv *hv, struct hv_domain **ret, size_t *ret_n, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	struct hv_domain *found;
	virDomainPtr *domains;
	size_t count = 0;
	int n, r = hv_libvirt_get(of(hv), &c, err);

	if (r < 0)
		return r;
	n = virConnectListAllDomains(c, &domains, 0);
	if (n < 0)
		return hv_libvirt_fail(of(hv), c, err);
	found = xcalloc(n, sizeof(*found));
	for (int i = 0; i < n; i++) {
		/* One that went since it was listed is not there. */
		if (describe(domains[i], &found[count]) == 0)
			count++;
		virDomainFree(domains[i]);
	}
	free(domains);
	if (virConnectIsAlive(c) != 1) {
		hv_domains_free(found, count);
		return hv_libvirt_fail(of(hv), c, err);
	}
	*ret = found;
	*ret_n = count;
	return 0;
}

static int libvirt_lookup(struct hv *hv, const char *uuid, struct hv_domain *ret, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return describe(domain, ret) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_domain_xml(struct hv *hv, const char *uuid, bool config, char **ret,
			      struct err *err)
{
	unsigned flags = VIR_DOMAIN_XML_SECURE | (config ? VIR_DOMAIN_XML_INACTIVE : 0);
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	char *xml;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	xml = virDomainGetXMLDesc(domain, flags);
	if (!xml)
		return hv_libvirt_fail(of(hv), c, err);
	*ret = xml;
	return 0;
}

static int libvirt_define(struct hv *hv, const char *xml, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_get(of(hv), &c, err);

	if (r < 0)
		return r;
	domain = virDomainDefineXML(c, xml);
	return domain ? hv_libvirt_sync(c, domain, err) : hv_libvirt_fail(of(hv), c, err);
}

static int libvirt_start(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return virDomainCreate(domain) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_sync(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	return r < 0 ? r : hv_libvirt_sync(c, domain, err);
}

static int libvirt_destroy(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (virDomainDestroy(domain) == 0 || virDomainIsActive(domain) == 0)
		return 0;
	return hv_libvirt_fail(of(hv), c, err);
}

/* ---- snapshots ---- */

static int get_snapshot(struct hv *hv, const char *uuid, const char *name,
			virConnectPtr *ret_connection, virDomainSnapshotPtr *ret, struct err *err)
{
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, ret_connection, &domain, err);

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

static int libvirt_snapshots(struct hv *hv, const char *uuid, char ***ret_names, size_t *ret_n,
			     char **ret_current, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	cleanup_snap virDomainSnapshotPtr current = NULL;
	virDomainSnapshotPtr *all;
	int n, r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	n = virDomainListAllSnapshots(domain, &all, 0);
	if (n < 0)
		return hv_libvirt_fail(of(hv), c, err);
	*ret_names = names_of(all, n);
	*ret_n = n;
	if (n > 0)
		current = virDomainSnapshotCurrent(domain, 0);
	*ret_current = current ? xstrdup(virDomainSnapshotGetName(current)) : NULL;
	return 0;
}

static int libvirt_snapshot_children(struct hv *hv, const char *uuid, const char *name,
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

static int libvirt_snapshot_xml(struct hv *hv, const char *uuid, const char *name, char **ret,
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
		  bool with_agent, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	cleanup_snap virDomainSnapshotPtr snapshot = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (with_agent)
		(void)virDomainAgentSetResponseTimeout(domain, AGENT_SECONDS, 0);
	snapshot = virDomainSnapshotCreateXML(domain, xml, flags);
	return snapshot ? hv_libvirt_sync(c, domain, err) : hv_libvirt_fail(of(hv), c, err);
}

/* A libvirtd that was killed while it took a snapshot left images in QEMU of which the next
 * one does not know: it comes past their names by trying. */
#define TRIES 3

static int libvirt_snapshot_create(struct hv *hv, const char *uuid, const char *xml,
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
		r = create(hv, uuid, xml, native, flags & HV_CREATE_QUIESCE, err);
	return r;
}

/* Without DISK_ONLY: libvirt refuses it for snapshots of a VM that was shut off. */
static int libvirt_snapshot_redefine(struct hv *hv, const char *uuid, const char *xml,
				     bool current, struct err *err)
{
	return create(hv, uuid, xml, VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE |
		      (current ? VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT : 0), false, err);
}

static int libvirt_snapshot_forget(struct hv *hv, const char *uuid, const char *name,
				   struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_snap virDomainSnapshotPtr snapshot = NULL;
	int r = get_snapshot(hv, uuid, name, &c, &snapshot, err);

	if (r == -ENOENT)
		return libvirt_sync(hv, uuid, err); /* it may have gone just now */
	if (r < 0)
		return r;
	if (virDomainSnapshotDelete(snapshot, VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return hv_libvirt_sync(c, virDomainSnapshotGetDomain(snapshot), err);
}

/* ---- block jobs ---- */

static int libvirt_commit(struct hv *hv, const char *uuid, const char *target, const char *base,
			  const char *top, uint64_t bandwidth, struct err *err)
{
	unsigned flags = VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES |
			 (top ? 0 : VIR_DOMAIN_BLOCK_COMMIT_ACTIVE);
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (virDomainBlockCommit(domain, target, base, top, bandwidth, flags) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return 0;
}

/* READY is what the XML says: the counters are equal before it is. */
static bool is_ready(virDomainPtr domain, const char *target)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	cleanup_free char *xml = virDomainGetXMLDesc(domain, 0);
	xmlNode *disk;

	if (!xml || xml_doc_parse(xml, "domain", &doc, NULL) < 0)
		return false;
	disk = xml_child(xml_child(xmlDocGetRootElement(doc), "devices"), "disk");
	for (; disk; disk = xml_next(disk, "disk")) {
		cleanup_free char *name = xml_attribute(xml_child(disk, "target"), "dev");
		cleanup_free char *ready = xml_attribute(xml_child(disk, "mirror"), "ready");

		if (streq(name, target))
			return streq(ready, "yes");
	}
	return false;
}

static int libvirt_job(struct hv *hv, const char *uuid, const char *target, struct hv_job *ret,
		       struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	virDomainBlockJobInfo info = { 0 };
	int n, r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	n = virDomainGetBlockJobInfo(domain, target, &info, 0);
	if (n < 0)
		return hv_libvirt_fail(of(hv), c, err);
	*ret = (struct hv_job){ .state = HV_JOB_NONE, .done = info.cur, .total = info.end };
	if (n > 0)
		ret->state = is_ready(domain, target) ? HV_JOB_READY : HV_JOB_RUNNING;
	return 0;
}

static int libvirt_job_abort(struct hv *hv, const char *uuid, const char *target, bool pivot,
			     struct err *err)
{
	unsigned flags = VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC |
			 (pivot ? VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT : 0);
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return virDomainBlockJobAbort(domain, target, flags) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

/* ---- open ---- */

static const struct hv_ops libvirt_ops = {
	.close = hv_libvirt_close,
	.connected = hv_libvirt_connected,
	.list = libvirt_list,
	.lookup = libvirt_lookup,
	.domain_xml = libvirt_domain_xml,
	.define = libvirt_define,
	.sync = libvirt_sync,
	.start = libvirt_start,
	.destroy = libvirt_destroy,
	.snapshots = libvirt_snapshots,
	.snapshot_children = libvirt_snapshot_children,
	.snapshot_xml = libvirt_snapshot_xml,
	.snapshot_create = libvirt_snapshot_create,
	.snapshot_redefine = libvirt_snapshot_redefine,
	.snapshot_forget = libvirt_snapshot_forget,
	.commit = libvirt_commit,
	.job = libvirt_job,
	.job_abort = libvirt_job_abort,
};

int hv_libvirt_open(const char *uri, const struct hv_events *events, struct hv **ret,
		    struct err *err)
{
	struct libvirt *l = xnew(struct libvirt);
	int r;

	l->hv.ops = &libvirt_ops;
	r = hv_libvirt_connect(l, uri, events, err);
	if (r < 0) {
		hv_libvirt_close(&l->hv);
		return r;
	}
	*ret = &l->hv;
	return 0;
}
