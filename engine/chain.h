/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A chain of layers, opened for reading as one image. Declares only how an
 * image is opened; what is asked of it (image_size, image_extents, image_read)
 * is in engine.h, because fs asks it too.
 *
 * Layers must not change their content as seen through the chain while it is
 * open; block commit into a layer of it does not, see docs/DESIGN.md.
 */
#ifndef KWS_ENGINE_CHAIN_H
#define KWS_ENGINE_CHAIN_H

#include "engine/engine.h"

/* No chain is followed deeper than this; it also ends a loop of backing files. */
#define CHAIN_MAX_LAYERS 1024

/* Opens `path` (absolute) of `format` ("qcow2" or "raw") and all its backing
 * files, read-only, without QEMU's locks. Formats are never guessed: a backing
 * file whose format its overlay does not name is EOPNOTSUPP. -ENOENT if a layer
 * is missing, named. The caller closes it with image_close. */
int image_open(const char *path, const char *format, struct image **ret, struct err *err);
void image_close(struct image *image); /* NULL is allowed */

/* How many bytes of the image are data. Walks the whole map once. */
int image_allocated(struct image *image, uint64_t *ret, struct err *err);

#endif
