/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a VM out of a snapshot: an overlay for each of its disks, a copy of its UEFI variables,
 * and the definition of that moment with what two VMs cannot both have made new. Nothing of the
 * snapshot is written or copied, so it takes as long for a disk of a terabyte as for an empty one.
 *
 * Steps: `files` makes overlays and copy, `define` is libvirt's, `record` the registry's, which
 * from then on keeps the snapshot from being deleted. Until then nobody else does anything to the
 * source: the operation is one of its queue, and found open it is settled before anything else
 * there. Found open before `record`: if libvirt has the VM it is recorded, else it never was.
 */
#include "engine/clone.h"

#include "engine/backing.h"
#include "engine/clone-xml.h"
#include "engine/depth.h"
#include "engine/files.h"
#include "engine/op.h"
#include "engine/overlay.h"
#include "engine/pool.h"
#include "engine/written.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <unistd.h>

#define CLONE_SPARE (1u << 0) /* plan->flags */

DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct domain_xml, domain_xml_free);
DEFINE_CLEANUP(struct vm, vm_unref);

/* ---- steps ---- */

static int copy_bytes(const char *from, const char *to, struct err *err)
{
	cleanup_close int in = open(from, O_RDONLY | O_CLOEXEC);
	cleanup_close int out = in < 0 ? -1 : open(to, O_WRONLY | O_CLOEXEC | O_TRUNC | O_NOFOLLOW);
	char buf[1 << 16];
	ssize_t n;

	if (in < 0)
		return err_sys(err, errno, "cannot open %s", from);
	if (out < 0)
		return err_sys(err, errno, "cannot open %s", to);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, n) != n)
			return err_sys(err, errno ?: ENOSPC, "cannot write %s", to);
	return n < 0 ? err_sys(err, errno, "cannot read %s", from) : file_sync(to, err);
}

/* Without variables to copy libvirt makes them out of the firmware's template at the start. */
static int copy_nvram(struct plan *plan, struct err *err)
{
	struct layer_file found;
	int r;

	if (!plan->nvram_from)
		return 0;
	r = file_create_private(plan->nvram.path, plan->nvram_from, err);
	if (r >= 0)
		r = copy_bytes(plan->nvram_from, plan->nvram.path, err);
	if (r >= 0)
		r = layer_file_stat(plan->nvram.path, "raw", &found, err);
	if (r < 0)
		return r;
	layer_file_clear(&plan->nvram);
	plan->nvram = found;
	return file_sync_folder(plan->nvram.path, err);
}

static int step_files(struct op *op, struct err *err)
{
	int r = overlays_create(op, err);

	return r < 0 ? r : copy_nvram(op->plan, err);
}

/* The names are random and the journal's own: what has them is ours. */
static int undo_files(struct op *op, struct err *err)
{
	struct layer_file *nvram = &op->plan->nvram;
	int r = 0;

	for (size_t i = 0; i < op->plan->n_disks && r >= 0; i++)
		r = overlay_delete(&op->plan->disks[i], err);
	if (r < 0 || !nvram->path)
		return r;
	if (nvram->ino == 0) {
		struct layer_file found;

		r = layer_file_stat(nvram->path, "raw", &found, err);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		layer_file_clear(nvram);
		*nvram = found;
	}
	return file_remove(nvram, err);
}

static int step_define(struct op *op, struct err *err)
{
	return op->e->hv->ops->define(op->e->hv, op->plan->xml, err);
}

bool clone_is_undone(struct engine *e, const char *uuid)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->undone_clones.n; i++)
		if (streq(e->undone_clones.at[i], uuid))
			return true;
	return false;
}

static void note_undone(struct op *op)
{
	LOCK_SCOPE(&op->e->lock);

	vec_push(&op->e->undone_clones, xstrdup(op->plan->uuid));
}

static int undo_define(struct op *op, struct err *err)
{
	struct hv_domain state = { 0 };
	int r = op->e->hv->ops->lookup(op->e->hv, op->plan->uuid, &state, err);

	free(state.name);
	if (r == -ENOENT)
		note_undone(op);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	if (state.active)
		return err_set(err, EBUSY, "somebody started the clone '%s', which was not made to its "
			       "end: shut it down", op->plan->name);
	return op->e->hv->ops->undefine(op->e->hv, op->plan->uuid, err);
}

static bool says_the_same(const struct registry_vm *a, const struct registry_vm *b)
{
	return a->uid == b->uid && a->gid == b->gid && a->mode == b->mode && a->quiesce == b->quiesce;
}

/* What it is as a VM belongs to who the source belongs to. As a rule that is whom all belong to,
 * and there is nothing to write, which saves a sync. */
static int give_owner(struct engine *e, struct slot *s, const struct slot *source, struct err *err)
{
	struct registry_vm row = source->row;
	int r;

	if (says_the_same(&s->row, &row))
		return 0;
	row.id = s->id;
	r = registry_vm_update(e->registry, &row, err);
	if (r < 0)
		return r;
	LOCK_SCOPE(&e->lock);

	s->row = row;
	return 0;
}

static int step_record(struct op *op, struct err *err)
{
	struct clone c = {
		.source = op->slot->id,
		.snapshot = op->plan->snapshot,
		.name = op->plan->name,
		.pool = op->plan->pool,
		.spare = op->plan->flags & CLONE_SPARE,
	};
	struct slot *s;
	int r = slot_for(op->e, op->plan->uuid, &s, err);

	if (r >= 0)
		r = give_owner(op->e, s, op->slot, err);
	if (r < 0)
		return r;
	c.vm = s->id;
	strncpy(c.uuid, op->plan->uuid, sizeof(c.uuid) - 1);
	clock_gettime(CLOCK_REALTIME, &c.created);
	r = clones_add(op->e, &c, err);
	op->plan->clone = c.id;
	return r;
}

static int settle(struct op *op, size_t step, size_t *ret_from, struct err *err)
{
	struct hv_domain state = { 0 };
	int r;

	if (step >= op->kind->no_return)
		return 0;
	r = op->e->hv->ops->lookup(op->e->hv, op->plan->uuid, &state, err);
	free(state.name);
	if (r < 0)
		return r == -ENOENT ? -ECANCELED : r;
	*ret_from = op->kind->no_return;
	return 0;
}

static const struct step steps[] = {
	{ "files", step_files, undo_files },
	{ "define", step_define, undo_define },
	{ "record", step_record, NULL },
};

const struct op_kind clone_op = { "clone", steps, 3, 2, settle };

/* ---- planning ---- */

/* As the kernel makes them: version 4, at random. */
static int new_uuid(char **ret, struct err *err)
{
	cleanup_close int fd = open("/proc/sys/kernel/random/uuid", O_RDONLY | O_CLOEXEC);
	char uuid[37] = "";

	if (fd < 0 || read(fd, uuid, 36) != 36)
		return err_sys(err, fd < 0 ? errno : EIO, "cannot read /proc/sys/kernel/random/uuid");
	*ret = xstrdup(uuid);
	return 0;
}

static int plan_disk(struct engine *e, const struct snapshot_disk *frozen, const char *id,
		     struct plan *plan, struct err *err)
{
	struct plan_disk *d = plan_add_disk(plan, frozen->target);
	int r = layer_file_stat(frozen->path, frozen->format, &d->below, err);

	if (r >= 0)
		r = layer_virtual_size(frozen->path, frozen->format, &d->size, err);
	if (r >= 0)
		overlay_plan(e, plan->uuid, id, d);
	return r;
}

/* Those of today: a snapshot keeps none of its own. */
static int plan_nvram(const char *xml, const char *id, struct plan *plan, struct err *err)
{
	cleanup(domain_xml_free_p) struct domain_xml *domain = NULL;
	cleanup_free char *document = NULL, *beside = xstrdup(plan->disks[0].overlay.path);
	int r = snapshot_xml_domain(xml, &document, err);

	if (r >= 0)
		r = domain_xml_parse(document, &domain, err);
	if (r < 0 || !domain->nvram)
		return r;
	plan->nvram.path = xasprintf("%s/kws-%.8s-%s-nvram.fd", dirname(beside), plan->uuid, id);
	plan->nvram.format = xstrdup("raw");
	if (access(domain->nvram, F_OK) == 0)
		plan->nvram_from = xstrdup(domain->nvram);
	return 0;
}

static int plan_xml(struct engine *e, const struct slot *source, const struct snapshot *snapshot,
		    const char *xml, struct plan *plan, struct err *err)
{
	cleanup_free struct overlay *overlays = xcalloc(plan->n_disks, sizeof(*overlays));
	cleanup_free char *user_data = NULL, *meta = NULL;
	struct clone_spec spec = {
		.name = plan->name,
		.uuid = plan->uuid,
		.nvram = plan->nvram.path,
		.overlays = overlays,
		.n_overlays = plan->n_disks,
		.source = source->uuid,
		.snapshot = snapshot->name,
	};
	int r;

	for (size_t i = 0; i < plan->n_disks; i++)
		overlays[i] = (struct overlay){ plan->disks[i].target, plan->disks[i].overlay.path };
	r = clone_texts(e, snapshot->id, &user_data, &meta, err);
	if (r < 0)
		return r;
	spec.user_data = user_data;
	spec.meta = meta;
	return clone_xml_build(xml, &spec, &plan->xml, err);
}

static int make_plan(struct engine *e, const struct slot *source, const struct snapshot *snapshot,
		     const struct clone_wish *wish, struct plan *plan, struct err *err)
{
	cleanup_free char *xml = NULL;
	char id[17];
	int r = new_uuid(&plan->uuid, err);

	plan->name = xstrdup(wish->name);
	plan->snapshot = snapshot->id;
	plan->pool = wish->pool;
	plan->flags = wish->spare ? CLONE_SPARE : 0;
	if (r >= 0)
		r = e->hv->ops->snapshot_xml(e->hv, source->uuid, snapshot->name, &xml, err);
	overlay_new_id(id);
	for (size_t i = 0; i < snapshot->n_disks && r >= 0; i++)
		r = plan_disk(e, &snapshot->disks[i], id, plan, err);
	if (r >= 0)
		r = plan_nvram(xml, id, plan, err);
	return r < 0 ? r : plan_xml(e, source, snapshot, xml, plan, err);
}

/* ---- making ---- */

int clone_check_name(struct engine *e, const char *name, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm_by_name(e, name);
	int r = snapshot_name_check(name, err);

	if (r >= 0 && vm)
		r = err_set(err, EEXIST, "there is a VM '%s' already", name);
	return r;
}

/* Shows it as a VM, too: who made it looks for it there. */
static int show(struct engine *e, uint32_t vm, struct err *err)
{
	struct slot *s = slot_find(e, vm);
	int r;

	slots_claim(e, &s, 1); /* after the source, which is older */
	r = look(e, s, LOOK_ALL, err);
	slots_release(e, &s, 1);
	return r;
}

/* The lock is held. */
static char **find_new(struct engine *e, const char *uuid)
{
	for (size_t i = 0; i < e->new_clones.n; i++)
		if (streq(e->new_clones.at[i], uuid))
			return &e->new_clones.at[i];
	return NULL;
}

bool clone_is_new(struct engine *e, const char *uuid)
{
	return find_new(e, uuid) != NULL;
}

/* One that has failed may be there all the same: what libvirt has told of it is looked at then. */
static void forget_new(struct engine *e, const char *uuid, bool failed)
{
	char **found;
	LOCK_SCOPE(&e->lock);

	found = find_new(e, uuid);
	free(*found);
	*found = e->new_clones.at[--e->new_clones.n];
	if (!failed)
		return;
	vec_push(&e->news, xstrdup(uuid));
	pthread_cond_signal(&e->news_wake);
}

/* Takes `plan` over, as op_run does. */
static int make(struct engine *e, struct slot *source, struct plan *plan, struct err *err)
{
	cleanup_free char *uuid = xstrdup(plan->uuid);
	int r;

	pthread_mutex_lock(&e->lock);
	vec_push(&e->new_clones, xstrdup(uuid));
	pthread_mutex_unlock(&e->lock);
	r = op_run(e, source, &clone_op, plan, err);
	forget_new(e, uuid, r < 0);
	return r;
}

static int run(struct engine *e, struct slot *source, const struct snapshot *snapshot,
	       struct plan *plan, const struct clone_wish *wish, uint32_t *ret_id, struct err *err)
{
	cleanup_free char *uuid = xstrdup(plan->uuid);
	cleanup(clone_list_unref_p) struct clone_list *list = NULL;
	const struct clone *c = NULL;
	double began = metrics_now();
	int r = make(e, source, plan, err);

	if (r < 0)
		return r;
	list = engine_clones(e);
	for (size_t i = 0; i < list->n && !c; i++)
		if (streq(list->clones[i]->uuid, uuid))
			c = list->clones[i];
	if (!c)
		return err_set(err, ENOENT, "it was removed meanwhile");
	*ret_id = c->id;
	show(e, c->vm, NULL); /* if it fails now it is shown when libvirt answers again */
	metrics_clone(e, metrics_now() - began);
	engine_event(e, &(struct engine_event){ "clone-created", source->id,
						.snapshot_id = snapshot->id,
						.snapshot = snapshot->name, .new_name = wish->name },
		     "the clone '%s' was made of '%s'", wish->name, snapshot->name);
	return 0;
}

int clone_make(struct engine *e, struct slot *source, const struct snapshot *snapshot,
	       const struct clone_wish *wish, uint32_t *ret_id, struct err *err)
{
	struct plan *plan;
	int r = clone_check_name(e, wish->name, err);

	if (r >= 0)
		r = depth_check_snapshot(e, source, snapshot, err);
	if (r >= 0)
		r = written_check_snapshot(e, source->id, snapshot, err);
	if (r >= 0 && snapshot->n_disks == 0)
		r = err_set(err, EOPNOTSUPP, "the snapshot has no disk");
	if (r >= 0) {
		plan = plan_new();
		r = make_plan(e, source, snapshot, wish, plan, err);
		if (r >= 0)
			return run(e, source, snapshot, plan, wish, ret_id, err);
		plan_free(plan);
	}
	return r;
}

int clone_make_or_claim(struct engine *e, struct slot *s, const struct snapshot *snapshot,
			const char *name, uint32_t *ret_id, struct err *err)
{
	struct clone_wish wish = { .name = name, .pool = pool_of_snapshot(e, snapshot->id) };
	int r = pool_claim(e, s, snapshot, name, ret_id, err);

	return r == -ENOENT ? clone_make(e, s, snapshot, &wish, ret_id, err) : r;
}

static int task_clone(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = slot_view(e, s);
	const struct snapshot *snapshot = NULL;
	uint32_t id;
	int r = need_snapshot(vm, t->snapshot, &snapshot, err);

	if (r >= 0)
		r = clone_make_or_claim(e, s, snapshot, t->text, &id, err);
	if (r < 0)
		err_wrap(err, "cannot make the clone '%s'", t->text);
	return r;
}

void engine_clone_create(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, const char *name,
			 engine_done *done, void *opaque)
{
	struct task *t = task_new(task_clone, done, opaque);

	t->snapshot = snapshot_id;
	t->text = xstrdup(name);
	task_submit(e, vm_id, t);
}
