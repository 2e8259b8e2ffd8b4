/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block commit outside a running VM, by a qemu-storage-daemon of its own for each: like
 * qemu-img commit, but it tells how far it is, and if it is broken off it leaves both
 * files in order.
 */
#ifndef KWS_ENGINE_STORAGE_DAEMON_H
#define KWS_ENGINE_STORAGE_DAEMON_H

#include "engine/files.h"
#include "engine/program.h"

/* Moves what `top` holds into `base`, its backing file; `top` stays as it is. */
int storage_daemon_commit(const struct layer_file *top, const struct layer_file *base,
			  const struct watch *watch, struct err *err);

#endif
