/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the engine reads out of libvirt's domain and snapshot XML, and how it
 * changes it. Formats: libvirt's formatdomain and formatsnapshot pages.
 * Everything that is not named here is passed through as it was.
 */
#ifndef KWS_ENGINE_DOMAIN_XML_H
#define KWS_ENGINE_DOMAIN_XML_H

#include "common/err.h"
#include "engine/feature-set.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct xml_layer {
	char *path; /* NULL if it is no local file */
	char *format;
};

/* One <disk> of a domain. */
struct xml_disk {
	char *target;   /* "vda" */
	char *device;   /* "disk", "cdrom", "floppy", "lun" */
	char *type;     /* of the source: "file", "block", "network", "volume", ... */
	char *path;     /* the source's file or block device, NULL if it has none */
	char *format;   /* <driver type=>, NULL if not named */
	char *snapshot; /* the disk's own wish: "no", "internal", "external", "manual", or NULL */
	bool readonly, shareable, transient, encrypted, copy_on_read;
	/* <backingStore> elements from the first on, where libvirt gives them:
	 * the names by which block commit knows the layers. */
	struct xml_layer *backing;
	size_t n_backing;
	bool backing_ends; /* ... and it is said that nothing is under the last */
};

struct domain_xml {
	char *name;
	char *uuid;
	char *nvram; /* path, NULL if none */
	bool agent;  /* the guest agent's channel is connected */
	struct xml_disk *disks;
	size_t n_disks;
	struct feature_set features; /* all that it says, whether they count or not */
};

int domain_xml_parse(const char *xml, struct domain_xml **ret, struct err *err);
void domain_xml_free(struct domain_xml *d); /* NULL is allowed */
const struct xml_disk *domain_xml_disk(const struct domain_xml *d, const char *target);

/* One disk of a snapshot. */
struct xml_snapshot_disk {
	char *target;
	char *overlay;       /* the file that was put on top, NULL if it is not known */
	char *frozen;        /* the file under it: the <domain>'s source of that disk */
	char *frozen_format;
};

struct snapshot_xml {
	char *name;
	char *description; /* never NULL */
	char *parent;      /* NULL if none */
	int64_t created;   /* seconds since the epoch */
	char *state;       /* "disk-snapshot", "shutoff", "running", ... */
	bool external;     /* all disks that take part are external, at least one does */
	bool memory;       /* holds the VM's memory too (in a file of its own) */
	struct xml_snapshot_disk *disks; /* those that take part and are external */
	size_t n_disks;
};

int snapshot_xml_parse(const char *xml, struct snapshot_xml **ret, struct err *err);
void snapshot_xml_free(struct snapshot_xml *s); /* NULL is allowed */

/* For snapshot_xml_build: each disk of the domain, and its overlay, or NULL
 * for one that takes no part. */
struct overlay {
	const char *target;
	const char *path;
};

/* The XML that virDomainSnapshotCreateXML wants. The caller frees *ret. */
int snapshot_xml_build(const char *name, const char *description, const struct overlay *overlays,
		       size_t n, char **ret, struct err *err);

/* A file name that takes the place of another one, wherever a disk's source
 * in the XML says so; `format` (may be NULL) goes with it. A <backingStore>
 * of a disk whose source changes is taken out: libvirt probes it anew. */
struct xml_rename {
	const char *from;
	const char *to;
	const char *format;
};

/* What to change in a snapshot's XML; NULL leaves as it is. */
struct snapshot_edit {
	const char *name;
	const char *description;
	const char *parent; /* "" takes the parent out */
	const struct xml_rename *renames;
	size_t n_renames;
	/* Sets the overlay in <disks> of these targets. */
	const struct overlay *overlays;
	size_t n_overlays;
};

int snapshot_xml_edit(const char *xml, const struct snapshot_edit *edit, char **ret,
		      struct err *err);

/* The <domain> in a snapshot's XML, as a document. The caller frees *ret. */
int snapshot_xml_domain(const char *xml, char **ret, struct err *err);

/* The definition to go back to: the <inactiveDomain> of a snapshot if there is
 * one, else its <domain>, under the domain's name of today, the overlays as
 * the sources (qcow2) of their disks. The caller frees *ret. */
int snapshot_xml_definition(const char *xml, const char *domain_name,
			    const struct overlay *overlays, size_t n, char **ret, struct err *err);

/* Takes the <backingStore> of a disk out of a domain's XML: libvirt then looks at the
 * headers. The caller frees *ret. */
int domain_xml_forget_chain(const char *xml, const char *target, char **ret, struct err *err);

/* A <disk> that says no more than where it is: what virDomainBlockCopy wants. The caller frees
 * *ret. */
int disk_xml_build(const char *path, const char *format, char **ret, struct err *err);

/* Puts other files in the place of a domain's disk sources. *ret_changed (may
 * be NULL) tells whether there was anything to do. The caller frees *ret. */
int domain_xml_rename(const char *xml, const struct xml_rename *renames, size_t n, char **ret,
		      bool *ret_changed, struct err *err);

#endif
