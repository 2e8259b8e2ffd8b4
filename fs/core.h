/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of fs/ share. */
#ifndef KWS_FS_CORE_H
#define KWS_FS_CORE_H

#include "common/err.h"
#include "common/vec.h"
#include "engine/engine.h"
#include "fs/tree.h"

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

struct dashboard;
struct events;
struct handle;
struct notifier;
struct waits;

struct fs {
	struct engine *e;
	struct engine_observer observer;
	struct fuse_session *session;
	char *mountpoint;
	char *source;
	bool allow_other;
	void (*ready)(void *opaque);
	void *opaque;
	struct timespec mounted;
	uid_t uid; /* who owns what belongs to no VM */
	gid_t gid;

	struct notifier *notifier;
	struct events *events;
	struct waits *waits;
	struct dashboard *dashboard;

	pthread_mutex_t lock; /* of `handles`; held for a few instructions only */
	struct handle *handles;

	int stop;              /* eventfd that fs_stop writes */
	pthread_t loop;        /* the thread in libfuse's loop */
	atomic_bool loop_ended;
};

/* Bytes that the kernel asks for at a time: a buffer that stays in the processor's
 * cache, and requests enough of a large read for several workers. */
#define MAX_READ (256 * 1024)

/* How long the kernel may keep what it was told, in seconds. */
#define CACHE_LASTING 3600.0 /* images and the like: their bytes never change */
#define CACHE_SHORT 1.0      /* names of VMs and snapshots, attributes of directories */
#define CACHE_LISTED 0.05    /* what is rendered (links, texts), for who has just listed it */
#define CACHE_NONE 0.0       /* ... and for who asks for one alone */

/* ---- node.c ---- */

/* Finds what a key stands for. -ESTALE if it is gone. The caller closes it. */
int node_open(struct fs *fs, struct key key, struct node *ret, struct err *err);
int node_open_ino(struct fs *fs, fuse_ino_t ino, struct node *ret, struct err *err);
void node_close(struct node *n);
#define NODE_INIT { .key = { .kind = KIND_ROOT } }
#define cleanup_node cleanup(node_close)

/* Finds `name` in a directory as it was when `dir` was opened. -ENOENT. */
int node_child(struct fs *fs, const struct node *dir, const char *name, struct node *ret,
	       struct err *err);

/* The same, after asking for news; that may wait for libvirt. Knows `.`
 * (also of a file) and `..`. */
int node_lookup(struct fs *fs, const struct node *dir, const char *name, struct node *ret,
		struct err *err);

/* What a link in `dir` leads to; -ENOENT if that is nothing in this mount. */
int node_find_target(struct fs *fs, const struct node *dir, const char *target, struct node *ret);

/* For the engine: struct engine_observer. */
int fs_find_disk(void *opaque, const char *path, struct disk_id *ret);

/* The key of the directory that `n` lies in. */
struct key node_parent(const struct node *n);

/* Calls `fn` for all that is in a directory, but for `.` and `..`. */
void node_each(struct fs *fs, const struct node *dir, each_fn *fn, void *opaque);

/* ---- attr.c ---- */

/* -EIO and the like if the size cannot be told. */
int node_attr(struct fs *fs, const struct node *n, struct stat *ret, struct err *err);
int node_entry(struct fs *fs, const struct node *n, struct fuse_entry_param *ret,
	       struct err *err);
double node_attr_timeout(const struct node *n);
mode_t row_type_bits(const struct row *row); /* S_IFDIR, ... */

/* What a text or a link reads at this moment. The caller frees it. */
int node_text(struct fs *fs, const struct node *n, char **ret, size_t *ret_length,
	      struct err *err);

/* ---- refuse.c ---- */

/* Answers a request with what this layer refuses: tells of it, and notes it as
 * `vm`'s last error. */
void refuse(struct fs *fs, fuse_req_t req, const struct vm *vm, const struct err *err);

/* Tells of an error of which the engine has taken note by itself, and which is `about`
 * that VM and snapshot. */
void tell_refusal(struct fs *fs, struct engine_event about, const struct err *err);

/* The same for what is about `n`: a VM, a group, or neither. */
void refuse_at(struct fs *fs, fuse_req_t req, const struct node *n, const struct err *err);

/* ---- pending.c: requests that are answered when the engine is done ---- */

struct pending {
	struct fs *fs;
	fuse_req_t req;
	char *vm_name; /* or the group's; NULL: it is about neither */
	void (*reply)(struct pending *p); /* after success */
	struct key key;                   /* what the request is about */
	char *name;                       /* mkdir */
	size_t size;                      /* write */
};

struct pending *pending_new(struct fs *fs, fuse_req_t req, const struct node *n,
			    void (*reply)(struct pending *p));
engine_done pending_done;
void pending_free(struct pending *p); /* for one that was not handed to the engine */
void pending_reply_ok(struct pending *p);

/* ---- handle.c: what is open ---- */

struct handle {
	struct handle *prev, *next; /* in fs->handles, so that none outlives the mount */
	void (*free)(struct fs *fs, struct handle *h);
};

void handle_add(struct fs *fs, struct handle *h, void (*free_fn)(struct fs *, struct handle *));
void handle_close(struct fs *fs, struct handle *h); /* takes it off the list and frees it */
void handles_close(struct fs *fs);

/* ---- the operations, by file ---- */

#define FS(req) ((struct fs *)fuse_req_userdata(req))

/* verbs.c */
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi);

void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);

/* forbidden.c */
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
void forbid_making(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);

/* xattr.c */
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);

/* dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* wait.c */
int waits_start(struct fs *fs, struct err *err);
void waits_stop(struct fs *fs); /* once, after a start: ends all waits, new ones end at once */
void waits_free(struct waits *w);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* A file that is open: ctl.c serves ROW_TEXT, image.c ROW_IMAGE, orphan.c ROW_ORPHAN. */
struct file {
	struct handle handle;
	void (*read)(fuse_req_t req, struct file *f, size_t size, off_t off);
	void (*write)(fuse_req_t req, struct file *f, fuse_ino_t ino, const char *buf,
		      size_t size, off_t off, int flags);
	/* Not of one that nonseekable says of itself. */
	void (*seek)(fuse_req_t req, struct file *f, off_t off, int whence);
	/* Owns `ph`, which may be NULL. NULL: it can always be read and written. */
	void (*poll)(fuse_req_t req, struct file *f, struct fuse_pollhandle *ph);
};

int text_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi, struct file **ret,
	      struct err *err);
/* ask.c: a text with `ask` */
int question_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi,
		  struct file **ret, struct err *err);
int image_file_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi,
		    struct file **ret, struct err *err);

/* orphan.c: ROW_ORPHAN */
int orphan_file_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi,
		     struct file **ret, struct err *err);

/* events.c: ROW_EVENTS, and the log */
struct events *events_new(void);
void events_free(struct events *ev);
void events_tell(void *fs, const struct engine_event *event); /* struct engine_observer */
uint64_t events_total(struct events *ev); /* bytes, of all lines that ever were */
void events_wake(struct fs *fs); /* those who poll; notifier's thread only */
int events_open(struct fs *fs, const struct node *n, struct fuse_file_info *fi, struct file **ret,
		struct err *err);

/* notify.c */
struct notifier *notifier_new(void);
int notifier_start(struct fs *fs, struct err *err);
void notifier_stop(struct notifier *n); /* once, after a start */
void notifier_free(struct notifier *n);
void notifier_vms_changed(void *fs);
void notifier_vm_changed(void *fs, uint32_t vm_id);
void notifier_event(struct fs *fs); /* there is something to read in `events` */

/* ops.c */
extern const struct fuse_lowlevel_ops fs_ops;

#endif
