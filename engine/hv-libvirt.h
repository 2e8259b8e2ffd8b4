/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two files behind hv_libvirt_open share: nothing else includes this. */
#ifndef KWS_ENGINE_HV_LIBVIRT_H
#define KWS_ENGINE_HV_LIBVIRT_H

#include "common/cleanup.h"
#include "engine/hv.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>

struct libvirt {
	struct hv hv;
	char *uri;
	const struct hv_events *events;
	pthread_t event_thread, connect_thread;
	int n_threads; /* of these, that were started */
	int wake_fd; /* makes the event loop go round */
	int watch;   /* libvirt's number for it */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	virConnectPtr connection; /* NULL while there is none */
	bool lost;                /* it is there, and dead */
	bool closing;
};

static inline struct libvirt *of(struct hv *hv)
{
	return (struct libvirt *)hv;
}

static inline void conn_p(virConnectPtr *p)
{
	if (*p)
		virConnectClose(*p);
}

#define cleanup_conn cleanup(conn_p)

/* A reference to the connection of the moment, which the caller closes.
 * -EHOSTDOWN if there is none. */
int hv_libvirt_get(struct libvirt *l, virConnectPtr *ret, struct err *err);

/* What libvirt has written about the domain is durable when this returns. */
int hv_libvirt_sync(virConnectPtr connection, virDomainPtr domain, struct err *err);

/* What libvirt complained of last in this thread, as an errno and its own words. */
int hv_libvirt_fail(struct libvirt *l, virConnectPtr connection, struct err *err);

/* The first try to connect, and the threads that keep the connection. */
int hv_libvirt_connect(struct libvirt *l, const char *uri, const struct hv_events *events,
		       struct err *err);
bool hv_libvirt_connected(struct hv *hv);
/* Also after a hv_libvirt_connect that failed. Frees `hv`. */
void hv_libvirt_close(struct hv *hv);

#endif
