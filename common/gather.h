/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The answer to a read, put together out of pieces of memory: some of it lies
 * somewhere already and is only pointed to, the rest is written into a buffer.
 * For writev(2) and the like.
 */
#ifndef KWS_COMMON_GATHER_H
#define KWS_COMMON_GATHER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

struct gather {
	char *buf; /* has room for the whole answer */
	size_t used;
	/* NULL: everything is wanted in `buf`, one after the other. */
	struct iovec *iov;
	size_t n, max;
};

/* Whether something can still be pointed to. */
bool gather_can_point(const struct gather *g);
/* The next `length` bytes are at `p`, until the answer was given. */
void gather_point(struct gather *g, const void *p, size_t length);
/* The next `length` bytes are written by the caller to where this points. */
void *gather_room(struct gather *g, size_t length);

#endif
