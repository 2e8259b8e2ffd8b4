/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/fuzz/files.h"

#include "tests/fuzz/must.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define AT_MAX (UINT64_C(1) << 37)  /* of a file, bytes: no address space is used up */
#define BYTES_MAX (UINT64_C(3) << 20) /* that are written for one input */

static int fds[FILES + 1] = { -1, -1, -1, -1, -1 };

/* ---- segments ---- */

static uint64_t little(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

bool segment_next(const uint8_t *input, size_t size, size_t *at, struct segment *ret)
{
	const uint8_t *head = input + *at;
	size_t left = size - *at, wanted;

	if (left < SEGMENT_HEAD)
		return false;
	ret->kind = (head[0] >> 4) % SEGMENT_KINDS;
	ret->file = (head[0] & 15) % FILES;
	ret->at = little(head + 1, 5) % AT_MAX;
	ret->length = little(head + 6, 2);
	ret->head = *at;
	ret->payload = *at + SEGMENT_HEAD;
	wanted = ret->kind == SEGMENT_BYTES ? ret->length : ret->kind == SEGMENT_FILL;
	left -= SEGMENT_HEAD;
	ret->end = ret->payload + (wanted < left ? wanted : left);
	*at = ret->end;
	return true;
}

void segment_put_head(uint8_t *head, const struct segment *segment)
{
	head[0] = segment->kind << 4 | segment->file;
	for (size_t i = 0; i < 5; i++)
		head[1 + i] = segment->at >> i * 8;
	head[6] = segment->length;
	head[7] = segment->length >> 8;
}

/* ---- files ---- */

static uint64_t fill(const struct segment *s, uint8_t byte, uint64_t most)
{
	static uint8_t buf[64 * 1024];
	uint64_t length = (uint64_t)s->length * SECTOR, done = 0;

	memset(buf, byte, sizeof(buf));
	if (length > most)
		length = most;
	while (done < length) {
		size_t n = length - done < sizeof(buf) ? length - done : sizeof(buf);

		must(pwrite(fds[s->file], buf, n, s->at + done) == (ssize_t)n,
		     "there is room for the files");
		done += n;
	}
	return done;
}

/* Tells how many bytes it wrote. */
static uint64_t make_segment(const struct segment *s, const uint8_t *input, uint64_t most)
{
	size_t length = s->end - s->payload;

	switch (s->kind) {
	case SEGMENT_BYTES:
		must(pwrite(fds[s->file], input + s->payload, length, s->at) == (ssize_t)length,
		     "there is room for the files");
		return length;
	case SEGMENT_FILL:
		return length ? fill(s, input[s->payload], most) : 0;
	case SEGMENT_END:
		must(ftruncate(fds[s->file], s->at) == 0, "a file can be cut off");
		break;
	case SEGMENT_KINDS:
		break;
	}
	return 0;
}

void file_make(unsigned file)
{
	if (fds[file] >= 0)
		close(fds[file]);
	fds[file] = memfd_create("fuzz", MFD_CLOEXEC);
	must(fds[file] >= 0, "a file in memory can be made");
}

void files_make(const uint8_t *input, size_t size)
{
	uint64_t written = 0;
	struct segment s;

	for (unsigned i = 0; i < FILES; i++)
		file_make(i);
	for (size_t at = 0; segment_next(input, size, &at, &s) && written < BYTES_MAX;)
		written += make_segment(&s, input, BYTES_MAX - written);
}

void files_close(void)
{
	for (unsigned i = 0; i <= FILES; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

int file_fd(unsigned file)
{
	return fds[file];
}

/* ---- what the reader finds ---- */

/* -1 if there is no such file. All folders are one: of a name only the part behind
 * the last slash counts. */
static int find_fd(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	unsigned number = name[0] - '0';

	if (number > FILES || name[1] || fds[number] < 0) {
		errno = ENOENT;
		return -1;
	}
	return fds[number];
}

/* The linker puts these in the place of open() and stat(), see meson.build. */
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	int fd = find_fd(path);

	must((flags & O_ACCMODE) == O_RDONLY && (flags & O_CLOEXEC), "a layer is opened to be read");
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

int __wrap_stat64(const char *path, struct stat *ret);
int __wrap_stat64(const char *path, struct stat *ret)
{
	int fd = find_fd(path);

	return fd < 0 ? -1 : fstat(fd, ret);
}
