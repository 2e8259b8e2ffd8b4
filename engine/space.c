/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/space.h"

#include "engine/core.h"
#include "engine/own-mount.h"

#include <sys/stat.h>

/* ---- samples ---- */

void space_sample_add(struct space_samples *s, double at, double free)
{
	s->at[s->next] = (struct space_sample){ at, free };
	s->next = (s->next + 1) % SPACE_SAMPLES;
	if (s->n < SPACE_SAMPLES)
		s->n++;
}

static const struct space_sample *oldest(const struct space_samples *s)
{
	return &s->at[s->n < SPACE_SAMPLES ? 0 : s->next];
}

static const struct space_sample *newest(const struct space_samples *s)
{
	return &s->at[(s->next + SPACE_SAMPLES - 1) % SPACE_SAMPLES];
}

bool space_trend(const struct space_samples *s, double *ret_rate, double *ret_span)
{
	double at = 0, free = 0, both = 0, square = 0;

	if (s->n < 2 || newest(s)->at - oldest(s)->at < SPACE_LEAST)
		return false;
	for (size_t i = 0; i < s->n; i++) {
		at += s->at[i].at / s->n;
		free += s->at[i].free / s->n;
	}
	for (size_t i = 0; i < s->n; i++) {
		double x = s->at[i].at - at;

		both += x * (s->at[i].free - free);
		square += x * x;
	}
	*ret_rate = both / square;
	*ret_span = newest(s)->at - oldest(s)->at;
	return true;
}

void space_samples_free(spaces_t *spaces)
{
	for (size_t i = 0; i < spaces->n; i++)
		free(spaces->at[i].folder);
	vec_free(spaces);
}

/* ---- which file systems ---- */

typedef vec_of(char *) places_t;

static void places_clear(places_t *places)
{
	for (size_t i = 0; i < places->n; i++)
		free(places->at[i]);
	vec_free(places);
}

/* Where the layers lie that VMs write to, and the store; the state, if there is no other. */
static void places_of(struct engine *e, places_t *to)
{
	if (e->store)
		vec_push(to, xstrdup(e->store));
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->slots.n; i++) {
		const struct slot *s = e->slots.at[i];

		for (size_t d = 0; s->view && d < s->written.n; d++) {
			const char *path = s->written.at[d].path, *slash = strrchr(path, '/');

			if (slash && slash > path)
				vec_push(to, xasprintf("%.*s", (int)(slash - path), path));
		}
	}
	pthread_mutex_unlock(&e->lock);
	if (to->n == 0)
		vec_push(to, xstrdup(e->state_dir));
}

static double now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* ---- sampling and telling ---- */

/* The folder that a file system is mounted on, from one in it upwards. */
static char *mount_point(const char *folder, dev_t dev)
{
	char *at = xstrdup(folder);

	for (;;) {
		cleanup_free char *above = xstrdup(at);
		char *slash = strrchr(above, '/');
		struct stat st;

		if (!slash || !at[1])
			return at;
		above[slash == above ? 1 : slash - above] = '\0';
		if (stat(above, &st) < 0 || st.st_dev != dev)
			return at;
		strcpy(at, above);
	}
}

/* A file system as it is now. */
struct sight {
	dev_t dev;
	char *folder;
	uint64_t total, free;
};

/* Those of all places, each once; SPACES_MAX at most. Asks them: without the lock. */
static size_t look_at_places(struct engine *e, struct sight *seen)
{
	cleanup(places_clear) places_t places = { 0 };
	size_t n = 0;

	places_of(e, &places);
	for (size_t i = 0; i < places.n && n < SPACES_MAX; i++) {
		struct statvfs fs;
		struct stat st;
		bool known = false;

		if (own_mount_has(places.at[i]) || stat(places.at[i], &st) < 0)
			continue;
		for (size_t k = 0; k < n && !known; k++)
			known = seen[k].dev == st.st_dev;
		if (known || statvfs(places.at[i], &fs) < 0)
			continue;
		seen[n++] = (struct sight){ st.st_dev, mount_point(places.at[i], st.st_dev),
					    (uint64_t)fs.f_blocks * fs.f_frsize,
					    (uint64_t)fs.f_bavail * fs.f_frsize };
	}
	return n;
}

/* The lock is held. NULL if there are too many. */
static struct space_samples *samples_of(struct engine *e, const struct sight *seen)
{
	struct space_samples *s;

	for (size_t i = 0; i < e->spaces.n; i++)
		if (e->spaces.at[i].dev == seen->dev)
			return &e->spaces.at[i];
	if (e->spaces.n == SPACES_MAX)
		return NULL;
	s = vec_add(&e->spaces);
	s->dev = seen->dev;
	s->folder = xstrdup(seen->folder);
	return s;
}

/* The lock is held. */
static void note(struct engine *e, double now, const struct sight *seen)
{
	struct space_samples *s = samples_of(e, seen);

	if (!s)
		return;
	s->total = seen->total;
	s->free = seen->free;
	s->used = true;
	space_sample_add(s, now, seen->free);
}

void spaces_sample(struct engine *e)
{
	struct sight seen[SPACES_MAX];
	double now = now_seconds();
	size_t n;
	bool due;

	pthread_mutex_lock(&e->lock);
	due = now >= e->spaces_due;
	if (due)
		e->spaces_due = now + SPACE_EVERY;
	pthread_mutex_unlock(&e->lock);
	if (!due)
		return;
	n = look_at_places(e, seen);
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->spaces.n; i++)
		e->spaces.at[i].used = false;
	for (size_t i = 0; i < n; i++)
		note(e, now, &seen[i]);
	pthread_mutex_unlock(&e->lock);
	for (size_t i = 0; i < n; i++)
		free(seen[i].folder);
}

void engine_spaces(struct engine *e, struct space **ret, size_t *ret_n)
{
	struct space *spaces = xcalloc(SPACES_MAX, sizeof(*spaces));
	size_t n = 0;
	LOCK_SCOPE(&e->lock);

	for (size_t i = 0; i < e->spaces.n; i++) {
		const struct space_samples *s = &e->spaces.at[i];
		struct space *to = &spaces[n];

		if (!s->used)
			continue;
		to->folder = xstrdup(s->folder);
		to->total = s->total;
		to->free = s->free;
		to->has_trend = space_trend(s, &to->rate, &to->span);
		n++;
	}
	*ret = spaces;
	*ret_n = n;
}

void spaces_free(struct space *spaces, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(spaces[i].folder);
	free(spaces);
}
