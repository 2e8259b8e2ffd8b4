/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was known of a VM when kwsfs last ended. To read all that libvirt knows of a hundred
 * thousand snapshots takes a minute, so kwsfs begins with what it knew, as far as a look by
 * the rules of any other look (look.c: the same names, the same sources of the disks)
 * finds it unchanged. That is what is listed of VMs until each has been verified, which is
 * a look that reads all. Nobody opens a file, and nothing is done to a VM or decided about a
 * layer by what is only remembered: who needs it waits for the VM to be verified.
 */
#ifndef KWS_ENGINE_REMEMBERED_H
#define KWS_ENGINE_REMEMBERED_H

#include "engine/core.h"

/* As the last look of an earlier process saw it: its snapshots and when they changed, nothing
 * else, and what it lies on. NULL if there is none. The caller clears *ret. */
struct vm *remembered_vm(struct engine *e, const struct slot *s, struct registry_seen *ret);

/* Keeps what is different from `old` (NULL if there is none). With `new_ids` that have not been
 * published yet it is durable, and they are. */
int remember_vm(struct engine *e, const struct vm *vm, const struct registry_seen *seen,
		const struct vm *old, const struct registry_seen *old_seen, bool new_ids,
		struct err *err);

#endif
