/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The connection to libvirt: made, watched, lost and made again.
 *
 * Two threads. One runs libvirt's event loop, which delivers events and keeps
 * the connection alive. The other waits for the connection to be lost, and
 * connects again; it cannot be the first one, since connecting needs the loop.
 *
 * A call takes a reference to the connection of the moment, and holds no lock
 * while it talks. If the connection dies under it, it ends with EHOSTDOWN, and
 * so does every other one until there is a new connection.
 */
#include "engine/hv-libvirt.h"

#include "common/mem.h"
#include "common/timespec.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>

#define KEEPALIVE_SECONDS 5
#define KEEPALIVE_COUNT 3
#define RECONNECT_MS 1000

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

int hv_libvirt_fail(struct libvirt *l, virConnectPtr connection, struct err *err)
{
	const virError *e = virGetLastError();
	int code = to_errno(e);
	cleanup_free char *words = xstrdup(e && e->message ? e->message : "libvirt does not say why");

	/* A message that ends in "already exists" has no code of its own. */
	if (e && (e->code == VIR_ERR_OPERATION_INVALID || e->code == VIR_ERR_OPERATION_FAILED) &&
	    strstr(words, "already exists"))
		code = EEXIST;
	/* See docs/LIBVIRT.md: the next names will do. */
	if (strstr(words, "Duplicate nodes with node-name"))
		code = EAGAIN;
	if (virConnectIsAlive(connection) != 1) {
		mark_lost(l, connection);
		return err_set(err, EHOSTDOWN, "the connection to libvirt was lost");
	}
	return err_set(err, code, "%s", words);
}

/* ---- the connection ---- */

int hv_libvirt_get(struct libvirt *l, virConnectPtr *ret, struct err *err)
{
	LOCK_SCOPE(&l->lock);

	if (!l->connection || l->lost)
		return err_set(err, EHOSTDOWN, "there is no connection to libvirt");
	virConnectRef(l->connection);
	*ret = l->connection;
	return 0;
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

static void disconnect(struct libvirt *l, virConnectPtr c)
{
	if (!c)
		return;
	virConnectUnregisterCloseCallback(c, on_close);
	virConnectClose(c);
}

static int connect_once(struct libvirt *l, virConnectPtr *ret, struct err *err)
{
	virConnectPtr c = virConnectOpen(l->uri);
	int r = check_connection(l, c, err);

	if (r < 0)
		disconnect(l, c);
	else
		*ret = c;
	return r;
}

/* True if it is time to end. The lock is held. */
static bool pause_before_next_try(struct libvirt *l)
{
	struct timespec until = monotonic_in(RECONNECT_MS);

	while (!l->closing && cond_wait_until(&l->changed, &l->lock, &until))
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
		hv_libvirt_forget_domains(l);
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
	l->n_threads++;
	r = pthread_create(&l->connect_thread, NULL, connect_thread, l);
	if (r)
		return err_sys(err, r, "cannot start a thread");
	l->n_threads++;
	return 0;
}

void hv_libvirt_close(struct hv *hv)
{
	struct libvirt *l = of(hv);
	uint64_t one = 1;

	pthread_mutex_lock(&l->lock);
	__atomic_store_n(&l->closing, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	if (l->n_threads > 1)
		pthread_join(l->connect_thread, NULL);
	hv_libvirt_forget_domains(l);
	disconnect(l, l->connection);
	(void)!write(l->wake_fd, &one, sizeof(one));
	if (l->n_threads > 0)
		pthread_join(l->event_thread, NULL);
	virEventRemoveHandle(l->watch);
	close(l->wake_fd);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l->uri);
	free(l);
}

bool hv_libvirt_connected(struct hv *hv)
{
	struct libvirt *l = of(hv);
	LOCK_SCOPE(&l->lock);

	return l->connection && !l->lost;
}

int hv_libvirt_connect(struct libvirt *l, const char *uri, const struct hv_events *events,
		       struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int r;

	pthread_once(&once, register_event_loop);
	l->uri = xstrdup(uri);
	l->events = events;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->watch = virEventAddHandle(l->wake_fd, VIR_EVENT_HANDLE_READABLE, on_wake, NULL, NULL);
	r = connect_once(l, &l->connection, err);
	return r < 0 ? r : start_threads(l, err);
}
