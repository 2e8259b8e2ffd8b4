/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tree never does. All of it is EPERM, as in cgroupfs: EROFS would say
 * that a read-write mount could do it.
 */
#include "fs/core.h"

#include "common/cleanup.h"

#include <errno.h>

static void forbid(fuse_req_t req, fuse_ino_t ino, const char *name, const char *why)
{
	cleanup_node struct node dir = NODE_INIT;
	struct fs *fs = FS(req);
	struct err err = ERR_INIT;

	if (node_open_ino(fs, ino, &dir, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	err_set(&err, EPERM, why, name);
	refuse(fs, req, dir.vm, &err);
}

void forbid_making(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	forbid(req, parent, name, "'%s' cannot be made: the files of the tree are there by "
	       "themselves");
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	forbid_making(req, parent, name);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	forbid_making(req, parent, name);
}

void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	forbid_making(req, new_parent, new_name);
}
