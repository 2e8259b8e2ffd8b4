/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's verbs behind hv.h, but for those of snapshots. These files, hv-libvirt*,
 * are the only ones that include libvirt. What they rely on is written down, with
 * versions, in docs/LIBVIRT.md.
 */
#include "engine/hv-libvirt.h"

#include "common/mem.h"
#include "engine/xml-tree.h"

#include <errno.h>

#define NO_ID ((unsigned)-1) /* of a domain that does not run */

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

/* DAEMON: libvirtd found a QEMU that it could not talk to any more, and ended it. One that could
 * not be started, which is FAILED, has not crashed. */
static bool has_crashed(int state, int reason)
{
	return state == VIR_DOMAIN_CRASHED ||
	       (state == VIR_DOMAIN_SHUTOFF && (reason == VIR_DOMAIN_SHUTOFF_CRASHED ||
						reason == VIR_DOMAIN_SHUTOFF_DAEMON));
}

static bool is_stuck(int state, int reason)
{
	return state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_IOERROR;
}

static int describe(virDomainPtr domain, struct hv_domain *ret)
{
	int state, reason, active, persistent, saved;
	struct hv_domain d = { 0 };

	active = virDomainGetID(domain) != NO_ID; /* which came with the domain just now */
	persistent = virDomainIsPersistent(domain);
	saved = persistent == 1 ? virDomainHasManagedSaveImage(domain, 0) : 0;
	if (active < 0 || persistent < 0 || saved < 0 ||
	    virDomainGetState(domain, &state, &reason, 0) < 0 ||
	    virDomainGetUUIDString(domain, d.uuid) < 0)
		return -1;
	d.name = xstrdup(virDomainGetName(domain));
	d.state = state_word(state);
	/* It may have been started or ended between the two questions: the later answer counts. Of a
	 * crashed one there may be a process yet. */
	d.active = state == VIR_DOMAIN_CRASHED ? active : state != VIR_DOMAIN_SHUTOFF;
	d.crashed = has_crashed(state, reason);
	d.stuck = is_stuck(state, reason);
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

static int by_uuid(const void *a, const void *b)
{
	const struct hv_domain *x = a, *y = b;

	return strcmp(x->uuid, y->uuid);
}

/* Those of libvirt's domains for which a filter is true. */
enum fact { FACT_PERSISTENT, FACT_SAVED };

static int note_fact(virConnectPtr c, unsigned filter, struct hv_domain *found, size_t n,
		     enum fact fact)
{
	virDomainPtr *domains;
	int count = virConnectListAllDomains(c, &domains, filter);

	for (int i = 0; i < count; i++) {
		struct hv_domain key, *d = NULL;

		if (virDomainGetUUIDString(domains[i], key.uuid) == 0)
			d = bsearch(&key, found, n, sizeof(*found), by_uuid);
		if (d && fact == FACT_PERSISTENT)
			d->persistent = true;
		else if (d)
			d->saved = true;
		virDomainFree(domains[i]);
	}
	if (count >= 0)
		free(domains);
	return count < 0 ? -1 : 0;
}

static bool describe_record(const virDomainStatsRecord *record, struct hv_domain *ret)
{
	int state, reason = 0;

	if (virTypedParamsGetInt(record->params, record->nparams, "state.state", &state) != 1 ||
	    virTypedParamsGetInt(record->params, record->nparams, "state.reason", &reason) < 0 ||
	    virDomainGetUUIDString(record->dom, ret->uuid) < 0)
		return false;
	ret->name = xstrdup(virDomainGetName(record->dom));
	ret->state = state_word(state);
	ret->active = virDomainGetID(record->dom) != NO_ID;
	ret->crashed = has_crashed(state, reason);
	ret->stuck = is_stuck(state, reason);
	return true;
}

/* Three questions, however many domains there are: four of each would take seconds. */
static int libvirt_list(struct hv *hv, struct hv_domain **ret, size_t *ret_n, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	virDomainStatsRecordPtr *records = NULL;
	struct hv_domain *found;
	size_t count = 0;
	int n, r = hv_libvirt_get(of(hv), &c, err);

	if (r < 0)
		return r;
	n = virConnectGetAllDomainStats(c, VIR_DOMAIN_STATS_STATE, &records, 0);
	if (n < 0)
		return hv_libvirt_fail(of(hv), c, err);
	found = xcalloc(n, sizeof(*found));
	for (int i = 0; i < n; i++) {
		if (!describe_record(records[i], &found[count]))
			continue;
		hv_libvirt_keep(of(hv), found[count].uuid, records[i]->dom);
		count++;
	}
	virDomainStatsRecordListFree(records);
	qsort(found, count, sizeof(*found), by_uuid);
	if (note_fact(c, VIR_CONNECT_LIST_DOMAINS_PERSISTENT, found, count, FACT_PERSISTENT) < 0 ||
	    note_fact(c, VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE, found, count, FACT_SAVED) < 0) {
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
	int r = hv_libvirt_lookup(of(hv), uuid, &c, &domain, err);

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
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

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
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return virDomainCreate(domain) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_sync(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	return r < 0 ? r : hv_libvirt_sync(c, domain, err);
}

static int libvirt_destroy(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (virDomainDestroy(domain) == 0 || virDomainIsActive(domain) == 0)
		return 0;
	return hv_libvirt_fail(of(hv), c, err);
}

static int libvirt_shutdown(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return virDomainShutdown(domain) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_reset(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return virDomainReset(domain, 0) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_undefine(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (virDomainUndefineFlags(domain, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
				   VIR_DOMAIN_UNDEFINE_KEEP_NVRAM) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return 0;
}

/* The name that a kept handle has may be an older one. */
static int libvirt_rename(struct hv *hv, const char *uuid, const char *name, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_lookup(of(hv), uuid, &c, &domain, err);

	if (r < 0 || streq(virDomainGetName(domain), name))
		return r;
	if (virDomainRename(domain, name, 0) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return hv_libvirt_sync(c, domain, err);
}

static int libvirt_set_title(struct hv *hv, const char *uuid, const char *title, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	unsigned flags = VIR_DOMAIN_AFFECT_CONFIG;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (virDomainIsActive(domain) == 1)
		flags |= VIR_DOMAIN_AFFECT_LIVE;
	if (virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_TITLE, title, NULL, NULL, flags) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return hv_libvirt_sync(c, domain, err);
}

static int libvirt_set_metadata(struct hv *hv, const char *uuid, const char *namespace,
				const char *prefix, const char *xml, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	unsigned flags = VIR_DOMAIN_AFFECT_CURRENT;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (virDomainIsActive(domain) == 1)
		flags |= VIR_DOMAIN_AFFECT_LIVE;
	if (virDomainIsPersistent(domain) == 1)
		flags |= VIR_DOMAIN_AFFECT_CONFIG;
	if (virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, xml, prefix, namespace,
				 flags) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return hv_libvirt_sync(c, domain, err);
}

static int libvirt_save(struct hv *hv, const char *uuid, const char *path, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return virDomainSaveFlags(domain, path, NULL, 0) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_restore(struct hv *hv, const char *path, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	int r = hv_libvirt_get(of(hv), &c, err);

	if (r < 0)
		return r;
	if (virDomainRestoreFlags(c, path, NULL, VIR_DOMAIN_SAVE_RUNNING) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return 0;
}

/* ---- holding a VM for a moment ---- */

/* What the others begin with: how the domain is. */
static int get_state(struct hv *hv, const char *uuid, virConnectPtr *ret_connection,
		     virDomainPtr *ret, int *ret_state, int *ret_reason, struct err *err)
{
	int r = hv_libvirt_domain(of(hv), uuid, ret_connection, ret, err);

	if (r < 0)
		return r;
	if (virDomainGetState(*ret, ret_state, ret_reason, 0) < 0)
		return hv_libvirt_fail(of(hv), *ret_connection, err);
	return 0;
}

static int libvirt_suspend(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int state, reason, r = get_state(hv, uuid, &c, &domain, &state, &reason, err);

	if (r < 0 || (state != VIR_DOMAIN_RUNNING && state != VIR_DOMAIN_BLOCKED))
		return r;
	return virDomainSuspend(domain) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_resume(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int state, reason, r = get_state(hv, uuid, &c, &domain, &state, &reason, err);

	if (r < 0 || state != VIR_DOMAIN_PAUSED || is_stuck(state, reason))
		return r == -ENOENT ? 0 : r;
	return virDomainResume(domain) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

/* The time is what every agent knows, and nothing happens by asking for it. */
static bool libvirt_agent_answers(struct hv *hv, const char *uuid)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	long long seconds;
	unsigned nanoseconds;

	if (hv_libvirt_domain(of(hv), uuid, &c, &domain, NULL) < 0)
		return false;
	(void)virDomainAgentSetResponseTimeout(domain, AGENT_SECONDS, 0);
	return virDomainGetTime(domain, &seconds, &nanoseconds, 0) == 0;
}

static int libvirt_freeze(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	(void)virDomainAgentSetResponseTimeout(domain, AGENT_SECONDS, 0);
	return virDomainFSFreeze(domain, NULL, 0, 0) < 0 ? hv_libvirt_fail(of(hv), c, err) : 0;
}

static int libvirt_thaw(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	(void)virDomainAgentSetResponseTimeout(domain, AGENT_SECONDS, 0);
	if (virDomainFSThaw(domain, NULL, 0, 0) >= 0 || virDomainIsActive(domain) == 0)
		return 0;
	return hv_libvirt_fail(of(hv), c, err);
}

/* ---- block jobs ---- */

static int libvirt_commit(struct hv *hv, const char *uuid, const char *target, const char *base,
			  const char *top, uint64_t bandwidth, struct err *err)
{
	unsigned flags = VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES |
			 (top ? 0 : VIR_DOMAIN_BLOCK_COMMIT_ACTIVE);
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (virDomainBlockCommit(domain, target, base, top, bandwidth, flags) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return 0;
}

/* As with all jobs, it ends when QEMU does: TRANSIENT_JOB says that this is known. */
static int libvirt_copy(struct hv *hv, const char *uuid, const char *target, const char *xml,
			struct err *err)
{
	unsigned flags = VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB;
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	if (virDomainBlockCopy(domain, target, xml, NULL, 0, flags) < 0)
		return hv_libvirt_fail(of(hv), c, err);
	return 0;
}

/* READY is what the XML says: the counters are equal before it is. But a libvirtd that was killed when
 * it had begun a commit of the active layer may have noted the job, and not marked the disk. Then they
 * are all there is: it refuses to pivot one that is not READY. */
static bool is_ready(virDomainPtr domain, const char *target, const virDomainBlockJobInfo *info)
{
	cleanup(xml_doc_free_p) xmlDoc *doc = NULL;
	cleanup_free char *xml = virDomainGetXMLDesc(domain, 0);
	xmlNode *disk;

	if (!xml || xml_doc_parse(xml, "domain", &doc, NULL) < 0)
		return false;
	disk = xml_child(xml_child(xmlDocGetRootElement(doc), "devices"), "disk");
	for (; disk; disk = xml_next(disk, "disk")) {
		cleanup_free char *name = xml_attribute(xml_child(disk, "target"), "dev");
		xmlNode *mirror = xml_child(disk, "mirror");
		cleanup_free char *ready = xml_attribute(mirror, "ready");

		if (!streq(name, target))
			continue;
		if (!mirror && info->type == VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT)
			return info->cur == info->end;
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
	int n, r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	n = virDomainGetBlockJobInfo(domain, target, &info, 0);
	if (n < 0)
		return hv_libvirt_fail(of(hv), c, err);
	*ret = (struct hv_job){ .state = HV_JOB_NONE, .done = info.cur, .total = info.end };
	if (n > 0)
		ret->state = is_ready(domain, target, &info) ? HV_JOB_READY : HV_JOB_RUNNING;
	return 0;
}

static int libvirt_job_abort(struct hv *hv, const char *uuid, const char *target, bool pivot,
			     struct err *err)
{
	unsigned flags = VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC |
			 (pivot ? VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT : 0);
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = hv_libvirt_domain(of(hv), uuid, &c, &domain, err);

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
	.shutdown = libvirt_shutdown,
	.reset = libvirt_reset,
	.undefine = libvirt_undefine,
	.rename = libvirt_rename,
	.set_title = libvirt_set_title,
	.set_metadata = libvirt_set_metadata,
	.save = libvirt_save,
	.restore = libvirt_restore,
	.suspend = libvirt_suspend,
	.resume = libvirt_resume,
	.agent_answers = libvirt_agent_answers,
	.guest_os = hv_libvirt_guest_os,
	.guest_file = hv_libvirt_guest_file,
	.freeze = libvirt_freeze,
	.thaw = libvirt_thaw,
	.snapshots = hv_libvirt_snapshots,
	.snapshot_children = hv_libvirt_snapshot_children,
	.snapshot_xml = hv_libvirt_snapshot_xml,
	.snapshot_create = hv_libvirt_snapshot_create,
	.snapshot_redefine = hv_libvirt_snapshot_redefine,
	.snapshot_forget = hv_libvirt_snapshot_forget,
	.commit = libvirt_commit,
	.copy = libvirt_copy,
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
