/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine of engine.h in memory: two VMs, `web1` with snapshots and `db`
 * without, operations that take FAKE_ENGINE_DELAY_MS and are answered by a
 * thread of their own, images with holes. It lets fs/ and mount/ be tried
 * without libvirt, and answers nothing about whether snapshots work.
 */
#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"
#include "engine/engine.h"

#include <errno.h>
#include <pthread.h>

#define MAX_VMS 8
#define IMAGE_SIZE (UINT64_C(64) << 20)

struct waiter {
	uint64_t ticket;
	uint32_t vm;
	engine_done *done;
	void *opaque;
};

struct engine {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const struct engine_observer *observer;
	struct vm *vms[MAX_VMS];
	char *last_error[MAX_VMS];
	size_t n_vms;
	size_t working; /* threads */
	unsigned merging[MAX_VMS];
	uint32_t next_snapshot;
	uint64_t next_ticket;
	unsigned open_images[65536]; /* by snapshot */
	vec_of(struct waiter) waiters;
};

struct image {
	uint32_t snapshot;
};

static const char *const quiesces[] = { "auto", "yes", "no" };

const char *quiesce_to_string(enum quiesce q)
{
	return quiesces[q];
}

int quiesce_from_string(const char *s, enum quiesce *ret)
{
	for (int i = 0; i < 3; i++) {
		if (streq(s, quiesces[i])) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

const char *consistency_to_string(enum consistency c)
{
	static const char *const names[] = { "unknown", "offline", "filesystem", "crash" };

	return names[c];
}

/* ---- VMs ---- */

static struct vm *vm_copy(const struct vm *vm)
{
	struct vm *copy = xnew(struct vm);

	*copy = (struct vm){ .refs = 1, .id = vm->id, .state = vm->state, .uid = vm->uid,
			     .gid = vm->gid, .mode = vm->mode, .quiesce = vm->quiesce,
			     .current = vm->current, .n_snapshots = vm->n_snapshots,
			     .changed = vm->changed };
	memcpy(copy->uuid, vm->uuid, sizeof(copy->uuid));
	copy->name = xstrdup(vm->name);
	copy->snapshots = xcalloc(vm->n_snapshots + 1, sizeof(*copy->snapshots)); /* one more */
	for (size_t i = 0; i < vm->n_snapshots; i++) {
		struct snapshot *s = &copy->snapshots[i];

		*s = vm->snapshots[i];
		s->name = xstrdup(s->name);
		s->description = xstrdup(s->description);
		s->disks = xcalloc(s->n_disks, sizeof(*s->disks));
		for (size_t d = 0; d < s->n_disks; d++)
			s->disks[d].target = xstrdup(vm->snapshots[i].disks[d].target);
	}
	return copy;
}

static void snapshot_clear(struct snapshot *s)
{
	for (size_t d = 0; d < s->n_disks; d++)
		free(s->disks[d].target);
	free(s->disks);
	free(s->name);
	free(s->description);
}

void vm_unref(struct vm *vm)
{
	if (!vm || __atomic_sub_fetch(&vm->refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (size_t i = 0; i < vm->n_snapshots; i++)
		snapshot_clear(&vm->snapshots[i]);
	free(vm->snapshots);
	free(vm->name);
	free(vm);
}

static struct vm *vm_ref(struct vm *vm)
{
	if (vm)
		__atomic_add_fetch(&vm->refs, 1, __ATOMIC_RELAXED);
	return vm;
}

void vm_list_unref(struct vm_list *list)
{
	if (!list)
		return;
	for (size_t i = 0; i < list->n; i++)
		vm_unref(list->vms[i]);
	free(list->vms);
	free(list);
}

static void add_snapshot(struct engine *e, struct vm *vm, const char *name)
{
	struct snapshot *s;

	s = &vm->snapshots[vm->n_snapshots++];
	memset(s, 0, sizeof(*s));
	s->id = ++e->next_snapshot;
	s->parent = vm->current;
	s->name = xstrdup(name);
	s->description = xstrdup("");
	s->consistency = CONSISTENCY_CRASH;
	s->n_disks = 2;
	s->disks = xcalloc(2, sizeof(*s->disks));
	s->disks[0] = (struct snapshot_disk){ xstrdup("vda"), NULL, (char *)"qcow2" };
	s->disks[1] = (struct snapshot_disk){ xstrdup("vdb"), NULL, (char *)"raw" };
	clock_gettime(CLOCK_REALTIME, &s->created);
	vm->current = s->id;
	vm->changed = s->created;
}

static struct vm *add_vm(struct engine *e, const char *name, const struct engine_options *o)
{
	struct vm *vm = xnew(struct vm);

	vm->refs = 1;
	vm->id = e->n_vms + 1;
	snprintf(vm->uuid, sizeof(vm->uuid), "00000000-0000-0000-0000-%012zu", e->n_vms);
	vm->name = xstrdup(name);
	vm->state = "running";
	vm->uid = o->uid;
	vm->gid = o->gid;
	vm->mode = o->mode;
	vm->snapshots = xcalloc(8, sizeof(*vm->snapshots));
	clock_gettime(CLOCK_REALTIME, &vm->changed);
	e->last_error[e->n_vms] = xstrdup("");
	e->vms[e->n_vms++] = vm;
	return vm;
}

int engine_open(const struct engine_options *o, const struct engine_observer *observer,
		struct engine **ret, struct err *err)
{
	struct engine *e = xnew(struct engine);
	struct vm *vm;

	if (streq(o->uri, "none://")) {
		free(e);
		return err_set(err, EHOSTDOWN, "libvirt does not answer at %s", o->uri);
	}
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	e->observer = observer;
	vm = add_vm(e, "web1", o);
	add_snapshot(e, vm, "first");
	add_snapshot(e, vm, "새 폴더");
	add_snapshot(e, vm, "third");
	add_vm(e, "db", o);
	add_vm(e, ".hidden", o);
	*ret = e;
	return 0;
}

void engine_close(struct engine *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	while (e->working)
		pthread_cond_wait(&e->changed, &e->lock);
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < e->n_vms; i++) {
		vm_unref(e->vms[i]);
		free(e->last_error[i]);
	}
	vec_free(&e->waiters);
	pthread_cond_destroy(&e->changed);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

struct vm_list *engine_vms(struct engine *e)
{
	struct vm_list *list = xnew(struct vm_list);
	LOCK_SCOPE(&e->lock);

	list->vms = xcalloc(MAX_VMS, sizeof(*list->vms));
	for (size_t i = 0; i < e->n_vms; i++)
		list->vms[list->n++] = vm_ref(e->vms[i]);
	return list;
}

struct vm *engine_vm(struct engine *e, uint32_t id)
{
	LOCK_SCOPE(&e->lock);

	return id > 0 && id <= e->n_vms ? vm_ref(e->vms[id - 1]) : NULL;
}

struct vm *engine_vm_by_name(struct engine *e, const char *name)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->n_vms; i++)
		if (streq(e->vms[i]->name, name))
			return vm_ref(e->vms[i]);
	return NULL;
}

void engine_vms_refresh(struct engine *e)
{
}

void engine_vm_refresh(struct engine *e, uint32_t vm_id, unsigned max_age_ms)
{
}


const struct snapshot *vm_snapshot(const struct vm *vm, uint32_t id)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		if (vm->snapshots[i].id == id)
			return &vm->snapshots[i];
	return NULL;
}

const struct snapshot *vm_snapshot_by_name(const struct vm *vm, const char *name)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		if (streq(vm->snapshots[i].name, name))
			return &vm->snapshots[i];
	return NULL;
}

const struct snapshot *vm_latest(const struct vm *vm)
{
	return vm->n_snapshots ? &vm->snapshots[vm->n_snapshots - 1] : NULL;
}

bool engine_connected(struct engine *e)
{
	return true;
}

int engine_statvfs(struct engine *e, struct statvfs *ret)
{
	return statvfs("/tmp", ret) < 0 ? -errno : 0;
}

char *engine_last_error(struct engine *e, uint32_t vm_id)
{
	LOCK_SCOPE(&e->lock);

	return xstrdup(e->last_error[vm_id - 1]);
}

void engine_set_last_error(struct engine *e, uint32_t vm_id, const char *msg)
{
	LOCK_SCOPE(&e->lock);

	free(e->last_error[vm_id - 1]);
	e->last_error[vm_id - 1] = xstrdup(msg);
}

void engine_job_status(struct engine *e, uint32_t vm_id, struct job_status *ret)
{
	LOCK_SCOPE(&e->lock);

	*ret = (struct job_status){ .running = e->merging[vm_id - 1] > 0 };
}

int engine_domain_xml(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, char **ret,
		      struct err *err)
{
	*ret = xasprintf("<domain type='qemu'>\n  <name>vm%u</name>\n</domain>\n", vm_id);
	return 0;
}

/* ---- operations ---- */

struct task {
	struct engine *e;
	uint32_t vm;
	int (*run)(struct engine *e, struct vm *vm, struct task *t, struct err *err);
	uint32_t snapshot;
	char *text;
	int number;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	engine_done *done;
	void *opaque;
};

static void pause_a_little(void)
{
	const char *delay = getenv("FAKE_ENGINE_DELAY_MS");

	usleep(1000 * (delay ? atoi(delay) : 1));
}

static void *work(void *opaque)
{
	struct task *t = opaque;
	struct engine *e = t->e;
	struct err err = ERR_INIT;
	struct vm *vm, *old;
	int r;

	pause_a_little();
	pthread_mutex_lock(&e->lock);
	vm = vm_copy(e->vms[t->vm - 1]);
	if (t->snapshot && !vm_snapshot(vm, t->snapshot))
		r = err_set(&err, ENOENT, "there is no such snapshot any more");
	else
		r = t->run(e, vm, t, &err);
	old = r < 0 ? vm : e->vms[t->vm - 1];
	if (r >= 0)
		e->vms[t->vm - 1] = vm;
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		engine_set_last_error(e, t->vm, err.msg);
	else
		e->observer->vm_changed(e->observer->opaque, t->vm);
	vm_unref(old);
	t->done(t->opaque, r, &err);
	free(t->text);
	free(t);
	pthread_mutex_lock(&e->lock);
	e->working--;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

static void start(struct engine *e, uint32_t vm, struct task task)
{
	struct task *t = xnew(struct task);
	pthread_t thread;

	*t = task;
	t->e = e;
	t->vm = vm;
	pthread_mutex_lock(&e->lock);
	e->working++;
	pthread_mutex_unlock(&e->lock);
	if (pthread_create(&thread, NULL, work, t))
		abort();
	pthread_detach(thread);
}

static int run_create(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	if (strlen(t->text) > SNAPSHOT_NAME_MAX)
		return err_set(err, ENAMETOOLONG, "a snapshot's name may have 240 bytes at most");
	if (t->text[0] == '.' || streq(t->text, "latest") || streq(t->text, "current"))
		return err_set(err, EINVAL, "'%s' is not a name for a snapshot", t->text);
	if (vm_snapshot_by_name(vm, t->text))
		return err_set(err, EEXIST, "there is a snapshot '%s' already", t->text);
	add_snapshot(e, vm, t->text);
	return 0;
}

void engine_snapshot_create(struct engine *e, uint32_t vm, const char *name, engine_done *done,
			    void *opaque)
{
	start(e, vm, (struct task){ .run = run_create, .text = xstrdup(name), .done = done,
				    .opaque = opaque });
}

static struct snapshot *need(struct vm *vm, uint32_t id)
{
	return (struct snapshot *)vm_snapshot(vm, id);
}

static void *merge(void *opaque)
{
	struct task *t = opaque;
	struct engine *e = t->e;
	vec_of(struct waiter) ended = { 0 };

	for (int i = 0; i < 10; i++)
		pause_a_little();
	pthread_mutex_lock(&e->lock);
	if (--e->merging[t->vm - 1] == 0) {
		for (size_t i = e->waiters.n; i-- > 0;) {
			if (e->waiters.at[i].vm != t->vm)
				continue;
			vec_push(&ended, e->waiters.at[i]);
			e->waiters.at[i] = e->waiters.at[--e->waiters.n];
		}
	}
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < ended.n; i++)
		ended.at[i].done(ended.at[i].opaque, 0, NULL);
	vec_free(&ended);
	pthread_mutex_lock(&e->lock);
	e->working--;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	free(t);
	return NULL;
}

static int run_delete(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	struct snapshot *s = need(vm, t->snapshot);
	struct task *job;
	pthread_t thread;

	if (s->pinned)
		return err_set(err, EPERM, "the snapshot '%s' is pinned", s->name);
	if (e->open_images[s->id])
		return err_set(err, EBUSY, "an image of '%s' is open", s->name);
	if (vm->current == s->id)
		vm->current = s->parent;
	snapshot_clear(s);
	memmove(s, s + 1, (&vm->snapshots[vm->n_snapshots] - s - 1) * sizeof(*s));
	vm->n_snapshots--;
	clock_gettime(CLOCK_REALTIME, &vm->changed);
	job = xnew(struct task);
	job->e = e;
	job->vm = t->vm;
	e->merging[t->vm - 1]++;
	e->working++;
	if (pthread_create(&thread, NULL, merge, job))
		abort();
	pthread_detach(thread);
	return 0;
}

void engine_snapshot_delete(struct engine *e, uint32_t vm, uint32_t id, engine_done *done,
			    void *opaque)
{
	start(e, vm, (struct task){ .run = run_delete, .snapshot = id, .done = done,
				    .opaque = opaque });
}

static int run_rename(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	struct snapshot *s = need(vm, t->snapshot);

	if (vm_snapshot_by_name(vm, t->text))
		return err_set(err, EEXIST, "there is a snapshot '%s' already", t->text);
	free(s->name);
	s->name = xstrdup(t->text);
	return 0;
}

void engine_snapshot_rename(struct engine *e, uint32_t vm, uint32_t id, const char *name,
			    engine_done *done, void *opaque)
{
	start(e, vm, (struct task){ .run = run_rename, .snapshot = id, .text = xstrdup(name),
				    .done = done, .opaque = opaque });
}

static int run_revert(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	if (!(t->number & REVERT_FORCE))
		return err_set(err, EBUSY, "the VM runs: shut it down, or write 1 force");
	vm->current = t->snapshot;
	return 0;
}

void engine_snapshot_revert(struct engine *e, uint32_t vm, uint32_t id, unsigned flags,
			    engine_done *done, void *opaque)
{
	start(e, vm, (struct task){ .run = run_revert, .snapshot = id, .number = flags,
				    .done = done, .opaque = opaque });
}

static int run_describe(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	struct snapshot *s = need(vm, t->snapshot);

	free(s->description);
	s->description = xstrdup(t->text);
	return 0;
}

void engine_set_description(struct engine *e, uint32_t vm, uint32_t id, const char *text,
			    engine_done *done, void *opaque)
{
	start(e, vm, (struct task){ .run = run_describe, .snapshot = id, .text = xstrdup(text),
				    .done = done, .opaque = opaque });
}

static int run_pin(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	need(vm, t->snapshot)->pinned = t->number;
	return 0;
}

void engine_set_pinned(struct engine *e, uint32_t vm, uint32_t id, bool pinned, engine_done *done,
		       void *opaque)
{
	start(e, vm, (struct task){ .run = run_pin, .snapshot = id, .number = pinned,
				    .done = done, .opaque = opaque });
}

static int run_quiesce(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	vm->quiesce = t->number;
	return 0;
}

void engine_set_quiesce(struct engine *e, uint32_t vm, enum quiesce q, engine_done *done,
			void *opaque)
{
	start(e, vm, (struct task){ .run = run_quiesce, .number = q, .done = done,
				    .opaque = opaque });
}

static int run_owner(struct engine *e, struct vm *vm, struct task *t, struct err *err)
{
	vm->uid = t->uid == (uid_t)-1 ? vm->uid : t->uid;
	vm->gid = t->gid == (gid_t)-1 ? vm->gid : t->gid;
	vm->mode = t->mode == (mode_t)-1 ? vm->mode : t->mode;
	return 0;
}

void engine_set_owner(struct engine *e, uint32_t vm, uid_t uid, gid_t gid, mode_t mode,
		      engine_done *done, void *opaque)
{
	start(e, vm, (struct task){ .run = run_owner, .uid = uid, .gid = gid, .mode = mode,
				    .done = done, .opaque = opaque });
}

uint64_t engine_wait(struct engine *e, uint32_t vm, engine_done *done, void *opaque)
{
	uint64_t ticket;

	pthread_mutex_lock(&e->lock);
	ticket = ++e->next_ticket;
	if (e->merging[vm - 1]) {
		vec_push(&e->waiters, ((struct waiter){ ticket, vm, done, opaque }));
		done = NULL;
	}
	pthread_mutex_unlock(&e->lock);
	if (done)
		done(opaque, 0, NULL);
	return ticket;
}

void engine_wait_cancel(struct engine *e, uint64_t ticket)
{
	struct err err = ERR_INIT;
	struct waiter found = { 0 };

	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->waiters.n; i++) {
		if (e->waiters.at[i].ticket == ticket) {
			found = e->waiters.at[i];
			e->waiters.at[i] = e->waiters.at[--e->waiters.n];
			break;
		}
	}
	pthread_mutex_unlock(&e->lock);
	if (found.done)
		found.done(found.opaque, err_set(&err, EINTR, "interrupted"), &err);
}

/* ---- images: the first MiB of each 8 MiB is data, the last 4 MiB a hole ---- */

#define STRIPE (UINT64_C(8) << 20)
#define FILLED (UINT64_C(1) << 20)

int engine_image_open(struct engine *e, uint32_t vm, uint32_t id, size_t disk, struct image **ret,
		      struct err *err)
{
	LOCK_SCOPE(&e->lock);

	*ret = xnew(struct image);
	(*ret)->snapshot = id;
	e->open_images[id]++;
	return 0;
}

void engine_image_close(struct engine *e, struct image *image)
{
	LOCK_SCOPE(&e->lock);

	if (image)
		e->open_images[image->snapshot]--;
	free(image);
}

int engine_image_stat(struct engine *e, uint32_t vm, uint32_t id, size_t disk, uint64_t *ret_size,
		      uint64_t *ret_allocated, struct err *err)
{
	*ret_size = IMAGE_SIZE;
	*ret_allocated = IMAGE_SIZE / STRIPE * FILLED;
	return 0;
}

uint64_t image_size(const struct image *image)
{
	return IMAGE_SIZE;
}

int image_extents(struct image *image, uint64_t offset, uint64_t length, struct extent *extents,
		  size_t max, size_t *ret_n, struct err *err)
{
	uint64_t end = offset + length < IMAGE_SIZE ? offset + length : IMAGE_SIZE;
	size_t n = 0;

	for (; offset < end && n < max; n++) {
		bool data = offset % STRIPE < FILLED;
		uint64_t next = offset - offset % STRIPE + (data ? FILLED : STRIPE);

		next = next < end ? next : end;
		extents[n] = (struct extent){ offset, next - offset,
					      data ? EXTENT_DATA : EXTENT_ZERO, 0, offset };
		offset = next;
	}
	*ret_n = n;
	return 0;
}

ssize_t image_read(struct image *image, void *buf, size_t length, uint64_t offset, struct err *err)
{
	unsigned char *p = buf;

	if (offset >= IMAGE_SIZE)
		return 0;
	if (length > IMAGE_SIZE - offset)
		length = IMAGE_SIZE - offset;
	for (size_t i = 0; i < length; i++)
		p[i] = (offset + i) % STRIPE < FILLED ?
			       (unsigned char)(image->snapshot + ((offset + i) >> 9)) | 1 : 0;
	return length;
}
