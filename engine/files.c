/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/files.h"
#include "engine/own-mount.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * QEMU's locks are byte ranges of the image (block/file-posix.c there): a
 * process that does not share a permission with others holds a read lock on
 * byte SHARED_BASE + its bit, one that uses a permission holds PERM_BASE + its
 * bit. Who wants to write looks whether anybody holds SHARED_BASE + WRITE.
 */
#define QEMU_LOCK_PERM_BASE 100
#define QEMU_LOCK_SHARED_BASE 200
#define QEMU_PERM_WRITE_BIT 1
#define QEMU_PERM_RESIZE_BIT 3

void layer_file_clear(struct layer_file *f)
{
	free(f->path);
	free(f->format);
	memset(f, 0, sizeof(*f));
}

void layer_file_copy(struct layer_file *to, const struct layer_file *from)
{
	*to = *from;
	to->path = xstrdup(from->path);
	to->format = xstrdup(from->format);
}

static void identify(const struct stat *st, uint64_t *ret_dev, uint64_t *ret_ino)
{
	/* One device may have several nodes; its number is what it is. */
	*ret_dev = S_ISBLK(st->st_mode) ? st->st_rdev : st->st_dev;
	*ret_ino = S_ISBLK(st->st_mode) ? 0 : st->st_ino;
}

int layer_file_stat(const char *path, const char *format, struct layer_file *ret, struct err *err)
{
	struct stat st;

	if (own_mount_has(path))
		return err_set(err, EOPNOTSUPP, "%s lies in this mount, and is not written", path);
	if (stat(path, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", path);
	*ret = (struct layer_file){ .path = xstrdup(path), .format = xstrdup(format) };
	identify(&st, &ret->dev, &ret->ino);
	return 0;
}

static char this_boot[64];

static void read_boot_id(void)
{
	cleanup_fclose FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (f && fgets(this_boot, sizeof(this_boot), f))
		this_boot[strcspn(this_boot, "\n")] = '\0';
}

const char *boot_id(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_boot_id);
	return this_boot;
}

void layer_file_find_again(struct layer_file *f)
{
	struct stat st;
	uint64_t dev, ino;

	if (f->dev != 0 || !f->path || own_mount_has(f->path) || stat(f->path, &st) < 0)
		return;
	identify(&st, &dev, &ino);
	if (ino == f->ino)
		f->dev = dev;
}

bool layer_file_is_at(const struct layer_file *f, const char *path)
{
	struct layer_file found;
	bool same;

	if (!path || layer_file_stat(path, "", &found, NULL) < 0)
		return false;
	same = layer_file_same(&found, f);
	layer_file_clear(&found);
	return same;
}

int file_create_private(const char *path, const char *like, struct err *err)
{
	struct stat st;
	cleanup_close int fd = -1;

	if (stat(like, &st) < 0)
		return err_sys(err, errno, "cannot look at %s", like);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(err, errno, "cannot create %s", path);
	if (fchown(fd, st.st_uid, st.st_gid) < 0 && errno != EPERM) {
		int code = errno;

		unlink(path);
		return err_sys(err, code, "cannot give %s the owner of %s", path, like);
	}
	return 0;
}

int file_remove(const struct layer_file *f, struct err *err)
{
	struct stat st;
	uint64_t dev, ino;

	if (lstat(f->path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		return err_sys(err, errno, "cannot look at %s", f->path);
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, EPERM, "%s is not a plain file and is left alone", f->path);
	identify(&st, &dev, &ino);
	if (dev != f->dev || ino != f->ino)
		return err_set(err, ESTALE, "%s is another file by now and is left alone", f->path);
	if (unlink(f->path) < 0)
		return err_sys(err, errno, "cannot delete %s", f->path);
	return file_sync_folder(f->path, err);
}

static int sync_path(const char *path, int flags, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | flags);

	if (fd < 0)
		return err_sys(err, errno, "cannot open %s", path);
	if (fsync(fd) < 0)
		return err_sys(err, errno, "cannot write %s to disk", path);
	return 0;
}

int file_sync(const char *path, struct err *err)
{
	return sync_path(path, 0, err);
}

int file_sync_folder(const char *path, struct err *err)
{
	cleanup_free char *copy = xstrdup(path);

	return sync_path(dirname(copy), O_DIRECTORY, err);
}

int folder_make(const char *path, mode_t mode, struct err *err)
{
	cleanup_free char *copy = xstrdup(path);

	for (char *p = copy + 1; ; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(copy, mode) < 0 && errno != EEXIST)
			return err_sys(err, errno, "cannot create the directory %s", copy);
		if (c == '\0')
			return 0;
		*p = c;
	}
}

static int lock_byte(int fd, short type, off_t at)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &fl) < 0 ? -errno : 0;
}

static bool byte_is_locked(int fd, off_t at)
{
	struct flock fl = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };

	return fcntl(fd, F_OFD_GETLK, &fl) < 0 || fl.l_type != F_UNLCK;
}

int file_check_unused(const char *path, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct flock any = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = QEMU_LOCK_PERM_BASE,
			     .l_len = QEMU_LOCK_SHARED_BASE - QEMU_LOCK_PERM_BASE };

	if (fd < 0 || fcntl(fd, F_OFD_GETLK, &any) < 0)
		return err_sys(err, errno, "cannot look at the locks of %s", path);
	if (any.l_type != F_UNLCK)
		return err_set(err, EBUSY, "%s is open in a QEMU process, or in qemu-img", path);
	return 0;
}

int file_lock_against_writers(const char *path, struct err *err)
{
	static const int bits[] = { QEMU_PERM_WRITE_BIT, QEMU_PERM_RESIZE_BIT };
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open %s", path);
	/* First say that we do not share, then look whether somebody writes: in
	 * the other order two processes could both see nobody. */
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		int r = lock_byte(fd, F_RDLCK, QEMU_LOCK_SHARED_BASE + bits[i]);

		if (r < 0)
			return err_sys(err, -r, "cannot lock %s", path);
	}
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (byte_is_locked(fd, QEMU_LOCK_PERM_BASE + bits[i]))
			return err_set(err, EBUSY, "%s is in use by a running VM or by qemu-img", path);
	return steal_fd(&fd);
}

int file_has_writer(const char *path, bool *ret, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "cannot open %s", path);
	*ret = byte_is_locked(fd, QEMU_LOCK_PERM_BASE + QEMU_PERM_WRITE_BIT);
	return 0;
}

int file_need_no_writer(const char *path, struct err *err)
{
	bool written = false;
	int r = file_has_writer(path, &written, err);

	if (r < 0 || !written)
		return r;
	return err_set(err, EBUSY, "libvirt says that the VM is shut off, and yet a program has %s open "
		       "to write to it: end that first (fuser %s names it)", path, path);
}
