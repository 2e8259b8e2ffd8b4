/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table needs for groups/. */
#ifndef KWS_FS_GROUPS_H
#define KWS_FS_GROUPS_H

#include "fs/tree.h"

/* Finds what the key of a row of groups stands for; false if it is gone. */
bool group_resolve(struct fs *fs, struct node *n);

extern const struct many each_group, each_group_member, each_group_snapshot, each_group_part;

void group_make(struct fs *fs, const struct node *dir, const char *name, engine_done *done,
		void *opaque);
void group_rename(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		  void *opaque);
void group_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque);
int group_link(struct fs *fs, const struct node *dir, const char *name, const char *target,
	       engine_done *done, void *opaque, struct err *err);
void group_member_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque);
void group_snapshot_make(struct fs *fs, const struct node *dir, const char *name,
			 engine_done *done, void *opaque);
void group_snapshot_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque);

int show_group_member(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int show_group_part(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int show_group_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err);

#endif
