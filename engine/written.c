/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/written.h"

#include "common/timespec.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm, vm_unref);

/* ---- what VMs write to now ---- */

static int check_writers(struct engine *e, const struct image *image, struct err *err)
{
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->slots.n; i++) {
		const struct slot *s = e->slots.at[i];

		for (size_t n = 0; s->view && n < s->written.n; n++)
			if (image_has_file(image, &s->written.at[n]))
				return err_set(err, EIO, "the layer %s is not kept as it was when "
					       "this snapshot was taken: the VM %s has it as its "
					       "disk, and writes to it", s->written.at[n].path,
					       s->view->name);
	}
	return 0;
}

/* ---- what they wrote to ---- */

/* Which of the VM's snapshots `s` was taken on, and itself. The caller frees it. */
static bool *ancestors_of(const struct vm *vm, const struct snapshot *s)
{
	bool *is_one = xcalloc(vm->n_snapshots, sizeof(*is_one));

	for (; s && !is_one[s - vm->snapshots]; s = vm_snapshot(vm, s->parent))
		is_one[s - vm->snapshots] = true;
	return is_one;
}

static int check_disks(const struct snapshot *later, const struct image *image, struct err *err)
{
	for (size_t d = 0; d < later->n_disks; d++) {
		struct layer_file file;
		bool has;

		if (layer_file_stat(later->disks[d].path, later->disks[d].format, &file, NULL) < 0)
			continue;
		has = image_has_file(image, &file);
		layer_file_clear(&file);
		if (has)
			return err_set(err, EIO, "the layer %s is not what it was when this snapshot "
				       "was taken: it was written to until '%s' was",
				       later->disks[d].path, later->name);
	}
	return 0;
}

static int check_later(const struct vm *vm, uint32_t snapshot_id, const struct image *image,
		       struct err *err)
{
	const struct snapshot *s = vm ? vm_snapshot(vm, snapshot_id) : NULL;
	cleanup_free bool *is_ancestor = s ? ancestors_of(vm, s) : NULL;
	int r = 0;

	for (size_t i = 0; s && i < vm->n_snapshots && r >= 0; i++)
		if (timespec_compare(&vm->snapshots[i].created, &s->created) > 0 && !is_ancestor[i])
			r = check_disks(&vm->snapshots[i], image, err);
	return r;
}

int written_check(struct engine *e, uint32_t vm_id, uint32_t snapshot_id, const struct image *image,
		  struct err *err)
{
	cleanup(vm_unref_p) struct vm *vm = engine_vm(e, vm_id);
	int r = check_writers(e, image, err);

	return r < 0 ? r : check_later(vm, snapshot_id, image, err);
}

int written_check_snapshot(struct engine *e, uint32_t vm_id, const struct snapshot *snapshot,
			   struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < snapshot->n_disks && r >= 0; i++) {
		struct image *image;

		if (image_open(snapshot->disks[i].path, snapshot->disks[i].format, &image, NULL) < 0)
			continue;
		r = written_check(e, vm_id, snapshot->id, image, err);
		image_close(image);
	}
	return r;
}
