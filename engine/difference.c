/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/difference.h"

#include "common/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_LENGTH 160

struct difference {
	struct data_run *runs;
	size_t n;
	int digits; /* that offsets are padded to */
	size_t line_length;
};

static int digits_of(uint64_t n)
{
	return snprintf(NULL, 0, "%" PRIu64, n);
}

/* Blanks go where JSON allows them. */
static size_t print_line(char *line, const struct data_run *run, int digits)
{
	return snprintf(line, LINE_MAX_LENGTH,
			"{ \"start\": %*" PRIu64 ", \"length\": %*" PRIu64 ", \"depth\": 0, "
			"\"present\": true, \"zero\": %s, \"data\": %s}\n",
			digits, run->start, digits, run->length, run->zero ? " true" : "false",
			run->zero ? "false" : " true");
}

size_t difference_line_length(uint64_t disk_size)
{
	struct data_run run = { 0 };
	char line[LINE_MAX_LENGTH];

	return print_line(line, &run, digits_of(disk_size));
}

struct difference *difference_new(struct data_run *runs, size_t n, uint64_t disk_size)
{
	struct difference *d = xnew(struct difference);

	d->runs = runs;
	d->n = n;
	d->digits = digits_of(disk_size);
	d->line_length = difference_line_length(disk_size);
	return d;
}

void difference_free(struct difference *d)
{
	if (!d)
		return;
	free(d->runs);
	free(d);
}

uint64_t difference_size(const struct difference *d)
{
	return (uint64_t)d->n * d->line_length;
}

size_t difference_read(const struct difference *d, char *buf, size_t length, uint64_t offset)
{
	size_t done = 0;

	while (done < length && offset + done < difference_size(d)) {
		size_t number = (offset + done) / d->line_length;
		size_t within = (offset + done) % d->line_length;
		size_t part = d->line_length - within;
		char line[LINE_MAX_LENGTH];

		if (part > length - done)
			part = length - done;
		print_line(line, &d->runs[number], d->digits);
		memcpy(buf + done, line + within, part);
		done += part;
	}
	return done;
}
