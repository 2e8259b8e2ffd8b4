/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The chains that a VM's disks stand on, and whose their layers are. */
#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/core.h"
#include "engine/own-mount.h"

#include <sys/stat.h>

typedef vec_of(struct chain_layer_info) chains;

static const struct snapshot *whose(const struct vm *vm, const char *path)
{
	for (size_t i = 0; i < vm->n_snapshots; i++)
		for (size_t d = 0; d < vm->snapshots[i].n_disks; d++)
			if (streq(vm->snapshots[i].disks[d].path, path))
				return &vm->snapshots[i];
	return NULL;
}

static uint64_t allocated(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : st.st_blocks * 512ULL;
}

static int walk(const struct vm *vm, const struct vm_disk *disk, chains *found, struct err *err)
{
	cleanup_free char *path = xstrdup(disk->path), *format = xstrdup(disk->format);
	struct chain_layer_info *info = NULL;

	for (unsigned number = 0; path && number < CHAIN_MAX_LAYERS; number++) {
		cleanup_free char *this = steal_pointer(&path), *this_format = steal_pointer(&format);
		bool last = own_mount_has(this);
		int r = last ? 0 : layer_backing(this, this_format ?: "raw", &path, &format, err);

		if (r < 0)
			return r;
		info = vec_add(found);
		info->target = disk->target;
		info->number = number;
		info->snapshot = number ? whose(vm, this) : NULL;
		info->allocated = last ? 0 : allocated(this);
	}
	if (info)
		info->base = info->number && !info->snapshot;
	return 0;
}

int engine_chains(const struct vm *vm, struct chain_layer_info **ret, size_t *ret_n,
		  struct err *err)
{
	chains found = { 0 };
	int r = 0;

	for (size_t i = 0; i < vm->n_disks && r >= 0; i++)
		r = walk(vm, &vm->disks[i], &found, err);
	if (r < 0) {
		vec_free(&found);
		return r;
	}
	*ret = found.at;
	*ret_n = found.n;
	return 0;
}
