/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a copy keeps of where it came from: `cp -a`, `rsync -X` and `tar --xattrs`
 * take user.kws.* along with the images. On directories and images, not on texts.
 * They are only read: to all that would set one the kernel answers EOPNOTSUPP.
 *
 * Of other namespaces (ACLs, labels of SELinux, capabilities) there is nothing here, and
 * they are said to be unsupported instead of empty: `ls -l`, which would ask for
 * two of each file, then asks once.
 */
#include "fs/core.h"

#include "common/cleanup.h"
#include "fs/text.h"

#include <errno.h>

static void show_vm(const struct node *n, FILE *out)
{
	fputs(n->vm->name, out);
}

static void show_uuid(const struct node *n, FILE *out)
{
	fputs(n->vm->uuid, out);
}

static void show_snapshot(const struct node *n, FILE *out)
{
	fputs(n->snapshot->name, out);
}

static void show_created(const struct node *n, FILE *out)
{
	print_time(&n->snapshot->created, out);
}

static void show_consistency(const struct node *n, FILE *out)
{
	fputs(consistency_to_string(n->snapshot->consistency), out);
}

static void show_disk(const struct node *n, FILE *out)
{
	fputs(n->disk->target, out);
}

static const struct xattr {
	const char *name;
	enum level level; /* of what has it */
	void (*show)(const struct node *n, FILE *out);
} xattrs[] = {
	{ "user.kws.vm", LEVEL_VM, show_vm },
	{ "user.kws.uuid", LEVEL_VM, show_uuid },
	{ "user.kws.snapshot", LEVEL_SNAPSHOT, show_snapshot },
	{ "user.kws.created", LEVEL_SNAPSHOT, show_created },
	{ "user.kws.consistency", LEVEL_SNAPSHOT, show_consistency },
	{ "user.kws.disk", LEVEL_DISK, show_disk },
};

#define N_XATTRS (sizeof(xattrs) / sizeof(xattrs[0]))

static bool has(const struct node *n, const struct xattr *x)
{
	return n->row->level >= x->level && (n->row->type == ROW_DIR || n->row->type == ROW_IMAGE);
}

/* As getxattr(2): 0 asks for the size. */
static void reply(fuse_req_t req, const char *buf, size_t length, size_t room)
{
	if (room == 0)
		fuse_reply_xattr(req, length);
	else if (length > room)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, buf, length);
}

static char *text_of(const struct node *n, const struct xattr *x, size_t *ret_length)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_length);

	if (!out)
		return NULL;
	x->show(n, out);
	fclose(out);
	return text;
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	cleanup_node struct node n = NODE_INIT;
	cleanup_free char *text = NULL;
	struct err err = ERR_INIT;
	size_t length = 0;

	if (node_open_ino(FS(req), ino, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	for (size_t i = 0; i < N_XATTRS && !text; i++)
		if (streq(xattrs[i].name, name) && has(&n, &xattrs[i]))
			text = text_of(&n, &xattrs[i], &length);
	if (text)
		reply(req, text, length, size);
	else
		fuse_reply_err(req, strncmp(name, "user.", 5) == 0 ? ENODATA : EOPNOTSUPP);
}

/* Also where there are none there is a list: tar complains where there is not. */
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	cleanup_node struct node n = NODE_INIT;
	struct err err = ERR_INIT;
	char names[512];
	size_t length = 0;

	if (node_open_ino(FS(req), ino, &n, &err) < 0) {
		fuse_reply_err(req, err.code);
		return;
	}
	for (size_t i = 0; i < N_XATTRS; i++) {
		size_t bytes = strlen(xattrs[i].name) + 1;

		if (!has(&n, &xattrs[i]))
			continue;
		memcpy(names + length, xattrs[i].name, bytes);
		length += bytes;
	}
	reply(req, names, length, size);
}
