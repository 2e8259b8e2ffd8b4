/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What changes something: mkdir, rmdir, rm, mv, chown and chmod. Which of them a
 * place of the tree knows is said by its row; the rest is refused here.
 */
#include "fs/core.h"

#include "common/cleanup.h"

#include <errno.h>
#include <linux/fs.h>

/* ---- mkdir ---- */

static void reply_made(struct pending *p)
{
	cleanup_node struct node dir = NODE_INIT, made = NODE_INIT;
	struct fuse_entry_param entry;
	struct err err = ERR_INIT;
	int r = node_open(p->fs, p->key, &dir, &err);

	if (r >= 0)
		r = node_child(p->fs, &dir, p->name, &made, &err);
	if (r >= 0)
		r = node_entry(p->fs, &made, &entry, &err);
	if (r < 0)
		fuse_reply_err(p->req, -r); /* it was taken away again meanwhile */
	else
		fuse_reply_entry(p->req, &entry);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	cleanup_node struct node dir = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;
	struct pending *p;

	if (node_open_ino(fs, parent, &dir, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	if (!dir.row->make) {
		err_set(&err, EPERM, "'%s' cannot be made here: a snapshot is made by mkdir in the "
			"directory of its VM", name);
		refuse_at(fs, req, &dir, &err);
		return;
	}
	p = pending_new(fs, req, &dir, reply_made);
	p->name = xstrdup(name);
	dir.row->make(fs, &dir, p->name, pending_done, p);
}

/* ---- ln -s ---- */

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	cleanup_node struct node dir = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;
	struct pending *p;

	if (node_open_ino(fs, parent, &dir, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	if (!dir.row->link) {
		forbid_making(req, parent, name);
		return;
	}
	p = pending_new(fs, req, &dir, reply_made);
	p->name = xstrdup(name);
	if (dir.row->link(fs, &dir, name, target, pending_done, p, &err) < 0) {
		pending_free(p);
		refuse_at(fs, req, &dir, &err);
	}
}

/* ---- rmdir, rm and mv ---- */

/* Finds what is to be removed or renamed. */
static int find_subject(struct fs *fs, fuse_ino_t parent, const char *name, struct node *ret,
			struct err *err)
{
	cleanup_node struct node dir = NODE_INIT;
	int r = node_open_ino(fs, parent, &dir, err);

	return r < 0 ? r : node_lookup(fs, &dir, name, ret, err);
}

static const char *why_it_stays(const struct row *row)
{
	return row->stays ? row->stays : "it is a part of the tree; only snapshots can be";
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;

	if (find_subject(fs, parent, name, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	if (!n.row->remove) {
		err_set(&err, EPERM, "'%s' cannot be removed: %s", name, why_it_stays(n.row));
		refuse_at(fs, req, &n, &err);
		return;
	}
	n.row->remove(fs, &n, pending_done, pending_new(fs, req, &n, pending_reply_ok));
}

/* So rm -r of a VM's directory cannot delete the half of a snapshot. */
static const char *why_file_stays(const struct row *row)
{
	return row->stays ? row->stays : "nothing but rmdir of a snapshot deletes";
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;

	if (find_subject(fs, parent, name, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	if (!n.row->remove) {
		err_set(&err, EPERM, "'%s' cannot be removed: %s", name, why_file_stays(n.row));
		refuse_at(fs, req, &n, &err);
		return;
	}
	n.row->remove(fs, &n, pending_done, pending_new(fs, req, &n, pending_reply_ok));
}

/*
 * Across directories it is EPERM and not EXDEV, though the cause is the same:
 * at EXDEV mv begins to copy, and the mkdir it does first would take a snapshot
 * of the other VM.
 */
static int check_rename(const struct node *n, fuse_ino_t parent, fuse_ino_t new_parent,
			const char *name, unsigned flags, struct err *err)
{
	if (!n->row->rename)
		return err_set(err, EPERM, "'%s' cannot be renamed: %s", name,
			       why_it_stays(n->row));
	if (parent != new_parent)
		return err_set(err, EPERM, "'%s' cannot be moved out of the directory that it is in",
			       name);
	if (flags & ~RENAME_NOREPLACE)
		return err_set(err, EINVAL, "two cannot be exchanged in one step");
	return 0;
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags)
{
	cleanup_node struct node n = NODE_INIT;
	void (*rename)(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		       void *opaque);
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;

	if (find_subject(fs, parent, name, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	if (check_rename(&n, parent, new_parent, name, flags, &err) < 0) {
		refuse_at(fs, req, &n, &err);
		return;
	}
	rename = n.row->replace && !(flags & RENAME_NOREPLACE) ? n.row->replace : n.row->rename;
	rename(fs, &n, new_name, pending_done, pending_new(fs, req, &n, pending_reply_ok));
}

/* ---- chown, chmod, truncate, touch ---- */

static void reply_attr(struct fs *fs, fuse_req_t req, struct key key)
{
	cleanup_node struct node n = NODE_INIT;
	struct err err = ERR_INIT;
	struct stat st;
	int r = node_open(fs, key, &n, &err);

	if (r >= 0)
		r = node_attr(fs, &n, &st, &err);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, node_attr_timeout(&n));
}

static void reply_owned(struct pending *p)
{
	reply_attr(p->fs, p->req, p->key);
}

#define SET_OWNER (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MODE)
#define SET_TIMES                                                                      \
	(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |          \
	 FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME)

/* Setting what is set already is no change: cp -p and rsync -a do so. */
static bool same_owner(struct fs *fs, const struct node *n, const struct stat *to, int to_set)
{
	struct stat st;

	if (node_attr(fs, n, &st, NULL) < 0)
		return false;
	return (!(to_set & FUSE_SET_ATTR_UID) || to->st_uid == st.st_uid) &&
	       (!(to_set & FUSE_SET_ATTR_GID) || to->st_gid == st.st_gid) &&
	       (!(to_set & FUSE_SET_ATTR_MODE) || (to->st_mode & 07777) == (st.st_mode & 07777));
}

/* A control file takes truncation and any time without a change: what opens it
 * with O_TRUNC, and touch, do no harm. Everything else stays as it is. */
static int check_setattr(struct fs *fs, const struct node *n, const struct stat *attr, int to_set,
			 struct err *err)
{
	bool control = n->row->store || n->row->ask;
	const char *what = n->row->name ? n->row->name : "this";

	if ((to_set & FUSE_SET_ATTR_SIZE) && !control)
		return err_set(err, EROFS, "%s cannot be written: a snapshot does not change",
			       what);
	if ((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size != 0)
		return err_set(err, EINVAL, "%s is a control file: it has no size to be set", what);
	if ((to_set & SET_TIMES) && !control)
		return err_set(err, EPERM, "the times of what is in the tree cannot be set");
	if ((to_set & SET_OWNER) && !n->row->owned && !same_owner(fs, n, attr, to_set))
		return err_set(err, EPERM, "owner and mode are those of the VM's directory: set "
			       "them there");
	return 0;
}

static void set_owner(struct fs *fs, fuse_req_t req, const struct node *n,
		      const struct stat *attr, int to_set)
{
	engine_set_owner(fs->e, n->vm->id,
			 to_set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
			 to_set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1,
			 to_set & FUSE_SET_ATTR_MODE ? attr->st_mode & 0777 : (mode_t)-1,
			 pending_done, pending_new(fs, req, n, reply_owned));
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;

	if (node_open_ino(fs, ino, &n, &err) < 0)
		fuse_reply_err(req, err.code);
	else if (check_setattr(fs, &n, attr, to_set, &err) < 0)
		refuse_at(fs, req, &n, &err);
	else if (n.row->owned && (to_set & SET_OWNER))
		set_owner(fs, req, &n, attr, to_set);
	else
		reply_attr(fs, req, n.key);
}
