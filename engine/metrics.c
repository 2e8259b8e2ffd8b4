/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is counted and timed, from the engine's opening on. */
#include "engine/core.h"

/* Seconds. Most snapshots take tens of milliseconds; a guest agent has ten seconds. */
static const double snapshot_bounds[] = { .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30 };
static const double clone_bounds[] = { .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10 };
static const double recovery_bounds[] = { .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900 };
static const double merge_bounds[] = { .1, .5, 1, 5, 15, 60, 300, 900, 3600, 14400 };

static struct histogram histogram(const double *bounds, size_t n)
{
	return (struct histogram){ .bounds = bounds, .n = n };
}

#define N(array) (sizeof(array) / sizeof((array)[0]))
_Static_assert(N(snapshot_bounds) <= HISTOGRAM_MAX, "there is room for them");
_Static_assert(N(clone_bounds) <= HISTOGRAM_MAX, "there is room for them");
_Static_assert(N(recovery_bounds) <= HISTOGRAM_MAX, "there is room for them");
_Static_assert(N(merge_bounds) <= HISTOGRAM_MAX, "there is room for them");

void metrics_open(struct engine *e)
{
	e->metrics.snapshots = histogram(snapshot_bounds, N(snapshot_bounds));
	e->metrics.freezes = histogram(snapshot_bounds, N(snapshot_bounds));
	e->metrics.clones = histogram(clone_bounds, N(clone_bounds));
	e->metrics.claims = histogram(clone_bounds, N(clone_bounds));
	e->metrics.recoveries = histogram(recovery_bounds, N(recovery_bounds));
	e->metrics.merges = histogram(merge_bounds, N(merge_bounds));
}

double metrics_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void observe(struct histogram *h, double seconds)
{
	size_t i = 0;

	while (i < h->n && seconds > h->bounds[i])
		i++;
	h->counts[i]++;
	h->sum += seconds;
}

void metrics_snapshot(struct engine *e, double seconds)
{
	LOCK_SCOPE(&e->lock);

	observe(&e->metrics.snapshots, seconds);
}

void metrics_freeze(struct engine *e, double seconds)
{
	LOCK_SCOPE(&e->lock);

	observe(&e->metrics.freezes, seconds);
}

void metrics_clone(struct engine *e, double seconds)
{
	LOCK_SCOPE(&e->lock);

	observe(&e->metrics.clones, seconds);
}

void metrics_claim(struct engine *e, double seconds)
{
	LOCK_SCOPE(&e->lock);

	observe(&e->metrics.claims, seconds);
}

void metrics_recovery(struct engine *e, double seconds)
{
	LOCK_SCOPE(&e->lock);

	observe(&e->metrics.recoveries, seconds);
}

void metrics_recovery_told(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	e->metrics.recoveries_told++;
}

void metrics_recovery_failed(struct engine *e)
{
	LOCK_SCOPE(&e->lock);

	e->metrics.recoveries_failed++;
}

void metrics_merge(struct engine *e, double seconds, uint64_t bytes)
{
	LOCK_SCOPE(&e->lock);

	observe(&e->metrics.merges, seconds);
	e->metrics.merged += bytes;
}

void engine_metrics(struct engine *e, struct engine_metrics *ret)
{
	LOCK_SCOPE(&e->lock);

	*ret = e->metrics;
	ret->exported = __atomic_load_n(&e->exported, __ATOMIC_RELAXED);
	for (size_t i = 0; i < e->slots.n; i++) {
		const struct slot *s = e->slots.at[i];

		ret->jobs_running += s->job.running;
		ret->jobs_failed += !s->job.running && s->job.failed;
		ret->jobs_waiting += !s->job.running && !s->job.failed && s->collect_wanted;
	}
}
