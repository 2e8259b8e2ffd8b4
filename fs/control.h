/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is written to control files: from the bytes of a write(2) to a line,
 * from a line to what the engine is asked for. The `store` functions of the
 * table are here.
 */
#ifndef KWS_FS_CONTROL_H
#define KWS_FS_CONTROL_H

#include "fs/tree.h"

/* The longest line, in bytes. */
#define CONTROL_LINE_MAX 4000

/* The one line that a write holds, without its newline; the caller frees it.
 * -EINVAL for several lines, control characters, bytes that are no UTF-8, or
 * too many of them. */
int control_line(const char *buf, size_t size, char **ret, struct err *err);

/* The same of a text of several lines, as long as it likes, and with the newline at its end. */
int control_text(const char *buf, size_t size, char **ret, struct err *err);

typedef int store_fn(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		     void *opaque, struct err *err);

typedef int ask_fn(struct fs *fs, const struct node *n, const char *line, char **ret_answer,
		   engine_done *done, void *opaque, struct err *err);

ask_fn ask_fsck;

store_fn store_knob, store_prune, store_expires; /* policy.c */
store_fn store_quiesce, store_description, store_pin, store_checksums, store_revert;
store_fn store_cancel;

#endif
