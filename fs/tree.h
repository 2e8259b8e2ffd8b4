/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of the tree: each file, directory and link is one row. What a row
 * does not say, the code that walks the table knows for all rows alike.
 */
#ifndef KWS_FS_TREE_H
#define KWS_FS_TREE_H

#include "common/err.h"
#include "engine/engine.h"
#include "fs/inode.h"

#include <stdio.h>

struct fs;
struct row;

/* One thing of the tree: a row, with the VM and so on that it is about. */
struct node {
	struct key key;
	const struct row *row;
	struct vm *vm;                     /* a reference; NULL above the VMs */
	const struct snapshot *snapshot;   /* of `vm`, or NULL */
	const struct snapshot_disk *disk;  /* of `snapshot`, or NULL */
	struct orphan_list *orphans;       /* a reference, or NULL */
	const struct orphan *orphan;       /* of `orphans` */
	struct group_list *groups;         /* a reference, or NULL */
	const struct vm_group *group;      /* of `groups` */
	const struct group_member *member; /* of `group`, or NULL */
	const struct group_snapshot *group_snapshot; /* the same */
	const struct group_part *part;     /* of `group_snapshot`, or NULL */
	struct pool_list *pools;           /* a reference, or NULL */
	const struct pool *pool;           /* of `pools`, or NULL */
	struct clone_list *clones;         /* a reference, or NULL */
	const struct clone *clone;         /* of `clones` */
	struct vm *clone_vm;               /* a reference; NULL if it is not defined */
};

enum row_type {
	ROW_DIR,
	ROW_LINK,
	ROW_TEXT,  /* rendered when it is opened */
	ROW_IMAGE, /* a disk of a snapshot */
	ROW_ORPHAN, /* a file that nobody needs */
	ROW_EVENTS, /* grows by what happens */
};

/* What a row is about, and so what of a key says which one it is. */
enum level {
	LEVEL_TREE, LEVEL_POOL, LEVEL_GROUP, LEVEL_GROUP_ITEM, LEVEL_GROUP_PART,
	LEVEL_VM, LEVEL_JOB, LEVEL_CLONE, LEVEL_SNAPSHOT, LEVEL_DISK,
};

/* Which moment is shown as mtime. */
enum row_time {
	TIME_MOUNTED,  /* when this daemon began */
	TIME_LIST,     /* when a VM last came or went */
	TIME_VM,       /* when the VM's list of snapshots last changed */
	TIME_SNAPSHOT, /* when the snapshot was taken */
	TIME_ORPHANS,  /* when an orphan last came or went */
	TIME_PAGE,     /* when the dashboard was made */
	TIME_GROUPS,   /* when something about groups last changed */
	TIME_GROUP_SNAPSHOT, /* when a group's snapshot was taken */
	TIME_POOLS,    /* when something about pools last changed */
	TIME_CLONES,   /* when the newest clone of the snapshot was made */
	TIME_CLONE,    /* when it was made */
};

/* Told of each thing that a row with many stands for. */
typedef void each_fn(void *opaque, const char *name, struct key key);

/* A row that stands for as many things as there are at the moment. */
struct many {
	void (*each)(struct fs *fs, const struct node *dir, const struct row *row, each_fn *fn,
		     void *opaque);
	/* False if there is none of that name. */
	bool (*find)(struct fs *fs, const struct node *dir, const struct row *row,
		     const char *name, struct key *ret);
	/* How many, for the directory's st_nlink; rows of directories only. */
	size_t (*count)(struct fs *fs, const struct node *dir);
};

/* As `find`, where it is as good to list. */
bool many_find(struct fs *fs, const struct node *dir, const struct row *row, const char *name,
	       struct key *ret);

/* For `count`, likewise. */
size_t many_count(struct fs *fs, const struct node *dir, const struct row *row);

struct row {
	enum kind kind;
	enum kind in; /* the directory it lies in */
	enum level level;
	enum row_type type;
	const char *name;        /* or: */
	const struct many *many; /* its names are the VMs', snapshots', disks' */
	mode_t mode;             /* in a VM, what the VM's mode does not have is taken away */
	enum row_time time;
	/* Never changes while it exists, but for its owner: cached for long. A disk
	 * that is not is read past the page cache. */
	bool lasting;

	/* ROW_TEXT: too much to be rendered only to tell its size, which is 0 as in procfs. */
	bool costly;

	/* ROW_IMAGE: a name is the disk's target and this. */
	const char *suffix;
	enum disk_shape shape;

	/* NULL: always there. */
	bool (*exists)(const struct node *n);

	/* ROW_TEXT, ROW_LINK: writes what is read, a text with its newline, a link without. */
	int (*show)(struct fs *fs, const struct node *n, FILE *out, struct err *err);

	/* ROW_TEXT: how many bytes `show` would write, where that is known without doing it. */
	size_t (*length)(const struct node *n);

	/* ROW_TEXT that can be written: does what one line (without its newline)
	 * says. A refusal is returned, else `done` is called once. */
	int (*store)(struct fs *fs, const struct node *n, const char *line, engine_done *done,
		     void *opaque, struct err *err);

	/* ROW_TEXT that can be written: it has lines, of so many bytes at most together, which may
	 * come in several writes. `store` is told all that was written by then. 0: it has one. */
	size_t lines_max;

	/* ROW_TEXT that is asked: a line that is written is a question, and what is read from
	 * the same open file afterwards is the answer (a text, freed by the caller), which is
	 * set before `done` is called. What nobody asked reads as `show` says. */
	int (*ask)(struct fs *fs, const struct node *n, const char *line, char **ret_answer,
		   engine_done *done, void *opaque, struct err *err);

	enum knob knob; /* of those files that are one */

	/* An action: it reads as a help line that begins with #, which does
	 * nothing when it is written. */
	bool action;

	/* ROW_DIR: asks anew what is in it if the last time is longer ago. */
	void (*refresh)(struct fs *fs, const struct node *dir, unsigned max_age_ms);
	/* ROW_DIR: mkdir of `name` in it. NULL: refused. */
	void (*make)(struct fs *fs, const struct node *dir, const char *name, engine_done *done,
		     void *opaque);
	/* ROW_DIR: ln -s of `target` to `name` in it. A refusal is returned, else `done` is called
	 * once. NULL: refused. */
	int (*link)(struct fs *fs, const struct node *dir, const char *name, const char *target,
		    engine_done *done, void *opaque, struct err *err);
	/* rmdir of it, or rm if it is a file; mv of it inside its directory. NULL: refused
	 * with `stays`. */
	void (*remove)(struct fs *fs, const struct node *n, engine_done *done, void *opaque);
	void (*rename)(struct fs *fs, const struct node *n, const char *name, engine_done *done,
		       void *opaque);
	/* mv of it onto another of its kind, if there is one. NULL: as `rename`. */
	void (*replace)(struct fs *fs, const struct node *n, const char *name, engine_done *done,
			void *opaque);
	const char *stays; /* why it is neither removed nor renamed; NULL has a default */

	/* chown and chmod of it are the VM's. */
	bool owned;
};

/* The row of a kind, NULL if there is none. */
const struct row *row_of(unsigned kind);

/* The rows of what lies in a directory, in the table's order: begin with NULL,
 * ends with NULL. */
const struct row *row_next(enum kind in, const struct row *after);

/* Which file of the engine's a row of disks is about. */
struct disk_id node_disk_id(const struct node *n);

/* The name of a VM's directory: its own, or its UUID if that cannot be one. */
const char *vm_dir_name(const struct vm *vm);

#endif
