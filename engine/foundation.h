/* SPDX-License-Identifier: GPL-2.0-or-later */
/* VMs whose disks lie on images of snapshots in this mount. */
#ifndef KWS_ENGINE_FOUNDATION_H
#define KWS_ENGINE_FOUNDATION_H

#include "engine/core.h"

/* An own_mount_fn; the engine is its opaque. */
int foundation_resolve(void *engine, const char *inside, char **ret_path, char **ret_format,
		       struct err *err);

/* The file in the mount that the chain of a disk ends at, relative to the mount point;
 * NULL if it does not. The caller frees it. */
char *foundation_of(const char *path, const char *format);

/* -EBUSY, with the VM's name, if a VM's disk lies on an image of the snapshot: as long
 * as that is so, it keeps its name. */
int foundation_check(struct engine *e, const struct snapshot *s, struct err *err);

#endif
