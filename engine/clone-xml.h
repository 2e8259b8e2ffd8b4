/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The definition of a clone, out of that of the moment of its snapshot: what two VMs cannot
 * both have is changed, what cannot be changed is refused, and all else is as it was.
 */
#ifndef KWS_ENGINE_CLONE_XML_H
#define KWS_ENGINE_CLONE_XML_H

#include "engine/domain-xml.h"

struct clone_spec {
	const char *name;
	const char *uuid;
	const char *nvram;             /* path of its own UEFI variables; NULL if it has none */
	const struct overlay *overlays; /* its disks: those of the snapshot */
	size_t n_overlays;
	const char *source;    /* UUID of the VM it is made from, and */
	const char *snapshot;  /* the snapshot's name: for the domain's metadata */
	const char *user_data; /* for the guest, see docs/CLONES.md; NULL if there is none */
	const char *meta;      /* likewise */
};

/* `xml`: the snapshot's, as libvirt has it. -EOPNOTSUPP with the device if the VM has one that
 * two VMs cannot have, and that a clone would be another VM without. The caller frees *ret. */
int clone_xml_build(const char *xml, const struct clone_spec *spec, char **ret, struct err *err);

/* The same definition for a clone that gets another name: what hangs on the name changes with
 * it. The caller frees *ret. */
int clone_xml_rename(const char *xml, const char *name, char **ret, struct err *err);

#endif
