/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of the tree. Everything that is mounted is a row here, as in the
 * kernel's procfs and cgroupfs, and the code that answers the kernel (ops, dir,
 * ctl, verbs) walks rows without knowing them. To add a file, add a kind in
 * inode.h, a row here, its `show` in text.c and, if it can be written, its
 * `store` in control.c.
 *
 * Modes. A row has the mode that it would have if its VM were open to all; of
 * that a VM's directory takes away what it does not have itself. So with the
 * VM's 0700 an image is 0400, a control file 0600, a snapshot 0700; after
 * `chmod 0750` they are 0440, 0640, 0750; after `chmod 0770` the group may also
 * write to control files, take snapshots and delete them. Owner and group of
 * everything inside are those of the VM's directory.
 *
 * Names. Snapshots' names are the engine's affair: it knows which are refused,
 * among them those of the rows here. A VM's name is libvirt's and may begin with
 * a dot or be very long; names with a dot are the tree's own, so such a VM
 * appears under its UUID.
 */
#include "fs/tree.h"

#include "common/cleanup.h"
#include "fs/control.h"
#include "fs/core.h"
#include "fs/text.h"

#include <limits.h>

DEFINE_CLEANUP(struct vm_list, vm_list_unref);
DEFINE_CLEANUP(struct orphan_list, orphan_list_unref);

/* ---- VMs ---- */

const char *vm_dir_name(const struct vm *vm)
{
	return vm->name[0] == '.' || strlen(vm->name) > NAME_MAX ? vm->uuid : vm->name;
}

static void vms_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
		     void *opaque)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);

	for (size_t i = 0; i < list->n; i++)
		fn(opaque, vm_dir_name(list->vms[i]),
		   (struct key){ .kind = row->kind, .vm = list->vms[i]->id });
}

static bool vms_find(struct fs *fs, const struct node *dir, const struct row *row,
		     const char *name, struct key *ret)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);

	for (size_t i = 0; i < list->n; i++) {
		if (!streq(vm_dir_name(list->vms[i]), name))
			continue;
		*ret = (struct key){ .kind = row->kind, .vm = list->vms[i]->id };
		return true;
	}
	return false;
}

static size_t vms_count(struct fs *fs, const struct node *dir)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);

	return list->n;
}

/* Events tell of VMs, but a little later than virsh returns. */
static void vms_refresh(struct fs *fs, const struct node *dir, unsigned max_age_ms)
{
	if (max_age_ms == 0)
		engine_vms_refresh(fs->e);
}

static const struct many each_vm = { vms_each, vms_find, vms_count };

/* libvirt sends no event when virsh changes a VM's snapshots: so it is asked. */
static void vm_refresh(struct fs *fs, const struct node *dir, unsigned max_age_ms)
{
	engine_vm_refresh(fs->e, dir->vm->id, max_age_ms);
}

/* ---- snapshots ---- */

static struct key snapshot_key(const struct row *row, const struct vm *vm,
			       const struct snapshot *s)
{
	return (struct key){ .kind = row->kind, .vm = vm->id, .snapshot = s->id };
}

static void snapshots_each(struct fs *fs, const struct node *dir, const struct row *row,
			   each_fn *fn, void *opaque)
{
	for (size_t i = 0; i < dir->vm->n_snapshots; i++)
		fn(opaque, dir->vm->snapshots[i].name,
		   snapshot_key(row, dir->vm, &dir->vm->snapshots[i]));
}

static bool snapshots_find(struct fs *fs, const struct node *dir, const struct row *row,
			   const char *name, struct key *ret)
{
	const struct snapshot *s = vm_snapshot_by_name(dir->vm, name);

	if (!s)
		return false;
	*ret = snapshot_key(row, dir->vm, s);
	return true;
}

static size_t snapshots_count(struct fs *fs, const struct node *dir)
{
	return dir->vm->n_snapshots;
}

static const struct many each_snapshot = { snapshots_each, snapshots_find, snapshots_count };

static void snapshot_make(struct fs *fs, const struct node *dir, const char *name,
			  engine_done *done, void *opaque)
{
	engine_snapshot_create(fs->e, dir->vm->id, name, done, opaque);
}

static void snapshot_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque)
{
	engine_snapshot_delete(fs->e, n->vm->id, n->snapshot->id, done, opaque);
}

static void snapshot_rename(struct fs *fs, const struct node *n, const char *name,
			    engine_done *done, void *opaque)
{
	engine_snapshot_rename(fs->e, n->vm->id, n->snapshot->id, name, done, opaque);
}

static bool has_latest(const struct node *n)
{
	return vm_latest(n->vm) != NULL;
}

static bool has_current(const struct node *n)
{
	return vm_snapshot(n->vm, n->vm->current) != NULL;
}

static bool has_parent(const struct node *n)
{
	return vm_snapshot(n->vm, n->snapshot->parent) != NULL;
}

/* ---- finding by name, where it is as good to list ---- */

struct search {
	const char *name;
	struct key *key;
	bool found;
};

static void compare(void *opaque, const char *name, struct key key)
{
	struct search *search = opaque;

	if (!streq(name, search->name))
		return;
	*search->key = key;
	search->found = true;
}

/* ---- jobs ---- */

static void jobs_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
		      void *opaque)
{
	struct key key = { .kind = row->kind, .vm = dir->key.vm };
	struct job_status job;
	char name[16];

	engine_job_status(fs->e, dir->key.vm, &job);
	if (!job.running)
		return;
	snprintf(name, sizeof(name), "%u", job.id);
	key.snapshot = job.id;
	fn(opaque, name, key);
}

static bool jobs_find(struct fs *fs, const struct node *dir, const struct row *row,
		      const char *name, struct key *ret)
{
	struct search search = { name, ret, false };

	jobs_each(fs, dir, row, compare, &search);
	return search.found;
}

static size_t jobs_count(struct fs *fs, const struct node *dir)
{
	struct job_status job;

	engine_job_status(fs->e, dir->key.vm, &job);
	return job.running;
}

static const struct many each_job = { jobs_each, jobs_find, jobs_count };

/* ---- disks ---- */

/* Which file of the engine's a node is. */
struct disk_id node_disk_id(const struct node *n)
{
	return (struct disk_id){ n->key.vm, n->key.snapshot, index_disk(n->key.index),
				 n->row->shape, index_partition(n->key.index) };
}

static struct key disk_key(const struct node *dir, const struct row *row, uint32_t disk,
			   uint32_t partition)
{
	struct key key = dir->key;

	key.kind = row->kind;
	key.index = disk_index(disk, partition);
	return key;
}

static void disks_each(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
		       void *opaque)
{
	for (size_t i = 0; i < dir->snapshot->n_disks; i++) {
		cleanup_free char *name =
			xasprintf("%s%s", dir->snapshot->disks[i].target, row->suffix);

		fn(opaque, name, disk_key(dir, row, i, 0));
	}
}

static bool disks_find(struct fs *fs, const struct node *dir, const struct row *row,
		       const char *name, struct key *ret)
{
	for (size_t i = 0; i < dir->snapshot->n_disks; i++) {
		const char *target = dir->snapshot->disks[i].target;
		size_t n = strlen(target);

		if (strncmp(name, target, n) != 0 || !streq(name + n, row->suffix))
			continue;
		*ret = disk_key(dir, row, i, 0);
		return true;
	}
	return false;
}

static const struct many each_disk = { disks_each, disks_find, NULL };

/* ---- partitions ---- */

static void partitions_each(struct fs *fs, const struct node *dir, const struct row *row,
			    each_fn *fn, void *opaque)
{
	for (size_t i = 0; i < dir->snapshot->n_disks; i++) {
		struct disk_id id = { dir->key.vm, dir->key.snapshot, i, row->shape, 0 };
		cleanup_free unsigned *numbers = NULL;
		size_t n;

		engine_disk_partitions(fs->e, &id, &numbers, &n);
		for (size_t p = 0; p < n; p++) {
			cleanup_free char *name =
				xasprintf("%s.p%u%s", dir->snapshot->disks[i].target, numbers[p],
					  row->suffix);

			fn(opaque, name, disk_key(dir, row, i, numbers[p]));
		}
	}
}

static bool partitions_find(struct fs *fs, const struct node *dir, const struct row *row,
			    const char *name, struct key *ret)
{
	struct search search = { name, ret, false };

	/* Not for each name that is not there: the disks would be opened for it. */
	if (strstr(name, ".p"))
		partitions_each(fs, dir, row, compare, &search);
	return search.found;
}

static const struct many each_partition = { partitions_each, partitions_find, NULL };

/* ---- orphans ---- */

static void orphans_each(struct fs *fs, const struct node *dir, const struct row *row,
			 each_fn *fn, void *opaque)
{
	cleanup(orphan_list_unref_p) struct orphan_list *list = engine_orphans(fs->e);

	for (size_t i = 0; i < list->n; i++)
		fn(opaque, list->orphans[i].name, orphan_key(list->orphans[i].id));
}

static bool orphans_find(struct fs *fs, const struct node *dir, const struct row *row,
			 const char *name, struct key *ret)
{
	struct search search = { name, ret, false };

	orphans_each(fs, dir, row, compare, &search);
	return search.found;
}

static const struct many each_orphan = { orphans_each, orphans_find, NULL };

static void orphans_refresh(struct fs *fs, const struct node *dir, unsigned max_age_ms)
{
	engine_orphans_refresh(fs->e, max_age_ms);
}

static void orphan_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque)
{
	engine_orphan_remove(fs->e, n->orphan->id, done, opaque);
}

/* ---- the table ---- */

#define READ_ONLY 0444
#define CONTROL 0666
#define FOLDER 0777
#define FOLDER_TO_READ 0555
#define LINK 0777

static const struct row rows[] = {
	{ KIND_ROOT, KIND_ROOT, LEVEL_TREE, ROW_DIR, "", .mode = 0755, .time = TIME_MOUNTED },
	{ KIND_VERSION, KIND_ROOT, LEVEL_TREE, ROW_TEXT, "version", .mode = READ_ONLY,
	  .time = TIME_MOUNTED, .show = show_version },
	{ KIND_FSCK, KIND_ROOT, LEVEL_TREE, ROW_TEXT, "fsck", .mode = 0600, .time = TIME_MOUNTED,
	  .show = show_fsck_help, .ask = ask_fsck, .action = true },
	{ KIND_SNAPSHOTS, KIND_ROOT, LEVEL_TREE, ROW_DIR, "snapshots", .mode = 0755,
	  .time = TIME_LIST, .refresh = vms_refresh },

	{ KIND_VM, KIND_SNAPSHOTS, LEVEL_VM, ROW_DIR, .many = &each_vm, .mode = FOLDER,
	  .time = TIME_VM, .refresh = vm_refresh, .make = snapshot_make, .owned = true,
	  .stays = "a VM's directory comes and goes with the VM: virsh undefine, virsh domrename" },

	{ KIND_SNAPSHOT, KIND_VM, LEVEL_SNAPSHOT, ROW_DIR, .many = &each_snapshot, .mode = FOLDER,
	  .time = TIME_SNAPSHOT, .remove = snapshot_remove, .rename = snapshot_rename },
	{ KIND_LATEST, KIND_VM, LEVEL_VM, ROW_LINK, "latest", .mode = LINK, .time = TIME_VM,
	  .exists = has_latest, .show = show_latest },
	{ KIND_CURRENT, KIND_VM, LEVEL_VM, ROW_LINK, "current", .mode = LINK, .time = TIME_VM,
	  .exists = has_current, .show = show_current },
	{ KIND_KWS, KIND_VM, LEVEL_VM, ROW_DIR, ".kws", .mode = FOLDER, .time = TIME_VM },

	{ KIND_STATE, KIND_KWS, LEVEL_VM, ROW_TEXT, "state", .mode = READ_ONLY, .time = TIME_VM,
	  .show = show_state },
	{ KIND_STATUS, KIND_KWS, LEVEL_VM, ROW_TEXT, "status", .mode = READ_ONLY,
	  .time = TIME_VM, .show = show_status },
	{ KIND_LAST_ERROR, KIND_KWS, LEVEL_VM, ROW_TEXT, "last_error", .mode = READ_ONLY,
	  .time = TIME_VM, .show = show_last_error },
	{ KIND_JOBS, KIND_KWS, LEVEL_VM, ROW_DIR, "jobs", .mode = FOLDER_TO_READ,
	  .time = TIME_VM },
	{ KIND_JOB, KIND_JOBS, LEVEL_JOB, ROW_DIR, .many = &each_job, .mode = FOLDER_TO_READ,
	  .time = TIME_VM, .stays = "write 1 to its 'cancel' to break it off" },
	{ KIND_JOB_STATUS, KIND_JOB, LEVEL_JOB, ROW_TEXT, "status", .mode = READ_ONLY,
	  .time = TIME_VM, .show = show_job },
	{ KIND_JOB_CANCEL, KIND_JOB, LEVEL_JOB, ROW_TEXT, "cancel", .mode = CONTROL,
	  .time = TIME_VM, .show = show_cancel_help, .store = store_cancel, .action = true },
	{ KIND_QUIESCE, KIND_KWS, LEVEL_VM, ROW_TEXT, "quiesce", .mode = CONTROL, .time = TIME_VM,
	  .show = show_quiesce, .store = store_quiesce },
	{ KIND_MAX_DEPTH, KIND_KWS, LEVEL_VM, ROW_TEXT, "max_depth", .mode = CONTROL,
	  .time = TIME_VM, .show = show_max_depth, .store = store_max_depth },

	{ KIND_DISK_RAW, KIND_SNAPSHOT, LEVEL_DISK, ROW_IMAGE, .many = &each_disk,
	  .suffix = ".raw", .shape = SHAPE_RAW, .mode = READ_ONLY, .time = TIME_SNAPSHOT,
	  .lasting = true },
	{ KIND_DISK_QCOW2, KIND_SNAPSHOT, LEVEL_DISK, ROW_IMAGE, .many = &each_disk,
	  .suffix = ".qcow2", .shape = SHAPE_QCOW2, .mode = READ_ONLY, .time = TIME_SNAPSHOT,
	  .lasting = true },
	{ KIND_PARTITION, KIND_SNAPSHOT, LEVEL_DISK, ROW_IMAGE, .many = &each_partition,
	  .suffix = ".raw", .shape = SHAPE_PARTITION, .mode = READ_ONLY, .time = TIME_SNAPSHOT,
	  .lasting = true },
	/* Not lasting: it changes when it gets another parent. */
	{ KIND_DISK_MAP, KIND_SNAPSHOT, LEVEL_DISK, ROW_IMAGE, .many = &each_disk,
	  .suffix = ".map", .shape = SHAPE_MAP, .mode = READ_ONLY, .time = TIME_SNAPSHOT },
	/* Not lasting: a merge gives its disks other files. */
	{ KIND_DOMAIN_XML, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "domain.xml",
	  .mode = READ_ONLY, .time = TIME_VM, .show = show_domain_xml },
	{ KIND_INFO_JSON, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "info.json", .mode = READ_ONLY,
	  .time = TIME_VM, .show = show_info_json },
	{ KIND_PARENT, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_LINK, "parent", .mode = LINK,
	  .time = TIME_SNAPSHOT, .exists = has_parent, .show = show_parent },
	{ KIND_CHECKSUMS, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "SHA256SUMS", .mode = CONTROL,
	  .time = TIME_SNAPSHOT, .show = show_checksums, .store = store_checksums,
	  .action = true },
	{ KIND_REVERT, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "revert", .mode = CONTROL,
	  .time = TIME_SNAPSHOT, .show = show_revert_help, .store = store_revert,
	  .action = true },
	{ KIND_DESCRIPTION, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "description",
	  .mode = CONTROL, .time = TIME_VM, .show = show_description,
	  .store = store_description },
	{ KIND_PIN, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "pin", .mode = CONTROL,
	  .time = TIME_VM, .show = show_pin, .store = store_pin },

	{ KIND_BACKUP, KIND_ROOT, LEVEL_TREE, ROW_DIR, "backup", .mode = 0755, .time = TIME_LIST,
	  .refresh = vms_refresh },
	{ KIND_BACKUP_VM, KIND_BACKUP, LEVEL_VM, ROW_DIR, .many = &each_vm, .mode = FOLDER_TO_READ,
	  .time = TIME_VM, .refresh = vm_refresh, .stays = "it is another view of snapshots/" },
	{ KIND_BACKUP_SNAPSHOT, KIND_BACKUP_VM, LEVEL_SNAPSHOT, ROW_DIR, .many = &each_snapshot,
	  .mode = FOLDER_TO_READ, .time = TIME_SNAPSHOT,
	  .stays = "it is another view of snapshots/" },
	/* Not lasting: it changes when it gets another parent. */
	{ KIND_BACKUP_DISK, KIND_BACKUP_SNAPSHOT, LEVEL_DISK, ROW_IMAGE, .many = &each_disk,
	  .suffix = ".qcow2", .shape = SHAPE_LAYER, .mode = READ_ONLY, .time = TIME_SNAPSHOT },

	{ KIND_LOST_FOUND, KIND_ROOT, LEVEL_TREE, ROW_DIR, "lost+found", .mode = 0700,
	  .time = TIME_ORPHANS, .refresh = orphans_refresh },
	{ KIND_ORPHAN, KIND_LOST_FOUND, LEVEL_TREE, ROW_ORPHAN, .many = &each_orphan, .mode = 0400,
	  .remove = orphan_remove,
	  .stays = "it is a view of a file elsewhere: cp keeps it, rm deletes it" },
	{ KIND_LOST_KWS, KIND_LOST_FOUND, LEVEL_TREE, ROW_DIR, ".kws", .mode = 0700,
	  .time = TIME_MOUNTED },
	{ KIND_LOST_LAST_ERROR, KIND_LOST_KWS, LEVEL_TREE, ROW_TEXT, "last_error", .mode = 0400,
	  .time = TIME_MOUNTED, .show = show_orphans_last_error },
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

const struct row *row_of(unsigned kind)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].kind == kind)
			return &rows[i];
	return NULL;
}

const struct row *row_next(enum kind in, const struct row *after)
{
	for (const struct row *row = after ? after + 1 : rows; row < rows + N_ROWS; row++)
		if (row->in == in && row->kind != KIND_ROOT)
			return row;
	return NULL;
}
