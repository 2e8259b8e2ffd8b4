/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The room on the file systems that VMs write to, and how it changes. The housekeeper
 * looks; whoever asks gets what it saw last, and waits for no server that does not answer.
 *
 * Samples are kept in memory only: after a start the trend is not known for half an
 * hour. That is said, and better than one made of what was before a pause of unknown
 * length. The trend is the line with the least squares through the samples of the
 * last hours; a large file that comes or goes moves it, as it should.
 */
#ifndef KWS_ENGINE_SPACE_H
#define KWS_ENGINE_SPACE_H

#include "common/vec.h"
#include "engine/engine.h"

#include <sys/types.h>

#define SPACE_EVERY 60    /* seconds between samples */
#define SPACE_SAMPLES 360 /* six hours of them */
#define SPACE_LEAST 1800  /* seconds that a trend has to look back */
#define SPACES_MAX 16     /* file systems */

struct space_sample {
	double at;   /* seconds of a clock that only goes forward */
	double free; /* bytes */
};

/* One file system's; the oldest is overwritten. */
struct space_samples {
	dev_t dev;
	char *folder;         /* that it is mounted on */
	uint64_t total, free; /* bytes, as seen last */
	bool used;            /* by VMs, when it was looked last */
	struct space_sample at[SPACE_SAMPLES];
	size_t n, next;
};

typedef vec_of(struct space_samples) spaces_t;

void space_sample_add(struct space_samples *s, double at, double free);

/* By how many bytes a second the free space changes, and over how many seconds that was
 * seen. False if these are too few to tell. */
bool space_trend(const struct space_samples *s, double *ret_rate, double *ret_span);

/* For the housekeeper: takes samples if it is time for them. Asks file systems: without
 * the lock. */
void spaces_sample(struct engine *e);
void space_samples_free(spaces_t *spaces);

#endif
