/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Empty overlays without a qemu-img for each. Those of one size, format of the file below and
 * options differ in nothing but that file's name. So qemu-img makes one with a name as long as
 * names may be, which is kept, and the next ones are written from it with their own names:
 * byte for byte what qemu-img would have made. It takes 15 ms and syncs its file
 * four times; a mkdir has 10.
 */
#ifndef KWS_ENGINE_OVERLAY_TEMPLATE_H
#define KWS_ENGINE_OVERLAY_TEMPLATE_H

#include "common/err.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

struct overlay_template;

struct overlay_templates {
	pthread_mutex_t lock;
	char *folder;  /* where they are made */
	char *options; /* as after qemu-img's -o */
	struct overlay_template *list; /* the one used last is first */
	unsigned made;
};

void overlay_templates_init(struct overlay_templates *t, const char *folder, const char *options);
void overlay_templates_clear(struct overlay_templates *t);

/* Makes the empty file at `path` an overlay of `size` bytes on `backing`. */
int overlay_write(struct overlay_templates *t, const char *path, const char *backing,
		  const char *backing_format, uint64_t size, struct err *err);

#endif
