/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images of snapshots: who has one open. While one is open its snapshot is not
 * deleted, and that is all that is needed: what merges do below and above it
 * leaves its bytes as they are (docs/THREADS.md).
 */
#include "engine/chain.h"
#include "engine/core.h"

#include <errno.h>

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

/* A merge may take a layer out of the chain between finding and opening it:
 * then it is found elsewhere at the second try. */
static int open_current(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
			struct image **ret, struct err *err)
{
	int r = try_open(e, vm_id, snapshot_id, disk, ret, err);

	for (int again = 0; r == -ENOENT && again < 3; again++) {
		engine_vm_refresh(e, vm_id, 0);
		r = try_open(e, vm_id, snapshot_id, disk, ret, err);
	}
	/* The name was there, so its absence is damage, not a missing file of the tree. */
	return r == -ENOENT ? err_set(err, EIO, "%s", err ? err->msg : "") : r;
}

int engine_image_open(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		      struct image **ret, struct err *err)
{
	struct image *image = NULL;
	struct slot *s;
	int r = hold(e, vm_id, snapshot_id, &s, err);

	if (r < 0)
		return r;
	r = open_current(e, vm_id, snapshot_id, disk, &image, err);
	pthread_mutex_lock(&e->lock);
	if (r < 0)
		let_go(s, hold_of(s, snapshot_id, NULL));
	else
		hold_of(s, snapshot_id, NULL)->image = image;
	pthread_mutex_unlock(&e->lock);
	if (r < 0)
		engine_set_last_error(e, vm_id, err ? err->msg : "an image cannot be opened");
	else
		*ret = image;
	return r;
}

void engine_image_close(struct engine *e, struct image *image)
{
	if (!image)
		return;
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->slots.n; i++) {
		struct slot *s = e->slots.at[i];

		for (size_t h = 0; h < s->holders.n; h++)
			if (s->holders.at[h].image == image)
				let_go(s, &s->holders.at[h]);
	}
	pthread_mutex_unlock(&e->lock);
	image_close(image);
}

int engine_image_stat(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, size_t disk,
		      uint64_t *ret_size, uint64_t *ret_allocated, struct err *err)
{
	cleanup_free char *path = NULL, *format = NULL, *target = NULL;
	struct image *image;
	uint64_t allocated;
	int r;

	r = find_layer(e, vm_id, snapshot_id, disk, &path, &format, &target, err);
	if (r < 0)
		return r;
	if (registry_allocated(e->registry, snapshot_id, target, ret_size, ret_allocated, NULL) >= 0)
		return 0;

	/* Not held: a stat must not make a delete fail. If the snapshot goes
	 * meanwhile the figures are wrong, and thrown away with it. */
	r = open_current(e, vm_id, snapshot_id, disk, &image, err);
	if (r < 0)
		return r;
	r = image_allocated(image, &allocated, err);
	if (r >= 0) {
		*ret_size = image_size(image);
		*ret_allocated = allocated;
		registry_set_allocated(e->registry, snapshot_id, target, *ret_size, allocated, NULL);
	}
	image_close(image);
	return r;
}
