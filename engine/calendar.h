/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calendar expressions of systemd.time(7). systemd's own program is asked for them: no
 * library has them, and they have more rules (time zones, summer time, leap days, last
 * days of months) than should be written twice.
 */
#ifndef KWS_ENGINE_CALENDAR_H
#define KWS_ENGINE_CALENDAR_H

#include "common/err.h"

#include <time.h>

#define CALENDAR_NEVER 0

/* The first moment after `base`, in seconds since the epoch; CALENDAR_NEVER. -EINVAL if it
 * is no such expression, -EOPNOTSUPP if systemd-analyze is not there. */
int calendar_next(const char *expression, time_t base, time_t *ret, struct err *err);

#endif
