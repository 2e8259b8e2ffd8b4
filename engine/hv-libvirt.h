/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files behind hv_libvirt_open share: nothing else includes this. */
#ifndef KWS_ENGINE_HV_LIBVIRT_H
#define KWS_ENGINE_HV_LIBVIRT_H

#include "common/cleanup.h"
#include "engine/hv.h"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>

#define AGENT_SECONDS 10 /* how long a guest agent may take to answer */

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
	void *domains;            /* handles of this connection: hv-libvirt-domains.c */
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

static inline void dom_p(virDomainPtr *p)
{
	if (*p)
		virDomainFree(*p);
}

#define cleanup_dom cleanup(dom_p)

/* A reference to the connection of the moment, which the caller closes.
 * -EHOSTDOWN if there is none. */
int hv_libvirt_get(struct libvirt *l, virConnectPtr *ret, struct err *err);

/* The domain, asked for anew, and the connection that it is of. The caller frees both, also on
 * failure. */
int hv_libvirt_lookup(struct libvirt *l, const char *uuid, virConnectPtr *ret_connection,
		      virDomainPtr *ret, struct err *err);
/* The same, but the handle may be an older one. */
int hv_libvirt_domain(struct libvirt *l, const char *uuid, virConnectPtr *ret_connection,
		      virDomainPtr *ret, struct err *err);
/* Keeps a handle that was just got. */
void hv_libvirt_keep(struct libvirt *l, const char *uuid, virDomainPtr domain);
/* All of them; the lock is held, or nobody else is there. */
void hv_libvirt_forget_domains(struct libvirt *l);

/* What libvirt has written about the domain is durable when this returns. */
int hv_libvirt_sync(virConnectPtr connection, virDomainPtr domain, struct err *err);

/* What libvirt complained of last in this thread, as an errno and its own words. */
int hv_libvirt_fail(struct libvirt *l, virConnectPtr connection, struct err *err);

/* hv-libvirt-agent.c: of hv_ops. */
int hv_libvirt_guest_os(struct hv *hv, const char *uuid, char **ret, struct err *err);
int hv_libvirt_guest_file(struct hv *hv, const char *uuid, const char *path, size_t max, char **ret,
			  struct err *err);

/* The first try to connect, and the threads that keep the connection. */
int hv_libvirt_connect(struct libvirt *l, const char *uri, const struct hv_events *events,
		       struct err *err);
bool hv_libvirt_connected(struct hv *hv);
/* Also after a hv_libvirt_connect that failed. Frees `hv`. */
void hv_libvirt_close(struct hv *hv);

/* hv-libvirt-snapshots.c: as hv.h has them. */
int hv_libvirt_snapshots(struct hv *hv, const char *uuid, char ***ret_names, size_t *ret_n,
			 char **ret_current, struct err *err);
int hv_libvirt_snapshot_children(struct hv *hv, const char *uuid, const char *name,
				 char ***ret_names, size_t *ret_n, struct err *err);
int hv_libvirt_snapshot_xml(struct hv *hv, const char *uuid, const char *name, char **ret,
			    struct err *err);
int hv_libvirt_snapshot_create(struct hv *hv, const char *uuid, const char *xml, unsigned flags,
			       struct err *err);
int hv_libvirt_snapshot_redefine(struct hv *hv, const char *uuid, const char *xml, bool current,
				 struct err *err);
int hv_libvirt_snapshot_forget(struct hv *hv, const char *uuid, const char *name,
			       struct err *err);

#endif
