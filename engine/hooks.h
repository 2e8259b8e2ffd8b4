/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Programs of the admin's that run before and after an operation, out of the
 * folder that the mount option hooks= names: in the thread that does the
 * operation, on a VM that nobody else works on, without locks.
 */
#ifndef KWS_ENGINE_HOOKS_H
#define KWS_ENGINE_HOOKS_H

#include "engine/core.h"

enum hook_operation { HOOK_SNAPSHOT, HOOK_REVERT, HOOK_DELETE };

/* Whether the folder (NULL: none) may be used: programs in it can do what kwsfs can. */
int hooks_check_folder(const char *folder, struct err *err);

/* Runs the pre- hooks. A failure refuses the operation: -ECANCELED, -ETIMEDOUT, -EPERM; then
 * the post- hooks have run, too, if any pre- hook had. After 0, hooks_after is to be called
 * however the operation ends. */
int hooks_before(struct engine *e, struct slot *s, enum hook_operation operation,
		 const char *snapshot, struct err *err);

/* Runs the post- hooks, with how it ended: r is 0 or -errno, and err not looked at after 0. What
 * fails is told to the observer. */
void hooks_after(struct engine *e, struct slot *s, enum hook_operation operation,
		 const char *snapshot, int r, const struct err *err);

#endif
