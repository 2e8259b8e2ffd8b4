/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starting and ending clones. */
#include "engine/clone.h"

#include <errno.h>

DEFINE_CLEANUP(struct clone, clone_unref);

int vm_start(struct engine *e, const char *uuid, struct err *err)
{
	struct hv_domain state = { 0 };
	int r = e->hv->ops->lookup(e->hv, uuid, &state, err);

	if (r < 0)
		return r;
	free(state.name);
	if (!state.active)
		return e->hv->ops->start(e->hv, uuid, err);
	return streq(state.state, "paused") ? e->hv->ops->resume(e->hv, uuid, err) : 0;
}

static int obey(struct engine *e, const char *uuid, enum clone_order order, struct err *err)
{
	const struct hv_ops *ops = e->hv->ops;

	switch (order) {
	case CLONE_START:
		return vm_start(e, uuid, err);
	case CLONE_STOP:
		return ops->destroy(e->hv, uuid, err);
	case CLONE_SHUTDOWN:
		return ops->shutdown(e->hv, uuid, err);
	case CLONE_RESET:
		return ops->reset(e->hv, uuid, err);
	}
	return err_set(err, EINVAL, "there is no such order");
}

static int task_order(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	int r = obey(e, s->uuid, t->flags, err);

	look(e, s, LOOK_AUTO, NULL);
	return r;
}

void engine_clone_order(struct engine *e, uint32_t clone_id, enum clone_order order,
			engine_done *done, void *opaque)
{
	cleanup(clone_unref_p) struct clone *c = NULL;
	struct err err = ERR_INIT;
	struct task *t;
	int r = clones_get(e, clone_id, &c, &err);

	if (r < 0) {
		done(opaque, r, &err);
		return;
	}
	t = task_new(task_order, done, opaque);
	t->flags = order;
	task_submit(e, c->vm, t);
}
