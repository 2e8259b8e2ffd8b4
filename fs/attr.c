/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attributes, as a backup program trusts them.
 *
 * A text has the size of what it reads at this moment, unlike those of procfs
 * and cgroupfs: tar and rsync would copy empty files otherwise. Texts are read
 * with direct_io, so one that has grown since is still read to its end. No time
 * is ever "now", for tar would say of each file that it changed as it was read.
 */
#include "fs/core.h"

#include "common/cleanup.h"
#include "fs/dashboard.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm_list, vm_list_unref);
DEFINE_CLEANUP(struct orphan_list, orphan_list_unref);
DEFINE_CLEANUP(struct clone_list, clone_list_unref);
DEFINE_CLEANUP(struct group_list, group_list_unref);
DEFINE_CLEANUP(struct pool_list, pool_list_unref);

int node_text(struct fs *fs, const struct node *n, char **ret, size_t *ret_length, struct err *err)
{
	cleanup_free char *text = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&text, &length);
	int r;

	if (!out)
		return err_sys(err, errno, "cannot render '%s'", n->row->name);
	r = n->row->show(fs, n, out, err);
	if (fclose(out) != 0 && r >= 0)
		r = err_sys(err, errno, "cannot render '%s'", n->row->name);
	if (r < 0)
		return r;
	*ret = steal_pointer(&text);
	*ret_length = length;
	return 0;
}

/* When the newest of its clones was made, or, if there is none, the snapshot: the same after a
 * restart. */
static struct timespec clones_time(struct fs *fs, const struct snapshot *snapshot)
{
	cleanup(clone_list_unref_p) struct clone_list *list = engine_clones(fs->e);
	struct clone *const *clones;
	size_t n;

	clones = clone_list_of(list, snapshot->id, &n);
	return n ? clones[n - 1]->created : snapshot->created;
}

static struct timespec time_of(struct fs *fs, const struct node *n)
{
	struct timespec t = fs->mounted;

	switch (n->row->time) {
	case TIME_MOUNTED:
		break;
	case TIME_LIST: {
		cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);

		t = list->changed;
		break;
	}
	case TIME_VM:
		t = n->vm->changed;
		break;
	case TIME_SNAPSHOT:
		t = n->snapshot->created;
		break;
	case TIME_ORPHANS: {
		cleanup(orphan_list_unref_p) struct orphan_list *list = engine_orphans(fs->e);

		t = list->changed;
		break;
	}
	case TIME_PAGE:
		t = dashboard_made(fs);
		break;
	case TIME_GROUPS: {
		cleanup(group_list_unref_p) struct group_list *list = engine_groups(fs->e);

		t = list->changed;
		break;
	}
	case TIME_POOLS: {
		cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(fs->e);

		t = list->changed;
		break;
	}
	case TIME_CLONES:
		t = clones_time(fs, n->snapshot);
		break;
	case TIME_CLONE:
		t = n->clone->created;
		break;
	case TIME_GROUP_SNAPSHOT:
		t = n->group_snapshot->created;
		break;
	}
	return t;
}

/* Two, and one for the `..` of each directory in it. */
static nlink_t links(struct fs *fs, const struct node *dir)
{
	nlink_t n = 2;

	for (const struct row *row = row_next(dir->row->kind, NULL); row;
	     row = row_next(dir->row->kind, row))
		if (row->type == ROW_DIR)
			n += row->many ? row->many->count(fs, dir) : 1;
	return n;
}

#define BLOCK 512 /* the unit of st_blocks */

static int set_size(struct fs *fs, const struct node *n, struct stat *st, struct err *err)
{
	cleanup_free char *text = NULL;
	struct disk_stat disk;
	size_t length;
	int r;

	if (n->row->type == ROW_DIR) {
		st->st_nlink = links(fs, n);
		return 0;
	}
	if (n->row->type == ROW_ORPHAN) {
		st->st_size = n->orphan->size;
		st->st_blocks = (n->orphan->allocated + BLOCK - 1) / BLOCK;
		st->st_mtim = st->st_atim = st->st_ctim = n->orphan->changed;
		return 0;
	}
	if (n->row->type == ROW_IMAGE) {
		struct disk_id id = node_disk_id(n);

		r = engine_disk_stat(fs->e, &id, &disk, err);
		if (r < 0)
			return r;
		st->st_size = disk.size;
		st->st_blocks = (disk.allocated + BLOCK - 1) / BLOCK;
		st->st_mtim = st->st_atim = st->st_ctim = disk.changed;
		st->st_blksize = 256 * 1024;
		return 0;
	}
	if (n->row->type == ROW_EVENTS) {
		st->st_size = events_total(fs->events);
		return 0;
	}
	if (n->row->costly)
		return 0;
	if (n->row->length)
		length = n->row->length(n);
	else if ((r = node_text(fs, n, &text, &length, err)) < 0)
		return r;
	st->st_size = length;
	st->st_blocks = (length + BLOCK - 1) / BLOCK;
	return 0;
}

mode_t row_type_bits(const struct row *row)
{
	return row->type == ROW_DIR ? S_IFDIR : row->type == ROW_LINK ? S_IFLNK : S_IFREG;
}

int node_attr(struct fs *fs, const struct node *n, struct stat *ret, struct err *err)
{
	struct stat st = { .st_nlink = 1, .st_blksize = 4096 };
	mode_t mode = n->row->mode;
	int r;

	/* Links have no permissions, and Linux shows all of them. */
	if (n->vm && n->row->type != ROW_LINK)
		mode &= n->vm->mode;
	st.st_ino = key_to_ino(n->key);
	if (!st.st_ino)
		return err_set(err, EOVERFLOW, "its id is too large for an inode number");
	st.st_mode = row_type_bits(n->row) | mode;
	st.st_uid = n->vm ? n->vm->uid : fs->uid;
	st.st_gid = n->vm ? n->vm->gid : fs->gid;
	st.st_mtim = time_of(fs, n);
	st.st_atim = st.st_ctim = st.st_mtim;
	r = set_size(fs, n, &st, err);
	if (r < 0)
		return r;
	*ret = st;
	return 0;
}

double node_attr_timeout(const struct node *n)
{
	if (n->row->lasting)
		return CACHE_LASTING;
	return n->row->type == ROW_DIR ? CACHE_SHORT : CACHE_NONE;
}

/* A name of the table is there as long as its directory. If one of the others
 * has come to mean something else, ESTALE makes the kernel ask again. */
static double entry_timeout(const struct node *n)
{
	bool comes_and_goes = n->row->many || n->row->exists;

	return n->row->lasting || !comes_and_goes ? CACHE_LASTING : CACHE_SHORT;
}

int node_entry(struct fs *fs, const struct node *n, struct fuse_entry_param *ret, struct err *err)
{
	struct fuse_entry_param entry = { .generation = 1 }; /* ids are never used again */
	int r = node_attr(fs, n, &entry.attr, err);

	if (r < 0)
		return r;
	entry.ino = entry.attr.st_ino;
	entry.attr_timeout = node_attr_timeout(n);
	entry.entry_timeout = entry_timeout(n);
	*ret = entry;
	return 0;
}
