/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the table needs for pool/, and for what a pool has in clones/.kws. */
#ifndef KWS_FS_POOL_H
#define KWS_FS_POOL_H

#include "fs/tree.h"

/* Finds the pool that a key stands for; false if it is gone. */
bool pool_resolve(struct fs *fs, struct node *n);

extern const struct many each_pool;

int pool_link(struct fs *fs, const struct node *dir, const char *name, const char *target,
	      engine_done *done, void *opaque, struct err *err);
void pool_remove(struct fs *fs, const struct node *n, engine_done *done, void *opaque);
void pool_rename(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		 void *opaque);
void pool_replace(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		  void *opaque);

int show_pool(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int show_pools_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err);

int show_spare(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int show_spare_state(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int show_spare_wait(struct fs *fs, const struct node *n, FILE *out, struct err *err);
int store_spare(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		void *opaque, struct err *err);
int store_spare_state(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		      void *opaque, struct err *err);
int store_spare_wait(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		     void *opaque, struct err *err);
int show_pool_status(struct fs *fs, const struct node *n, FILE *out, struct err *err);

#endif
