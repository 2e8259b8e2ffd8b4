/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libfuse can do at best here: serves one flat file, FILE, as MOUNTPOINT/raw,
 * out of a mapping, with nothing to think about. tests/bench/read measures kwsfs
 * against it in the same run.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RAW_INO 2

static char *mapping;
static size_t size;

static void fill(fuse_ino_t ino, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_ino = ino;
	st->st_mode = ino == RAW_INO ? S_IFREG | 0444 : S_IFDIR | 0755;
	st->st_nlink = 1;
	st->st_size = ino == RAW_INO ? size : 0;
}

static void on_init(void *data, struct fuse_conn_info *conn)
{
	conn->want &= ~(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
			FUSE_CAP_SPLICE_MOVE);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .ino = RAW_INO, .attr_timeout = 3600, .entry_timeout = 3600 };

	if (strcmp(name, "raw") != 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill(RAW_INO, &e.attr);
	fuse_reply_entry(req, &e);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	fill(ino, &st);
	fuse_reply_attr(req, &st, 3600);
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t length, off_t off,
		    struct fuse_file_info *fi)
{
	if ((size_t)off >= size)
		length = 0;
	else if (length > size - off)
		length = size - off;
	fuse_reply_buf(req, mapping + off, length);
}

static const struct fuse_lowlevel_ops ops = {
	.init = on_init, .lookup = on_lookup, .getattr = on_getattr, .open = on_open, .read = on_read,
};

int main(int argc, char **argv)
{
	char *words[] = { argv[0], NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, words);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct fuse_session *session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	struct stat st;
	int fd;

	if (argc != 3 || !session || (fd = open(argv[1], O_RDONLY)) < 0 || fstat(fd, &st) < 0) {
		fputs("usage: ceiling FILE MOUNTPOINT\n", stderr);
		return 2;
	}
	size = st.st_size;
	mapping = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (mapping == MAP_FAILED || fuse_set_signal_handlers(session) < 0 ||
	    fuse_session_mount(session, argv[2]) < 0)
		return 1;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, 64);
	fuse_session_loop_mt(session, config);
	fuse_session_unmount(session);
	return 0;
}
