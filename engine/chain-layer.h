/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One layer of a chain that is open for reading: raw, or qcow2. */
#ifndef KWS_ENGINE_CHAIN_LAYER_H
#define KWS_ENGINE_CHAIN_LAYER_H

#include "common/err.h"
#include "common/gather.h"
#include "engine/qcow2.h"

#include <sys/types.h>

struct chain_layer {
	char *path;
	struct qcow2 *qcow2; /* NULL for a raw one */
	int fd;              /* of the file that holds the data; -1 if it is qcow2's own */
	struct mapping *data; /* the same, in memory */
	uint64_t size;       /* virtual, bytes */
	dev_t dev;
	ino_t ino;
};

/* What a piece of an image is. */
enum piece_kind { PIECE_HOLE, PIECE_ZERO, PIECE_DATA, PIECE_COMPRESSED, PIECE_DAMAGED };

/* A piece of an image: which layer holds it, and where. */
struct piece {
	uint64_t start, length; /* in the image, bytes */
	uint64_t host;          /* as in struct qcow2_run */
	const char *damage;
	uint32_t layer;         /* 0 is the top; not for holes */
	enum piece_kind kind;
};

/* `path` and `format` ("raw" or "qcow2"); the caller closes it, also on failure. */
int chain_layer_open(struct chain_layer *layer, const char *path, const char *format,
		     struct err *err);
void chain_layer_close(struct chain_layer *layer);

/* As qcow2_map and qcow2_empty_length, for both kinds; within the layer's size. */
void chain_layer_map(const struct chain_layer *layer, uint64_t offset, uint64_t length,
		     qcow2_run_fn *fn, void *opaque);
uint64_t chain_layer_empty_length(const struct chain_layer *layer, uint64_t offset,
				  uint64_t limit);

/* Reads [offset, offset + length) of the image, which lies in `piece` of this
 * layer; what is pointed to stays as long as the layer. -EIO if it is damaged. */
int chain_layer_read(const struct chain_layer *layer, const struct piece *piece, uint64_t offset,
		     size_t length, struct gather *g, struct err *err);

/* The size of a raw file or block device as QEMU counts it, in whole sectors. */
int raw_size(int fd, const char *path, uint64_t *ret, struct err *err);

#endif
