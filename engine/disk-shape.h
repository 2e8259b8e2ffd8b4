/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a disk of a snapshot is as a file of some shape, for disk-files.c. */
#ifndef KWS_ENGINE_DISK_SHAPE_H
#define KWS_ENGINE_DISK_SHAPE_H

#include "engine/core.h"
#include "engine/difference.h"

/* A disk as it is at this moment. */
struct disk_description {
	char *target;
	char *path, *format; /* its layer */
	char *parent_path;   /* SHAPE_LAYER, SHAPE_MAP: the parent's layer, NULL if it stands alone */
	char *backing;       /* ... and what it is called in the backup, "" */
	struct timespec created;
	struct layout layout; /* as far as the registry is to be asked for it */
};

/* NULL if `s` is, or has no such disk. */
const struct snapshot_disk *snapshot_disk_of(const struct snapshot *s, const char *target);

/* -ENOENT if it is not there any more. The caller clears *ret, also on failure. */
int disk_describe(struct engine *e, const struct disk_id *id, struct disk_description *ret,
		  struct err *err);
void disk_description_clear(struct disk_description *d);

/* The image as the qcow2 that it was when it was first asked for. -ENOENT if layers
 * are being moved just now. The caller frees *ret. */
int disk_get_standalone(struct engine *e, struct disk_description *d, struct image *image,
			struct standalone **ret, struct err *err);

/* What is in the qcow2 of SHAPE_LAYER, as text; the same of that. */
int disk_get_difference(struct engine *e, struct disk_description *d, struct image *image,
			struct difference **ret, struct err *err);

/* How many pieces it has, of one that the registry has. */
size_t layout_runs(const struct layout *l);

/* The partitions of the disk, by number, of the registry or of the image's table. The
 * caller frees *ret. */
int disk_get_partitions(struct engine *e, const struct disk_description *d, struct image *image,
			struct partition **ret, size_t *ret_n, struct err *err);

/* One of them. -ENOENT if there is none of that number. */
int disk_get_partition(struct engine *e, const struct disk_description *d, struct image *image,
		       unsigned number, struct partition *ret, struct err *err);

#endif
