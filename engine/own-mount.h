/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Layers that lie in our own mount: a VM may have a disk on the image of another one's
 * snapshot. Whoever opened such a path in here would wait for an answer of this very
 * process, perhaps for ever. So paths are looked at before they are used, without
 * touching what lies below the mount point, and an image of a snapshot is replaced by
 * the layers that it is made of.
 */
#ifndef KWS_ENGINE_OWN_MOUNT_H
#define KWS_ENGINE_OWN_MOUNT_H

#include "common/err.h"

#include <stdbool.h>

/* Finds the layer that the file at `inside`, relative to the mount point, is an image
 * of. The caller frees both. */
typedef int own_mount_fn(void *opaque, const char *inside, char **ret_path, char **ret_format,
			 struct err *err);

/* `mountpoint` is absolute and without links, NULL for none. Before there are threads,
 * and after. */
void own_mount_set(const char *mountpoint, own_mount_fn *resolve, void *opaque);

/* The rest of `path` behind the mount point, NULL if it does not lead there. The caller
 * frees it. */
char *own_mount_inside(const char *path);

bool own_mount_has(const char *path);

/* A folder that was walked last, and where it leads: most layers of a chain lie in one.
 * Good for the moment only; begins as zeroes. */
struct own_mount_folder {
	char *name, *walked;
};

void own_mount_folder_clear(struct own_mount_folder *f);

/* 1 if `path` leads there, with what it stands for; 0 if it does not. */
int own_mount_resolve(const char *path, struct own_mount_folder *last, char **ret_path,
		      char **ret_format, struct err *err);

#endif
