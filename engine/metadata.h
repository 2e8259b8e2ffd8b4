/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Editing what libvirt keeps of a VM and its snapshots. Touches no disk. */
#ifndef KWS_ENGINE_METADATA_H
#define KWS_ENGINE_METADATA_H

#include "engine/core.h"
#include "engine/domain-xml.h"

/* All of libvirt's snapshots of a VM, shown or not. */
struct snapshot_names {
	char **at;
	size_t n;
	char *current; /* NULL if none */
};

int snapshot_names_read(struct engine *e, struct slot *s, struct snapshot_names *ret,
			struct err *err);
/* Those whose parent is `name`; `current` is not filled in. */
int snapshot_children_read(struct engine *e, struct slot *s, const char *name,
			   struct snapshot_names *ret, struct err *err);
void snapshot_names_clear(struct snapshot_names *names);
bool snapshot_names_have(const struct snapshot_names *names, const char *name);

/* One of libvirt's snapshots, as its XML has it. */
struct snapshot_metadata {
	struct snapshot_xml *snapshot;
	struct domain_xml *domain; /* the VM at that moment; NULL if libvirt did not keep it */
};

typedef vec_of(struct snapshot_metadata) snapshots_metadata_t;

/* All of a domain's, shown or not; none if there is no such domain. The caller frees
 * them with snapshots_metadata_clear, also after a failure. */
int snapshots_metadata_read(struct engine *e, const char *uuid, snapshots_metadata_t *ret,
			    struct err *err);
void snapshots_metadata_clear(snapshots_metadata_t *s);

/* Redefines a snapshot as `xml` with the edit; `current` as in hv.h. */
int metadata_redefine(struct engine *e, struct slot *s, const char *xml,
		      const struct snapshot_edit *edit, bool current, struct err *err);

/* Hangs a snapshot under another one; "" makes it a root. */
int metadata_set_parent(struct engine *e, struct slot *s, const char *name, const char *parent,
			struct err *err);

/* Hangs the children of `from` under `to`; "" makes them roots. */
int metadata_adopt(struct engine *e, struct slot *s, const char *from, const char *to,
		   struct err *err);

/* Puts other files in the place of those that the VM's config names, if it has one. Where
 * one of them is only a part of a disk's chain, that is taken out: libvirt looks again. */
int config_rename(struct engine *e, struct slot *s, const struct xml_rename *renames, size_t n,
		  struct err *err);

#endif
