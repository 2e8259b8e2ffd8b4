/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carrying out what retention.c plans. After each deletion the plan is made anew, so it is
 * always of what is there; what cannot be deleted (something else was built on it
 * meanwhile) does not keep the others.
 */
#include "engine/policy.h"

#include <errno.h>
#include <libgen.h>
#include <sys/statvfs.h>

DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct pool_list, pool_list_unref);
DEFINE_CLEANUP(struct vm, vm_unref);

/* ---- planning ---- */

/* For each snapshot of `vm`; the caller frees it. */
static bool *open_ones(struct engine *e, struct slot *s, const struct vm *vm)
{
	bool *open = xcalloc(vm->n_snapshots, sizeof(*open));
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < vm->n_snapshots; i++)
		for (size_t h = 0; h < s->holders.n; h++)
			open[i] |= s->holders.at[h].snapshot == vm->snapshots[i].id;
	return open;
}

/* The same. */
static bool *cloned_ones(struct engine *e, const struct vm *vm)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(e);
	bool *cloned = xcalloc(vm->n_snapshots, sizeof(*cloned));
	size_t n;

	for (size_t i = 0; i < vm->n_snapshots; i++) {
		clone_list_of(list, vm->snapshots[i].id, &n);
		cloned[i] = n > 0;
	}
	return cloned;
}

/* The same. */
static bool *published_ones(struct engine *e, const struct vm *vm)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(e);
	bool *published = xcalloc(vm->n_snapshots, sizeof(*published));

	for (size_t i = 0; i < vm->n_snapshots; i++)
		published[i] = pool_list_of(list, vm->snapshots[i].id);
	return published;
}

struct verdict *prune_plan(struct engine *e, struct slot *s, const struct vm *vm, unsigned flags)
{
	struct verdict *verdicts = xcalloc(vm->n_snapshots, sizeof(*verdicts));
	cleanup_free bool *open = open_ones(e, s, vm), *cloned = cloned_ones(e, vm);
	cleanup_free bool *published = published_ones(e, vm);
	cleanup(policy_clear) struct policy p = { 0 };
	struct circumstances c = {
		.now = time(NULL),
		.all_rules = flags & PRUNE_ALL_RULES,
		.want_room = flags & PRUNE_FOR_ROOM,
		.open = open,
		.cloned = cloned,
		.published = published,
	};

	policy_of(e, s, &p);
	retention_plan(vm, &p.retention, &c, verdicts);
	return verdicts;
}

struct verdict *engine_prune_plan(struct engine *e, const struct vm *vm)
{
	struct slot *s = slot_find(e, vm->id);

	return prune_plan(e, s, vm, PRUNE_ALL_RULES | (is_short_of_room(e, s) ? PRUNE_FOR_ROOM : 0));
}

time_t engine_expiry(struct engine *e, uint32_t vm_id, const struct snapshot *snapshot)
{
	struct retention r = { .ttl = policy_ttl(e, vm_id) };

	return retention_expiry(&r, snapshot);
}

static int parse_absolute(const char *text, time_t *ret)
{
	static const struct {
		const char *format;
		bool utc;
	} forms[] = {
		{ "%Y-%m-%dT%H:%M:%SZ", true }, { "%Y-%m-%dT%H:%MZ", true },
		{ "%Y-%m-%d %H:%M:%S", false }, { "%Y-%m-%dT%H:%M:%S", false },
		{ "%Y-%m-%d %H:%M", false },    { "%Y-%m-%dT%H:%M", false },
		{ "%Y-%m-%d", false },
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		struct tm tm = { .tm_isdst = -1 };
		const char *end = strptime(text, forms[i].format, &tm);

		if (!end || *end)
			continue;
		*ret = forms[i].utc ? timegm(&tm) : mktime(&tm);
		return 0;
	}
	return -EINVAL;
}

int engine_parse_moment(const char *text, time_t now, time_t *ret, struct err *err)
{
	struct duration d;
	time_t t = 0;
	int r;

	if (text[0] == '+' && (r = duration_parse(text + 1, &d)) >= 0)
		t = duration_after(now, &d);
	else
		r = text[0] == '+' ? -EINVAL : parse_absolute(text, &t);
	if (r < 0)
		return err_set(err, EINVAL, "'%s' is no moment: write for example +14d, 2026-12-24, "
			       "2026-12-24 18:00, 2026-12-24T18:00:00Z or none", text);
	if (t <= now)
		return err_set(err, EINVAL, "'%s' has passed: rmdir deletes a snapshot now", text);
	*ret = t;
	return 0;
}

/* ---- room ---- */

static bool is_full(const char *path, const struct room *floor)
{
	struct statvfs st;
	uint64_t free_bytes, wanted;

	if (statvfs(path, &st) < 0)
		return false;
	free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	wanted = floor->bytes ?: (uint64_t)st.f_blocks * st.f_frsize / 100 * floor->percent;
	return free_bytes < wanted;
}

bool is_short_of_room(struct engine *e, struct slot *s)
{
	cleanup(policy_clear) struct policy p = { 0 };
	vec_of(char *) paths = { 0 };
	bool full = false;

	policy_of(e, s, &p);
	if (!p.min_free.bytes && !p.min_free.percent)
		return false;
	pthread_mutex_lock(&e->lock);
	if (e->store)
		vec_push(&paths, xstrdup(e->store));
	for (size_t i = 0; i < s->written.n; i++)
		vec_push(&paths, xstrdup(s->written.at[i].path));
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < paths.n; i++) {
		full |= is_full(paths.at[i], &p.min_free);
		free(paths.at[i]);
	}
	vec_free(&paths);
	return full;
}

/* ---- doing ---- */

static void tell(struct engine *e, const struct vm *vm, const struct snapshot *snapshot,
		 const struct verdict *v)
{
	engine_event(e, &(struct engine_event){ "snapshot-pruned", vm->id, .snapshot = snapshot->name },
		     "'%s' was deleted: %s", snapshot->name, v->why);
}

struct attempts {
	vec_of(uint32_t) failed; /* ids */
	size_t done;
	struct err first; /* of those that failed */
};

static bool has_failed(const struct attempts *a, uint32_t id)
{
	for (size_t i = 0; i < a->failed.n; i++)
		if (a->failed.at[i] == id)
			return true;
	return false;
}

/* The oldest that is to go and was not tried in vain; vm->n_snapshots if there is none. */
static size_t next_of(const struct vm *vm, const struct verdict *verdicts, const struct attempts *a)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		if (verdicts[i].goes && !has_failed(a, vm->snapshots[i].id))
			return i;
	return vm->n_snapshots;
}

/* 1 if it may go on, 0 if there is nothing more to do. */
static int prune_next(struct engine *e, struct slot *s, unsigned flags, struct attempts *a)
{
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	cleanup_free struct verdict *verdicts = vm ? prune_plan(e, s, vm, flags) : NULL;
	size_t i = vm ? next_of(vm, verdicts, a) : 0;
	struct err err = ERR_INIT;
	int r;

	if (!vm || i == vm->n_snapshots)
		return 0;
	r = snapshot_delete(e, s, &vm->snapshots[i], &err);
	if (r >= 0) {
		a->done++;
		tell(e, vm, &vm->snapshots[i], &verdicts[i]);
		return !(flags & (PRUNE_ONE | PRUNE_FOR_ROOM));
	}
	if (!a->first.code)
		a->first = err;
	vec_push(&a->failed, vm->snapshots[i].id);
	return r != -EHOSTDOWN;
}

int task_prune(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	struct attempts a = { 0 };

	while (prune_next(e, s, t->flags, &a) > 0)
		;
	vec_free(&a.failed);
	if (!a.first.code || ((t->flags & PRUNE_ONE) && a.done))
		return 0;
	return err_set(err, a.first.code, "%s", a.first.msg);
}

void engine_prune(struct engine *e, uint32_t vm_id, engine_done *done, void *opaque)
{
	struct task *t = task_new(task_prune, done, opaque);

	t->flags = PRUNE_ALL_RULES;
	task_submit(e, vm_id, t);
}
