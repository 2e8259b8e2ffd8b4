/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A chain of layers, opened for reading as one image. An image may be used by
 * many threads at once.
 *
 * Layers must not change their content as seen through the chain while it is
 * open; block commit into a layer of it does not, see docs/DESIGN.md.
 */
#ifndef KWS_ENGINE_CHAIN_H
#define KWS_ENGINE_CHAIN_H

#include "engine/engine.h"
#include "engine/files.h"

struct image;

/* No chain is followed deeper than this; it also ends a loop of backing files. */
#define CHAIN_MAX_LAYERS 1024

/* Opens `path` (absolute) of `format` ("qcow2" or "raw") and all its backing
 * files, read-only, without QEMU's locks. Formats are never guessed: a backing
 * file whose format its overlay does not name is EOPNOTSUPP. -ENOENT if a layer
 * is missing, named. The caller closes it with image_close. */
int image_open(const char *path, const char *format, struct image **ret, struct err *err);
void image_close(struct image *image); /* NULL is allowed */

/* The size of the disk as the VM saw it, bytes. */
uint64_t image_size(const struct image *image);

/* As disk_file_extents and disk_file_read in engine.h. */
int image_extents(struct image *image, uint64_t offset, uint64_t length, struct extent *extents,
		  size_t max, size_t *ret_n, struct err *err);
ssize_t image_read(struct image *image, void *buf, size_t length, uint64_t offset,
		   struct err *err);
/* The same, put together out of memory that stays as long as the image. */
ssize_t image_gather(struct image *image, struct gather *g, size_t length, uint64_t offset,
		     struct err *err);

/* The first layer that says of itself that something is wrong with it, and what; NULL
 * if there is none. A sentence; the caller frees it. */
char *image_warning(const struct image *image);

/* Whether one of the image's layers is this file. */
bool image_has_file(const struct image *image, const struct layer_file *file);

/* Which of the image's layers the file at `path` is, 0 being the top. */
bool image_find_layer(const struct image *image, const char *path, size_t *ret);

/* Opens one more layer and puts it in front of number `index`, which is not 0, or at
 * the end. Before
 * anything is read of the image. Errors as those of image_open. */
int image_insert_layer(struct image *image, size_t index, const char *path, const char *format,
		       struct err *err);

/* How many bytes of a part of the image are data. Walks its map. */
int image_allocated(struct image *image, uint64_t start, uint64_t length, uint64_t *ret,
		    struct err *err);

#endif
