/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/overlay-template.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"
#include "engine/qemu-img.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define NAME_LONGEST 1023 /* of a backing file; docs/interop/qcow2.txt of QEMU */
#define PAGE 4096
#define MOST_BYTES (1u << 20) /* of a file that is kept: with preallocation they are larger */
#define MOST_KEPT 32

/* A page that is not all zeroes. */
struct page {
	off_t at;
	size_t length;
	uint8_t bytes[PAGE];
};

struct overlay_template {
	struct overlay_template *next;
	int users;
	char *format;  /* of the file below */
	uint64_t size; /* of the disk, bytes */
	off_t length;  /* of the file */
	uint64_t name_at;
	vec_of(struct page) pages; /* without the name */
};

/* Where the header of a qcow2 says what it lies on: two big-endian numbers. */
#define BACKING_OFFSET_AT 8
#define BACKING_SIZE_AT 16

static void template_free(struct overlay_template *t)
{
	free(t->format);
	vec_free(&t->pages);
	free(t);
}

void overlay_templates_init(struct overlay_templates *t, const char *folder, const char *options)
{
	pthread_mutex_init(&t->lock, NULL);
	t->folder = xstrdup(folder);
	t->options = xstrdup(options);
}

void overlay_templates_clear(struct overlay_templates *t)
{
	while (t->list) {
		struct overlay_template *first = t->list;

		t->list = first->next;
		template_free(first);
	}
	free(t->folder);
	free(t->options);
	pthread_mutex_destroy(&t->lock);
}

/* ---- making one ---- */

static void fill_name(char name[NAME_LONGEST + 1])
{
	memset(name, 'x', NAME_LONGEST);
	name[0] = '/';
	name[NAME_LONGEST] = '\0';
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
	return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/* Takes the name out of the pages, if it is where the header says. */
static bool take_name_out(struct overlay_template *t)
{
	char name[NAME_LONGEST + 1];
	struct page *header = t->pages.n && t->pages.at[0].at == 0 ? &t->pages.at[0] : NULL;
	uint64_t at;
	uint32_t size;

	if (!header || header->length < BACKING_SIZE_AT + sizeof(size))
		return false;
	fill_name(name);
	memcpy(&at, header->bytes + BACKING_OFFSET_AT, sizeof(at));
	memcpy(&size, header->bytes + BACKING_SIZE_AT, sizeof(size));
	at = be64toh(at);
	if (be32toh(size) != NAME_LONGEST || at > header->length ||
	    header->length - at < NAME_LONGEST || memcmp(header->bytes + at, name, NAME_LONGEST) != 0)
		return false;
	memset(header->bytes + at, 0, NAME_LONGEST);
	t->name_at = at;
	return true;
}

static bool read_pages(struct overlay_template *t, const char *path)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > MOST_BYTES)
		return false;
	t->length = st.st_size;
	for (off_t at = 0; at < st.st_size; at += PAGE) {
		struct page page = { .at = at };
		ssize_t n = pread(fd, page.bytes, PAGE, at);

		if (n <= 0)
			return false;
		page.length = n;
		if (!is_zero(page.bytes, n))
			vec_push(&t->pages, page);
	}
	return true;
}

/* NULL if overlays with these options cannot be made this way: those with clusters so small that
 * a long name does not fit, and those that are large from the beginning. */
static struct overlay_template *template_make(const struct overlay_templates *all, unsigned number,
					      const char *format, uint64_t size)
{
	cleanup_free char *path = xasprintf("%s/overlay-template-%u.qcow2", all->folder, number);
	struct overlay_template *t = xnew(struct overlay_template);
	char name[NAME_LONGEST + 1];
	bool good;

	fill_name(name);
	t->format = xstrdup(format);
	t->size = size;
	good = qemu_img_overlay(path, name, format, size, all->options, NULL) >= 0 &&
	       read_pages(t, path) && take_name_out(t);
	unlink(path);
	if (good)
		return t;
	template_free(t);
	return NULL;
}

/* ---- keeping them ---- */

/* With a use of it, that is given back; NULL if there is none. The lock is held. */
static struct overlay_template *take(struct overlay_templates *all, const char *format,
				     uint64_t size)
{
	for (struct overlay_template **place = &all->list, *t; (t = *place); place = &t->next) {
		if (t->size != size || !streq(t->format, format))
			continue;
		*place = t->next;
		t->next = all->list;
		all->list = t;
		t->users++;
		return t;
	}
	return NULL;
}

/* Frees the one that was used least lately, if there are too many. The lock is held. */
static void drop_old(struct overlay_templates *all)
{
	struct overlay_template **place = &all->list;

	for (int n = 0; *place && n < MOST_KEPT; n++)
		place = &(*place)->next;
	if (*place && (*place)->users == 0) {
		struct overlay_template *old = *place;

		*place = old->next;
		template_free(old);
	}
}

static struct overlay_template *get(struct overlay_templates *all, const char *format, uint64_t size)
{
	struct overlay_template *t, *made;
	unsigned number;

	pthread_mutex_lock(&all->lock);
	t = take(all, format, size);
	number = all->made++;
	pthread_mutex_unlock(&all->lock);
	if (t)
		return t;
	made = template_make(all, number, format, size);
	if (!made)
		return NULL;
	LOCK_SCOPE(&all->lock);

	made->users = 1;
	made->next = all->list;
	all->list = made;
	drop_old(all);
	return made;
}

static void give_back(struct overlay_templates *all, struct overlay_template *t)
{
	LOCK_SCOPE(&all->lock);

	t->users--;
}

/* ---- writing one ---- */

static int write_at(int fd, const void *bytes, size_t n, off_t at, const char *path, struct err *err)
{
	ssize_t written = pwrite(fd, bytes, n, at);

	if (written == (ssize_t)n)
		return 0;
	return err_sys(err, written < 0 ? errno : ENOSPC, "cannot write %s", path);
}

static int write_copy(const struct overlay_template *t, const char *path, const char *backing,
		      struct err *err)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	uint32_t size = htobe32(strlen(backing));
	int r = 0;

	if (fd < 0 || ftruncate(fd, t->length) < 0)
		return err_sys(err, errno, "cannot write %s", path);
	for (size_t i = 0; i < t->pages.n && r >= 0; i++)
		r = write_at(fd, t->pages.at[i].bytes, t->pages.at[i].length, t->pages.at[i].at, path,
			     err);
	if (r >= 0)
		r = write_at(fd, backing, strlen(backing), t->name_at, path, err);
	return r < 0 ? r : write_at(fd, &size, sizeof(size), BACKING_SIZE_AT, path, err);
}

int overlay_write(struct overlay_templates *all, const char *path, const char *backing,
		  const char *backing_format, uint64_t size, struct err *err)
{
	struct overlay_template *t = strlen(backing) <= NAME_LONGEST ?
					     get(all, backing_format, size) : NULL;
	int r;

	if (!t) /* qemu-img says why, if it cannot either */
		return qemu_img_overlay(path, backing, backing_format, size, all->options, err);
	r = write_copy(t, path, backing, err);
	give_back(all, t);
	return r;
}
