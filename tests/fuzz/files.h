/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The files that one input of a fuzzer stands for. They are in memory, under the
 * names /0, /1 and so on; the open() and stat() of the reader find these and no
 * others, so that no name that a header may come to hold leads out of here.
 *
 * An input is segments of files, one after the other, so that a sparse image of
 * many clusters is an input of some hundred bytes:
 *
 *	kind and file	1 byte	enum segment_kind << 4 | number of the file
 *	at		5 bytes	in the file, bytes; little-endian, as is
 *	length		2 bytes
 *
 * and then what the kind says. What makes no sense is skipped, what is missing at
 * the end is not there.
 */
#ifndef KWS_FUZZ_FILES_H
#define KWS_FUZZ_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILES 4      /* that an input may make */
#define FILE_EXTRA 4 /* one more, that is not there until the harness makes it */

enum segment_kind {
	SEGMENT_BYTES, /* `length` bytes */
	SEGMENT_FILL,  /* one byte, that `length` sectors of 512 bytes are full of */
	SEGMENT_END,   /* nothing: the file ends at `at` */
	SEGMENT_KINDS
};

#define SEGMENT_HEAD 8

struct segment {
	enum segment_kind kind;
	unsigned file;
	uint64_t at;
	size_t length;       /* as the head says it */
	size_t head;         /* where that is in the input, bytes */
	size_t payload, end; /* as are what follows it, and the next segment */
};

/* The segment at *at, which then is where the next one begins; false at the end. */
bool segment_next(const uint8_t *input, size_t size, size_t *at, struct segment *ret);
void segment_put_head(uint8_t *head, const struct segment *segment);

/* Between the two the reader finds them. Not thread-safe. */
void files_make(const uint8_t *input, size_t size);
void files_close(void);

/* Makes one anew: it is empty. */
void file_make(unsigned file);

int file_fd(unsigned file); /* remains files_close's */

#endif
