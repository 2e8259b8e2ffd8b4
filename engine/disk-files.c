/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks of snapshots as files: who has one open, and in which shape. While one is
 * open its snapshot is not deleted, and that is all that is needed: what merges do
 * below and above it leaves its bytes as they are (docs/THREADS.md).
 */
#include "engine/chain.h"
#include "engine/core.h"
#include "engine/standalone.h"

#include <endian.h>
#include <errno.h>

struct disk_file {
	struct image *image;
	struct standalone *standalone; /* SHAPE_QCOW2 */
};

/* ---- holding ---- */

/* Holds a snapshot for an image that is about to be opened. */
static int hold(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, struct slot **ret,
		struct err *err)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	if (!s || !s->view || s->dying == snapshot_id || !vm_snapshot(s->view, snapshot_id))
		return err_set(err, ENOENT, "there is no such snapshot any more");
	vec_push(&s->holders, ((struct holder){ .snapshot = snapshot_id }));
	*ret = s;
	return 0;
}

/* The hold that is still without its image; there may be several alike. */
static struct holder *hold_of(struct slot *s, uint32_t snapshot_id, const struct image *image)
{
	for (size_t i = 0; i < s->holders.n; i++)
		if (s->holders.at[i].snapshot == snapshot_id && s->holders.at[i].image == image)
			return &s->holders.at[i];
	return NULL;
}

static void let_go(struct slot *s, struct holder *h)
{
	*h = s->holders.at[--s->holders.n];
}

/* ---- opening ---- */

/* Where the image lies at this moment. The caller frees both texts. */
static int find_layer(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		      char **ret_path, char **ret_format, char **ret_target, struct err *err)
{
	struct vm *vm = engine_vm(e, vm_id);
	const struct snapshot *s;
	int r = need_snapshot(vm, snapshot_id, &s, err);

	if (r >= 0 && disk >= s->n_disks)
		r = err_set(err, ENOENT, "the snapshot has no such disk");
	if (r >= 0) {
		*ret_path = xstrdup(s->disks[disk].path);
		*ret_format = xstrdup(s->disks[disk].format);
		*ret_target = xstrdup(s->disks[disk].target);
	}
	vm_unref(vm);
	return r;
}

static int try_open(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		    struct image **ret, struct err *err)
{
	cleanup_free char *path = NULL, *format = NULL, *target = NULL;
	int r = find_layer(e, vm_id, snapshot_id, disk, &path, &format, &target, err);

	return r < 0 ? r : image_open(path, format, ret, err);
}

/* ---- what a file of a shape is made of ---- */

/* What tells a layout from others, as the VM is at this moment. */
struct description {
	char *target, *backing;
	char *parent_path; /* the parent's layer, NULL if it stands alone */
	struct timespec created;
	struct layout layout;
};

static void description_clear(struct description *d)
{
	free(d->target);
	free(d->backing);
	free(d->parent_path);
}

static const struct snapshot_disk *disk_of(const struct snapshot *s, const char *target)
{
	for (size_t i = 0; s && i < s->n_disks; i++)
		if (streq(s->disks[i].target, target))
			return &s->disks[i];
	return NULL;
}

static int describe(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		    enum disk_shape shape, struct description *ret, struct err *err)
{
	struct vm *vm = engine_vm(e, vm_id);
	const struct snapshot *s, *parent;
	const struct snapshot_disk *below = NULL;
	int r = need_snapshot(vm, snapshot_id, &s, err);

	if (r >= 0 && disk >= s->n_disks)
		r = err_set(err, ENOENT, "the snapshot has no such disk");
	if (r >= 0) {
		parent = vm_snapshot(vm, s->parent);
		if (shape == SHAPE_LAYER)
			below = disk_of(parent, s->disks[disk].target);
		ret->target = xstrdup(s->disks[disk].target);
		ret->parent_path = below ? xstrdup(below->path) : NULL;
		ret->backing = below ? xasprintf("../%s/%s.qcow2", parent->name, ret->target) :
				       xstrdup("");
		ret->created = s->created;
		ret->layout = (struct layout){
			.snapshot = snapshot_id, .target = ret->target, .shape = shape,
			.parent = below ? parent->id : 0, .backing = ret->backing,
		};
	}
	vm_unref(vm);
	return r;
}

/* A run as the registry keeps it: two 64-bit numbers, little-endian. */
struct kept_run {
	uint64_t first;
	uint64_t n; /* twice, and one more if they are zero */
};

static struct kept_run *pack_runs(const struct data_run *runs, size_t n)
{
	struct kept_run *kept = xcalloc(n + 1, sizeof(*kept));

	for (size_t i = 0; i < n; i++) {
		kept[i].first = htole64(runs[i].first);
		kept[i].n = htole64(runs[i].n << 1 | runs[i].zero);
	}
	return kept;
}

static struct data_run *unpack_runs(const struct kept_run *kept, size_t n)
{
	struct data_run *runs = xcalloc(n + 1, sizeof(*runs));

	for (size_t i = 0; i < n; i++) {
		runs[i].first = le64toh(kept[i].first);
		runs[i].n = le64toh(kept[i].n) >> 1;
		runs[i].zero = le64toh(kept[i].n) & 1;
	}
	return runs;
}

/* Finds it out, and keeps it unless somebody else was faster. */
static int make_layout(struct engine *e, struct description *d, struct image *image,
		       struct err *err)
{
	cleanup_free struct kept_run *kept = NULL;
	struct data_run *runs;
	struct standalone *s;
	size_t n = 0, n_layers = ALL_LAYERS;
	int r;

	/* A merge that is just moving layers: the caller asks again. */
	if (d->parent_path && !image_find_layer(image, d->parent_path, &n_layers))
		return err_set(err, ENOENT, "%s, the layer of its parent, does not lie under it",
			       d->parent_path);
	r = standalone_scan(image, n_layers, &runs, &n, err);
	if (r < 0)
		return r;
	kept = pack_runs(runs, n);
	s = standalone_new(image, runs, n, d->backing);
	d->layout.size = standalone_size(s);
	standalone_free(s);
	return registry_add_layout(e->registry, &d->layout, kept, n * sizeof(*kept), err);
}

static int get_standalone(struct engine *e, struct description *d, struct image *image,
			  struct standalone **ret, struct err *err)
{
	cleanup_free void *kept = NULL;
	size_t bytes = 0, n;
	int r = registry_layout(e->registry, &d->layout, &kept, &bytes, err);

	if (r == -ENOENT) {
		r = make_layout(e, d, image, err);
		if (r >= 0)
			r = registry_layout(e->registry, &d->layout, &kept, &bytes, err);
	}
	if (r == -ENOENT)
		return err_set(err, ENOENT, "there is no such snapshot any more");
	if (r < 0)
		return r;
	n = bytes / sizeof(struct kept_run);
	*ret = standalone_new(image, unpack_runs(kept, n), n, d->backing);
	return 0;
}

/* ---- files ---- */

static int try_shape(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		     enum disk_shape shape, struct disk_file *f, struct err *err)
{
	cleanup(description_clear) struct description d = { 0 };
	int r = describe(e, vm_id, snapshot_id, disk, shape, &d, err);

	if (r >= 0)
		r = try_open(e, vm_id, snapshot_id, disk, &f->image, err);
	if (r >= 0 && shape != SHAPE_RAW)
		r = get_standalone(e, &d, f->image, &f->standalone, err);
	if (r < 0) {
		image_close(f->image);
		f->image = NULL;
	}
	return r;
}

/* A merge may take a layer out of the chain between finding and opening it:
 * then it is found elsewhere at the second try. */
static int open_shape(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		      enum disk_shape shape, struct disk_file *f, struct err *err)
{
	int r = try_shape(e, vm_id, snapshot_id, disk, shape, f, err);

	for (int again = 0; r == -ENOENT && again < 3; again++) {
		engine_vm_refresh(e, vm_id, 0);
		r = try_shape(e, vm_id, snapshot_id, disk, shape, f, err);
	}
	/* The name was there, so its absence is damage, not a missing file of the tree. */
	return r == -ENOENT ? err_set(err, EIO, "%s", err ? err->msg : "") : r;
}

static void disk_file_free(struct disk_file *f)
{
	standalone_free(f->standalone);
	image_close(f->image);
	free(f);
}

int engine_disk_open(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		     enum disk_shape shape, struct disk_file **ret, struct err *err)
{
	struct disk_file *f;
	struct slot *s;
	int r = hold(e, vm_id, snapshot_id, &s, err);

	if (r < 0)
		return r;
	f = xnew(struct disk_file);
	r = open_shape(e, vm_id, snapshot_id, disk, shape, f, err);
	pthread_mutex_lock(&e->lock);
	if (r < 0)
		let_go(s, hold_of(s, snapshot_id, NULL));
	else
		hold_of(s, snapshot_id, NULL)->image = f->image;
	pthread_mutex_unlock(&e->lock);
	if (r < 0) {
		engine_set_last_error(e, vm_id, err ? err->msg : "a disk cannot be opened");
		disk_file_free(f);
		return r;
	}
	*ret = f;
	return 0;
}

void engine_disk_close(struct engine *e, struct disk_file *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->slots.n; i++) {
		struct slot *s = e->slots.at[i];

		for (size_t h = 0; h < s->holders.n; h++)
			if (s->holders.at[h].image == f->image)
				let_go(s, &s->holders.at[h]);
	}
	pthread_mutex_unlock(&e->lock);
	disk_file_free(f);
}

uint64_t disk_file_size(const struct disk_file *f)
{
	return f->standalone ? standalone_size(f->standalone) : image_size(f->image);
}

int disk_file_extents(struct disk_file *f, uint64_t offset, uint64_t length,
		      struct extent *extents, size_t max, size_t *ret_n, struct err *err)
{
	uint64_t size = disk_file_size(f);

	if (!f->standalone)
		return image_extents(f->image, offset, length, extents, max, ret_n, err);
	*ret_n = 0;
	if (offset >= size || length == 0 || max == 0)
		return 0;
	extents[(*ret_n)++] = (struct extent){
		.start = offset, .kind = EXTENT_DATA,
		.length = length < size - offset ? length : size - offset,
	};
	return 0;
}

ssize_t disk_file_read(struct disk_file *f, void *buf, size_t length, uint64_t offset,
		       struct err *err)
{
	return f->standalone ? standalone_read(f->standalone, buf, length, offset, err) :
			       image_read(f->image, buf, length, offset, err);
}

/* ---- stat ---- */

static int known_stat(struct engine *e, struct description *d, struct disk_stat *ret)
{
	int r;

	ret->changed = d->created;
	if (d->layout.shape == SHAPE_RAW)
		return registry_allocated(e->registry, d->layout.snapshot, d->target, &ret->size,
					  &ret->allocated, NULL);
	r = registry_layout(e->registry, &d->layout, NULL, NULL, NULL);
	if (r < 0)
		return r;
	ret->size = ret->allocated = d->layout.size;
	ret->changed = d->layout.changed;
	return 0;
}

/* Opening a qcow2 has found all out; of a raw file the map is still to be walked. */
static int learn(struct engine *e, const struct description *d, struct disk_file *f,
		 struct err *err)
{
	uint64_t allocated;
	int r;

	if (d->layout.shape != SHAPE_RAW)
		return 0;
	r = image_allocated(f->image, &allocated, err);
	return r < 0 ? r : registry_set_allocated(e->registry, d->layout.snapshot, d->target,
						  image_size(f->image), allocated, err);
}

int engine_disk_stat(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		     enum disk_shape shape, struct disk_stat *ret, struct err *err)
{
	cleanup(description_clear) struct description d = { 0 };
	struct disk_file *f;
	int r = describe(e, vm_id, snapshot_id, disk, shape, &d, err);

	if (r < 0 || known_stat(e, &d, ret) >= 0)
		return r;
	/* Not held: a stat must not make a delete fail. If the snapshot goes
	 * meanwhile the figures are thrown away with it. */
	f = xnew(struct disk_file);
	r = open_shape(e, vm_id, snapshot_id, disk, shape, f, err);
	if (r >= 0)
		r = learn(e, &d, f, err);
	disk_file_free(f);
	if (r >= 0 && known_stat(e, &d, ret) < 0)
		r = err_set(err, ENOENT, "there is no such snapshot any more");
	return r < 0 ? r : 0;
}
