/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files of layers. A layer is known by what it is, device and inode, and never
 * deleted by its name alone: under that name there may be another file by now.
 */
#ifndef KWS_ENGINE_FILES_H
#define KWS_ENGINE_FILES_H

#include "common/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct layer_file {
	char *path;
	char *format;
	uint64_t dev; /* of a block device: its own number; 0 if it is not known, or not any more */
	uint64_t ino; /* 0 of a block device */
};

void layer_file_clear(struct layer_file *f);
void layer_file_copy(struct layer_file *to, const struct layer_file *from);

/* Looks up what lies at `path`. -ENOENT if nothing does. */
int layer_file_stat(const char *path, const char *format, struct layer_file *ret, struct err *err);

static inline bool layer_file_same(const struct layer_file *a, const struct layer_file *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

/* Tells this boot of the machine from all others. Devices get their numbers anew
 * at each, so that those which were noted before say nothing. Static. */
const char *boot_id(void);

/* For a file noted in an earlier boot, its `dev` being 0: that of what lies at its
 * path, if that has its inode. As long as nothing does it stays 0. */
void layer_file_find_again(struct layer_file *f);

/* Whether that is what lies at `path` (NULL: nothing does). */
bool layer_file_is_at(const struct layer_file *f, const char *path);

/* Makes an empty file that nobody else can read, with the owner of `like`
 * (the disk it will lie on). -EEXIST if the name is taken. */
int file_create_private(const char *path, const char *like, struct err *err);

/* Deletes the file if it still is the one described, and syncs its folder. 0 if
 * it is gone already, -ESTALE if another file has its name. Block devices are
 * never deleted: -EPERM. */
int file_remove(const struct layer_file *f, struct err *err);

int file_sync(const char *path, struct err *err);
/* Syncs the folder that `path` is in. */
int file_sync_folder(const char *path, struct err *err);

/* Makes a directory and those above it, as far as they are not there. */
int folder_make(const char *path, mode_t mode, struct err *err);

/* -EBUSY if a QEMU process has the file open, whatever for. */
int file_check_unused(const char *path, struct err *err);

/* A lock on a layer that QEMU honours: while it is held, no QEMU process can
 * open the file for writing, and it cannot be had while one has it open so.
 * See "Image locking" in QEMU's documentation. Returns a descriptor to be
 * closed, or -EBUSY. */
int file_lock_against_writers(const char *path, struct err *err);

/* Whether a QEMU has the layer open for writing, as its locks tell. */
int file_has_writer(const char *path, bool *ret, struct err *err);

/* -EBUSY if one has, although libvirt says that the VM is off: it was lost by libvirt, or
 * is somebody's tool. */
int file_need_no_writer(const char *path, struct err *err);

#endif
