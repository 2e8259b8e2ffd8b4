/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt behind hv.h, and the only file that includes it. What it relies on
 * is written down, with versions, in docs/LIBVIRT.md.
 *
 * Two threads. One runs libvirt's event loop, which delivers events and keeps
 * the connection alive. The other waits for the connection to be lost, and
 * connects again; it cannot be the first one, since connecting needs the loop.
 *
 * A call takes a reference to the connection of the moment, and holds no lock
 * while it talks. If the connection dies under it, it ends with EHOSTDOWN, and
 * so does every other one until there is a new connection.
 */
#include "engine/hv.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/xml-tree.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <sys/eventfd.h>
#include <time.h>

#define KEEPALIVE_SECONDS 5
#define KEEPALIVE_COUNT 3
#define RECONNECT_SECONDS 1
#define AGENT_SECONDS 10 /* how long a guest agent may take to answer */

struct libvirt {
	struct hv hv;
	char *uri;
	const struct hv_events *events;
	pthread_t event_thread, connect_thread;
	bool threads;
	int wake_fd; /* makes the event loop go round */
	int watch;   /* libvirt's number for it */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	virConnectPtr connection; /* NULL while there is none */
	bool lost;                /* it is there, and dead */
	bool closing;
};

static struct libvirt *of(struct hv *hv)
{
	return (struct libvirt *)hv;
}

/* ---- handles that free themselves ---- */

static void conn_p(virConnectPtr *p)
{
	if (*p)
		virConnectClose(*p);
}

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

#define cleanup_conn cleanup(conn_p)
#define cleanup_dom cleanup(dom_p)
#define cleanup_snap cleanup(snap_p)

/* ---- errors ---- */

static int to_errno(const virError *e)
{
	switch (e ? e->code : VIR_ERR_OK) {
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_DOMAIN_SNAPSHOT:
		return ENOENT;
	case VIR_ERR_AGENT_UNRESPONSIVE:
	case VIR_ERR_AGENT_UNSYNCED:
		return ETIMEDOUT;
	case VIR_ERR_CONFIG_UNSUPPORTED:
	case VIR_ERR_OPERATION_UNSUPPORTED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED:
	case VIR_ERR_NO_SUPPORT:
		return EOPNOTSUPP;
	case VIR_ERR_OPERATION_INVALID: /* not running, or running already */
	case VIR_ERR_RESOURCE_BUSY:
	case VIR_ERR_BLOCK_COPY_ACTIVE:
	case VIR_ERR_OPERATION_TIMEOUT: /* the domain is held by another client */
		return EBUSY;
	case VIR_ERR_DOM_EXIST:
		return EEXIST;
	case VIR_ERR_XML_ERROR:
	case VIR_ERR_XML_DETAIL:
	case VIR_ERR_INVALID_ARG:
		return EINVAL;
	case VIR_ERR_SYSTEM_ERROR:
		return e->int1 > 0 ? e->int1 : EIO;
	default:
		return EIO;
	}
}

static void mark_lost(struct libvirt *l, virConnectPtr connection)
{
	bool mine;

	pthread_mutex_lock(&l->lock);
	mine = l->connection == connection && !l->lost;
	if (mine) {
		l->lost = true;
		pthread_cond_broadcast(&l->changed);
	}
	pthread_mutex_unlock(&l->lock);
	if (mine)
		l->events->connection(l->events->opaque, false);
}

/* What libvirt complained of last in this thread. */
static int fail(struct libvirt *l, virConnectPtr connection, struct err *err)
{
	const virError *e = virGetLastError();
	int code = to_errno(e);
	cleanup_free char *words = xstrdup(e && e->message ? e->message : "libvirt does not say why");

	/* A message that ends in "already exists" has no code of its own. */
	if (e && e->code == VIR_ERR_OPERATION_INVALID && strstr(words, "already exists"))
		code = EEXIST;
	if (virConnectIsAlive(connection) != 1) {
		mark_lost(l, connection);
		return err_set(err, EHOSTDOWN, "the connection to libvirt was lost");
	}
	return err_set(err, code, "%s", words);
}

/* ---- the connection ---- */

/* The caller closes *ret. */
static int get(struct libvirt *l, virConnectPtr *ret, struct err *err)
{
	LOCK_SCOPE(&l->lock);

	if (!l->connection || l->lost)
		return err_set(err, EHOSTDOWN, "there is no connection to libvirt");
	virConnectRef(l->connection);
	*ret = l->connection;
	return 0;
}

static int get_domain(struct libvirt *l, const char *uuid, virConnectPtr *ret_connection,
		      virDomainPtr *ret, struct err *err)
{
	int r = get(l, ret_connection, err);

	if (r < 0)
		return r;
	*ret = virDomainLookupByUUIDString(*ret_connection, uuid);
	return *ret ? 0 : fail(l, *ret_connection, err);
}

static int on_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
			void *opaque)
{
	struct libvirt *l = opaque;
	char uuid[VIR_UUID_STRING_BUFLEN];

	if (virDomainGetUUIDString(domain, uuid) == 0)
		l->events->domain(l->events->opaque, uuid);
	return 0;
}

static void on_block_job(virConnectPtr connection, virDomainPtr domain, const char *target,
			 int type, int status, void *opaque)
{
	static const enum hv_job_event events[] = {
		[VIR_DOMAIN_BLOCK_JOB_COMPLETED] = HV_JOB_EVENT_COMPLETED,
		[VIR_DOMAIN_BLOCK_JOB_FAILED] = HV_JOB_EVENT_FAILED,
		[VIR_DOMAIN_BLOCK_JOB_CANCELED] = HV_JOB_EVENT_CANCELED,
		[VIR_DOMAIN_BLOCK_JOB_READY] = HV_JOB_EVENT_READY,
	};
	struct libvirt *l = opaque;
	char uuid[VIR_UUID_STRING_BUFLEN];

	if (status < 0 || status > VIR_DOMAIN_BLOCK_JOB_READY)
		return;
	if (virDomainGetUUIDString(domain, uuid) == 0)
		l->events->block_job(l->events->opaque, uuid, target, events[status]);
}

static void on_close(virConnectPtr connection, int reason, void *opaque)
{
	mark_lost(opaque, connection);
}

static int listen_to(struct libvirt *l, virConnectPtr c)
{
	if (virConnectRegisterCloseCallback(c, on_close, l, NULL) < 0)
		return -1;
	/* Drivers that live in this process have no connection to keep alive. */
	(void)virConnectSetKeepAlive(c, KEEPALIVE_SECONDS, KEEPALIVE_COUNT);
	if (virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
					     VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), l, NULL) < 0)
		return -1;
	return virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
						VIR_DOMAIN_EVENT_CALLBACK(on_block_job), l, NULL);
}

static int check_connection(struct libvirt *l, virConnectPtr c, struct err *err)
{
	const char *driver = c ? virConnectGetType(c) : NULL;

	if (!driver)
		return err_set(err, EHOSTDOWN, "libvirt does not answer at %s: %s", l->uri,
			       virGetLastErrorMessage());
	if (strcmp(driver, "QEMU") != 0)
		return err_set(err, EOPNOTSUPP, "%s is libvirt's driver for %s: kwsfs needs that "
			       "for QEMU, as in qemu:///system", l->uri, driver);
	if (listen_to(l, c) < 0)
		return err_set(err, EHOSTDOWN, "libvirt at %s sends no events: %s", l->uri,
			       virGetLastErrorMessage());
	return 0;
}

static int connect_once(struct libvirt *l, virConnectPtr *ret, struct err *err)
{
	virConnectPtr c = virConnectOpen(l->uri);
	int r = check_connection(l, c, err);

	if (r < 0 && c)
		virConnectClose(c);
	if (r >= 0)
		*ret = c;
	return r;
}

static void disconnect(struct libvirt *l, virConnectPtr c)
{
	if (!c)
		return;
	virConnectUnregisterCloseCallback(c, on_close);
	virConnectClose(c);
}

/* True if it is time to end. The lock is held. */
static bool pause_before_next_try(struct libvirt *l)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RECONNECT_SECONDS;
	while (!l->closing && pthread_cond_timedwait(&l->changed, &l->lock, &until) != ETIMEDOUT)
		;
	return l->closing;
}

static void *connect_thread(void *opaque)
{
	struct libvirt *l = opaque;

	pthread_mutex_lock(&l->lock);
	while (!l->closing) {
		virConnectPtr old, fresh = NULL;

		if (l->connection && !l->lost) {
			pthread_cond_wait(&l->changed, &l->lock);
			continue;
		}
		old = steal_pointer(&l->connection);
		pthread_mutex_unlock(&l->lock);
		disconnect(l, old);
		connect_once(l, &fresh, NULL);
		pthread_mutex_lock(&l->lock);
		if (!fresh) {
			if (pause_before_next_try(l))
				break;
			continue;
		}
		l->connection = fresh;
		l->lost = false;
		pthread_mutex_unlock(&l->lock);
		l->events->connection(l->events->opaque, true);
		pthread_mutex_lock(&l->lock);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* ---- the event loop ---- */

static void *event_thread(void *opaque)
{
	struct libvirt *l = opaque;

	while (!__atomic_load_n(&l->closing, __ATOMIC_ACQUIRE))
		virEventRunDefaultImpl();
	return NULL;
}

static void on_wake(int watch, int fd, int events, void *opaque)
{
	uint64_t n;

	(void)!read(fd, &n, sizeof(n));
}

static void be_silent(void *opaque, virErrorPtr error)
{
}

static void register_event_loop(void)
{
	virEventRegisterDefaultImpl();
	virSetErrorFunc(NULL, be_silent); /* its words go into our messages */
}

static int start_threads(struct libvirt *l, struct err *err)
{
	int r = pthread_create(&l->event_thread, NULL, event_thread, l);

	if (r)
		return err_sys(err, r, "cannot start a thread");
	r = pthread_create(&l->connect_thread, NULL, connect_thread, l);
	if (r)
		return err_sys(err, r, "cannot start a thread");
	l->threads = true;
	return 0;
}

static void libvirt_close(struct hv *hv)
{
	struct libvirt *l = of(hv);
	uint64_t one = 1;

	if (l->threads) {
		pthread_mutex_lock(&l->lock);
		__atomic_store_n(&l->closing, true, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&l->changed);
		pthread_mutex_unlock(&l->lock);
		pthread_join(l->connect_thread, NULL);
		disconnect(l, l->connection);
		(void)!write(l->wake_fd, &one, sizeof(one));
		pthread_join(l->event_thread, NULL);
	}
	virEventRemoveHandle(l->watch);
	close(l->wake_fd);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l->uri);
	free(l);
}

static bool libvirt_connected(struct hv *hv)
{
	struct libvirt *l = of(hv);
	LOCK_SCOPE(&l->lock);

	return l->connection && !l->lost;
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
	int n, r = get(of(hv), &c, err);

	if (r < 0)
		return r;
	n = virConnectListAllDomains(c, &domains, 0);
	if (n < 0)
		return fail(of(hv), c, err);
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
		return fail(of(hv), c, err);
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
	return describe(domain, ret) < 0 ? fail(of(hv), c, err) : 0;
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
		return fail(of(hv), c, err);
	*ret = xml;
	return 0;
}

static int libvirt_define(struct hv *hv, const char *xml, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get(of(hv), &c, err);

	if (r < 0)
		return r;
	domain = virDomainDefineXML(c, xml);
	return domain ? 0 : fail(of(hv), c, err);
}

static int libvirt_start(struct hv *hv, const char *uuid, struct err *err)
{
	cleanup_conn virConnectPtr c = NULL;
	cleanup_dom virDomainPtr domain = NULL;
	int r = get_domain(of(hv), uuid, &c, &domain, err);

	if (r < 0)
		return r;
	return virDomainCreate(domain) < 0 ? fail(of(hv), c, err) : 0;
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
	return fail(of(hv), c, err);
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
	return *ret ? 0 : fail(of(hv), *ret_connection, err);
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
		return fail(of(hv), c, err);
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
		return fail(of(hv), c, err);
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
		return fail(of(hv), c, err);
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
	return snapshot ? 0 : fail(of(hv), c, err);
}

static int libvirt_snapshot_create(struct hv *hv, const char *uuid, const char *xml,
				   unsigned flags, struct err *err)
{
	unsigned native = VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
			  VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT;

	if (flags & HV_CREATE_QUIESCE)
		native |= VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE;
	return create(hv, uuid, xml, native, flags & HV_CREATE_QUIESCE, err);
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
		return 0;
	if (r < 0)
		return r;
	if (virDomainSnapshotDelete(snapshot, VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY) < 0)
		return fail(of(hv), c, err);
	return 0;
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
		return fail(of(hv), c, err);
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
		return fail(of(hv), c, err);
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
	return virDomainBlockJobAbort(domain, target, flags) < 0 ? fail(of(hv), c, err) : 0;
}

/* ---- open ---- */

static const struct hv_ops libvirt_ops = {
	.close = libvirt_close,
	.connected = libvirt_connected,
	.list = libvirt_list,
	.lookup = libvirt_lookup,
	.domain_xml = libvirt_domain_xml,
	.define = libvirt_define,
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
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct libvirt *l = xnew(struct libvirt);
	int r;

	pthread_once(&once, register_event_loop);
	l->hv.ops = &libvirt_ops;
	l->uri = xstrdup(uri);
	l->events = events;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->watch = virEventAddHandle(l->wake_fd, VIR_EVENT_HANDLE_READABLE, on_wake, NULL, NULL);
	r = connect_once(l, &l->connection, err);
	if (r >= 0)
		r = start_threads(l, err);
	if (r < 0) {
		libvirt_close(&l->hv);
		return r;
	}
	*ret = &l->hv;
	return 0;
}
