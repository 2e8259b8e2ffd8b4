/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A chain of layers as one image.
 *
 * Everything goes through one question, extents(): lseek and stat ask it, and so
 * does whatever else serves an image. It is answered, as reads are, from the
 * flattened map of the chain (slices.c). Where no layer has so much as a table
 * for a range that is larger than a slice, the L1 tables alone answer it, so that
 * the walk over a large and empty disk makes no slices at all.
 */
#include "engine/chain.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"
#include "engine/backing.h"
#include "engine/open-layers.h"
#include "engine/own-mount.h"
#include "engine/slices.h"

#include <errno.h>
#include <sys/stat.h>

struct image {
	vec_of(const struct chain_layer *) layers; /* 0 is the top */
	struct flat flat;
};

DEFINE_CLEANUP(const struct slice, slice_unref);

/* ---- open ---- */

/* A chain in which a layer lies on itself would never end. */
static int check_loop(const struct image *image, struct err *err)
{
	const struct chain_layer *last = image->layers.at[image->layers.n - 1];

	for (size_t i = 0; i + 1 < image->layers.n; i++)
		if (image->layers.at[i]->dev == last->dev && image->layers.at[i]->ino == last->ino)
			return err_set(err, ELOOP, "%s lies on itself: its chain has no end",
				       last->path);
	return 0;
}

static int check_format(const char *path, const char *format, struct err *err)
{
	if (!format)
		return err_set(err, EOPNOTSUPP, "the format of the backing file %s is not named by "
			       "the layer on top of it, and is not guessed; name it with "
			       "qemu-img rebase -u -F FORMAT", path);
	if (!streq(format, "qcow2") && !streq(format, "raw"))
		return err_set(err, EOPNOTSUPP, "%s is of format %s, which cannot be read", path,
			       format);
	return 0;
}

/* Adds a layer, and tells what it lies on. */
static int open_layer(struct image *image, const char *path, const char *format,
		      struct own_mount_folder *last, char **ret_path, char **ret_format,
		      struct err *err)
{
	cleanup_free char *own_path = NULL, *own_format = NULL;
	const struct chain_layer *layer;
	int r = own_mount_resolve(path, last, &own_path, &own_format, err);

	if (r > 0) {
		path = own_path;
		format = own_format;
	}
	if (r >= 0)
		r = check_format(path, format, err);
	if (r >= 0 && image->layers.n == CHAIN_MAX_LAYERS)
		r = err_set(err, ELOOP, "the chain has more than %d layers", CHAIN_MAX_LAYERS);
	if (r >= 0)
		r = open_layer_get(path, format, &layer, err);
	if (r < 0)
		return r;
	vec_push(&image->layers, layer);
	r = check_loop(image, err);
	if (r >= 0 && layer->qcow2)
		r = backing_of(qcow2_header(layer->qcow2), path, ret_path, ret_format, err);
	return r;
}

static int open_chain(struct image *image, const char *path, const char *format, struct err *err)
{
	cleanup_free char *next = xstrdup(path), *next_format = xstrdup(format);
	cleanup(own_mount_folder_clear) struct own_mount_folder last = { 0 };
	int r = 0;

	while (next && r >= 0) {
		cleanup_free char *this = steal_pointer(&next);
		cleanup_free char *this_format = steal_pointer(&next_format);

		r = open_layer(image, this, this_format, &last, &next, &next_format, err);
	}
	return r;
}

static void set_flat(struct image *image)
{
	image->flat = (struct flat){
		.layers = image->layers.at,
		.n_layers = image->layers.n,
		.size = image->layers.at[0]->size,
		.slice_bits = slices_choose_bits(image->layers.at, image->layers.n),
	};
}

int image_open(const char *path, const char *format, struct image **ret, struct err *err)
{
	struct image *image = xnew(struct image);
	int r = open_chain(image, path, format, err);

	if (r < 0) {
		image_close(image);
		return r;
	}
	set_flat(image);
	*ret = image;
	return 0;
}

int image_insert_layer(struct image *image, size_t index, const char *path, const char *format,
		       struct err *err)
{
	const struct chain_layer *layer, **at;
	int r = check_format(path, format, err);

	if (r >= 0)
		r = open_layer_get(path, format, &layer, err);
	if (r < 0)
		return r;
	vec_push(&image->layers, layer);
	at = image->layers.at + index;
	memmove(at + 1, at, (image->layers.n - 1 - index) * sizeof(*at));
	*at = layer;
	set_flat(image);
	return 0;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	slices_forget(&image->flat);
	for (size_t i = 0; i < image->layers.n; i++)
		open_layer_put(image->layers.at[i]);
	vec_free(&image->layers);
	free(image);
}

uint64_t image_size(const struct image *image)
{
	return image->flat.size;
}

char *image_warning(const struct image *image)
{
	for (size_t i = 0; i < image->layers.n; i++) {
		const struct chain_layer *layer = image->layers.at[i];
		const struct qcow2_header *h = layer->qcow2 ? qcow2_header(layer->qcow2) : NULL;

		if (h && h->corrupt)
			return xasprintf("%s is marked as corrupt: QEMU found something wrong in it, "
					 "see qemu-img check; it is read as far as it makes sense",
					 layer->path);
		if (h && h->dirty)
			return xasprintf("%s is marked as dirty: whoever wrote it did not close it; it "
					 "can be read, and qemu-img check -r leaks cleans it up",
					 layer->path);
	}
	return NULL;
}

bool image_find_layer(const struct image *image, const char *path, size_t *ret)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	for (*ret = 0; *ret < image->layers.n; ++*ret)
		if (image->layers.at[*ret]->dev == st.st_dev &&
		    image->layers.at[*ret]->ino == st.st_ino)
			return true;
	return false;
}

bool image_has_file(const struct image *image, const struct layer_file *file)
{
	for (size_t i = 0; i < image->layers.n; i++)
		if (image->layers.at[i]->dev == file->dev && image->layers.at[i]->ino == file->ino)
			return true;
	return false;
}

/* ---- extents ---- */

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* How far from `offset` on the tables of tables say that nothing is there; it may
 * be farther. */
static uint64_t empty_length(const struct image *image, uint64_t offset)
{
	uint64_t length = image->flat.size - offset;

	for (size_t i = 0; i < image->layers.n && length > 0; i++) {
		const struct chain_layer *layer = image->layers.at[i];
		uint64_t empty;

		if (offset >= layer->size)
			break; /* it ends here, and so does what is seen of those under it */
		empty = chain_layer_empty_length(layer, offset, length);
		if (empty < layer->size - offset)
			length = min(length, empty);
	}
	return length;
}

/* The slice of `offset`; NULL where it need not be made, because nothing is there
 * for at least as long as a slice: *ret_hole then says how long. */
static int look_up(struct image *image, uint64_t offset, uint64_t length,
		   const struct slice **ret, uint64_t *ret_hole, struct err *err)
{
	const struct slice *slice = slice_find(&image->flat, offset);
	uint64_t slice_bytes = 1ULL << image->flat.slice_bits;

	if (!slice && length > slice_bytes) {
		*ret_hole = min(length, empty_length(image, offset));
		if (*ret_hole >= slice_bytes) {
			*ret = NULL;
			return 0;
		}
	}
	*ret = slice ?: slice_make(&image->flat, offset);
	return *ret ? 0 : err_set(err, ENOMEM, "no memory for the map of an image");
}

static struct extent extent_of(const struct piece *piece, uint64_t from, uint64_t to)
{
	struct extent x = { .start = from, .length = to - from, .kind = EXTENT_HOLE };

	switch (piece->kind) {
	case PIECE_HOLE:
	case PIECE_DAMAGED:
		break;
	case PIECE_ZERO:
		x.kind = EXTENT_ZERO;
		x.layer = piece->layer;
		break;
	case PIECE_DATA:
	case PIECE_COMPRESSED:
		x.kind = EXTENT_DATA;
		x.compressed = piece->kind == PIECE_COMPRESSED;
		x.layer = piece->layer;
		x.offset = x.compressed ? 0 : piece->host + (from - piece->start);
		break;
	}
	return x;
}

/* The first extent of a range that lies in the image. */
static int first_extent(struct image *image, uint64_t offset, uint64_t length, struct extent *ret,
			struct err *err)
{
	cleanup(slice_unref_p) const struct slice *slice = NULL;
	const struct piece *piece;
	uint64_t hole = 0;
	int r = look_up(image, offset, length, &slice, &hole, err);

	if (r < 0)
		return r;
	if (!slice) {
		*ret = (struct extent){ .start = offset, .length = hole, .kind = EXTENT_HOLE };
		return 0;
	}
	piece = slice_piece(slice, offset);
	if (piece->kind == PIECE_DAMAGED) /* it says what is wrong */
		return chain_layer_read(image->layers.at[piece->layer], piece, offset, 0,
					&(struct gather){ 0 }, err);
	*ret = extent_of(piece, offset, min(piece->start + piece->length, offset + length));
	return 0;
}

static bool can_join(const struct extent *a, const struct extent *b)
{
	if (a->kind != b->kind || a->layer != b->layer)
		return false;
	return a->kind != EXTENT_DATA ||
	       (!a->compressed && !b->compressed && a->offset + a->length == b->offset);
}

int image_extents(struct image *image, uint64_t offset, uint64_t length, struct extent *extents,
		  size_t max, size_t *ret_n, struct err *err)
{
	size_t n = 0;

	if (offset >= image->flat.size)
		length = 0;
	length = min(length, image->flat.size - offset);
	while (length > 0) {
		struct extent next;
		int r = first_extent(image, offset, length, &next, err);

		/* What comes before the damage is good; who asks on from there is told. */
		if (r < 0 && n > 0)
			break;
		if (r < 0)
			return r;
		if (n > 0 && can_join(&extents[n - 1], &next))
			extents[n - 1].length += next.length;
		else if (n < max)
			extents[n++] = next;
		else
			break;
		offset += next.length;
		length -= next.length;
	}
	*ret_n = n;
	return 0;
}

int image_allocated(struct image *image, uint64_t start, uint64_t length, uint64_t *ret,
		    struct err *err)
{
	uint64_t offset = start, end = min(start + length, image->flat.size), allocated = 0;

	while (offset < end) {
		struct extent extents[64];
		size_t n;
		int r = image_extents(image, offset, end - offset, extents, 64, &n, err);

		if (r < 0)
			return r;
		for (size_t i = 0; i < n; i++) {
			if (extents[i].kind == EXTENT_DATA)
				allocated += extents[i].length;
			offset += extents[i].length;
		}
	}
	*ret = allocated;
	return 0;
}

/* ---- read ---- */

/* Reads as much as one slice tells of. */
static int read_slice(struct image *image, struct gather *g, size_t length, uint64_t offset,
		      size_t *ret_done, struct err *err)
{
	cleanup(slice_unref_p) const struct slice *slice = slice_find(&image->flat, offset) ?:
							   slice_make(&image->flat, offset);
	const struct piece *piece;
	size_t done = 0;

	if (!slice)
		return err_set(err, ENOMEM, "no memory for the map of an image");
	length = min(length, slice->end - offset);
	for (piece = slice_piece(slice, offset); done < length; piece++) {
		uint64_t at = offset + done;
		size_t part = min(piece->start + piece->length - at, length - done);
		int r = chain_layer_read(image->layers.at[piece->layer], piece, at, part, g,
					 err);

		if (r < 0)
			return r;
		done += part;
	}
	*ret_done = done;
	return 0;
}

ssize_t image_gather(struct image *image, struct gather *g, size_t length, uint64_t offset,
		     struct err *err)
{
	size_t done = 0;

	if (offset >= image->flat.size)
		return 0;
	length = min(length, image->flat.size - offset);
	while (done < length) {
		size_t part = 0;
		int r = read_slice(image, g, length - done, offset + done, &part, err);

		if (r < 0)
			return r;
		done += part;
	}
	return done;
}

ssize_t image_read(struct image *image, void *buf, size_t length, uint64_t offset, struct err *err)
{
	struct gather g = { .buf = buf };

	return image_gather(image, &g, length, offset, err);
}
