/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening and closing the engine, and the doors to its operations. */
#include "engine/clone.h"
#include "engine/domain-xml.h"
#include "engine/failover.h"
#include "engine/foundation.h"
#include "engine/groups.h"
#include "engine/hooks.h"
#include "engine/overlay.h"
#include "engine/own-mount.h"
#include "engine/policy.h"
#include "engine/pool.h"
#include "engine/recovery.h"

#include <errno.h>
#include <sys/stat.h>

/* ---- libvirt's events: note them, wake somebody, and be gone ---- */

/* The lock is held. */
static void note_news(struct engine *e, const char *uuid)
{
	for (size_t i = 0; i < e->news.n; i++)
		if (streq(e->news.at[i], uuid))
			return;
	vec_push(&e->news, xstrdup(uuid));
	pthread_cond_signal(&e->news_wake);
}

static void on_domain(void *opaque, const char *uuid)
{
	struct engine *e = opaque;
	LOCK_SCOPE(&e->lock);

	note_news(e, uuid);
}

static void on_block_job(void *opaque, const char *uuid, const char *target,
			 enum hv_job_event event)
{
	struct engine *e = opaque;
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_uuid(e, uuid);
	if (!s || !s->busy) {
		/* Somebody else's job: the disks are not what they were. */
		if (event == HV_JOB_EVENT_COMPLETED)
			note_news(e, uuid);
		return;
	}
	struct job_signal *signal = vec_add(&s->signals);

	snprintf(signal->target, sizeof(signal->target), "%s", target);
	signal->event = event;
	pthread_cond_broadcast(&e->changed);
}

static void on_connection(void *opaque, bool up)
{
	struct engine *e = opaque;
	LOCK_SCOPE(&e->lock);

	e->all_new = up;
	e->connected = up;
	*(up ? &e->back : &e->lost) = true;
	/* What was interrupted, or may have been, goes on when it is back. */
	for (size_t i = 0; i < e->slots.n; i++) {
		struct slot *s = e->slots.at[i];

		if (!up && (s->job.tombstones || s->job_error))
			s->collect_wanted = true;
	}
	if (up) {
		keeper_want_all(e);
		pools_want(e);
		failovers_want(e);
	}
	pthread_cond_signal(&e->news_wake);
	pthread_cond_broadcast(&e->changed);
}

void engine_tell(struct engine *e, uint32_t vm_id, int r, const char *what)
{
	engine_set_last_error(e, vm_id, what);
	engine_event(e, &(struct engine_event){ "trouble", vm_id, .code = -r,
						.weight = EVENT_TROUBLE }, "%s", what);
}

bool is_stopping(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return e->stopping;
}

/* ---- open and close ---- */

static void set_up(struct engine *e, const struct engine_options *opts,
		   const struct engine_observer *observer)
{
	e->store = xstrdup(opts->store);
	e->state_dir = xstrdup(opts->state_dir);
	e->defaults = (struct registry_vm){ .uid = opts->uid, .gid = opts->gid,
					    .mode = opts->mode, .quiesce = QUIESCE_AUTO };
	e->max_depth = opts->max_depth ?: DEPTH_DEFAULT;
	e->observer = observer;
	e->mountpoint = xstrdup(opts->mountpoint);
	e->hooks = xstrdup(opts->hooks);
	e->hook_timeout = opts->hook_timeout ?: HOOK_TIMEOUT_DEFAULT;
	own_mount_set(opts->mountpoint, foundation_resolve, e);
	e->connected = true;
	e->hv_events = (struct hv_events){ e, on_domain, on_block_job, on_connection };
	e->list = xnew(struct vm_list);
	e->list->refs = 1;
	clock_gettime(CLOCK_REALTIME, &e->list->changed);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	pthread_cond_init(&e->news_wake, NULL);
	pthread_cond_init(&e->sums.wake, NULL);
	pthread_cond_init(&e->refreshes.wake, NULL);
	pthread_cond_init(&e->measurings.wake, NULL);
	metrics_open(e);
	e->sums.wanted = true;
	pthread_cond_init(&e->operations.wake, NULL);
	pthread_cond_init(&e->collections.wake, NULL);
	pthread_cond_init(&e->keeper_wake, NULL);
	house_init(e);
	groups_init(e);
	clones_init(e);
	pools_init(e);
	recovery_init(e);
	failovers_init(e);
}

static char *registry_path(const char *state_dir)
{
	return xasprintf("%s/registry.db", state_dir);
}

static int open_registry(struct engine *e, struct err *err)
{
	cleanup_free char *path = registry_path(e->state_dir);
	int r = folder_make(e->state_dir, 0700, err);

	return r < 0 ? r : registry_open(path, &e->registry, err);
}

/* It is not created: a file system that is not mounted would be filled elsewhere. */
static int check_store(const struct engine *e, struct err *err)
{
	struct stat st;

	if (!e->store)
		return 0;
	if (stat(e->store, &st) < 0)
		return err_sys(err, errno, "the store %s cannot be used", e->store);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "the store %s is not a directory", e->store);
	return 0;
}

int engine_open_on(struct hv *hv, const struct engine_options *opts,
		   const struct engine_observer *observer, struct engine **ret, struct err *err)
{
	struct engine *e = xnew(struct engine);
	int r;

	set_up(e, opts, observer);
	r = open_registry(e, err);
	if (r >= 0)
		r = check_store(e, err);
	if (r >= 0)
		r = hooks_check_folder(e->hooks, err);
	if (r >= 0)
		r = overlay_choose_options(opts->overlay_options, e->state_dir,
					   &e->overlay_options, err);
	overlay_templates_init(&e->overlay_templates, e->state_dir, e->overlay_options);
	if (r >= 0 && hv)
		e->hv = hv;
	else if (r >= 0)
		r = hv_libvirt_open(opts->uri, &e->hv_events, &e->hv, err);
	if (r >= 0)
		r = policy_load(e->registry, 0, e->knobs, err);
	if (r >= 0)
		r = groups_open(e, err);
	if (r >= 0)
		r = clones_open(e, err);
	if (r >= 0)
		r = pools_open(e, err);
	if (r >= 0)
		r = recovery_open(e, err);
	if (r >= 0)
		r = failovers_open(e, err);
	if (r >= 0)
		r = look_at_all(e, err);
	e->opened = true;
	if (r >= 0)
		r = queue_start(e, err);
	if (r < 0) {
		engine_close(e);
		return r;
	}
	if (opts->mountpoint)
		registry_say_mountpoint(e->registry, opts->mountpoint);
	*ret = e;
	return 0;
}

int engine_open_to_check(const struct engine_options *opts, bool write, struct engine **ret,
			 struct err *err)
{
	static const struct engine_observer nobody;
	cleanup_free char *path = registry_path(opts->state_dir);
	struct engine *e = xnew(struct engine);
	int r;

	set_up(e, opts, &nobody);
	r = write ? open_registry(e, err) : registry_open_to_look(path, &e->registry, err);
	if (r >= 0)
		r = check_store(e, err);
	if (r >= 0)
		r = hv_libvirt_open(opts->uri, &e->hv_events, &e->hv, err);
	if (r < 0) {
		engine_close(e);
		return r;
	}
	*ret = e;
	return 0;
}

char *engine_mountpoint(const char *state_dir)
{
	cleanup_free char *path = registry_path(state_dir);

	return registry_mountpoint(path);
}

int engine_open(const struct engine_options *opts, const struct engine_observer *observer,
		struct engine **ret, struct err *err)
{
	return engine_open_on(NULL, opts, observer, ret, err);
}

void engine_close(struct engine *e)
{
	if (!e)
		return;
	queue_stop(e);
	if (e->hv)
		e->hv->ops->close(e->hv);
	slots_free(e);
	own_mount_set(NULL, NULL, NULL);
	registry_close(e->registry);
	for (size_t i = 0; i < e->news.n; i++)
		free(e->news.at[i]);
	vec_free(&e->news);
	vec_free(&e->operations.slots);
	vec_free(&e->collections.slots);
	vec_free(&e->refreshes.slots);
	vec_free(&e->measurings.slots);
	pthread_cond_destroy(&e->changed);
	pthread_cond_destroy(&e->news_wake);
	pthread_cond_destroy(&e->operations.wake);
	pthread_cond_destroy(&e->collections.wake);
	pthread_cond_destroy(&e->keeper_wake);
	pthread_cond_destroy(&e->measurings.wake);
	pthread_mutex_destroy(&e->lock);
	house_free(e);
	groups_free(e);
	clones_free(e);
	pools_free(e);
	recovery_free(e);
	failovers_close(e);
	free(e->store);
	overlay_templates_clear(&e->overlay_templates);
	free(e->overlay_options);
	free(e->mountpoint);
	free(e->hooks);
	policy_values_free(e->knobs);
	free(e->last_error);
	free(e->state_dir);
	free(e);
}

/* ---- looking ---- */

bool engine_connected(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	return e->connected;
}

int engine_statvfs(struct engine *e, struct statvfs *ret)
{
	return statvfs(e->store ?: e->state_dir, ret) < 0 ? -errno : 0;
}

char *engine_last_error(struct engine *e, uint32_t vm_id)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	return xstrdup((s ? s->last_error : vm_id ? NULL : e->last_error) ?: "");
}

void engine_set_last_error(struct engine *e, uint32_t vm_id, const char *msg)
{
	struct slot *s;
	char **place;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	if (!s && vm_id)
		return;
	place = s ? &s->last_error : &e->last_error;
	free(*place);
	*place = xstrdup(msg);
}

static double seconds_since(const struct timespec *then)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - then->tv_sec) + (now.tv_nsec - then->tv_nsec) / 1e9;
}

void engine_job_status(struct engine *e, uint32_t vm_id, struct job_status *ret)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	*ret = s ? s->job : (struct job_status){ 0 };
	if (ret->running)
		ret->seconds = seconds_since(&s->job_began);
}

int engine_job_cancel(struct engine *e, uint32_t vm_id, uint32_t job_id, struct err *err)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	if (!s || !s->job.running || s->job.id != job_id)
		return err_set(err, ENOENT, "the job has ended");
	if (!streq(s->job.step, "data"))
		return err_set(err, EBUSY, "the job cannot be broken off any more: it ends by itself "
			       "in a moment");
	s->cancel = job_id;
	pthread_cond_broadcast(&e->changed);
	return 0;
}

int engine_domain_xml(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, char **ret,
		      struct err *err)
{
	cleanup_free char *xml = NULL;
	int r = registry_snapshot_xml(e->registry, snapshot_id, &xml, err);

	return r < 0 ? r : snapshot_xml_domain(xml, ret, err);
}

/* ---- doing ---- */

static void submit_text(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, task_fn *run,
			const char *text, engine_done *done, void *opaque)
{
	struct task *t = task_new(run, done, opaque);

	t->snapshot = snapshot_id;
	t->text = xstrdup(text);
	task_submit(e, vm_id, t);
}

static void submit_flags(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, task_fn *run,
			 unsigned flags, engine_done *done, void *opaque)
{
	struct task *t = task_new(run, done, opaque);

	t->snapshot = snapshot_id;
	t->flags = flags;
	task_submit(e, vm_id, t);
}

void engine_snapshot_create(struct engine *e, uint32_t vm_id, const char *name, engine_done *done,
			    void *opaque)
{
	submit_text(e, vm_id, 0, task_create, name, done, opaque);
}

void engine_snapshot_delete(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			    engine_done *done, void *opaque)
{
	submit_flags(e, vm_id, snapshot_id, task_delete, 0, done, opaque);
}

void engine_snapshot_rename(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			    const char *name, engine_done *done, void *opaque)
{
	submit_text(e, vm_id, snapshot_id, task_rename, name, done, opaque);
}

void engine_snapshot_revert(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, unsigned flags,
			    engine_done *done, void *opaque)
{
	submit_flags(e, vm_id, snapshot_id, task_revert, flags, done, opaque);
}

void engine_set_description(struct engine *e, uint32_t vm_id, uint32_t snapshot_id,
			    const char *description, engine_done *done, void *opaque)
{
	submit_text(e, vm_id, snapshot_id, task_describe, description, done, opaque);
}

void engine_set_pinned(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, bool pinned,
		       engine_done *done, void *opaque)
{
	submit_flags(e, vm_id, snapshot_id, task_pin, pinned, done, opaque);
}

void engine_set_quiesce(struct engine *e, uint32_t vm_id, enum quiesce quiesce, engine_done *done,
			void *opaque)
{
	struct task *t = task_new(task_quiesce, done, opaque);

	t->quiesce = quiesce;
	task_submit(e, vm_id, t);
}

void engine_set_expires(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, time_t expires,
			engine_done *done, void *opaque)
{
	struct task *t = task_new(task_expire, done, opaque);

	t->snapshot = snapshot_id;
	t->time = expires;
	task_submit(e, vm_id, t);
}

void engine_set_owner(struct engine *e, uint32_t vm_id, uid_t uid, gid_t gid, mode_t mode,
		      engine_done *done, void *opaque)
{
	struct task *t = task_new(task_owner, done, opaque);

	t->uid = uid;
	t->gid = gid;
	t->mode = mode;
	task_submit(e, vm_id, t);
}
