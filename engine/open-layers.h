/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The layers that are open for reading, shared by all images that lie on them: so
 * a tree of a hundred snapshots that are all read at once needs a descriptor for
 * each layer, not one for each of each image. Thread-safe.
 */
#ifndef KWS_ENGINE_OPEN_LAYERS_H
#define KWS_ENGINE_OPEN_LAYERS_H

#include "engine/chain-layer.h"

/* As chain_layer_open, or with what is open already, if the file is still what it
 * was. The caller gives it back with open_layer_put. */
int open_layer_get(const char *path, const char *format, const struct chain_layer **ret,
		   struct err *err);
void open_layer_put(const struct chain_layer *layer); /* NULL is allowed */

#endif
