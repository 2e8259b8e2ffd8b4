/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/disk-shape.h"

#include <endian.h>
#include <errno.h>

void disk_description_clear(struct disk_description *d)
{
	free(d->target);
	free(d->path);
	free(d->format);
	free(d->parent_path);
	free(d->backing);
}

const struct snapshot_disk *snapshot_disk_of(const struct snapshot *s, const char *target)
{
	for (size_t i = 0; s && i < s->n_disks; i++)
		if (streq(s->disks[i].target, target))
			return &s->disks[i];
	return NULL;
}

static void describe(const struct vm *vm, const struct snapshot *s, const struct disk_id *id,
		     struct disk_description *ret)
{
	const struct snapshot_disk *disk = &s->disks[id->disk], *below = NULL;
	const struct snapshot *parent = vm_snapshot(vm, s->parent);

	if (id->shape == SHAPE_LAYER || id->shape == SHAPE_MAP)
		below = snapshot_disk_of(parent, disk->target);
	ret->target = xstrdup(disk->target);
	ret->path = xstrdup(disk->path);
	ret->format = xstrdup(disk->format);
	ret->parent_path = below ? xstrdup(below->path) : NULL;
	ret->backing = below ? xasprintf("../%s/%s.qcow2", parent->name, disk->target) :
			       xstrdup("");
	ret->created = s->created;
	ret->layout = (struct layout){
		.snapshot = s->id, .target = ret->target,
		.shape = id->shape == SHAPE_MAP ? SHAPE_LAYER : id->shape,
		.parent = below ? parent->id : 0, .backing = ret->backing,
	};
}

int disk_describe(struct engine *e, const struct disk_id *id, struct disk_description *ret,
		  struct err *err)
{
	struct vm *vm = engine_vm(e, id->vm);
	const struct snapshot *s;
	int r = need_snapshot(vm, id->snapshot, &s, err);

	if (r >= 0 && id->disk >= s->n_disks)
		r = err_set(err, ENOENT, "the snapshot has no such disk");
	if (r >= 0)
		describe(vm, s, id, ret);
	vm_unref(vm);
	return r;
}

/* ---- qcow2 ---- */

/* A run as the registry keeps it: two 64-bit numbers, little-endian. */
struct kept_run {
	uint64_t start;
	uint64_t length; /* twice, and one more if it is zero */
};

static struct kept_run *pack_runs(const struct data_run *runs, size_t n)
{
	struct kept_run *kept = xcalloc(n + 1, sizeof(*kept));

	for (size_t i = 0; i < n; i++) {
		kept[i].start = htole64(runs[i].start);
		kept[i].length = htole64(runs[i].length << 1 | runs[i].zero);
	}
	return kept;
}

size_t layout_runs(const struct layout *l)
{
	return l->runs_bytes / sizeof(struct kept_run);
}

static struct data_run *unpack_runs(const struct kept_run *kept, size_t n)
{
	struct data_run *runs = xcalloc(n + 1, sizeof(*runs));

	for (size_t i = 0; i < n; i++) {
		runs[i].start = le64toh(kept[i].start);
		runs[i].length = le64toh(kept[i].length) >> 1;
		runs[i].zero = le64toh(kept[i].length) & 1;
	}
	return runs;
}

/* Finds it out, and keeps it unless somebody else was faster. */
static int make_layout(struct engine *e, struct disk_description *d, struct image *image,
		       struct err *err)
{
	cleanup_free struct kept_run *kept = NULL;
	cleanup_free struct data_run *runs = NULL;
	struct layout *l = &d->layout;
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
	l->disk_size = image_size(image);
	l->cluster_bits = standalone_choose_clusters(runs, n, l->disk_size);
	s = standalone_new(image, runs, n, l->cluster_bits, d->backing);
	l->size = standalone_size(s);
	standalone_free(s);
	kept = pack_runs(runs, n);
	l->runs_bytes = n * sizeof(*kept);
	return registry_add_layout(e->registry, l, kept, err);
}

/* The caller frees *ret. */
static int get_layout(struct engine *e, struct disk_description *d, struct image *image,
		      struct data_run **ret, size_t *ret_n, struct err *err)
{
	cleanup_free void *kept = NULL;
	int r = registry_layout(e->registry, &d->layout, &kept, err);

	if (r == -ENOENT) {
		r = make_layout(e, d, image, err);
		if (r >= 0)
			r = registry_layout(e->registry, &d->layout, &kept, err);
	}
	if (r == -ENOENT)
		return err_set(err, ENOENT, "there is no such snapshot any more");
	if (r < 0)
		return r;
	*ret_n = layout_runs(&d->layout);
	*ret = unpack_runs(kept, *ret_n);
	return 0;
}

int disk_get_standalone(struct engine *e, struct disk_description *d, struct image *image,
			struct standalone **ret, struct err *err)
{
	cleanup_free struct data_run *runs = NULL;
	size_t n = 0;
	int r = get_layout(e, d, image, &runs, &n, err);

	if (r >= 0)
		*ret = standalone_new(image, runs, n, d->layout.cluster_bits, d->backing);
	return r;
}

int disk_get_difference(struct engine *e, struct disk_description *d, struct image *image,
			struct difference **ret, struct err *err)
{
	struct data_run *runs = NULL;
	size_t n = 0;
	int r = get_layout(e, d, image, &runs, &n, err);

	if (r >= 0)
		*ret = difference_new(runs, n, d->layout.disk_size);
	return r;
}

/* ---- partitions ---- */

/* Finds the table out, and keeps it. */
static int make_partitions(struct engine *e, const struct disk_description *d,
			   struct image *image, struct err *err)
{
	struct partition *found = NULL;
	size_t n = 0;
	int r = partitions_find(image, &found, &n, err);

	if (r >= 0)
		r = registry_set_partitions(e->registry, d->layout.snapshot, d->target, found, n,
					    err);
	free(found);
	return r;
}

int disk_get_partitions(struct engine *e, const struct disk_description *d, struct image *image,
			struct partition **ret, size_t *ret_n, struct err *err)
{
	int r = registry_partitions(e->registry, d->layout.snapshot, d->target, ret, ret_n, err);

	if (r != -ENOENT)
		return r;
	r = make_partitions(e, d, image, err);
	return r < 0 ? r : registry_partitions(e->registry, d->layout.snapshot, d->target, ret,
					       ret_n, err);
}

int disk_get_partition(struct engine *e, const struct disk_description *d, struct image *image,
		       unsigned number, struct partition *ret, struct err *err)
{
	cleanup_free struct partition *found = NULL;
	size_t n = 0;
	int r = disk_get_partitions(e, d, image, &found, &n, err);

	for (size_t i = 0; i < n && r >= 0; i++) {
		if (found[i].number == number) {
			*ret = found[i];
			return 0;
		}
	}
	return r < 0 ? r : err_set(err, ENOENT, "the disk has no partition %u", number);
}
