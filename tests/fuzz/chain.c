/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fuzzes all that is made of a chain: the image, one qcow2 of it, its partitions. */
#include "engine/backing.h"
#include "engine/chain.h"
#include "engine/partitions.h"
#include "engine/qcow2.h"
#include "engine/standalone.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/walk.h"

#include "common/cleanup.h"
#include "common/mem.h"

#include <errno.h>
#include <unistd.h>

#define PART 65536u
#define BITS_MIN 12 /* of a stand-alone qcow2's clusters */
#define BITS_MAX 16
#define COPY_MAX (24 * PART) /* of a stand-alone qcow2 that is opened again */

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

DEFINE_CLEANUP(struct image, image_close);
DEFINE_CLEANUP(struct standalone, standalone_free);

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static struct image *open_checked(const char *path)
{
	struct image *const untouched = (struct image *)(intptr_t)-1, *image = untouched;
	struct err err = ERR_INIT;
	int r = image_open(path, "qcow2", &image, &err);

	if (r == 0) {
		must(image != untouched, "what was opened is returned");
		return image;
	}
	must_be_error(r, &err);
	must(image == untouched, "what is returned is untouched on failure");
	return NULL;
}

/* ---- one qcow2 of it ---- */

static void check_runs(const struct data_run *runs, size_t n, uint64_t size)
{
	uint64_t at = 0;

	for (size_t i = 0; i < n; i++) {
		must(runs[i].length > 0 && runs[i].start >= at, "runs are in order");
		at = runs[i].start + runs[i].length;
	}
	must(at <= size, "runs end with the disk");
}

/* As a file, that is. False if some of it cannot be read. */
static bool copy(struct standalone *s)
{
	file_make(FILE_EXTRA);
	for (uint64_t at = 0; at < standalone_size(s); at += PART) {
		uint8_t buf[PART];
		struct err err = ERR_INIT;
		ssize_t n = standalone_gather(s, &(struct gather){ .buf = (char *)buf }, PART, at,
					      &err);

		if (n < 0)
			return false;
		must(pwrite(file_fd(FILE_EXTRA), buf, n, at) == n, "there is room for a copy");
	}
	return true;
}

static void compare(struct image *a, struct image *b, uint64_t at, uint64_t length)
{
	cleanup_free uint8_t *x = malloc(length), *y = malloc(length);
	struct err err = ERR_INIT;
	ssize_t n = image_read(a, x, length, at, &err), m;

	if (n < 0)
		return; /* a layer under those that were copied is damaged */
	m = image_read(b, y, length, at, &err);
	must(n == m && memcmp(x, y, n) == 0, "a stand-alone qcow2 is as the image");
}

static void open_again(struct image *image, const struct data_run *runs, size_t n_runs)
{
	cleanup(image_close_p) struct image *again = open_checked("/4");
	uint64_t size = image_size(image);

	must(again && image_size(again) == size, "a stand-alone qcow2 can be opened");
	check_map(again);
	compare(image, again, 0, min(size, 4 * PART));
	compare(image, again, size - min(size, 2 * PART), 2 * PART);
	for (size_t i = 0; i < n_runs && i < 40; i++) {
		uint64_t before = min(runs[i].start, PART), end = runs[i].start + runs[i].length;

		compare(image, again, runs[i].start - before, 3 * PART);
		compare(image, again, end - min(end, PART), 2 * PART);
	}
}

static void check_file(struct image *image, const struct data_run *runs, size_t n,
		       unsigned cluster_bits, const char *backing)
{
	cleanup(standalone_free_p) struct standalone *s =
		standalone_new(image, runs, n, cluster_bits, backing);
	uint64_t size = standalone_size(s);

	must(size > 0 && size % (1u << cluster_bits) == 0, "it is whole clusters");
	check_read(read_standalone, s, size, 0, PART + 700);
	check_read(read_standalone, s, size, size - min(size, 900), PART);
	check_read(read_standalone, s, size, size / 2, 3000);
	if (size <= COPY_MAX && copy(s))
		open_again(image, runs, n);
}

/* What the upper `layers` hold, lying on `backing`. */
static void check_standalone(struct image *image, size_t layers, const char *backing)
{
	struct data_run *runs = NULL;
	struct err err = ERR_INIT;
	size_t n = 0;
	unsigned bits;

	must(standalone_scan(image, layers, &runs, &n, &err) == 0, "a good map can be walked over");
	check_runs(runs, n, image_size(image));
	bits = standalone_choose_clusters(runs, n, image_size(image));
	must(bits >= BITS_MIN && bits <= BITS_MAX, "the clusters are of a size that QEMU likes");
	check_file(image, runs, n, bits, backing);
	check_file(image, runs, n, bits == BITS_MAX ? BITS_MIN : BITS_MAX, backing);
	free(runs);
}

/* Whether the image lies on file 1, as a qcow2. */
static bool lies_on_qcow2(const struct image *image)
{
	struct qcow2_header *h = NULL;
	struct err err = ERR_INIT;
	size_t layer = 0;
	bool said;

	if (!image_find_layer(image, "/1", &layer) || layer != 1)
		return false;
	must(qcow2_header_read(file_fd(0), "top", &h, &err) == 0, "what was opened has a header");
	said = streq(h->backing_format, "qcow2");
	qcow2_header_free(h);
	return said;
}

/* ---- partitions ---- */

static void check_partitions(struct image *image)
{
	struct partition *found = NULL;
	uint64_t size = image_size(image);
	struct err err = ERR_INIT;
	size_t n = SIZE_MAX;
	int r = partitions_find(image, &found, &n, &err);

	if (r < 0) {
		must_be_error(r, &err);
		must(!found && n == SIZE_MAX, "what is returned is untouched on failure");
		return;
	}
	for (size_t i = 0; i < n; i++)
		must(found[i].number > 0 && found[i].start < size &&
		     found[i].length <= size - found[i].start, "a partition lies in its disk");
	free(found);
}

/* ---- files that are not open ---- */

static void check_layer(const char *path, const struct image *image)
{
	char *backing = NULL, *format = NULL;
	uint64_t size = UINT64_MAX;
	struct err err = ERR_INIT;
	int r = layer_backing(path, "qcow2", &backing, &format, &err);

	if (r < 0) {
		must_be_error(r, &err);
		must(!backing && !format && !image, "what was opened says what it lies on");
	}
	free(backing);
	free(format);
	r = layer_virtual_size(path, "qcow2", &size, &err);
	if (r < 0)
		must_be_error(r, &err);
	must(r < 0 ? size == UINT64_MAX : !image || size == image_size(image),
	     "a layer's size is what the image has");
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct image *image;

	files_make(input, size);
	image = open_checked("/0");
	if (image) {
		if (check_map(image)) {
			check_standalone(image, ALL_LAYERS, "");
			if (lies_on_qcow2(image))
				check_standalone(image, 1, "/1");
		}
		check_partitions(image);
		free(image_warning(image));
	}
	check_layer("/0", image);
	image_close(image);
	files_close();
	return 0;
}
