/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An image as one qcow2, made up while it is read: tables first, then the
 * clusters that hold data, in the order of the disk. Nothing is written anywhere,
 * and any part can be read without the others. It stands alone, or holds only
 * what the upper layers of the image say and lies on another file.
 *
 * Which clusters are in it is found once and must then be kept with the snapshot:
 * a merge of layers may make more of the map data, which changes no byte of the
 * disk, but would move everything in this file.
 */
#ifndef KWS_ENGINE_STANDALONE_H
#define KWS_ENGINE_STANDALONE_H

#include "engine/chain.h"

struct standalone;

/* A piece of an image that is in the file. */
struct data_run {
	uint64_t start, length; /* in the image, bytes */
	bool zero;              /* it reads as zeroes, where what lies under it may not */
};

#define ALL_LAYERS SIZE_MAX

/* Walks the map for what the upper `n_layers` of the image hold, in order, adjacent
 * pieces joined. The caller frees *ret. */
int standalone_scan(struct image *image, size_t n_layers, struct data_run **ret, size_t *ret_n,
		    struct err *err);

/* Which clusters the file is best made of, log2 of bytes: the largest ones with which
 * it is not much larger than with the smallest. */
unsigned standalone_choose_clusters(const struct data_run *runs, size_t n, uint64_t image_size);

/* `image` must live as long. `backing` is the name of the qcow2 that it lies on, ""
 * for none. */
struct standalone *standalone_new(struct image *image, const struct data_run *runs, size_t n,
				  unsigned cluster_bits, const char *backing);
void standalone_free(struct standalone *s); /* NULL is allowed */

/* Of the file, bytes. */
uint64_t standalone_size(const struct standalone *s);

/* As image_gather. Thread-safe. */
ssize_t standalone_gather(struct standalone *s, struct gather *g, size_t length, uint64_t offset,
			  struct err *err);

#endif
