/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing qcow2 is QEMU's: the few things that are done outside a running VM
 * are done by qemu-img. Each call waits for the program to end.
 */
#ifndef KWS_ENGINE_QEMU_IMG_H
#define KWS_ENGINE_QEMU_IMG_H

#include "engine/program.h"

/* Writes an empty qcow2 of `size` bytes on top of `backing` into `path`, which
 * exists (its owner and mode stay). The backing file is not opened, so it
 * costs the same at every depth. `options` as after qemu-img's -o. */
int qemu_img_overlay(const char *path, const char *backing, const char *backing_format,
		     uint64_t size, const char *options, struct err *err);

/* The same of one that lies on nothing. */
int qemu_img_create(const char *path, uint64_t size, const char *options, struct err *err);

/* Copies an image with all that it lies on into `to`, a qcow2 that is there, as large, and empty:
 * about `total` bytes. */
int qemu_img_convert(const char *from, const char *format, const char *to, uint64_t total,
		     const struct watch *watch, struct err *err);

/* Whether this qemu-img can make an image with these options: tries, at `path`,
 * where nothing is left. */
int qemu_img_try_options(const char *path, const char *options, struct err *err);

/* Gives `path` another backing file (NULL: none) that lies under its present one, and
 * copies into it what it would not read the same any more: about `total` bytes. If it is
 * broken off `path` reads as before, and some clusters may be marked used that are not.
 * The backing file must not be smaller than `path`: QEMU before 8.2 never ends then. */
int qemu_img_rebase(const char *path, const char *format, const char *backing,
		    const char *backing_format, uint64_t total, const struct watch *watch,
		    struct err *err);

/* Frees clusters that are marked used and are not. */
int qemu_img_repair_leaks(const char *path, const char *format, struct err *err);

/* Writes another backing file into the header of `path`; no data is looked at:
 * both must read the same through `path`. */
int qemu_img_rebase_unsafe(const char *path, const char *format, const char *backing,
			   const char *backing_format, struct err *err);

#endif
