/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overlays that the engine makes: named, created empty with the owner of
 * the disk they lie on, and taken away again if nothing came of it. Their
 * names come from ids, never from what a snapshot is called, so that a rename
 * moves nothing: kws-<VM>-<random>-<target>.qcow2.
 */
#ifndef KWS_ENGINE_OVERLAY_H
#define KWS_ENGINE_OVERLAY_H

#include "engine/op.h"

struct domain_xml;

/* What new overlays are made with: `wanted`, or the best that qemu-img knows. It is
 * tried with a file in `folder`. The caller frees *ret. */
int overlay_choose_options(const char *wanted, const char *folder, char **ret, struct err *err);

/* The text between the VM and the target in a file's name; 16 hex digits. */
void overlay_new_id(char ret[17]);

/* What the name of an overlay's file says. */
struct overlay_name {
	char vm[9];  /* the UUID's first eight digits */
	char id[17];
	char target[32];
};

/* False if a file of that name (or path) is none of ours. */
bool overlay_name_parse(const char *path, struct overlay_name *ret);

/* Gives a disk of a plan, of which target and `below` are known, an overlay to be made for
 * the VM with that UUID: beside the file it lies on, or in the store's folder of that VM. */
void overlay_plan(const struct engine *e, const char *uuid, const char *id, struct plan_disk *d);

/* plan->xml: what asks libvirt to switch the plan's disks over to their overlays, under
 * the plan's name; the domain's other disks take no part. */
int overlays_plan_xml(const struct domain_xml *domain, struct plan *plan, struct err *err);

/* Makes the files of op->plan's overlays, each on its `below`, and syncs them. */
int overlays_create(struct op *op, struct err *err);

/* The same of one disk, but it lies on nothing: `below` says whose owner it gets. */
int overlay_create_alone(const struct op *op, struct plan_disk *d, struct err *err);

/* Deletes them again. An overlay that the domain uses is not deleted: then the
 * layer under it is buried as a tombstone, for libvirt did switch over. For those
 * that QEMU uses without libvirt's knowing see switched.c: -EBUSY while the VM runs. */
int overlays_remove(struct op *op, struct err *err);

/* The parts of that. */
int overlay_delete(struct plan_disk *d, struct err *err);
int overlay_bury_below(const struct op *op, const struct plan_disk *d, struct err *err);
/* Changes the order of `disks`. */
int overlays_remove_unknown(struct op *op, struct plan_disk **disks, size_t n, struct err *err);

/* As op_kind.settle, for a kind whose point of no return is that they are in use. */
int overlays_settle(struct op *op, size_t step, size_t *ret_from, struct err *err);

/* *ret tells whether the domain's config, or what runs, has one of the plan's
 * overlays as a disk's source. */
int overlays_in_use(struct op *op, bool *ret, struct err *err);

#endif
