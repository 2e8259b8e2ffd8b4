/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walks over an image that is open, and ends the process where the reader does not
 * keep what chain.h and engine.h promise. */
#ifndef KWS_FUZZ_WALK_H
#define KWS_FUZZ_WALK_H

#include "engine/chain.h"

#include <sys/types.h>

/* image_gather or standalone_gather. */
typedef ssize_t read_fn(void *file, struct gather *g, size_t length, uint64_t offset,
			struct err *err);

/* Reads a range in one go and then in pieces: both must be alike. False if part of
 * it cannot be read. `size` is of the file; `length` is at most READ_MAX. */
#define READ_MAX (256u << 10)
bool check_read(read_fn *fn, void *file, uint64_t size, uint64_t offset, size_t length);

read_fn read_image, read_standalone;

/* Walks over all extents, or, if there are too many, over the first and the last
 * ones. True if it saw all of the map, and no damage. */
bool check_map(struct image *image);

#endif
