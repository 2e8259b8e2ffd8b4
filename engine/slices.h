/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flattened map of a chain, a slice at a time: for each place of the image,
 * which layer holds it. A slice is made when it is first asked for, by asking the
 * layers from the top down, and kept; so a read costs the same however deep the
 * chain is. Who wants one byte waits for one slice only; as an image goes on being
 * asked, more of them are made at once. One cache for all images, of bounded size,
 * the least recently used slices go first. Thread-safe.
 */
#ifndef KWS_ENGINE_SLICES_H
#define KWS_ENGINE_SLICES_H

#include "engine/chain-layer.h"

/* What of an image its slices are made of. */
struct flat {
	const struct chain_layer *const *layers; /* 0 is the top */
	size_t n_layers;
	uint64_t size;       /* of the image, bytes */
	unsigned slice_bits; /* log2 of a slice's bytes: slices_choose_bits */
	unsigned step;       /* log2 of how many are made at once next; atomic, begins at 0 */
};

struct slice {
	uint64_t start, end; /* in the image, bytes */
	size_t n;
	struct piece pieces[]; /* in order, without a gap, the first at `start` */
};

unsigned slices_choose_bits(const struct chain_layer *const *layers, size_t n);

/* The slice that holds `offset`, which lies in the image: NULL if it is not in the
 * cache. The caller gives it back with slice_unref. */
const struct slice *slice_find(const struct flat *flat, uint64_t offset);
/* Makes it, and some of its neighbours. NULL if there is no memory. */
const struct slice *slice_make(struct flat *flat, uint64_t offset);
void slice_unref(const struct slice *slice); /* NULL is allowed */

/* The piece that `offset` lies in. */
const struct piece *slice_piece(const struct slice *slice, uint64_t offset);

/* Before an image is closed. */
void slices_forget(const struct flat *flat);

#endif
