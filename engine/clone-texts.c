/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the clones of a snapshot are to be told: kept with it, and read when one is made. */
#include "engine/pool.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm, vm_unref);

/* NULL if there is none. */
static int text_of(struct engine *e, uint32_t snapshot_id, enum clone_text which, char **ret,
		   struct err *err)
{
	char *text = NULL;
	int r = registry_clone_text(e->registry, snapshot_id, which, &text, err);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret = text;
	return 0;
}

int engine_clone_text(struct engine *e, uint32_t snapshot_id, enum clone_text which, char **ret,
		      struct err *err)
{
	char *text;
	int r = text_of(e, snapshot_id, which, &text, err);

	if (r >= 0)
		*ret = text ? text : xstrdup("");
	return r;
}

int clone_texts(struct engine *e, uint32_t snapshot_id, char **ret_user_data, char **ret_meta,
		struct err *err)
{
	char *user_data, *meta;
	int r = text_of(e, snapshot_id, CLONE_USER_DATA, &user_data, err);

	if (r < 0)
		return r;
	r = text_of(e, snapshot_id, CLONE_META, &meta, err);
	if (r < 0) {
		free(user_data);
		return r;
	}
	*ret_user_data = user_data;
	*ret_meta = meta;
	return 0;
}

static bool is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n")] == '\0';
}

static int task_clone_text(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = spares_outdate(e, snapshot->id, err); /* they have been told already */
	if (r < 0)
		return r;
	return registry_set_clone_text(e->registry, t->snapshot, t->flags,
				       is_blank(t->text) ? NULL : t->text, err);
}

void engine_set_clone_text(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			   enum clone_text which, const char *text, engine_done *done, void *opaque)
{
	struct task *t = task_new(task_clone_text, done, opaque);

	t->snapshot = snapshot_id;
	t->flags = which;
	t->text = xstrdup(text);
	task_submit(e, vm_id, t);
}
