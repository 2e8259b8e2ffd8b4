/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open texts: control files, and those that can only be read.
 *
 * What is read is rendered when the file is opened and kept with it, so that a
 * reader of several pieces sees one moment. What is written is a command, whole
 * in one write(2), whose result is the command's. All of it is direct_io: no
 * page cache between, sizes do not bound a read, and an interrupt gets through.
 *
 * Some have several lines (row.lines_max). Those may come in several writes, as bash's printf
 * does it, or be appended: each write sets all that there is by then.
 *
 * A line that says what the file reads anyway succeeds and asks nobody. So
 * copying a control file onto itself changes nothing, also while libvirt is
 * gone. What an action file reads is a comment, for the same reason.
 */
#include "fs/core.h"

#include "common/cleanup.h"
#include "fs/control.h"

#include <errno.h>
#include <fcntl.h>

struct text {
	struct file file;
	char *content; /* NULL if opened for writing only */
	size_t length;
	char *written; /* of row.lines_max: what was written by now, NULL if nothing was */
	size_t n_written;
};

static void text_free(struct fs *fs, struct handle *h)
{
	struct text *t = (struct text *)h;

	free(t->content);
	free(t->written);
	free(t);
}

/* The answer is a copy: as soon as the kernel has it the file may be closed by
 * another worker, while this one is still on its way out of libfuse. */
static void text_read(fuse_req_t req, struct file *f, size_t size, off_t off)
{
	struct text *t = (struct text *)f;
	size_t left = (uint64_t)off < t->length ? t->length - off : 0;
	size_t n = size < left ? size : left;
	cleanup_free char *copy = xcalloc(1, n + 1);

	if (n > 0)
		memcpy(copy, t->content + off, n);
	fuse_reply_buf(req, copy, n);
}

/* No holes: data up to the end. */
static void text_seek(fuse_req_t req, struct file *f, off_t off, int whence)
{
	struct text *t = (struct text *)f;

	if ((uint64_t)off >= t->length)
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? off : (off_t)t->length);
}

/* ---- writing ---- */

static void reply_written(struct pending *p)
{
	fuse_reply_write(p->req, p->size);
}

static size_t without_newline(const char *text, size_t length)
{
	return length > 0 && text[length - 1] == '\n' ? length - 1 : length;
}

/* Perhaps several lines, of which none is a command. */
static bool reads_the_same(struct fs *fs, const struct node *n, const char *buf, size_t size)
{
	cleanup_free char *now = NULL;
	size_t length;

	if (node_text(fs, n, &now, &length, NULL) < 0)
		return false;
	length = without_newline(now, length);
	return without_newline(buf, size) == length && memcmp(now, buf, length) == 0;
}

static int store(fuse_req_t req, const struct node *n, const char *line, size_t size,
		 struct err *err)
{
	struct pending *p = pending_new(FS(req), req, n, reply_written);
	int r;

	p->size = size;
	r = n->row->store(FS(req), n, line, pending_done, p, err);
	if (r < 0)
		pending_free(p);
	return r;
}

/* Does what was written. 0: the request is answered, or will be. */
static int command(fuse_req_t req, const struct node *n, const char *buf, size_t size, off_t off,
		   int flags, struct err *err)
{
	cleanup_free char *line = NULL;
	int r;

	if (off != 0 && !(flags & O_APPEND))
		return err_set(err, EINVAL, "a command is one write from the start of %s",
			       n->row->name);
	if (reads_the_same(FS(req), n, buf, size)) {
		fuse_reply_write(req, size);
		return 0;
	}
	r = control_line(buf, size, &line, err);
	if (r < 0)
		return r;
	if (n->row->action && line[0] == '#') {
		fuse_reply_write(req, size);
		return 0;
	}
	return store(req, n, line, size, err);
}

/* What a write goes on from: what is there, for who appends, else what this file was given. */
static int text_before(struct fs *fs, const struct node *n, struct text *t, off_t off, int flags,
		       struct err *err)
{
	if (flags & O_APPEND) {
		free(steal_pointer(&t->written));
		return node_text(fs, n, &t->written, &t->n_written, err);
	}
	if (off == 0)
		t->n_written = 0;
	if ((size_t)off == t->n_written)
		return 0;
	return err_set(err, EINVAL, "%s is written from its start, without gaps", n->row->name);
}

static int write_lines(fuse_req_t req, const struct node *n, struct text *t, const char *buf,
		       size_t size, off_t off, int flags, struct err *err)
{
	cleanup_free char *text = NULL;
	int r = text_before(FS(req), n, t, off, flags, err);

	if (r < 0)
		return r;
	if (t->n_written + size > n->row->lines_max)
		return err_set(err, EFBIG, "%s can hold %zu bytes at most", n->row->name,
			       n->row->lines_max);
	t->written = xreallocarray(t->written, t->n_written + size + 1, 1);
	memcpy(t->written + t->n_written, buf, size);
	r = control_text(t->written, t->n_written + size, &text, err);
	if (r < 0)
		return r;
	t->n_written += size;
	return store(req, n, text, size, err);
}

static void text_write(fuse_req_t req, struct file *f, fuse_ino_t ino, const char *buf, size_t size,
		       off_t off, int flags)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;
	int r;

	if (node_open_ino(fs, ino, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	r = n.row->lines_max ? write_lines(req, &n, (struct text *)f, buf, size, off, flags, &err)
			 : command(req, &n, buf, size, off, flags, &err);
	if (r < 0)
		refuse(fs, req, n.vm, &err);
}

int text_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi, struct file **ret,
	      struct err *err)
{
	int access = fi->flags & O_ACCMODE;
	cleanup_free char *content = NULL;
	size_t length = 0;
	struct text *t;
	int r = 0;

	if (access != O_RDONLY && !n->row->store)
		return err_set(err, EROFS, "%s can only be read", n->row->name);
	if (access != O_WRONLY)
		r = node_text(fs, n, &content, &length, err);
	if (r < 0)
		return r;
	t = xnew(struct text);
	t->content = steal_pointer(&content);
	t->length = length;
	t->file = (struct file){ .read = text_read, .write = text_write, .seek = text_seek };
	handle_add(fs, &t->file.handle, text_free);
	fi->direct_io = 1;
	*ret = &t->file;
	return 0;
}
