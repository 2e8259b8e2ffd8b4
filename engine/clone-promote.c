/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a clone independent: each of its disks becomes one file that holds all of its data, and
 * lies on nothing. Each disk is an operation (clone-promote-disk.c), one after the other. If a
 * later one fails those that are done stay so; the last one makes an end of being a clone.
 */
#include "engine/clone-promote.h"

#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/clone.h"
#include "engine/domain-xml.h"
#include "engine/merge.h"
#include "engine/metadata.h"
#include "engine/overlay.h"
#include "engine/pool.h"

#include <errno.h>

#define MIB (1ULL << 20)

/* The tables of a copy: 16 bytes for a cluster of 128 KiB, also of one that is zero. */
#define TABLES_SHARE 4096

DEFINE_CLEANUP(struct clone, clone_unref);
DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct image, image_close);

/* ---- planning ---- */

typedef vec_of(struct plan *) plans_t;

static void plans_clear(plans_t *plans)
{
	for (size_t i = 0; i < plans->n; i++)
		plan_free(plans->at[i]);
	vec_free(plans);
}

/* How many bytes the image will be, alone: what is compressed now will not be. */
static int plan_size(struct plan *plan, struct err *err)
{
	cleanup(image_close_p) struct image *image = NULL;
	struct plan_disk *d = &plan->disks[0];
	uint64_t data = 0;
	int r = image_open(d->below.path, d->below.format, &image, err);

	if (r < 0)
		return r;
	d->size = image_size(image);
	r = image_allocated(image, 0, d->size, &data, err);
	plan->moves = data + d->size / TABLES_SHARE + MIB;
	return r;
}

static int plan_disk(struct engine *e, const struct slot *s, const struct clone *c,
		     const struct xml_disk *disk, unsigned flags, plans_t *plans, struct err *err)
{
	struct plan *plan = plan_new();
	struct plan_disk *d = plan_add_disk(plan, disk->target);
	char id[17];
	int r;

	vec_push(plans, plan);
	plan->name = xstrdup(c->name);
	plan->flags = flags;
	r = layer_file_stat(disk->path, disk->format ?: "raw", &d->below, err);
	if (r < 0)
		return r;
	overlay_new_id(id);
	overlay_plan(e, s->uuid, id, d);
	return plan_size(plan, err);
}

static int lies_on_something(const struct xml_disk *disk, bool *ret, struct err *err)
{
	cleanup_free char *path = NULL, *format = NULL;
	int r = 0;

	if (disk->path && !disk->readonly)
		r = layer_backing(disk->path, disk->format ?: "raw", &path, &format, err);
	*ret = path;
	return r;
}

static int check_no_job(struct engine *e, const struct slot *s, const char *target, struct err *err)
{
	struct hv_job job = { 0 };
	int r = e->hv->ops->job(e->hv, s->uuid, target, &job, err);

	if (r < 0 || job.state == HV_JOB_NONE)
		return r;
	return err_set(err, EBUSY, "a block job runs on disk %s: wait for its end", target);
}

static int plan_disks(struct engine *e, struct slot *s, const struct clone *c, unsigned flags,
		      plans_t *plans, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *xml = NULL;
	int r = e->hv->ops->domain_xml(e->hv, s->uuid, false, &xml, err);

	if (r >= 0)
		r = domain_xml_parse(xml, &domain, err);
	for (size_t i = 0; r >= 0 && i < domain->n_disks; i++) {
		const struct xml_disk *disk = &domain->disks[i];
		bool lies = false;

		r = lies_on_something(disk, &lies, err);
		if (r >= 0 && lies && flags & PROMOTE_RUNS)
			r = check_no_job(e, s, disk->target, err);
		if (r >= 0 && lies)
			r = plan_disk(e, s, c, disk, flags, plans, err);
	}
	if (r >= 0 && plans->n)
		plans->at[plans->n - 1]->clone = c->id;
	return r;
}

/* ---- what speaks against it ---- */

static int check_snapshots(struct engine *e, struct slot *s, struct err *err)
{
	cleanup(snapshot_names_clear) struct snapshot_names names = { 0 };
	int r = snapshot_names_read(e, s, &names, err);

	if (r >= 0 && names.n)
		r = err_set(err, EBUSY, "it has snapshots, '%s' for one, and their layers lie on the "
			    "same: delete them first", names.at[0]);
	return r;
}

static int check_state(struct engine *e, struct slot *s, unsigned *ret_flags, struct err *err)
{
	struct hv_domain state = { 0 };
	int r = e->hv->ops->lookup(e->hv, s->uuid, &state, err);

	if (r < 0)
		return r;
	free(state.name);
	if (!state.persistent)
		return err_set(err, EOPNOTSUPP, "the VM is transient: nothing would remember its new "
			       "disks");
	r = need_not_saved(&state, err);
	if (r < 0)
		return r;
	*ret_flags = state.active ? PROMOTE_RUNS : 0;
	if (state.active && !streq(state.state, "paused"))
		*ret_flags |= PROMOTE_MAY_PAUSE;
	return 0;
}

int promote_check_room(const struct layer_file *file, uint64_t bytes, struct err *err)
{
	uint64_t missing;
	int r = room_missing(file, bytes, &missing, err);

	if (r < 0 || !missing)
		return r;
	return err_set(err, ENOSPC, "%llu MiB more than are free on the file system of %s are needed",
		       (unsigned long long)((missing + MIB - 1) / MIB), file->path);
}

/* For all disks: it is of little use to have half of them. What lies on one file system adds up. */
static int check_room(const plans_t *plans, struct err *err)
{
	for (size_t i = 0; i < plans->n; i++) {
		const struct layer_file *file = &plans->at[i]->disks[0].below;
		uint64_t bytes = 0;
		int r;

		for (size_t k = 0; k <= i; k++)
			if (plans->at[k]->disks[0].below.dev == file->dev)
				bytes += plans->at[k]->moves;
		r = promote_check_room(file, bytes, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_and_plan(struct engine *e, struct slot *s, const struct clone *c, plans_t *plans,
			  struct err *err)
{
	unsigned flags = 0;
	int r = 0;

	if (c->spare)
		return err_set(err, EBUSY, "it is a spare of a pool: take it first");
	if (spare_stage(e, c->id) == STAGE_UNNAMED)
		return err_set(err, EBUSY, "it has its spare's name in libvirt until it is shut off: "
			       "do that first");
	r = check_snapshots(e, s, err);
	if (r >= 0)
		r = check_state(e, s, &flags, err);
	if (r >= 0)
		r = plan_disks(e, s, c, flags, plans, err);
	return r < 0 ? r : check_room(plans, err);
}

/* ---- doing ---- */

static void show_no_more(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	s->job.running = false;
}

static int promote_disks(struct engine *e, struct slot *s, const struct clone *c, plans_t *plans,
			 struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < plans->n && r >= 0; i++) {
		struct plan *plan = steal_pointer(&plans->at[i]);

		r = op_run(e, s, &promote_op, plan, err);
	}
	show_no_more(e, s);
	/* An earlier process did all but this. */
	return r < 0 || plans->n ? r : clones_forget(e, c->id, err);
}

/* First the overlays that were left go, then what waited for them in the source. */
static void tidy_up(struct engine *e, struct slot *s, const struct clone *c)
{
	if (collect(e, s, NULL) < 0)
		collect_later(e, s);
	clone_collect_source(e, c);
}

static int promote(struct engine *e, struct slot *s, const struct clone *c, struct err *err)
{
	cleanup(plans_clear) plans_t plans = { 0 };
	double began = metrics_now();
	uint64_t bytes = 0;
	int r = check_and_plan(e, s, c, &plans, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < plans.n; i++)
		bytes += plans.at[i]->moves;
	r = promote_disks(e, s, c, &plans, err);
	look(e, s, LOOK_ALL, NULL);
	if (r < 0) {
		collect_later(e, s);
		return r;
	}
	tidy_up(e, s, c);
	engine_event(e, &(struct engine_event){ "clone-promoted", s->id, .bytes = bytes,
						.seconds = metrics_now() - began },
		     "the clone '%s' has become independent", c->name);
	return 0;
}

/* ---- a thread of its own ----
 *
 * It may take an hour: the workers are for what others wait for. */

struct promotion {
	struct engine *e;
	struct slot *slot;
	uint32_t clone;
	engine_done *done;
	void *opaque;
};

static int promote_claimed(const struct promotion *p, struct err *err)
{
	cleanup(clone_unref_p) struct clone *c = NULL;
	int r = is_stopping(p->e) ? err_set(err, ESHUTDOWN, "shutting down") : 0;

	if (r >= 0)
		r = slot_settle(p->e, p->slot, err);
	if (r >= 0)
		r = clones_get(p->e, p->clone, &c, err);
	if (r >= 0)
		r = promote(p->e, p->slot, c, err);
	return r < 0 ? err_wrap(err, "cannot promote '%s'", c ? c->name : "it") : 0;
}

static void *promotion_thread(void *opaque)
{
	cleanup_free struct promotion *p = opaque;
	struct engine *e = p->e;
	struct err err = ERR_INIT;
	int r;

	slots_claim(e, &p->slot, 1);
	r = promote_claimed(p, &err);
	if (r < 0)
		engine_set_last_error(e, p->slot->id, err.msg);
	slots_release(e, &p->slot, 1);
	p->done(p->opaque, r, &err);
	LOCK_SCOPE(&e->lock);

	e->promotions--;
	pthread_cond_broadcast(&e->changed);
	return NULL;
}

/* The lock is held. Takes the promotion over unless it fails. */
static int start_thread(struct promotion *p, struct err *err)
{
	pthread_t thread;
	int code = pthread_create(&thread, NULL, promotion_thread, p);

	if (code)
		return err_sys(err, code, "cannot start a thread");
	pthread_detach(thread);
	p->e->promotions++;
	return 0;
}

static int start_promotion(struct engine *e, uint32_t clone_id, engine_done *done, void *opaque,
			   struct err *err)
{
	cleanup(clone_unref_p) struct clone *c = NULL;
	struct promotion *p;
	int r = clones_get(e, clone_id, &c, err);

	if (r < 0)
		return r;
	p = xnew(struct promotion);
	*p = (struct promotion){ e, NULL, clone_id, done, opaque };
	pthread_mutex_lock(&e->lock);
	p->slot = slot_by_id(e, c->vm);
	if (p->slot && p->slot->view && !e->stopping)
		r = start_thread(p, err);
	else
		r = err_set(err, ENOENT, "there is no such VM any more");
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		free(p);
	return r;
}

void engine_clone_promote(struct engine *e, uint32_t clone_id, engine_done *done, void *opaque)
{
	struct err err = ERR_INIT;
	int r = start_promotion(e, clone_id, done, opaque, &err);

	if (r < 0)
		done(opaque, r, &err);
}
