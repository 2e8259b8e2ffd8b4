/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the image reader makes of a chain, for tests that compare it with QEMU:
 *
 *   image-dump FILE FORMAT          the content of the image
 *   image-dump --errors FILE FORMAT the same; where it cannot be read, question marks
 *   image-dump --shuffled FILE FORMAT the same, into a file, in pieces in no order
 *   image-dump --qcow2 FILE FORMAT  it as one stand-alone qcow2
 *   image-dump --map FILE FORMAT    its extents, one a line: start length kind
 */
#include "engine/chain.h"
#include "engine/standalone.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

static int dump(struct image *image, struct err *err)
{
	static char buf[192 * 1024]; /* no power of two, so that reads cross clusters */
	uint64_t at = 0;

	while (at < image_size(image)) {
		ssize_t n = image_read(image, buf, sizeof(buf), at, err);

		if (n < 0)
			return n;
		fwrite(buf, 1, n, stdout);
		at += n;
	}
	return 0;
}

/* In pieces of 64 KiB, each for itself. */
static int dump_with_errors(struct image *image, struct err *err)
{
	static char buf[64 * 1024];

	for (uint64_t at = 0; at < image_size(image); at += sizeof(buf)) {
		ssize_t n = image_read(image, buf, sizeof(buf), at, err);

		if (n < 0) {
			fprintf(stderr, "%s\n", err->msg);
			n = sizeof(buf);
			memset(buf, '?', n);
		}
		fwrite(buf, 1, n, stdout);
	}
	return 0;
}

/* Each piece once: an odd step goes through all of a power of two of them. */
static int dump_shuffled(struct image *image, struct err *err)
{
	enum { PIECES = 1 << 12, STEP = 1597 };
	static char buf[1 << 20];
	uint64_t length = image_size(image) / PIECES + 1;

	for (uint64_t i = 0; i < PIECES; i++) {
		uint64_t start = i * STEP % PIECES * length;
		uint64_t end = start + length;

		for (uint64_t at = start; at < end && at < image_size(image);) {
			size_t part = end - at < sizeof(buf) ? end - at : sizeof(buf);
			ssize_t n = image_read(image, buf, part, at, err);

			if (n < 0)
				return n;
			if (pwrite(STDOUT_FILENO, buf, n, at) != n)
				return err_sys(err, errno, "cannot write");
			at += n;
		}
	}
	return 0;
}

static int dump_qcow2(struct image *image, struct err *err)
{
	static char buf[192 * 1024];
	struct data_run *runs = NULL;
	struct standalone *s;
	size_t n = 0;
	ssize_t got = standalone_scan(image, ALL_LAYERS, &runs, &n, err);

	if (got < 0)
		return got;
	s = standalone_new(image, runs, n,
			   standalone_choose_clusters(runs, n, image_size(image)), "");
	free(runs);
	for (uint64_t at = 0; at < standalone_size(s); at += got) {
		got = standalone_gather(s, &(struct gather){ .buf = buf }, sizeof(buf), at, err);
		if (got < 0)
			break;
		fwrite(buf, 1, got, stdout);
	}
	standalone_free(s);
	return got < 0 ? got : 0;
}

static int map(struct image *image, struct err *err)
{
	static const char *const kinds[] = { "hole", "zero", "data" };
	struct extent extents[5];
	uint64_t at = 0;
	size_t n;

	while (at < image_size(image)) {
		int r = image_extents(image, at, image_size(image) - at, extents, 5, &n, err);

		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++) {
			printf("%" PRIu64 " %" PRIu64 " %s\n", extents[i].start, extents[i].length,
			       kinds[extents[i].kind]);
			at += extents[i].length;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	int (*what)(struct image *, struct err *) =
		argc == 3			      ? dump :
		argc == 4 && streq(argv[1], "--map")    ? map :
		argc == 4 && streq(argv[1], "--qcow2")  ? dump_qcow2 :
		argc == 4 && streq(argv[1], "--errors") ? dump_with_errors :
		argc == 4 && streq(argv[1], "--shuffled") ? dump_shuffled : NULL;
	struct image *image = NULL;
	struct err err = ERR_INIT;
	int r;

	if (!what) {
		fputs("usage: image-dump [--map|--qcow2|--errors|--shuffled] FILE FORMAT\n", stderr);
		return 2;
	}
	r = image_open(argv[argc - 2], argv[argc - 1], &image, &err);
	if (r >= 0)
		r = what(image, &err);
	image_close(image);
	if (r < 0)
		fprintf(stderr, "%s\n", err.msg);
	return r < 0;
}
