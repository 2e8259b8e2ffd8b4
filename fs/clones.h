/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table needs for a snapshot's clones/. */
#ifndef KWS_FS_CLONES_H
#define KWS_FS_CLONES_H

#include "fs/tree.h"

/* Finds what the key of a row of a clone stands for; false if it is gone. */
bool clone_resolve(struct fs *fs, struct node *n);

extern const struct many each_clone;

void clone_make_dir(struct fs *fs, const struct node *dir, const char *name, engine_done *done,
		    void *opaque);
void clone_remove_dir(struct fs *fs, const struct node *n, engine_done *done, void *opaque);
bool clone_is_vm(const struct node *n);

int show_clone_vm(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int show_clone_state(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int store_clone_state(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		      void *opaque, struct err *err);
int show_clone_text(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int store_clone_text(struct fs *fs, const struct node *n, const char *text, engine_done *done,
		     void *opaque, struct err *err);
int show_promote_help(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int store_promote(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		  void *opaque, struct err *err);

#endif
