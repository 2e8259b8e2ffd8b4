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
#include "fs/clones.h"
#include "fs/control.h"
#include "fs/core.h"
#include "fs/groups.h"
#include "fs/pool.h"
#include "fs/recover.h"
#include "fs/recovery.h"
#include "fs/similarity.h"
#include "fs/text.h"
#include "fs/vm-features.h"

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

/* ---- finding by name and counting, where it is as good to list ---- */

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

bool many_find(struct fs *fs, const struct node *dir, const struct row *row, const char *name,
	       struct key *ret)
{
	struct search search = { name, ret, false };

	row->many->each(fs, dir, row, compare, &search);
	return search.found;
}

static void count_one(void *count, const char *name, struct key key)
{
	++*(size_t *)count;
}

size_t many_count(struct fs *fs, const struct node *dir, const struct row *row)
{
	size_t count = 0;

	row->many->each(fs, dir, row, count_one, &count);
	return count;
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

static size_t jobs_count(struct fs *fs, const struct node *dir)
{
	struct job_status job;

	engine_job_status(fs->e, dir->key.vm, &job);
	return job.running;
}

static const struct many each_job = { jobs_each, many_find, jobs_count };

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
	/* Not for each name that is not there: the disks would be opened for it. */
	return strstr(name, ".p") && many_find(fs, dir, row, name, ret);
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

static const struct many each_orphan = { orphans_each, many_find, NULL };

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

#define KNOB(K, file)                                                                      \
	{ KIND_##K, KIND_KWS, LEVEL_VM, ROW_TEXT, file, .mode = CONTROL, .time = TIME_VM,  \
	  .show = show_knob, .store = store_knob, .knob = KNOB_##K },                      \
	{ KIND_ALL_##K, KIND_ALL_KWS, LEVEL_TREE, ROW_TEXT, file, .mode = 0644,            \
	  .time = TIME_MOUNTED, .show = show_knob, .store = store_knob, .knob = KNOB_##K }

static const struct row rows[] = {
	{ KIND_ROOT, KIND_ROOT, LEVEL_TREE, ROW_DIR, "", .mode = 0755, .time = TIME_MOUNTED },
	{ KIND_VERSION, KIND_ROOT, LEVEL_TREE, ROW_TEXT, "version", .mode = READ_ONLY,
	  .time = TIME_MOUNTED, .show = show_version },
	/* For their owner alone: they name the snapshots of all VMs. */
	{ KIND_METRICS, KIND_ROOT, LEVEL_TREE, ROW_TEXT, "metrics", .mode = 0400,
	  .time = TIME_MOUNTED, .show = show_metrics, .costly = true },
	{ KIND_EVENTS, KIND_ROOT, LEVEL_TREE, ROW_EVENTS, "events", .mode = 0400,
	  .time = TIME_MOUNTED },
	{ KIND_FSCK, KIND_ROOT, LEVEL_TREE, ROW_TEXT, "fsck", .mode = 0600, .time = TIME_MOUNTED,
	  .show = show_fsck_help, .ask = ask_fsck, .action = true },
	{ KIND_DASHBOARD, KIND_ROOT, LEVEL_TREE, ROW_TEXT, "dashboard.html", .mode = 0400,
	  .time = TIME_PAGE, .show = show_dashboard },
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
	{ KIND_PRUNE, KIND_KWS, LEVEL_VM, ROW_TEXT, "prune", .mode = CONTROL, .time = TIME_VM,
	  .show = show_prune, .store = store_prune, .action = true },

	/* Each of these for a VM, and for all that have no value of their own. */
	KNOB(KEEP_LAST, "keep_last"),
	KNOB(KEEP_HOURLY, "keep_hourly"),
	KNOB(KEEP_DAILY, "keep_daily"),
	KNOB(KEEP_WEEKLY, "keep_weekly"),
	KNOB(KEEP_MONTHLY, "keep_monthly"),
	KNOB(KEEP_YEARLY, "keep_yearly"),
	KNOB(KEEP_WITHIN, "keep_within"),
	KNOB(MAX_COUNT, "max_count"),
	KNOB(TTL, "ttl"),
	KNOB(MIN_FREE, "min_free"),
	KNOB(MAX_DEPTH, "max_depth"),
	KNOB(SCHEDULE, "schedule"),
	KNOB(SCHEDULE_NAME, "schedule_name"),
	KNOB(PRUNE_SCHEDULE, "prune_schedule"),
	{ KIND_ALL_KWS, KIND_SNAPSHOTS, LEVEL_TREE, ROW_DIR, ".kws", .mode = 0755,
	  .time = TIME_MOUNTED },
	{ KIND_ALL_LAST_ERROR, KIND_ALL_KWS, LEVEL_TREE, ROW_TEXT, "last_error", .mode = 0400,
	  .time = TIME_MOUNTED, .show = show_all_last_error },

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
	  .mode = READ_ONLY, .time = TIME_VM, .show = show_domain_xml,
	  .length = domain_xml_length },
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
	{ KIND_EXPIRES, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "expires", .mode = CONTROL,
	  .time = TIME_VM, .show = show_expires, .store = store_expires },
	{ KIND_PIN, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_TEXT, "pin", .mode = CONTROL,
	  .time = TIME_VM, .show = show_pin, .store = store_pin },

	{ KIND_CLONES, KIND_SNAPSHOT, LEVEL_SNAPSHOT, ROW_DIR, "clones", .mode = FOLDER,
	  .time = TIME_CLONES, .make = clone_make_dir },
	{ KIND_CLONE, KIND_CLONES, LEVEL_CLONE, ROW_DIR, .many = &each_clone, .mode = FOLDER,
	  .time = TIME_CLONE, .remove = clone_remove_dir,
	  .stays = "a clone is called as its VM: virsh domrename" },
	{ KIND_CLONE_STATE, KIND_CLONE, LEVEL_CLONE, ROW_TEXT, "state", .mode = CONTROL,
	  .time = TIME_CLONE, .show = show_clone_state, .store = store_clone_state },
	{ KIND_CLONES_KWS, KIND_CLONES, LEVEL_SNAPSHOT, ROW_DIR, ".kws", .mode = FOLDER,
	  .time = TIME_SNAPSHOT },
	/* Not for all: there may be passwords in them. */
	{ KIND_CLONES_USER_DATA, KIND_CLONES_KWS, LEVEL_SNAPSHOT, ROW_TEXT, "user_data",
	  .mode = 0660, .time = TIME_SNAPSHOT, .show = show_clone_text, .store = store_clone_text,
	  .lines_max = CLONE_USER_DATA_MAX },
	{ KIND_CLONES_META, KIND_CLONES_KWS, LEVEL_SNAPSHOT, ROW_TEXT, "meta", .mode = 0660,
	  .time = TIME_SNAPSHOT, .show = show_clone_text, .store = store_clone_text,
	  .lines_max = CLONE_META_MAX },
	{ KIND_CLONE_VM, KIND_CLONE, LEVEL_CLONE, ROW_LINK, "vm", .mode = LINK, .time = TIME_CLONE,
	  .exists = clone_is_vm, .show = show_clone_vm },
	{ KIND_CLONE_PROMOTE, KIND_CLONE, LEVEL_CLONE, ROW_TEXT, "promote", .mode = CONTROL,
	  .time = TIME_CLONE, .exists = clone_is_vm, .show = show_promote_help,
	  .store = store_promote, .action = true },

	{ KIND_SPARE, KIND_CLONES_KWS, LEVEL_SNAPSHOT, ROW_TEXT, "spare", .mode = CONTROL,
	  .time = TIME_SNAPSHOT, .show = show_spare, .store = store_spare },
	{ KIND_SPARE_STATE, KIND_CLONES_KWS, LEVEL_SNAPSHOT, ROW_TEXT, "spare_state",
	  .mode = CONTROL, .time = TIME_SNAPSHOT, .show = show_spare_state,
	  .store = store_spare_state },
	{ KIND_SPARE_WAIT, KIND_CLONES_KWS, LEVEL_SNAPSHOT, ROW_TEXT, "spare_wait", .mode = CONTROL,
	  .time = TIME_SNAPSHOT, .show = show_spare_wait, .store = store_spare_wait },
	{ KIND_POOL_STATUS, KIND_CLONES_KWS, LEVEL_SNAPSHOT, ROW_TEXT, "status", .mode = READ_ONLY,
	  .time = TIME_SNAPSHOT, .show = show_pool_status },

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

	{ KIND_GROUPS, KIND_ROOT, LEVEL_TREE, ROW_DIR, "groups", .mode = 0755, .time = TIME_GROUPS,
	  .make = group_make },
	{ KIND_GROUPS_KWS, KIND_GROUPS, LEVEL_TREE, ROW_DIR, ".kws", .mode = 0700,
	  .time = TIME_MOUNTED },
	{ KIND_GROUPS_LAST_ERROR, KIND_GROUPS_KWS, LEVEL_TREE, ROW_TEXT, "last_error", .mode = 0400,
	  .time = TIME_MOUNTED, .show = show_group_last_error },
	{ KIND_GROUP, KIND_GROUPS, LEVEL_GROUP, ROW_DIR, .many = &each_group, .mode = 0700,
	  .time = TIME_GROUPS, .make = group_snapshot_make, .link = group_link,
	  .remove = group_remove, .rename = group_rename },
	{ KIND_GROUP_MEMBER, KIND_GROUP, LEVEL_GROUP_ITEM, ROW_LINK, .many = &each_group_member,
	  .mode = LINK, .time = TIME_GROUPS, .show = show_group_member,
	  .remove = group_member_remove, .stays = "rm takes the VM out of the group" },
	{ KIND_GROUP_SNAPSHOT, KIND_GROUP, LEVEL_GROUP_ITEM, ROW_DIR, .many = &each_group_snapshot,
	  .mode = 0500, .time = TIME_GROUP_SNAPSHOT, .remove = group_snapshot_remove,
	  .stays = "it is as its snapshots of the VMs are" },
	{ KIND_GROUP_PART, KIND_GROUP_SNAPSHOT, LEVEL_GROUP_PART, ROW_LINK, .many = &each_group_part,
	  .mode = LINK, .time = TIME_GROUP_SNAPSHOT, .show = show_group_part,
	  .stays = "it goes with the snapshot of the VM" },
	{ KIND_GROUP_KWS, KIND_GROUP, LEVEL_GROUP, ROW_DIR, ".kws", .mode = 0700,
	  .time = TIME_GROUPS },
	{ KIND_GROUP_LAST_ERROR, KIND_GROUP_KWS, LEVEL_GROUP, ROW_TEXT, "last_error", .mode = 0400,
	  .time = TIME_GROUPS, .show = show_group_last_error },

	{ KIND_POOLS, KIND_ROOT, LEVEL_TREE, ROW_DIR, "pool", .mode = 0755, .time = TIME_POOLS,
	  .link = pool_link },
	{ KIND_POOLS_KWS, KIND_POOLS, LEVEL_TREE, ROW_DIR, ".kws", .mode = 0700,
	  .time = TIME_MOUNTED },
	{ KIND_POOLS_LAST_ERROR, KIND_POOLS_KWS, LEVEL_TREE, ROW_TEXT, "last_error", .mode = 0400,
	  .time = TIME_MOUNTED, .show = show_pools_last_error },
	{ KIND_POOL, KIND_POOLS, LEVEL_POOL, ROW_LINK, .many = &each_pool, .mode = LINK,
	  .time = TIME_POOLS, .show = show_pool, .remove = pool_remove, .rename = pool_rename,
	  .replace = pool_replace },

	/* For who mounts alone: by what is written there one VM takes the place of another,
	 * whoever they were given to. */
	{ KIND_RECOVERY, KIND_ROOT, LEVEL_TREE, ROW_DIR, "recovery", .mode = 0700,
	  .time = TIME_LIST, .refresh = vms_refresh },
	{ KIND_RECOVERY_KWS, KIND_RECOVERY, LEVEL_TREE, ROW_DIR, ".kws", .mode = 0700,
	  .time = TIME_MOUNTED },
	{ KIND_RECOVERY_LAST_ERROR, KIND_RECOVERY_KWS, LEVEL_TREE, ROW_TEXT, "last_error",
	  .mode = 0400, .time = TIME_MOUNTED, .show = show_recovery_last_error },
	{ KIND_WEIGHTS, KIND_RECOVERY, LEVEL_TREE, ROW_TEXT, "weights", .mode = 0644,
	  .time = TIME_MOUNTED, .show = show_weights, .store = store_weights,
	  .lines_max = WEIGHTS_TEXT_MAX },
	{ KIND_THRESHOLD, KIND_RECOVERY, LEVEL_TREE, ROW_TEXT, "threshold", .mode = 0644,
	  .time = TIME_MOUNTED, .show = show_threshold, .store = store_threshold },
	{ KIND_MEASURE, KIND_RECOVERY, LEVEL_TREE, ROW_TEXT, "measure", .mode = 0644,
	  .time = TIME_MOUNTED, .show = show_measure, .store = store_measure },
	{ KIND_RECOVERY_POLICY, KIND_RECOVERY, LEVEL_TREE, ROW_TEXT, "policy", .mode = 0644,
	  .time = TIME_MOUNTED, .show = show_recovery_policy, .store = store_recovery_policy },
	{ KIND_RECOVERY_VM, KIND_RECOVERY, LEVEL_VM, ROW_DIR, .many = &each_recovery_vm,
	  .mode = FOLDER_TO_READ, .time = TIME_VM, .refresh = vm_refresh,
	  .stays = "a VM's directory comes and goes with the VM: virsh undefine, virsh domrename" },

	/* Costly: for each of a thousand VMs it is a thousand comparisons. */
	{ KIND_CANDIDATES, KIND_RECOVERY_VM, LEVEL_VM, ROW_TEXT, "candidates", .mode = READ_ONLY,
	  .time = TIME_VM, .show = show_candidates, .costly = true },

	{ KIND_FEATURES, KIND_RECOVERY_VM, LEVEL_VM, ROW_TEXT, "features", .mode = CONTROL,
	  .time = TIME_VM, .show = show_features, .store = store_features,
	  .lines_max = FEATURES_TEXT_MAX },
	{ KIND_FEATURES_ASK, KIND_RECOVERY_VM, LEVEL_VM, ROW_TEXT, "ask", .mode = CONTROL,
	  .time = TIME_VM, .show = show_ask_help, .store = store_ask, .action = true },

	{ KIND_RECOVER, KIND_RECOVERY_VM, LEVEL_VM, ROW_TEXT, "recover", .mode = CONTROL,
	  .time = TIME_VM, .show = show_recover_help, .store = store_recover, .action = true },
	{ KIND_RECOVERY_AUTO, KIND_RECOVERY_VM, LEVEL_VM, ROW_TEXT, "auto", .mode = CONTROL,
	  .time = TIME_VM, .show = show_recovery_auto, .store = store_recovery_auto },
	{ KIND_RECOVERY_REPORT, KIND_RECOVERY_VM, LEVEL_VM, ROW_TEXT, "report", .mode = READ_ONLY,
	  .time = TIME_VM, .show = show_recovery_report },

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
