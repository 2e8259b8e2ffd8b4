/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libvirt's handles of domains, kept as long as the connection. To get one is a question to
 * libvirtd, as long as most others, and all but the first of a look or of an operation
 * would ask the same. A handle stands for a UUID: what else is in it, the name and whether
 * the domain runs, is of the moment when it was asked for, so who looks a domain up asks
 * anew. A domain that went is found out by the first call that uses its handle.
 */
#include "engine/hv-libvirt.h"

#include "common/mem.h"

#include <search.h>

struct known_domain {
	char uuid[VIR_UUID_STRING_BUFLEN];
	virDomainPtr domain;
};

static int by_uuid(const void *a, const void *b)
{
	const struct known_domain *x = a, *y = b;

	return strcmp(x->uuid, y->uuid);
}

static void known_free(void *known)
{
	struct known_domain *k = known;

	virDomainFree(k->domain);
	free(k);
}

void hv_libvirt_forget_domains(struct libvirt *l)
{
	tdestroy(l->domains, known_free);
	l->domains = NULL;
}

static void forget(struct libvirt *l, const char *uuid)
{
	struct known_domain key, **found, *known;
	LOCK_SCOPE(&l->lock);

	snprintf(key.uuid, sizeof(key.uuid), "%s", uuid);
	found = tfind(&key, &l->domains, by_uuid);
	if (!found)
		return;
	known = *found;
	tdelete(known, &l->domains, by_uuid);
	known_free(known);
}

void hv_libvirt_keep(struct libvirt *l, const char *uuid, virDomainPtr domain)
{
	struct known_domain *fresh = xnew(struct known_domain), **kept;
	LOCK_SCOPE(&l->lock);

	/* Of a connection that is lost it would keep that open. */
	if (l->lost || virDomainGetConnect(domain) != l->connection) {
		free(fresh);
		return;
	}
	snprintf(fresh->uuid, sizeof(fresh->uuid), "%s", uuid);
	kept = tsearch(fresh, &l->domains, by_uuid);
	if (!kept)
		abort(); /* no memory, as in xcalloc */
	virDomainRef(domain);
	if (*kept == fresh) {
		fresh->domain = domain;
	} else {
		virDomainFree((*kept)->domain);
		(*kept)->domain = domain;
		free(fresh);
	}
}

/* With a reference; NULL if there is none of this connection. */
static virDomainPtr find(struct libvirt *l, const char *uuid, virConnectPtr connection)
{
	struct known_domain key, **found;
	LOCK_SCOPE(&l->lock);

	snprintf(key.uuid, sizeof(key.uuid), "%s", uuid);
	found = tfind(&key, &l->domains, by_uuid);
	if (!found || virDomainGetConnect((*found)->domain) != connection)
		return NULL;
	virDomainRef((*found)->domain);
	return (*found)->domain;
}

int hv_libvirt_lookup(struct libvirt *l, const char *uuid, virConnectPtr *ret_connection,
		      virDomainPtr *ret, struct err *err)
{
	int r = hv_libvirt_get(l, ret_connection, err);

	if (r < 0)
		return r;
	*ret = virDomainLookupByUUIDString(*ret_connection, uuid);
	if (*ret) {
		hv_libvirt_keep(l, uuid, *ret);
		return 0;
	}
	r = hv_libvirt_fail(l, *ret_connection, err);
	forget(l, uuid);
	return r;
}

int hv_libvirt_domain(struct libvirt *l, const char *uuid, virConnectPtr *ret_connection,
		      virDomainPtr *ret, struct err *err)
{
	int r = hv_libvirt_get(l, ret_connection, err);

	if (r < 0)
		return r;
	*ret = find(l, uuid, *ret_connection);
	if (*ret)
		return 0;
	virConnectClose(steal_pointer(ret_connection));
	return hv_libvirt_lookup(l, uuid, ret_connection, ret, err);
}
