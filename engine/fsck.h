/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking what there is against what is said of it: the registry and the journal,
 * libvirt's domains and its metadata of snapshots, the headers of the images, the
 * files. Each finding is one line: what is wrong, and what is done about it.
 *
 * The same code checks in the daemon and without one. In the daemon each VM is
 * visited by a task in its queue, so that no operation of it is under way.
 */
#ifndef KWS_ENGINE_FSCK_H
#define KWS_ENGINE_FSCK_H

#include "engine/core.h"
#include "engine/domain-xml.h"
#include "engine/evidence.h"
#include "engine/metadata.h"

struct fsck {
	struct engine *e;
	bool repair;
	bool alone; /* there is no daemon: nobody else works on the VMs */
	FILE *out;
	size_t fixed, left;
	struct journal_op *open; /* alone: the operations that were open at the beginning */
	size_t n_open;
	struct evidence ev; /* from before anything was repaired */
	vec_of(struct layer_file) seen; /* layers of which all has been said */
};

/* A finding that only a person can do something about: `remedy`, after "by hand". */
void fsck_by_hand(struct fsck *f, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* One that can be mended without risk. True if that is to be done now: then
 * fsck_mended tells how it went, with the same remedy. */
bool fsck_mendable(struct fsck *f, const char *remedy, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void fsck_mended(struct fsck *f, const char *remedy, int r, const struct err *err);

/* A VM that is visited. */
struct visit {
	struct fsck *f;
	const struct hv_domain *domain;
	struct slot *slot; /* NULL where nothing may be written */
	uint32_t id;       /* in the registry, 0 if it has none */
	struct domain_xml *live, *config; /* NULL where there is none */
	snapshots_metadata_t snapshots;
	bool open_ops;     /* an operation is open: what it left is no finding yet */
};

/* Everything about one VM. The caller has it for itself. */
int fsck_visit(struct fsck *f, const struct hv_domain *domain, struct slot *s, uint32_t id,
	       struct err *err);

/* fsck-layers.c: the chains under the disks and the snapshots of a VM. */
void fsck_layers(struct visit *v);
/* ... and what libvirt's metadata of the snapshots say of them. */
void fsck_snapshots(struct visit *v);

/* fsck-registry.c: what the registry says of it. */
int fsck_records(struct visit *v, struct err *err);
/* ... and of VMs that libvirt does not have. */
int fsck_gone(struct fsck *f, struct err *err);

/* fsck-config.c: the chains that libvirt would start it with. */
void fsck_config(struct visit *v);

#endif
