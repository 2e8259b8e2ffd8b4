/* SPDX-License-Identifier: GPL-2.0-or-later */
/* recovery/, and a directory in it for each VM. */
#include "fs/recovery.h"

#include "common/cleanup.h"
#include "fs/core.h"

DEFINE_CLEANUP(struct vm_list, vm_list_unref);

/* A VM that is called as a file beside it appears under its UUID. */
static const char *dir_name(const struct vm *vm)
{
	for (const struct row *row = NULL; (row = row_next(KIND_RECOVERY, row));)
		if (row->name && streq(row->name, vm->name))
			return vm->uuid;
	return vm_dir_name(vm);
}

static void vms_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
		     void *opaque)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);

	for (size_t i = 0; i < list->n; i++)
		fn(opaque, dir_name(list->vms[i]),
		   (struct key){ .kind = row->kind, .vm = list->vms[i]->id });
}

static size_t vms_count(struct fs *fs, const struct node *dir)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);

	return list->n;
}

const struct many each_recovery_vm = { vms_each, many_find, vms_count };

int show_recovery_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *msg = engine_recovery_last_error(fs->e);

	if (msg[0])
		fprintf(out, "%s\n", msg);
	return 0;
}
