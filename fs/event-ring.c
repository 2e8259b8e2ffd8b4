/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/event-ring.h"

#include "common/mem.h"

#include <stdlib.h>

#define LINES 8192 /* a power of two: numbers of lines wrap around in it */

struct ring {
	size_t max, bytes; /* of the lines that are held */
	ring_lost_line *lost;
	uint64_t first, next; /* numbers of lines: the oldest one, and the one to come */
	uint64_t total;
	char *lines[LINES];
};

struct ring *ring_new(size_t max, ring_lost_line *lost)
{
	struct ring *r = xnew(struct ring);

	r->max = max;
	r->lost = lost;
	return r;
}

static char **place(struct ring *r, uint64_t number)
{
	return &r->lines[number % LINES];
}

static void drop_oldest(struct ring *r)
{
	char **line = place(r, r->first++);

	r->bytes -= strlen(*line);
	free(*line);
	*line = NULL;
}

void ring_free(struct ring *r)
{
	if (!r)
		return;
	while (r->first < r->next)
		drop_oldest(r);
	free(r);
}

void ring_add(struct ring *r, char *line)
{
	size_t length = strlen(line);

	while (r->first < r->next && (r->bytes + length > r->max || r->next - r->first == LINES))
		drop_oldest(r);
	*place(r, r->next++) = line;
	r->bytes += length;
	r->total += length;
}

uint64_t ring_total(const struct ring *r)
{
	return r->total;
}

/* ---- reading ---- */

struct ring_reader ring_reader(const struct ring *r)
{
	return (struct ring_reader){ .next = r->next };
}

void ring_reader_clear(struct ring_reader *reader)
{
	free(reader->rest);
	reader->rest = NULL;
}

bool ring_has(const struct ring *r, const struct ring_reader *reader)
{
	return reader->rest || reader->next < r->next;
}

static size_t read_rest(struct ring_reader *reader, char *buf, size_t size)
{
	size_t left = strlen(reader->rest + reader->rest_at);
	size_t n = left < size ? left : size;

	memcpy(buf, reader->rest + reader->rest_at, n);
	reader->rest_at += n;
	if (n == left)
		ring_reader_clear(reader);
	return n;
}

/* Makes the next line the reader's rest, if it fits or has to be cut. */
static bool take_next(struct ring *r, struct ring_reader *reader, size_t room, bool cut)
{
	uint64_t lost = reader->next < r->first ? r->first - reader->next : 0;
	char *line;

	if (reader->next == r->next)
		return false;
	line = lost ? r->lost(lost) : xstrdup(*place(r, reader->next));
	if (strlen(line) > room && !cut) {
		free(line);
		return false;
	}
	reader->next += lost ?: 1;
	reader->rest = line;
	reader->rest_at = 0;
	return true;
}

size_t ring_read(struct ring *r, struct ring_reader *reader, char *buf, size_t size)
{
	size_t used = 0;

	if (reader->rest)
		used = read_rest(reader, buf, size);
	while (used < size && !reader->rest && take_next(r, reader, size - used, used == 0))
		used += read_rest(reader, buf + used, size - used);
	return used;
}
