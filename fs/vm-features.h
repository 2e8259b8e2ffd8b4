/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table needs for the features of a VM. */
#ifndef KWS_FS_VM_FEATURES_H
#define KWS_FS_VM_FEATURES_H

#include "fs/tree.h"

int show_features(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int store_features(struct fs *fs, const struct node *n, const char *text, engine_done *done,
		   void *opaque, struct err *err);
int show_ask_help(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int store_ask(struct fs *fs, const struct node *n, const char *line, engine_done *done,
	      void *opaque, struct err *err);

#endif
