/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The directory that is mounted on. */
#ifndef KWS_MOUNT_MOUNTPOINT_H
#define KWS_MOUNT_MOUNTPOINT_H

#include "common/err.h"

/* Sees that `path` is a directory on which kwsfs is not mounted, and gives its
 * absolute name, which the caller frees. What a killed daemon has left mounted
 * there is unmounted. -ENOENT, -ENOTDIR, -EBUSY and what else can be wrong. */
int mountpoint_prepare(const char *path, char **ret, struct err *err);

#endif
