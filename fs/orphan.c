/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files in lost+found, as they are: to be copied before they are deleted. */
#include "fs/core.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>

struct orphan_file {
	struct file file;
	int fd;
};

static void orphan_file_free(struct fs *fs, struct handle *h)
{
	struct orphan_file *f = (struct orphan_file *)h;

	close(f->fd);
	free(f);
}

static void orphan_file_read(fuse_req_t req, struct file *file, size_t size, off_t off)
{
	struct orphan_file *f = (struct orphan_file *)file;
	struct fuse_bufvec data = FUSE_BUFVEC_INIT(size);

	data.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	data.buf[0].fd = f->fd;
	data.buf[0].pos = off;
	fuse_reply_data(req, &data, 0);
}

static void orphan_file_seek(fuse_req_t req, struct file *file, off_t off, int whence)
{
	off_t found = lseek(((struct orphan_file *)file)->fd, off, whence);

	if (found < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, found);
}

int orphan_file_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi,
		     struct file **ret, struct err *err)
{
	struct orphan_file *f;
	int fd, r;

	if ((fi->flags & O_ACCMODE) != O_RDONLY)
		return err_set(err, EROFS, "%s can only be read, or deleted", n->orphan->name);
	r = engine_orphan_open(n->orphan, &fd, err);
	if (r < 0)
		return r;
	f = xnew(struct orphan_file);
	f->fd = fd;
	f->file = (struct file){ .read = orphan_file_read, .seek = orphan_file_seek };
	handle_add(fs, &f->file.handle, orphan_file_free);
	*ret = &f->file;
	return 0;
}
