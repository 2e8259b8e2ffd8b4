/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The last lines of something that goes on for ever, for readers that each begin at
 * "now" and read on. Bounded: who is too slow loses lines, and gets one line in their
 * place that says how many. Not locked.
 */
#ifndef KWS_FS_EVENT_RING_H
#define KWS_FS_EVENT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring;

/* A line (which the ring frees) that says how many were lost. It must not be longer than
 * any of those: see ring_total. */
typedef char *ring_lost_line(uint64_t n);

/* Holds `max` bytes of lines, or one line. */
struct ring *ring_new(size_t max, ring_lost_line *lost);
void ring_free(struct ring *r); /* NULL is allowed */

/* Takes the line over, which ends with its newline. */
void ring_add(struct ring *r, char *line);

/* The bytes of all lines that were ever added: no reader has read more. */
uint64_t ring_total(const struct ring *r);

struct ring_reader {
	uint64_t next; /* number of the line it reads next */
	char *rest;    /* a line of which it has read a part, or NULL */
	size_t rest_at;
};

/* Begins at now. ring_reader_clear at the end. */
struct ring_reader ring_reader(const struct ring *r);
void ring_reader_clear(struct ring_reader *reader);

/* Whether ring_read gives something. */
bool ring_has(const struct ring *r, const struct ring_reader *reader);

/* Reads whole lines, as many as fit; 0 if there are none. Of a line that does not fit by
 * itself it is the beginning, and the rest comes next, whatever is lost meanwhile. */
size_t ring_read(struct ring *r, struct ring_reader *reader, char *buf, size_t size);

#endif
