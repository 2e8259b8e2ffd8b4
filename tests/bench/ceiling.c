/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What libfuse can do at best here: serves one flat file, FILE, as MOUNTPOINT/raw,
 * with nothing to think about. tests/bench/read measures kwsfs against it in the same
 * run, and compares the ways in which the bytes can get to the kernel:
 *
 *   ceiling FILE MOUNTPOINT [mmap|fault|pread|splice [MAX_READ]]
 *
 * out of a mapping that is there already, out of one that is faulted in as it is read,
 * with a copy into a buffer, from page cache to pipe to /dev/fuse.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define RAW_INO 2

enum delivery { MAPPED, FAULTED, COPIED, SPLICED };

static const char *const deliveries[] = { "mmap", "fault", "pread", "splice" };
static enum delivery delivery;
static unsigned max_read;
static char *mapping;
static size_t size;
static int fd;

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
	if (delivery == SPLICED)
		conn->want |= FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE;
	conn->max_read = max_read;
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

static void reply_copied(fuse_req_t req, size_t length, off_t off)
{
	static _Thread_local char *buf;

	if (!buf && posix_memalign((void **)&buf, 4096, 1 << 20) != 0)
		fuse_reply_err(req, ENOMEM);
	else
		fuse_reply_buf(req, buf, pread(fd, buf, length, off));
}

static void reply_spliced(fuse_req_t req, size_t length, off_t off)
{
	struct fuse_bufvec data = FUSE_BUFVEC_INIT(length);

	data.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	data.buf[0].fd = fd;
	data.buf[0].pos = off;
	fuse_reply_data(req, &data, FUSE_BUF_SPLICE_MOVE);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t length, off_t off,
		    struct fuse_file_info *fi)
{
	if ((size_t)off >= size)
		length = 0;
	else if (length > size - off)
		length = size - off;
	if (delivery == COPIED)
		reply_copied(req, length, off);
	else if (delivery == SPLICED)
		reply_spliced(req, length, off);
	else
		fuse_reply_buf(req, mapping + off, length);
}

static const struct fuse_lowlevel_ops ops = {
	.init = on_init, .lookup = on_lookup, .getattr = on_getattr, .open = on_open, .read = on_read,
};

static bool read_arguments(int argc, char **argv)
{
	struct stat st;

	if (argc < 3 || argc > 5)
		return false;
	max_read = argc > 4 ? atoi(argv[4]) : 1 << 20;
	while (argc > 3 && strcmp(argv[3], deliveries[delivery]) != 0)
		if (++delivery > SPLICED)
			return false;
	fd = open(argv[1], O_RDONLY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	size = st.st_size;
	return true;
}

int main(int argc, char **argv)
{
	char option[32], *words[] = { argv[0], "-o", option, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, words);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	struct fuse_session *session;

	if (!read_arguments(argc, argv)) {
		fputs("usage: ceiling FILE MOUNTPOINT [mmap|fault|pread|splice [MAX_READ]]\n", stderr);
		return 2;
	}
	snprintf(option, sizeof(option), "max_read=%u", max_read);
	session = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	mapping = mmap(NULL, size, PROT_READ,
		       MAP_SHARED | (delivery == MAPPED ? MAP_POPULATE : 0), fd, 0);
	if (!session || mapping == MAP_FAILED || fuse_set_signal_handlers(session) < 0 ||
	    fuse_session_mount(session, argv[2]) < 0)
		return 1;
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, 64);
	fuse_session_loop_mt(session, config);
	fuse_session_unmount(session);
	return 0;
}
