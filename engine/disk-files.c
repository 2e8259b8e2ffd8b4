/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks of snapshots as files: who has one open, and in which shape. While one is
 * open its snapshot is not deleted, and that is all that is needed: what merges do
 * below and above it leaves its bytes as they are (docs/THREADS.md).
 */
#include "common/timespec.h"
#include "engine/chain.h"
#include "engine/core.h"
#include "engine/disk-files.h"
#include "engine/disk-shape.h"
#include "engine/merging.h"
#include "engine/written.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm, vm_unref);

struct disk_file {
	struct image *image;
	struct standalone *standalone; /* SHAPE_QCOW2, SHAPE_LAYER; else NULL */
	struct difference *difference; /* SHAPE_MAP; else NULL */
	uint64_t *exported;            /* counts what is read, unless it is NULL */
	uint64_t start, size;          /* SHAPE_RAW, SHAPE_PARTITION: the part of the image */
};

/* ---- holding ---- */

/* Holds a snapshot for an image that is about to be opened. */
static int hold(struct engine *e, const struct disk_id *id, struct slot **ret, struct err *err)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, id->vm);
	if (!s || !s->view || s->dying == id->snapshot || !vm_snapshot(s->view, id->snapshot))
		return err_set(err, ENOENT, "there is no such snapshot any more");
	vec_push(&s->holders, ((struct holder){ .snapshot = id->snapshot }));
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

/* ... and perhaps that is what the deletion of the snapshot waits for. The lock is held. */
static void close_hold(struct engine *e, struct slot *s, struct holder *h)
{
	let_go(s, h);
	if (s->care.for_readers)
		keeper_want(e, s);
	pthread_cond_broadcast(&e->changed);
}

/* ---- opening ---- */

static int take_part(struct engine *e, const struct disk_description *d, const struct disk_id *id,
		     struct disk_file *f, struct err *err)
{
	struct partition p = { .length = image_size(f->image) };
	int r = 0;

	if (id->shape == SHAPE_PARTITION)
		r = disk_get_partition(e, d, f->image, id->partition, &p, err);
	f->start = p.start;
	f->size = p.length;
	return r;
}

static int try_open(struct engine *e, const struct disk_id *id, struct disk_file *f,
		    struct err *err)
{
	cleanup(disk_description_clear) struct disk_description d = { 0 };
	int r = disk_describe(e, id, &d, err);

	if (r >= 0)
		r = image_open(d.path, d.format, &f->image, err);
	if (r >= 0)
		r = merging_complete_chain(e, f->image, err);
	if (r >= 0)
		r = written_check(e, id->vm, id->snapshot, f->image, err);
	if (r >= 0 && (id->shape == SHAPE_QCOW2 || id->shape == SHAPE_LAYER))
		r = disk_get_standalone(e, &d, f->image, &f->standalone, err);
	else if (r >= 0 && id->shape == SHAPE_MAP)
		r = disk_get_difference(e, &d, f->image, &f->difference, err);
	else if (r >= 0)
		r = take_part(e, &d, id, f, err);
	if (r < 0) {
		image_close(f->image);
		f->image = NULL;
	}
	return r;
}

/* For so long at most: libvirtd may be the one that asks (refresh.c). */
#define FLUX_MS 1000

/* Between a merge's giving a layer's place to another one and its telling of that, nobody may look:
 * until something else than `seen` is published it is found where it was. */
static void wait_for_flux(struct engine *e, uint32_t vm_id, const struct vm *seen,
			  const struct timespec *until)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	while (s && s->exclusive && s->view == seen && !e->stopping)
		if (!cond_wait_until(&e->changed, &e->lock, until))
			break;
}

/* A merge may take a layer out of the chain between finding and opening it:
 * then it is found elsewhere at the second try. */
static int open_now(struct engine *e, const struct disk_id *id, struct disk_file *f,
		    struct err *err)
{
	struct timespec until = monotonic_in(FLUX_MS);
	int r = -ENOENT;

	for (int tries = 0; r == -ENOENT && tries < 4; tries++) {
		cleanup(vm_unref_p) struct vm *seen = engine_vm(e, id->vm);

		r = try_open(e, id, f, err);
		if (r == -ENOENT) {
			wait_for_flux(e, id->vm, seen, &until);
			engine_vm_refresh(e, id->vm, 0);
		}
	}
	/* The name was there, so its absence is damage, not a missing file of the tree. */
	if (r != -ENOENT)
		return r;
	if (err)
		err->code = EIO;
	return -EIO;
}

void disk_file_free(struct disk_file *f)
{
	if (!f)
		return;
	standalone_free(f->standalone);
	difference_free(f->difference);
	image_close(f->image);
	free(f);
}

int disk_file_open_unheld(struct engine *e, const struct disk_id *id, struct disk_file **ret,
			  struct err *err)
{
	struct disk_file *f = xnew(struct disk_file);
	int r = engine_vm_verify(e, id->vm, err);

	if (r >= 0)
		r = open_now(e, id, f, err);
	if (r < 0)
		disk_file_free(f);
	else
		*ret = f;
	return r;
}

/* What a layer says of itself is no reason not to read it. */
static void pass_on_warning(struct engine *e, const struct disk_id *id, const struct disk_file *f)
{
	cleanup_free char *warning = image_warning(f->image);

	if (warning)
		engine_tell(e, id->vm, -EUCLEAN, warning);
}

int engine_disk_open(struct engine *e, const struct disk_id *id, struct disk_file **ret,
		     struct err *err)
{
	struct disk_file *f;
	struct slot *s = NULL;
	int r = hold(e, id, &s, err);

	if (r < 0)
		return r;
	r = disk_file_open_unheld(e, id, &f, err);
	pthread_mutex_lock(&e->lock);
	if (r < 0)
		close_hold(e, s, hold_of(s, id->snapshot, NULL));
	else
		hold_of(s, id->snapshot, NULL)->image = f->image;
	pthread_mutex_unlock(&e->lock);
	if (r < 0) {
		engine_set_last_error(e, id->vm, err ? err->msg : "a disk cannot be opened");
		return r;
	}
	f->exported = &e->exported;
	pass_on_warning(e, id, f);
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
				close_hold(e, s, &s->holders.at[h]);
	}
	pthread_mutex_unlock(&e->lock);
	disk_file_free(f);
}

/* ---- what is asked of one that is open ---- */

uint64_t disk_file_size(const struct disk_file *f)
{
	return f->standalone ? standalone_size(f->standalone) :
	       f->difference ? difference_size(f->difference) : f->size;
}

/* Made up while it is read: all of it is data. */
static bool is_made_up(const struct disk_file *f)
{
	return f->standalone || f->difference;
}

static int part_extents(struct disk_file *f, uint64_t offset, uint64_t length,
			struct extent *extents, size_t max, size_t *ret_n, struct err *err)
{
	int r = image_extents(f->image, f->start + offset, length, extents, max, ret_n, err);

	for (size_t i = 0; r >= 0 && i < *ret_n; i++)
		extents[i].start -= f->start;
	return r;
}

int disk_file_extents(struct disk_file *f, uint64_t offset, uint64_t length,
		      struct extent *extents, size_t max, size_t *ret_n, struct err *err)
{
	uint64_t size = disk_file_size(f);

	*ret_n = 0;
	if (offset >= size || length == 0 || max == 0)
		return 0;
	if (length > size - offset)
		length = size - offset;
	if (!is_made_up(f))
		return part_extents(f, offset, length, extents, max, ret_n, err);
	extents[(*ret_n)++] = (struct extent){ .start = offset, .length = length,
					       .kind = EXTENT_DATA };
	return 0;
}

static ssize_t gather(struct disk_file *f, struct gather *g, size_t length, uint64_t offset,
		      struct err *err)
{
	uint64_t size = disk_file_size(f);

	if (offset >= size)
		return 0;
	if (length > size - offset)
		length = size - offset;
	if (f->standalone)
		return standalone_gather(f->standalone, g, length, offset, err);
	if (f->difference)
		return difference_read(f->difference, gather_room(g, length), length, offset);
	return image_gather(f->image, g, length, f->start + offset, err);
}

ssize_t disk_file_gather(struct disk_file *f, struct gather *g, size_t length, uint64_t offset,
			 struct err *err)
{
	ssize_t n = gather(f, g, length, offset, err);

	if (n > 0 && f->exported)
		__atomic_add_fetch(f->exported, n, __ATOMIC_RELAXED);
	return n;
}

ssize_t disk_file_read(struct disk_file *f, void *buf, size_t length, uint64_t offset,
		       struct err *err)
{
	struct gather g = { .buf = buf };

	return disk_file_gather(f, &g, length, offset, err);
}

/* ---- stat ---- */

/* What the registry calls a flat file of which the data were counted. */
static char *counted_name(const struct disk_description *d, const struct disk_id *id)
{
	return id->shape == SHAPE_PARTITION ? xasprintf("%s.p%u", d->target, id->partition) :
					      xstrdup(d->target);
}

static uint64_t map_size(const struct layout *l)
{
	return layout_runs(l) * difference_line_length(l->disk_size);
}

static int known_stat(struct engine *e, struct disk_description *d, const struct disk_id *id,
		      struct disk_stat *ret)
{
	cleanup_free char *name = counted_name(d, id);
	int r;

	ret->changed = d->created;
	if (id->shape == SHAPE_RAW || id->shape == SHAPE_PARTITION)
		return registry_allocated(e->registry, id->snapshot, name, &ret->size,
					  &ret->allocated, NULL);
	r = registry_layout(e->registry, &d->layout, NULL, NULL);
	if (r < 0)
		return r;
	ret->size = ret->allocated = id->shape == SHAPE_MAP ? map_size(&d->layout) :
							      d->layout.size;
	ret->changed = d->layout.changed;
	return 0;
}

/* Opening a qcow2 has found all out; of a flat file the map is still to be walked. */
static int learn(struct engine *e, const struct disk_description *d, const struct disk_id *id,
		 struct disk_file *f, struct err *err)
{
	cleanup_free char *name = counted_name(d, id);
	uint64_t allocated;
	int r;

	if (is_made_up(f))
		return 0;
	r = image_allocated(f->image, f->start, f->size, &allocated, err);
	return r < 0 ? r : registry_set_allocated(e->registry, id->snapshot, name, f->size,
						  allocated, err);
}

/* The same of an image that is open for something else. */
static void learn_from(struct engine *e, const struct disk_id *id, struct image *image)
{
	cleanup(disk_description_clear) struct disk_description d = { 0 };
	struct disk_file f = { .image = image };
	struct disk_stat known;
	int r = disk_describe(e, id, &d, NULL);

	if (r < 0 || known_stat(e, &d, id, &known) >= 0)
		return;
	if (id->shape == SHAPE_QCOW2 || id->shape == SHAPE_LAYER)
		r = disk_get_standalone(e, &d, image, &f.standalone, NULL);
	else
		r = take_part(e, &d, id, &f, NULL);
	if (r >= 0)
		learn(e, &d, id, &f, NULL);
	standalone_free(f.standalone);
}

/* To open a chain is what takes long. So whoever asks for one file of a disk that nobody
 * has asked for yet has all of them found out; in a listing they are the next to be asked
 * for. What cannot be found out is said to who asks for that. */
static void learn_others(struct engine *e, const struct disk_description *d,
			 const struct disk_id *id, struct image *image)
{
	static const enum disk_shape shapes[] = { SHAPE_RAW, SHAPE_QCOW2, SHAPE_LAYER };
	cleanup_free struct partition *found = NULL;
	struct disk_id other = { id->vm, id->snapshot, id->disk, SHAPE_PARTITION, 0 };
	size_t n = 0;

	disk_get_partitions(e, d, image, &found, &n, NULL);
	for (size_t i = 0; i < n; i++) {
		other.partition = found[i].number;
		learn_from(e, &other, image);
	}
	other.partition = 0;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		other.shape = shapes[i];
		learn_from(e, &other, image);
	}
}

int engine_disk_stat(struct engine *e, const struct disk_id *id, struct disk_stat *ret,
		     struct err *err)
{
	cleanup(disk_description_clear) struct disk_description d = { 0 };
	struct err own = ERR_INIT; /* somebody may only want to know whether it is there */
	struct disk_file *f;
	int r;

	if (!err)
		err = &own;
	r = disk_describe(e, id, &d, err);
	if (r < 0 || known_stat(e, &d, id, ret) >= 0)
		return r;
	/* Not held: a stat must not make a delete fail. If the snapshot goes
	 * meanwhile the figures are thrown away with it. */
	r = disk_file_open_unheld(e, id, &f, err);
	if (r >= 0) {
		r = learn(e, &d, id, f, err);
		learn_others(e, &d, id, f->image);
		disk_file_free(f);
	}
	if (r >= 0 && known_stat(e, &d, id, ret) < 0)
		r = err_set(err, ENOENT, "there is no such snapshot any more");
	if (r < 0 && r != -ENOENT)
		engine_set_last_error(e, id->vm, err->msg);
	return r < 0 ? r : 0;
}

/* ---- partitions ---- */

void engine_disk_partitions(struct engine *e, const struct disk_id *id, unsigned **ret,
			    size_t *ret_n)
{
	cleanup(disk_description_clear) struct disk_description d = { 0 };
	cleanup_free struct partition *found = NULL;
	struct disk_id whole = { id->vm, id->snapshot, id->disk, SHAPE_RAW, 0 };
	struct disk_file *f;
	size_t n = 0;
	int r = disk_describe(e, id, &d, NULL);

	*ret = NULL;
	*ret_n = 0;
	if (r >= 0)
		r = registry_partitions(e->registry, id->snapshot, d.target, &found, &n, NULL);
	if (r == -ENOENT && (r = disk_file_open_unheld(e, &whole, &f, NULL)) >= 0) {
		r = disk_get_partitions(e, &d, f->image, &found, &n, NULL);
		learn_others(e, &d, &whole, f->image);
		disk_file_free(f);
	}
	if (r < 0 || n == 0)
		return;
	*ret = xcalloc(n, sizeof(**ret));
	for (size_t i = 0; i < n; i++)
		(*ret)[i] = found[i].number;
	*ret_n = n;
}
