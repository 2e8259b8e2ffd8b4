/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/dashboard.h"

#include "fs/dashboard-words.h"

#include <time.h>

#define MINUTE 60
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define YEAR (365.25 * DAY)

/* Three digits, but for bytes. */
void draw_bytes(uint64_t bytes, FILE *out)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double n = bytes;
	size_t unit = 0;

	for (; n >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		n /= 1024;
	fprintf(out, "%.*f %s", unit > 0 && n < 9.95 ? 1 : 0, n, units[unit]);
}

void draw_duration(double seconds, FILE *out)
{
	if (seconds < 100)
		say_count(W_SECONDS, seconds > 0 ? seconds : 0, out);
	else if (seconds < 100 * MINUTE)
		say_count(W_MINUTES, seconds / MINUTE, out);
	else if (seconds < 2 * DAY)
		say_count(W_HOURS, seconds / HOUR, out);
	else if (seconds < 2 * YEAR)
		say_count(W_DAYS, seconds / DAY, out);
	else
		say_count(W_YEARS, seconds / YEAR, out);
}

void draw_moment(const struct timespec *t, FILE *out)
{
	char text[32];
	struct tm tm;

	gmtime_r(&t->tv_sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &tm);
	fputs(text, out);
}

void draw_bar(double part, enum bar bar, FILE *out)
{
	static const char *const classes[] = { "", " w", " a" };
	double percent = part < 0 ? 0 : part > 1 ? 100 : part * 100;

	fprintf(out, "<svg class=\"bar%s\" aria-hidden=true><rect width=\"100%%\" height=\"100%%\"/>"
		"<rect width=\"%.1f%%\" height=\"100%%\"/></svg>", classes[bar], percent);
}

char *drawn_duration(double seconds)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	draw_duration(seconds, out);
	fclose(out);
	return text;
}

char *drawn_bytes(uint64_t bytes)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	draw_bytes(bytes, out);
	fclose(out);
	return text;
}
