/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an earlier process, or a lost connection, left open. It is settled
 * before anything else is done to the VM: at start-up, after a reconnect, and
 * before each operation. Looking at what is really there decides, not what the
 * journal hoped for; the rules are each kind's own (op_kind.settle).
 */
#include "engine/merge.h"

#include <errno.h>

int recover(struct engine *e, struct slot *s, enum recover how, struct err *err)
{
	struct journal_op *ops = NULL;
	size_t n = 0, settled = 0;
	int r;

	r = registry_tombstones_locate(e->registry, s->id, err);
	if (r >= 0)
		r = journal_open_ops(e->registry, s->id, &ops, &n, err);
	for (size_t i = 0; i < n && r >= 0; i++) {
		if (how == RECOVER_TREE && is_merge(ops[i].kind))
			continue;
		settled++;
		r = op_settle(e, s, &ops[i], how == RECOVER_HURRY, err);
		if (r < 0)
			err_wrap(err, "an interrupted %s cannot be settled yet", ops[i].kind);
	}
	journal_ops_free(ops, n);
	if (r < 0)
		return r;
	pthread_mutex_lock(&e->lock);
	s->unsettled = false;
	pthread_mutex_unlock(&e->lock);
	if (settled) {
		collect_later(e, s);
		r = look(e, s, LOOK_ALL, err);
	}
	return r;
}
