/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/duration.h"

#include "common/mem.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_MAX 100000

static const struct unit {
	const char *name;
	size_t field;
} units[] = {
	{ "y", offsetof(struct duration, years) },     { "min", offsetof(struct duration, minutes) },
	{ "m", offsetof(struct duration, months) },    { "w", offsetof(struct duration, weeks) },
	{ "d", offsetof(struct duration, days) },      { "h", offsetof(struct duration, hours) },
	{ "s", offsetof(struct duration, seconds) },
};

static int *field_of(struct duration *d, const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i].name) == length && memcmp(units[i].name, name, length) == 0)
			return (int *)((char *)d + units[i].field);
	return NULL;
}

int duration_parse(const char *text, struct duration *ret)
{
	struct duration d = { 0 };

	while (*text) {
		size_t length;
		unsigned long n;
		int *field;
		char *end;

		if (*text < '0' || *text > '9')
			return -EINVAL;
		n = strtoul(text, &end, 10);
		length = strspn(end, "abcdefghijklmnopqrstuvwxyz");
		field = field_of(&d, end, length);
		if (!field || *field || n > NUMBER_MAX)
			return -EINVAL;
		*field = n;
		text = end + length;
	}
	if (duration_is_zero(&d))
		return -EINVAL;
	*ret = d;
	return 0;
}

bool duration_is_zero(const struct duration *d)
{
	static const struct duration zero;

	return memcmp(d, &zero, sizeof(zero)) == 0;
}

static time_t move(time_t t, const struct duration *d, int sign)
{
	struct tm tm;

	localtime_r(&t, &tm);
	tm.tm_year += sign * d->years;
	tm.tm_mon += sign * d->months;
	tm.tm_mday += sign * (d->weeks * 7 + d->days);
	if (d->years || d->months || d->weeks || d->days) {
		tm.tm_isdst = -1; /* the same time of day, on a day that may have another offset */
		t = mktime(&tm);
	}
	return t + sign * ((d->hours * (time_t)60 + d->minutes) * 60 + d->seconds);
}

time_t duration_before(time_t t, const struct duration *d)
{
	return move(t, d, -1);
}

time_t duration_after(time_t t, const struct duration *d)
{
	return move(t, d, 1);
}
