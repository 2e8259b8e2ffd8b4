/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image may be far larger than anyone can walk over: a header costs nothing.
 * So it is walked over in windows, each larger than a slice of the flattened map
 * so that the way round the slices is gone as well, and in each up to so many
 * extents. Whatever is asked for, its answer is bounded by the window.
 */
#include "tests/fuzz/walk.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "engine/standalone.h"
#include "tests/fuzz/files.h"
#include "tests/fuzz/must.h"

#include <errno.h>

#define WINDOW ((70u << 20) + 1536)
#define WINDOWS 6        /* from the beginning on, and one at the end */
#define EXTENTS_MAX 1500 /* in all of them */
#define READS_MAX (1u << 20) /* bytes, likewise */
#define SECTOR 512
#define PIECES_MAX 6

struct walk {
	struct image *image;
	uint64_t size;
	uint64_t extents, read; /* that were looked at */
	uint64_t step;          /* how far to go on from damage; 0 before there was any */
};

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ---- reading ---- */

ssize_t read_image(void *file, struct gather *g, size_t length, uint64_t offset, struct err *err)
{
	return image_gather(file, g, length, offset, err);
}

ssize_t read_standalone(void *file, struct gather *g, size_t length, uint64_t offset,
			struct err *err)
{
	return standalone_gather(file, g, length, offset, err);
}

/* How much of a range lies in a file. */
static size_t valid(uint64_t size, uint64_t offset, size_t length)
{
	return offset < size ? min(length, size - offset) : 0;
}

static bool is_full_of(const uint8_t *buf, uint8_t byte, size_t n)
{
	return n == 0 || (buf[0] == byte && memcmp(buf, buf + 1, n - 1) == 0);
}

/* All or nothing: true for all. `buf` is of `length`, what lies past the end of the
 * file is left as it is: full of `guard`. */
static bool read_once(read_fn *fn, void *file, uint64_t size, uint64_t offset, uint8_t *buf,
		      size_t length, uint8_t guard)
{
	size_t wanted = valid(size, offset, length);
	struct gather g = { .buf = (char *)buf };
	struct err err = ERR_INIT;
	ssize_t n;

	memset(buf, guard, length);
	n = fn(file, &g, length, offset, &err);
	if (n < 0) {
		must_be_error(n, &err);
		must(n == -EIO, "what cannot be read is an input/output error");
		return false;
	}
	must((size_t)n == wanted, "a read is short at the end only");
	must(is_full_of(buf + wanted, guard, length - wanted), "nothing is written behind its end");
	return true;
}

/* The same, out of at most `max` pieces of memory. The files stay as they are, so
 * what they are mapped to may be looked at. */
static bool gather_once(read_fn *fn, void *file, uint64_t size, uint64_t offset, uint8_t *buf,
			size_t length, size_t max)
{
	cleanup_free char *room = malloc(length);
	struct iovec pieces[PIECES_MAX];
	struct gather g = { .buf = room, .iov = pieces, .max = max };
	struct err err = ERR_INIT;
	ssize_t n = fn(file, &g, length, offset, &err);
	size_t done = 0;

	if (n < 0) {
		must_be_error(n, &err);
		return false;
	}
	must((size_t)n == valid(size, offset, length), "a read is short at the end only");
	must(g.n <= max && g.used <= length, "there are no more pieces than there is room for");
	for (size_t i = 0; i < g.n; i++) {
		must(pieces[i].iov_len > 0 && pieces[i].iov_len <= n - done, "they are the answer");
		memcpy(buf + done, pieces[i].iov_base, pieces[i].iov_len);
		done += pieces[i].iov_len;
	}
	must(done == (size_t)n, "they are all of the answer");
	return true;
}

bool check_read(read_fn *fn, void *file, uint64_t size, uint64_t offset, size_t length)
{
	static const size_t sizes[] = { 511, 4096, 1, 65536 + 512, 70, 30000, 16384 };
	cleanup_free uint8_t *whole = malloc(length), *piece = NULL;
	bool readable = read_once(fn, file, size, offset, whole, length, 0xa5), pieces = true;

	for (size_t done = 0, i = 0; done < length; i++) {
		size_t n = min(sizes[i % 7], length - done);

		free(piece);
		piece = malloc(n);
		/* A byte that is not written at all then differs. */
		if (i % 2 ? !gather_once(fn, file, size, offset + done, piece, n,
					 1 + i % PIECES_MAX) :
			    !read_once(fn, file, size, offset + done, piece, n, 0x5a))
			pieces = false;
		else if (readable)
			must(memcmp(whole + done, piece, valid(size, offset + done, n)) == 0,
			     "pieces are as the whole");
		done += n;
	}
	must(readable == pieces, "the whole can be read if its pieces can be");
	return readable;
}

static void check_zero(struct image *image, uint64_t offset, size_t length)
{
	cleanup_free uint8_t *buf = malloc(length);

	must(read_once(read_image, image, image_size(image), offset, buf, length, 0xa5),
	     "a hole can be read");
	must(is_full_of(buf, 0, length), "a hole reads as zeroes");
}

static void check_part(struct walk *w, const struct extent *x, uint64_t offset, size_t length)
{
	if (w->read > READS_MAX)
		return;
	w->read += length;
	if (x->kind == EXTENT_DATA)
		check_read(read_image, w->image, w->size, offset, length);
	else
		check_zero(w->image, offset, length);
}

/* ---- the map ---- */

/* Who asks about one byte of an extent hears the same. */
static void check_byte(struct walk *w, const struct extent *x, uint64_t offset)
{
	struct extent one = { 0 };
	struct err err = ERR_INIT;
	size_t n = 0;

	must(image_extents(w->image, offset, 1, &one, 1, &n, &err) == 0 && n == 1 &&
	     one.start == offset && one.length == 1, "each byte of an extent lies in one");
	must(one.kind == x->kind && one.layer == x->layer && one.compressed == x->compressed,
	     "it is as the extent");
	if (one.kind == EXTENT_DATA && !one.compressed)
		must(one.offset == x->offset + (offset - x->start), "it lies where that says");
}

static void check_extent(struct walk *w, const struct extent *x, uint64_t start, uint64_t end)
{
	size_t part = min(x->length, 5000);

	must(x->start == start, "extents are in order and without gaps");
	must(x->length > 0 && x->length <= end - start, "an extent lies in what was asked for");
	must(x->kind <= EXTENT_DATA && x->layer < FILES, "an extent is of some kind and layer");
	must(x->kind == EXTENT_DATA || !x->compressed, "only data can be compressed");
	check_byte(w, x, start);
	check_byte(w, x, start + x->length / 2);
	check_byte(w, x, start + x->length - 1);
	check_part(w, x, start, part);
	check_part(w, x, start + x->length - part, part);
}

/* Where no extents are told there is damage, and reading says so too. How far it
 * goes is not told: sectors are tried, farther and farther away. */
static uint64_t check_damage(struct walk *w, uint64_t offset, int r, const struct err *err)
{
	struct err reading = ERR_INIT;
	char byte = 'x';

	must_be_error(r, err);
	must(r == -EIO, "a map that cannot be read is an input/output error");
	must(image_read(w->image, &byte, 1, offset, &reading) == -EIO, "reading says so too");
	must_be_error(-EIO, &reading);
	w->step = w->step ? w->step * 2 : SECTOR;
	w->extents++;
	return min(w->size - offset, w->step);
}

static void check_allocated(struct walk *w, uint64_t start, uint64_t end, uint64_t data,
			    bool damaged)
{
	uint64_t allocated = UINT64_MAX;
	struct err err = ERR_INIT;
	int r = image_allocated(w->image, start, end - start, &allocated, &err);

	must(damaged == (r < 0), "what is allocated can be told where there is no damage");
	if (r < 0)
		must_be_error(r, &err);
	must(allocated == (r < 0 ? UINT64_MAX : data), "allocated is what is data");
}

/* True if it was walked over to its end. */
static bool check_window(struct walk *w, uint64_t start, uint64_t end)
{
	uint64_t offset = start, data = 0;
	bool damaged = false;

	while (offset < end && w->extents < EXTENTS_MAX) {
		size_t max = 1 + w->extents % 7, n = SIZE_MAX;
		struct extent extents[7];
		struct err err = ERR_INIT;
		int r = image_extents(w->image, offset, end - offset, extents, max, &n, &err);

		if (r < 0) {
			must(n == SIZE_MAX, "what is returned is untouched on failure");
			offset += check_damage(w, offset, r, &err);
			damaged = true;
			continue;
		}
		must(n > 0 && n <= max, "there are as many extents as fit");
		for (size_t i = 0; i < n; i++) {
			check_extent(w, &extents[i], offset, end);
			offset += extents[i].length;
			data += extents[i].kind == EXTENT_DATA ? extents[i].length : 0;
		}
		w->extents += n;
	}
	if (offset >= end)
		check_allocated(w, start, end, data, damaged);
	return offset >= end;
}

bool check_map(struct image *image)
{
	struct walk w = { .image = image, .size = image_size(image) };
	uint64_t offset = 0;
	bool whole = true;

	for (int i = 0; i < WINDOWS && offset < w.size; i++) {
		uint64_t end = offset + min(WINDOW, w.size - offset);

		whole = check_window(&w, offset, end) && whole;
		offset = end;
	}
	if (offset < w.size) {
		whole = w.size - offset <= WINDOW && whole;
		w.extents /= 2;
		whole = check_window(&w, w.size - min(WINDOW, w.size - offset), w.size) && whole;
	}
	check_read(read_image, image, w.size, w.size - min(w.size, 70000), 80000);
	check_read(read_image, image, w.size, 0, 70000);
	check_read(read_image, image, w.size, w.size, 1);
	check_read(read_image, image, w.size, UINT64_MAX, 1);
	return whole && w.step == 0;
}
