/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a snapshot holds that its parent does not, as text: a line of JSON for each
 * piece, in the words of `qemu-img map --output=json`. All lines of a file are of
 * one length, so that any part of it is made when it is read, however long it is.
 */
#ifndef KWS_ENGINE_DIFFERENCE_H
#define KWS_ENGINE_DIFFERENCE_H

#include "engine/standalone.h"

struct difference;

/* The length of a line with its newline, bytes, for a disk of `disk_size` bytes. */
size_t difference_line_length(uint64_t disk_size);

/* `runs` are taken over. The caller frees it with difference_free. */
struct difference *difference_new(struct data_run *runs, size_t n, uint64_t disk_size);
void difference_free(struct difference *d); /* NULL is allowed */

uint64_t difference_size(const struct difference *d); /* bytes */

/* Reads up to `length` bytes; fewer only at the end. */
size_t difference_read(const struct difference *d, char *buf, size_t length, uint64_t offset);

#endif
