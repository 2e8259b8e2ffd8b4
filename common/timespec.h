/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef KWS_COMMON_TIMESPEC_H
#define KWS_COMMON_TIMESPEC_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC 1000000000LL

/* Nanoseconds since the epoch, from and to. */
static inline int64_t timespec_to_ns(const struct timespec *t)
{
	return t->tv_sec * NSEC_PER_SEC + t->tv_nsec;
}

static inline struct timespec timespec_from_ns(int64_t ns)
{
	return (struct timespec){ ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };
}

/* When `ms` milliseconds are over, by CLOCK_MONOTONIC, which nobody sets. */
static inline struct timespec monotonic_in(int64_t ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return timespec_from_ns(timespec_to_ns(&now) + ms * (NSEC_PER_SEC / 1000));
}

/* As pthread_cond_timedwait, until such a moment. False if it has come. */
static inline bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock,
				   const struct timespec *monotonic)
{
	return pthread_cond_clockwait(cond, lock, CLOCK_MONOTONIC, monotonic) != ETIMEDOUT;
}

/* < 0 if `a` is earlier than `b`, 0 if they are the same, > 0 if it is later. */
static inline int timespec_compare(const struct timespec *a, const struct timespec *b)
{
	if (a->tv_sec != b->tv_sec)
		return a->tv_sec < b->tv_sec ? -1 : 1;
	return a->tv_nsec < b->tv_nsec ? -1 : a->tv_nsec > b->tv_nsec;
}

#endif
