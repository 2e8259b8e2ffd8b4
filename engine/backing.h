/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a layer says of the one under it. */
#ifndef KWS_ENGINE_BACKING_H
#define KWS_ENGINE_BACKING_H

#include "engine/qcow2.h"

/* The backing file that the header of the layer at `path` names, as an absolute
 * path, and the format that is named with it (NULL if none is); *ret_path is
 * NULL if it has no backing file. -EOPNOTSUPP for one that is not a file here.
 * The caller frees both. */
int backing_of(const struct qcow2_header *h, const char *path, char **ret_path,
	       char **ret_format, struct err *err);

/* The same of a file that is not open; of one that is not qcow2, nothing. */
int layer_backing(const char *path, const char *format, char **ret_path, char **ret_format,
		  struct err *err);

/* The size of the disk that the layer is an image of, bytes. */
int layer_virtual_size(const char *path, const char *format, uint64_t *ret, struct err *err);

#endif
