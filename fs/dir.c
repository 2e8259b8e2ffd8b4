/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading directories. The list of names is made when the reading begins and
 * kept in the open directory, so an offset is an index into it and means the
 * same entry however many come and go meanwhile; rewinddir makes it anew.
 */
#include "fs/core.h"

#include "common/cleanup.h"

#include <errno.h>

struct entry {
	char *name;
	struct key key;
};

struct dir {
	struct handle handle;
	pthread_mutex_t lock; /* one descriptor may be read by two threads */
	vec_of(struct entry) entries;
};

static void entries_clear(struct dir *d)
{
	for (size_t i = 0; i < d->entries.n; i++)
		free(d->entries.at[i].name);
	vec_free(&d->entries);
}

static void dir_free(struct fs *fs, struct handle *h)
{
	struct dir *d = (struct dir *)h;

	entries_clear(d);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static void add_entry(void *dir, const char *name, struct key key)
{
	struct dir *d = dir;

	if (!key_to_ino(key))
		return;
	struct entry *e = vec_add(&d->entries);

	e->name = xstrdup(name);
	e->key = key;
}

/* -ESTALE if the directory is gone. */
static int list(struct fs *fs, struct dir *d, fuse_ino_t ino)
{
	cleanup_node struct node n = NODE_INIT;
	int r = node_open_ino(fs, ino, &n, NULL);

	if (r < 0)
		return r;
	entries_clear(d);
	add_entry(d, ".", n.key);
	add_entry(d, "..", node_parent(&n));
	node_each(fs, &n, add_entry, d);
	return 0;
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	cleanup_node struct node n = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;
	struct dir *d;

	if (node_open_ino(fs, ino, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	if (n.row->refresh)
		n.row->refresh(fs, &n, 0);
	d = xnew(struct dir);
	pthread_mutex_init(&d->lock, NULL);
	handle_add(fs, &d->handle, dir_free);
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi) == -ENOENT)
		handle_close(fs, &d->handle); /* the caller was interrupted */
}

/* ---- one entry into the reply: 0 if there is no room for it ---- */

typedef size_t put_fn(fuse_req_t req, char *buf, size_t room, const struct entry *e, off_t next);

static size_t put_name(fuse_req_t req, char *buf, size_t room, const struct entry *e, off_t next)
{
	struct stat st = {
		.st_ino = key_to_ino(e->key),
		.st_mode = row_type_bits(row_of(e->key.kind)),
	};
	size_t n = fuse_add_direntry(req, buf, room, e->name, &st, next);

	return n > room ? 0 : n;
}

/* One that has no attributes, or no longer, goes without: the kernel will ask. What
 * changes at any time is kept just long enough for an `ls -l`, which lists and then asks for
 * the attributes of each. */
static size_t put_plus(fuse_req_t req, char *buf, size_t room, const struct entry *e, off_t next)
{
	cleanup_node struct node n = NODE_INIT;
	struct fuse_entry_param entry = { .ino = 0 };
	struct fs *fs = FS(req);
	size_t used;

	if (node_open(fs, e->key, &n, NULL) < 0 || node_entry(fs, &n, &entry, NULL) < 0) {
		entry.attr.st_ino = key_to_ino(e->key);
		entry.attr.st_mode = row_type_bits(row_of(e->key.kind));
	} else if (entry.attr_timeout < CACHE_LISTED) {
		entry.attr_timeout = CACHE_LISTED;
	}
	used = fuse_add_direntry_plus(req, buf, room, e->name, &entry, next);
	return used > room ? 0 : used;
}

static int fill(fuse_req_t req, fuse_ino_t ino, struct dir *d, put_fn *put, off_t off, char *buf,
		size_t room, size_t *ret_used)
{
	size_t used = 0, n;
	LOCK_SCOPE(&d->lock);

	if (off == 0) {
		int r = list(FS(req), d, ino);

		if (r < 0)
			return r;
	}
	for (size_t i = off; i < d->entries.n; i++, used += n) {
		n = put(req, buf + used, room - used, &d->entries.at[i], i + 1);
		if (n == 0)
			break;
	}
	*ret_used = used;
	return 0;
}

/* Answers without the lock: after that, another worker may close the directory. */
static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct dir *d,
		     put_fn *put)
{
	cleanup_free char *buf = xcalloc(1, size);
	size_t used;
	int r = fill(req, ino, d, put, off, buf, size, &used);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, buf, used);
}

static struct dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct dir *)(uintptr_t)fi->fh;
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_dir(req, ino, size, off, dir_of(fi), put_name);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	read_dir(req, ino, size, off, dir_of(fi), put_plus);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	handle_close(FS(req), &dir_of(fi)->handle);
	fuse_reply_err(req, 0);
}
