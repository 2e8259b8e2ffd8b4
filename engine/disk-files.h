/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_ENGINE_DISK_FILES_H
#define KWS_ENGINE_DISK_FILES_H

#include "engine/engine.h"

/* As engine_disk_open, but the snapshot can be deleted meanwhile: then what is read
 * is anything, and must be thrown away. */
int disk_file_open_unheld(struct engine *e, const struct disk_id *id, struct disk_file **ret,
			  struct err *err);
void disk_file_free(struct disk_file *f); /* NULL is allowed */

#endif
