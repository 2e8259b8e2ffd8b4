/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is done to one spare: it is made, booted, suspended or saved, and removed. Each of these has
 * one VM for itself (slots_claim), the source or the spare, as long as it works on it: while a guest
 * boots nobody has it. clone_make has both, in the order of their ids.
 */
#include "engine/pool.h"

#include "engine/files.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/random.h>

DEFINE_CLEANUP(struct clone, clone_unref);
DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

#define NAME_MOST 200 /* bytes of a pool's name in those of its spares */

/* A VM for the caller alone, who releases it also after a failure. */
static int claim(struct engine *e, struct slot *s, struct err *err)
{
	slots_claim(e, &s, 1);
	if (pools_are_stopping(e))
		return err_set(err, ESHUTDOWN, "kwsfs is ending");
	return slot_settle(e, s, err);
}

/* That of a clone; -ENOENT if it is none any more. Nothing is to be released after a failure. */
static int begin(struct engine *e, const struct clone *c, struct slot **ret, struct err *err)
{
	cleanup(clone_unref_p) struct clone *now = NULL;
	int r;

	*ret = slot_find(e, c->vm);
	if (!*ret)
		return err_set(err, ENOENT, "the VM of the spare '%s' has gone", c->name);
	r = claim(e, *ret, err);
	if (r >= 0)
		r = clones_get(e, c->id, &now, err);
	if (r >= 0 && now->spare != c->spare)
		r = err_set(err, EAGAIN, "the spare '%s' was taken just now", c->name);
	if (r < 0)
		slots_release(e, ret, 1);
	return r;
}

static void end(struct engine *e, struct slot *s)
{
	look(e, s, LOOK_AUTO, NULL);
	slots_release(e, &s, 1);
}

int spare_remove(struct engine *e, const struct clone *c, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, c->vm);
	struct slot *s;
	int r;

	if (!vm) { /* somebody undefined it */
		r = spare_forget_memory(e, c->uuid, err);
		return r < 0 ? r : clones_forget(e, c->id, err);
	}
	r = begin(e, c, &s, err);
	if (r < 0)
		return r;
	r = spare_set_stage(e, c->id, STAGE_BOOTING, err); /* from here on nobody takes it */
	if (r >= 0)
		r = spare_forget_memory(e, c->uuid, err);
	if (r >= 0)
		r = clone_remove(e, s, c, err);
	slots_release(e, &s, 1);
	return r < 0 ? err_wrap(err, "cannot remove the spare '%s'", c->name) : 0;
}

int spare_start(struct engine *e, const struct clone *c, struct err *err)
{
	struct slot *s;
	int r = begin(e, c, &s, err);

	if (r < 0)
		return r;
	r = spare_set_stage(e, c->id, STAGE_BOOTING, err);
	if (r >= 0)
		r = e->hv->ops->start(e->hv, s->uuid, err);
	end(e, s);
	return r < 0 ? err_wrap(err, "cannot start the spare '%s'", c->name) : 0;
}

int spare_suspend(struct engine *e, const struct clone *c, struct err *err)
{
	struct slot *s;
	int r = begin(e, c, &s, err);

	if (r < 0)
		return r;
	r = e->hv->ops->suspend(e->hv, s->uuid, err);
	if (r >= 0)
		r = spare_set_stage(e, c->id, STAGE_PAUSED, err);
	end(e, s);
	return r < 0 ? err_wrap(err, "cannot suspend the spare '%s'", c->name) : 0;
}

/* The file is whole before the registry says that there is one. */
static int save(struct engine *e, const char *uuid, struct err *err)
{
	cleanup_free char *folder = xasprintf("%s/spares", e->state_dir);
	cleanup_free char *memory = spare_memory(e, uuid);
	int r = folder_make(folder, 0700, err);

	if (r >= 0)
		r = e->hv->ops->save(e->hv, uuid, memory, err);
	if (r >= 0)
		r = file_sync(memory, err);
	return r < 0 ? r : file_sync_folder(memory, err);
}

int spare_save(struct engine *e, const struct clone *c, struct err *err)
{
	struct slot *s;
	int r = begin(e, c, &s, err);

	if (r < 0)
		return r;
	r = save(e, s->uuid, err);
	if (r >= 0)
		r = spare_set_stage(e, c->id, STAGE_SAVED, err);
	end(e, s);
	return r < 0 ? err_wrap(err, "cannot save the memory of the spare '%s'", c->name) : 0;
}

static char *spare_name(const struct pool *pool)
{
	uint32_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		abort();
	return xasprintf("%s-spare-%08" PRIx32,
			 strlen(pool->name) > NAME_MOST ? "pool" : pool->name, number);
}

static size_t count_spares(const struct pool *pool, const struct clone_list *list)
{
	size_t n = 0;

	for (size_t i = 0; i < list->n; i++)
		n += list->clones[i]->spare && list->clones[i]->pool == pool->id;
	return n;
}

/* What is known is from before the VM was had: one that was interrupted may have come to its end,
 * the pool may have been withdrawn. */
static int check_still_wanted(struct engine *e, const struct pool *pool,
			      const struct clone_list *known, struct err *err)
{
	cleanup(clone_list_unref_p) struct clone_list *now = engine_clones(e);

	if (pool_of_snapshot(e, pool->snapshot) == 0 ||
	    count_spares(pool, now) != count_spares(pool, known))
		return err_set(err, EAGAIN, "something has changed meanwhile");
	return 0;
}

static int make_on(struct engine *e, const struct pool *pool, struct slot *source, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, source);
	cleanup_free char *name = spare_name(pool);
	struct clone_wish wish = { .name = name, .pool = pool->id, .spare = true };
	const struct snapshot *snapshot = NULL;
	uint32_t id;
	int r = need_snapshot(vm, pool->snapshot, &snapshot, err);

	return r < 0 ? r : clone_make(e, source, snapshot, &wish, &id, err);
}

int spare_make(struct engine *e, const struct pool *pool, const struct clone_list *known,
	       struct err *err)
{
	struct slot *s = slot_find(e, pool->vm);
	int r;

	if (!s)
		return err_set(err, ENOENT, "the VM whose snapshot it publishes has gone");
	r = claim(e, s, err);
	if (r >= 0)
		r = check_still_wanted(e, pool, known, err);
	if (r >= 0)
		r = make_on(e, pool, s, err);
	slots_release(e, &s, 1);
	return r < 0 ? err_wrap(err, "cannot make a spare") : 0;
}

int instance_rename(struct engine *e, const struct clone *c, struct err *err)
{
	struct slot *s;
	int r = begin(e, c, &s, err);

	if (r < 0)
		return r;
	r = e->hv->ops->rename(e->hv, s->uuid, c->name, err);
	/* -EEXIST: it stays called as it is, and whoever has the name may keep it. */
	if (r >= 0 || r == -EEXIST)
		spare_set_stage(e, c->id, STAGE_FRESH, NULL);
	end(e, s);
	return r < 0 ? err_wrap(err, "the clone '%s' cannot be renamed", c->name) : 0;
}
