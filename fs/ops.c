/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The operations of the file system: looking here, everything else in the files
 * that core.h names.
 */
#include "fs/core.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/statvfs.h>

static void want(struct fuse_conn_info *conn, unsigned flags)
{
	conn->want |= conn->capable & flags;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;

	conn->max_read = MAX_READ; /* as the mount option says */
	/* NFS: computed inode numbers are file handles that outlive the daemon. */
	want(conn, FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ |
			   FUSE_CAP_ASYNC_DIO | FUSE_CAP_READDIRPLUS |
			   FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ATOMIC_O_TRUNC);
	/* What is in the page cache never changes. */
	conn->want &= ~FUSE_CAP_AUTO_INVAL_DATA;
	/* Slower than a plain reply for what is read here. */
	conn->want &= ~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	if (fs->ready)
		fs->ready(fs->opaque);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	cleanup_node struct node dir = NODE_INIT, n = NODE_INIT;
	struct fs *fs = FS(req);
	struct fuse_entry_param entry;
	struct err err = ERR_INIT;

	if (node_open_ino(fs, parent, &dir, &err) < 0 ||
	    node_lookup(fs, &dir, name, &n, &err) < 0)
		fuse_reply_err(req, err.code);
	else if (node_entry(fs, &n, &entry, &err) < 0)
		refuse(fs, req, n.vm, &err);
	else
		fuse_reply_entry(req, &entry);
}

/* Inode numbers are computed: nothing is remembered that could be forgotten. */
static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;
	struct stat st;

	if (node_open_ino(fs, ino, &n, &err) < 0)
		fuse_reply_err(req, err.code);
	else if (node_attr(fs, &n, &st, &err) < 0)
		refuse(fs, req, n.vm, &err);
	else
		fuse_reply_attr(req, &st, node_attr_timeout(&n));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	cleanup_node struct node n = NODE_INIT;
	cleanup_free char *target = NULL;
	struct err err = ERR_INIT;
	size_t length;

	if (node_open_ino(FS(req), ino, &n, &err) < 0)
		fuse_reply_err(req, err.code);
	else if (n.row->type != ROW_LINK)
		fuse_reply_err(req, EINVAL);
	else if (node_text(FS(req), &n, &target, &length, &err) < 0)
		fuse_reply_err(req, err.code);
	else
		fuse_reply_readlink(req, target);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = { 0 };
	int r = engine_statvfs(FS(req)->e, &st);

	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	st.f_namemax = SNAPSHOT_NAME_MAX;
	fuse_reply_statfs(req, &st);
}

/* ---- files ---- */

static struct file *file_of(const struct fuse_file_info *fi)
{
	return (struct file *)(uintptr_t)fi->fh;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;
	struct file *f = NULL;
	int r;

	/* Texts may show what was known, if libvirt is gone; of images the engine makes sure. */
	engine_vm_verify(fs->e, ino_to_key(ino).vm, NULL);
	if (node_open_ino(fs, ino, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	if (n.row->type == ROW_IMAGE)
		r = image_file_open(fs, &n, fi, &f, &err);
	else if (n.row->type == ROW_EVENTS)
		r = events_open(fs, &n, fi, &f, &err);
	else if (n.row->type == ROW_ORPHAN)
		r = orphan_file_open(fs, &n, fi, &f, &err);
	else if (n.row->ask)
		r = question_open(fs, &n, fi, &f, &err);
	else if (n.row->type == ROW_TEXT)
		r = text_open(fs, &n, fi, &f, &err);
	else
		r = err_set(&err, EINVAL, "this is not a file");
	if (r < 0) {
		refuse(fs, req, n.vm, &err);
		return;
	}
	fi->fh = (uintptr_t)f;
	if (fuse_reply_open(req, fi) == -ENOENT)
		handle_close(fs, &f->handle); /* the caller was interrupted */
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	file_of(fi)->read(req, file_of(fi), size, off);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);

	if (f->write)
		f->write(req, f, ino, buf, size, off, fi->flags);
	else
		fuse_reply_err(req, EBADF);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	if (off < 0)
		fuse_reply_err(req, ENXIO);
	else if (whence != SEEK_DATA && whence != SEEK_HOLE)
		fuse_reply_err(req, EINVAL);
	else
		file_of(fi)->seek(req, file_of(fi), off, whence);
}

/* No answer at all would make the kernel believe that nothing here can be polled. */
static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		    struct fuse_pollhandle *ph)
{
	struct file *f = file_of(fi);

	if (f->poll) {
		f->poll(req, f, ph);
		return;
	}
	if (ph)
		fuse_pollhandle_destroy(ph);
	fuse_reply_poll(req, POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	handle_close(FS(req), &file_of(fi)->handle);
	fuse_reply_err(req, 0);
}

const struct fuse_lowlevel_ops fs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,

	.mkdir = op_mkdir,
	.rmdir = op_rmdir,
	.rename = op_rename,

	.unlink = op_unlink,
	.mknod = op_mknod,
	.create = op_create,
	.symlink = op_symlink,
	.link = op_link,

	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,

	.open = op_open,
	.read = op_read,
	.write = op_write,
	.lseek = op_lseek,
	.poll = op_poll,
	.release = op_release,
};
