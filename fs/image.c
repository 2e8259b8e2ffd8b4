/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open disks. The bytes of most never change, and an inode number means one of
 * them for ever: so what the kernel has cached is kept from one open to the next.
 */
#include "fs/core.h"

#include "common/cleanup.h"

#include <errno.h>
#include <fcntl.h>

#define PAGE 4096
#define PIECES 128 /* that a read is put together of, at most */

struct image_file {
	struct file file;
	struct disk_file *disk;
	uint32_t vm_id;
	char *name; /* for messages */
	atomic_bool complained;
};

static void image_file_free(struct fs *fs, struct handle *h)
{
	struct image_file *f = (struct image_file *)h;

	engine_disk_close(fs->e, f->disk);
	free(f->name);
	free(f);
}

/* Damage is found by each read of it again: it is told of once an open. */
static void fail(fuse_req_t req, struct image_file *f, struct err *err)
{
	if (!atomic_exchange(&f->complained, true)) {
		err_wrap(err, "cannot read %s", f->name);
		engine_set_last_error(FS(req)->e, f->vm_id, err->msg);
		engine_event(FS(req)->e, &(struct engine_event){ "read-failed", f->vm_id,
				.code = err->code, .weight = EVENT_TROUBLE }, "%s", err->msg);
	}
	fuse_reply_err(req, err->code);
}

/* ---- reading ---- */

static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static pthread_key_t buffer_key;

static void make_buffer_key(void)
{
	pthread_key_create(&buffer_key, free);
}

/* Kept from one read to the next: getting that much memory from the kernel each
 * time would cost more than filling it. On a page, for copies are half as fast
 * where one side is not aligned. NULL if there is no memory. */
static char *buffer_of_thread(size_t size)
{
	static _Thread_local size_t room;
	void *buffer;

	pthread_once(&buffer_once, make_buffer_key);
	buffer = pthread_getspecific(buffer_key);
	if (buffer && room >= size)
		return buffer;
	free(buffer);
	if (posix_memalign(&buffer, PAGE, size) != 0)
		buffer = NULL;
	room = buffer ? size : 0;
	pthread_setspecific(buffer_key, buffer);
	return buffer;
}

static void image_file_read(fuse_req_t req, struct file *file, size_t size, off_t off)
{
	struct image_file *f = (struct image_file *)file;
	struct iovec pieces[PIECES];
	struct gather g = { .buf = buffer_of_thread(size), .iov = pieces, .max = PIECES };
	struct err err = ERR_INIT;

	if (!g.buf)
		fuse_reply_err(req, ENOMEM);
	else if (disk_file_gather(f->disk, &g, size, off, &err) < 0)
		fail(req, f, &err);
	else
		/* If a layer was cut off just now the kernel fails to copy it, and the
		 * reader gets EIO. */
		fuse_reply_iov(req, pieces, g.n);
}

/* ---- SEEK_DATA and SEEK_HOLE ---- */

/* The first place from `off` on that is data, or is not; the image's size if
 * there is none. What a layer says to be zero is a hole for readers. */
static int seek(struct disk_file *disk, uint64_t off, bool data, uint64_t *ret, struct err *err)
{
	uint64_t size = disk_file_size(disk);
	struct extent extents[64];
	size_t n;

	while (off < size) {
		int r = disk_file_extents(disk, off, size - off, extents,
				      sizeof(extents) / sizeof(extents[0]), &n, err);

		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++) {
			if ((extents[i].kind == EXTENT_DATA) == data) {
				*ret = off;
				return 0;
			}
			off = extents[i].start + extents[i].length;
		}
		if (n == 0)
			return err_set(err, EIO, "the map of the image ends before the image");
	}
	*ret = size;
	return 0;
}

static void image_file_seek(fuse_req_t req, struct file *file, off_t off, int whence)
{
	struct image_file *f = (struct image_file *)file;
	struct err err = ERR_INIT;
	uint64_t found = 0;

	if ((uint64_t)off >= disk_file_size(f->disk))
		fuse_reply_err(req, ENXIO);
	else if (seek(f->disk, off, whence == SEEK_DATA, &found, &err) < 0)
		fail(req, f, &err);
	else if (whence == SEEK_DATA && found == disk_file_size(f->disk))
		fuse_reply_err(req, ENXIO);
	else
		fuse_reply_lseek(req, found);
}

int image_file_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi,
		    struct file **ret, struct err *err)
{
	struct disk_id id = node_disk_id(n);
	struct disk_file *disk;
	struct image_file *f;
	int r;

	if ((fi->flags & O_ACCMODE) != O_RDONLY)
		return err_set(err, EROFS, "%s%s of '%s' cannot be written: a snapshot does not "
			       "change", n->disk->target, n->row->suffix, n->snapshot->name);
	r = engine_disk_open(fs->e, &id, &disk, err);
	if (r < 0)
		return r;
	f = xnew(struct image_file);
	f->disk = disk;
	f->vm_id = n->vm->id;
	f->name = xasprintf("%s/%s/%s%s", n->vm->name, n->snapshot->name, n->disk->target,
			    n->row->suffix);
	f->file = (struct file){ .read = image_file_read, .seek = image_file_seek };
	handle_add(fs, &f->file.handle, image_file_free);
	fi->keep_cache = n->row->lasting;
	fi->direct_io = !n->row->lasting;
	*ret = &f->file;
	return 0;
}
