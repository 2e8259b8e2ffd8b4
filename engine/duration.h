/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Durations as restic writes them: 1y5m7d2h is a year, five months, seven days and two
 * hours. Beyond restic there are w, min and s. Years to days are those of the local
 * calendar (a day may have 23 hours), the rest is exact.
 */
#ifndef KWS_ENGINE_DURATION_H
#define KWS_ENGINE_DURATION_H

#include <stdbool.h>
#include <time.h>

struct duration {
	int years, months, weeks, days, hours, minutes, seconds;
};

/* 0, or -EINVAL if it is none, or nothing at all. */
int duration_parse(const char *text, struct duration *ret);

bool duration_is_zero(const struct duration *d);

/* Seconds since the epoch: the moment that is so much earlier or later than `t`. */
time_t duration_before(time_t t, const struct duration *d);
time_t duration_after(time_t t, const struct duration *d);

#endif
