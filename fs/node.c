/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From inode numbers and names to what they stand for. */
#include "fs/core.h"

#include "common/cleanup.h"
#include "fs/clones.h"
#include "fs/groups.h"
#include "fs/pool.h"

#include <errno.h>

static bool job_runs(struct fs *fs, uint32_t vm, uint32_t job)
{
	struct job_status status;

	engine_job_status(fs->e, vm, &status);
	return status.running && status.id == job;
}

static bool resolve_orphan(struct fs *fs, struct node *n)
{
	n->orphans = engine_orphans(fs->e);
	for (size_t i = 0; i < n->orphans->n && !n->orphan; i++)
		if (n->orphans->orphans[i].id == key_orphan(n->key))
			n->orphan = &n->orphans->orphans[i];
	return n->orphan;
}

/* False if it is gone, or if no such key was ever given away: NFS clients send
 * back what they like. */
static bool resolve(struct fs *fs, struct node *n)
{
	n->row = row_of(n->key.kind);
	if (!n->row)
		return false;
	if (n->row->type == ROW_ORPHAN && !resolve_orphan(fs, n))
		return false;
	if (n->row->level == LEVEL_POOL)
		return pool_resolve(fs, n);
	if (n->row->level >= LEVEL_GROUP && n->row->level <= LEVEL_GROUP_PART)
		return group_resolve(fs, n);
	if (n->row->level >= LEVEL_VM && !(n->vm = engine_vm(fs->e, n->key.vm)))
		return false;
	if (n->row->level == LEVEL_JOB && !job_runs(fs, n->key.vm, n->key.snapshot))
		return false;
	if (n->row->level == LEVEL_CLONE && !clone_resolve(fs, n))
		return false;
	if (n->row->level >= LEVEL_SNAPSHOT &&
	    !(n->snapshot = vm_snapshot(n->vm, n->key.snapshot)))
		return false;
	if (n->row->level >= LEVEL_DISK) {
		if (index_disk(n->key.index) >= n->snapshot->n_disks)
			return false;
		n->disk = &n->snapshot->disks[index_disk(n->key.index)];
	}
	return !n->row->exists || n->row->exists(n);
}

/* The kernel looks the path up anew after ESTALE: what is there under the same
 * name today is found then. */
int node_open(struct fs *fs, struct key key, struct node *ret, struct err *err)
{
	cleanup_node struct node n = { .key = key };

	if (!resolve(fs, &n))
		return err_set(err, ESTALE, "this is not there any more");
	*ret = n;
	n.vm = NULL;
	n.orphans = NULL;
	n.groups = NULL;
	n.pools = NULL;
	n.clones = NULL;
	n.clone_vm = NULL;
	return 0;
}

int node_open_ino(struct fs *fs, fuse_ino_t ino, struct node *ret, struct err *err)
{
	return node_open(fs, ino_to_key(ino), ret, err);
}

void node_close(struct node *n)
{
	vm_unref(n->vm);
	n->vm = NULL;
	orphan_list_unref(n->orphans);
	n->orphans = NULL;
	group_list_unref(n->groups);
	n->groups = NULL;
	pool_list_unref(n->pools);
	n->pools = NULL;
	clone_list_unref(n->clones);
	n->clones = NULL;
	vm_unref(n->clone_vm);
	n->clone_vm = NULL;
}

/* `key`, as far as `row` is about it: the key of a row above, or of a row with a
 * name below. */
static struct key key_for(struct key key, const struct row *row)
{
	key.kind = row->kind;
	if (row->level < LEVEL_DISK && row->level != LEVEL_GROUP_PART)
		key.index = 0;
	if (row->level == LEVEL_VM || row->level <= LEVEL_GROUP)
		key.snapshot = 0;
	if (row->level == LEVEL_TREE)
		key.vm = 0;
	return key;
}

static bool find(struct fs *fs, const struct node *dir, const char *name, struct key *ret)
{
	for (const struct row *row = row_next(dir->row->kind, NULL); row;
	     row = row_next(dir->row->kind, row)) {
		if (row->many) {
			if (row->many->find(fs, dir, row, name, ret))
				return true;
		} else if (streq(row->name, name)) {
			*ret = key_for(dir->key, row);
			return true;
		}
	}
	return false;
}

int node_child(struct fs *fs, const struct node *dir, const char *name, struct node *ret,
	       struct err *err)
{
	struct key key;

	if (!find(fs, dir, name, &key) || node_open(fs, key, ret, NULL) < 0)
		return err_set(err, ENOENT, "there is no '%s'", name);
	return 0;
}

/* As node_child, in the directory as it is after asking for news. */
static int child_now(struct fs *fs, const struct node *dir, const char *name, unsigned max_age_ms,
		     struct node *ret, struct err *err)
{
	cleanup_node struct node now = NODE_INIT;
	int r;

	dir->row->refresh(fs, dir, max_age_ms);
	r = node_open(fs, dir->key, &now, err);
	return r < 0 ? r : node_child(fs, &now, name, ret, err);
}

static bool is_known(struct fs *fs, const struct node *dir, const char *name)
{
	cleanup_node struct node n = NODE_INIT;

	return node_child(fs, dir, name, &n, NULL) >= 0;
}

/* How old what is known of a VM's snapshots may be when a name is looked up and
 * found. For one that is not found it is always asked. */
#define LOOKUP_AGE_MS 1000

int node_lookup(struct fs *fs, const struct node *dir, const char *name, struct node *ret,
		struct err *err)
{
	if (streq(name, ".")) /* of a file too: its handle is opened */
		return node_open(fs, dir->key, ret, err);
	if (dir->row->type != ROW_DIR)
		return err_set(err, ENOTDIR, "this is not a directory");
	if (streq(name, ".."))
		return node_open(fs, node_parent(dir), ret, err);
	if (!dir->row->refresh)
		return node_child(fs, dir, name, ret, err);
	return child_now(fs, dir, name, is_known(fs, dir, name) ? LOOKUP_AGE_MS : 0, ret, err);
}

int fs_find_disk(void *opaque, const char *path, struct disk_id *ret)
{
	struct node n = NODE_INIT;
	cleanup_free char *copy = xstrdup(path);
	char *rest = NULL, *name = strtok_r(copy, "/", &rest);
	struct fs *fs = opaque;
	int r = fs->e ? node_open(fs, (struct key){ .kind = KIND_ROOT }, &n, NULL) : -ENOENT;

	for (; r >= 0 && name; name = strtok_r(NULL, "/", &rest)) {
		struct node child = NODE_INIT;

		r = node_child(fs, &n, name, &child, NULL);
		node_close(&n);
		n = child;
	}
	if (r >= 0 && n.row->type != ROW_IMAGE)
		r = -ENOENT;
	if (r >= 0)
		*ret = node_disk_id(&n);
	node_close(&n);
	return r;
}

/* The part of an absolute path that is inside of the mount; NULL if it is not. */
static const char *inside(const struct fs *fs, const char *path)
{
	size_t n = strlen(fs->mountpoint);

	return strncmp(path, fs->mountpoint, n) == 0 && path[n] == '/' ? path + n : NULL;
}

int node_find_target(struct fs *fs, const struct node *dir, const char *target, struct node *ret)
{
	const char *path = target[0] == '/' ? inside(fs, target) : target;
	cleanup_free char *copy = xstrdup(path ?: "");
	struct node at = NODE_INIT;
	char *rest = NULL, *name = strtok_r(copy, "/", &rest);
	struct key from = target[0] == '/' ? (struct key){ .kind = KIND_ROOT } : dir->key;
	int r = path ? node_open(fs, from, &at, NULL) : -ENOENT;

	for (; r >= 0 && name; name = strtok_r(NULL, "/", &rest)) {
		struct node next = NODE_INIT;

		r = node_lookup(fs, &at, name, &next, NULL);
		node_close(&at);
		at = next;
	}
	if (r < 0)
		return -ENOENT;
	*ret = at;
	return 0;
}

struct key node_parent(const struct node *n)
{
	struct key key = key_for(n->key, row_of(n->row->in));

	if (n->row->kind == KIND_CLONE)
		key.snapshot = n->snapshot->id;
	return key;
}

void node_each(struct fs *fs, const struct node *dir, each_fn *fn, void *opaque)
{
	for (const struct row *row = row_next(dir->row->kind, NULL); row;
	     row = row_next(dir->row->kind, row)) {
		struct node n = *dir;

		n.row = row;
		n.key = key_for(dir->key, row);
		if (row->many)
			row->many->each(fs, dir, row, fn, opaque);
		else if (!row->exists || row->exists(&n))
			fn(opaque, row->name, n.key);
	}
}
