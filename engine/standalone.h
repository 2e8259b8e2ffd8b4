/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image as one qcow2 that stands alone, made up while it is read: tables
 * first, then the clusters that hold data, in the order of the disk. Nothing is
 * written anywhere, and any part can be read without the others.
 *
 * Which clusters hold data is found once and must then be kept with the
 * snapshot: a merge of layers may make more of the map data, which changes no
 * byte of the disk, but would move everything in this file.
 */
#ifndef KWS_ENGINE_STANDALONE_H
#define KWS_ENGINE_STANDALONE_H

#include "engine/chain.h"

struct standalone;

/* Clusters of an image, one after the other, that hold data. */
struct data_run {
	uint64_t first, n; /* in clusters of 64 KiB */
};

/* Walks the map. The caller frees *ret. */
int standalone_scan(struct image *image, struct data_run **ret, size_t *ret_n, struct err *err);

/* `image` must live as long; `runs` is taken over. */
struct standalone *standalone_new(struct image *image, struct data_run *runs, size_t n);
void standalone_free(struct standalone *s); /* NULL is allowed */

/* Of the file, bytes. */
uint64_t standalone_size(const struct standalone *s);

/* As image_read. Thread-safe. */
ssize_t standalone_read(struct standalone *s, void *buf, size_t length, uint64_t offset,
			struct err *err);

#endif
