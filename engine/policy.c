/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "engine/policy.h"

#include "engine/calendar.h"

#include <errno.h>

#define COUNT_MAX 100000

/* ---- values ---- */

static bool is_none(const char *text)
{
	return streq(text, POLICY_NONE);
}

static int parse_number(const char *text, unsigned long max, unsigned *ret)
{
	char *end;
	unsigned long n;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoul(text, &end, 10);
	if (errno || *end || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

/* 512M or 10G, as qemu-img has it, or 5%. */
static int parse_room(const char *text, struct room *ret)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	unsigned long long n;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	suffix = *end ? strchr(suffixes, *end) : NULL;
	if (errno || n == 0 || (*end && end[1]))
		return -EINVAL;
	if (*end == '%' && n < 100)
		*ret = (struct room){ .percent = n };
	else if (!*end)
		*ret = (struct room){ .bytes = n };
	else if (suffix && n < 1ULL << 20)
		*ret = (struct room){ .bytes = n << (10 * (suffix - suffixes + 1)) };
	else
		return -EINVAL;
	return 0;
}

int policy_snapshot_name(const char *format, time_t t, char **ret, struct err *err)
{
	char name[SNAPSHOT_NAME_MAX + 1];
	struct tm tm;
	int r;

	gmtime_r(&t, &tm);
	if (strftime(name, sizeof(name), format, &tm) == 0)
		return err_set(err, EINVAL, "'%s' gives no name, or a very long one", format);
	r = snapshot_name_check(name, err);
	if (r >= 0 && strchr(name, ':'))
		r = err_set(err, EINVAL, "'%s' gives the name '%s' with a colon, which rsync and tar "
			    "take for a host's name", format, name);
	if (r >= 0)
		*ret = xstrdup(name);
	return r;
}

/* ---- the knobs ---- */

static int check_count(const char *text, struct err *err)
{
	unsigned n;

	if (is_none(text) || (parse_number(text, COUNT_MAX, &n) == 0 && n > 0))
		return 0;
	return err_set(err, EINVAL, "it is a number of snapshots from 1 to %d, or none", COUNT_MAX);
}

static int check_depth(const char *text, struct err *err)
{
	unsigned n;

	if (parse_number(text, DEPTH_MOST, &n) == 0 && n >= DEPTH_LEAST)
		return 0;
	return err_set(err, EINVAL, "it is a number of layers from %d to %d", DEPTH_LEAST, DEPTH_MOST);
}

static int check_duration(const char *text, struct err *err)
{
	struct duration d;

	if (is_none(text) || duration_parse(text, &d) == 0)
		return 0;
	return err_set(err, EINVAL, "it is a duration of y, m (months), w, d, h, min and s, as in "
		       "1y6m or 36h, or none");
}

static int check_room(const char *text, struct err *err)
{
	struct room room;

	if (is_none(text) || parse_room(text, &room) == 0)
		return 0;
	return err_set(err, EINVAL, "it is a number of bytes as in 512M or 10G, a part of the file "
		       "system as in 5%%, or none");
}

static int check_calendar(const char *text, struct err *err)
{
	time_t next;

	return is_none(text) ? 0 : calendar_next(text, time(NULL), &next, err);
}

static int check_name(const char *text, struct err *err)
{
	cleanup_free char *name = NULL;

	return policy_snapshot_name(text, time(NULL), &name, err);
}

static const struct {
	const char *name;
	const char *value; /* where nobody has set one */
	int (*check)(const char *text, struct err *err);
} knobs[N_KNOBS] = {
	[KNOB_KEEP_LAST] = { "keep_last", POLICY_NONE, check_count },
	[KNOB_KEEP_HOURLY] = { "keep_hourly", POLICY_NONE, check_count },
	[KNOB_KEEP_DAILY] = { "keep_daily", POLICY_NONE, check_count },
	[KNOB_KEEP_WEEKLY] = { "keep_weekly", POLICY_NONE, check_count },
	[KNOB_KEEP_MONTHLY] = { "keep_monthly", POLICY_NONE, check_count },
	[KNOB_KEEP_YEARLY] = { "keep_yearly", POLICY_NONE, check_count },
	[KNOB_KEEP_WITHIN] = { "keep_within", POLICY_NONE, check_duration },
	[KNOB_MAX_COUNT] = { "max_count", POLICY_NONE, check_count },
	[KNOB_TTL] = { "ttl", POLICY_NONE, check_duration },
	[KNOB_MIN_FREE] = { "min_free", POLICY_NONE, check_room },
	[KNOB_MAX_DEPTH] = { "max_depth", NULL /* what the mount says */, check_depth },
	[KNOB_SCHEDULE] = { "schedule", POLICY_NONE, check_calendar },
	[KNOB_SCHEDULE_NAME] = { "schedule_name", "auto-%Y-%m-%dT%H%M%SZ", check_name },
	[KNOB_PRUNE_SCHEDULE] = { "prune_schedule", "daily", check_calendar },
};

/* ---- what holds ---- */

/* The lock is held. `s` is NULL for all VMs. The caller frees it. */
static char *text_of(struct engine *e, struct slot *s, enum knob k, enum knob_source *ret_source)
{
	if (s && s->knobs[k]) {
		*ret_source = KNOB_OWN;
		return xstrdup(s->knobs[k]);
	}
	if (e->knobs[k]) {
		*ret_source = s ? KNOB_INHERITED : KNOB_OWN;
		return xstrdup(e->knobs[k]);
	}
	*ret_source = KNOB_DEFAULT;
	return knobs[k].value ? xstrdup(knobs[k].value) : xasprintf("%u", e->max_depth);
}

char *engine_knob(struct engine *e, uint32_t vm_id, enum knob k, enum knob_source *ret_source)
{
	struct slot *s;
	LOCK_SCOPE(&e->lock);

	s = slot_by_id(e, vm_id);
	return s || !vm_id ? text_of(e, s, k, ret_source) : NULL;
}

/* NULL for none. */
static char *value_of(struct engine *e, struct slot *s, enum knob k)
{
	enum knob_source source;
	char *text = text_of(e, s, k, &source);

	if (is_none(text)) {
		free(text);
		text = NULL;
	}
	return text;
}

static unsigned number_of(struct engine *e, struct slot *s, enum knob k)
{
	cleanup_free char *text = value_of(e, s, k);
	unsigned n = 0;

	if (text)
		parse_number(text, COUNT_MAX, &n);
	return n;
}

static struct duration duration_of(struct engine *e, struct slot *s, enum knob k)
{
	cleanup_free char *text = value_of(e, s, k);
	struct duration d = { 0 };

	if (text)
		duration_parse(text, &d);
	return d;
}

static struct room room_of(struct engine *e, struct slot *s, enum knob k)
{
	cleanup_free char *text = value_of(e, s, k);
	struct room room = { 0 };

	if (text)
		parse_room(text, &room);
	return room;
}

struct duration policy_ttl(struct engine *e, uint32_t vm_id)
{
	LOCK_SCOPE(&e->lock);

	return duration_of(e, slot_by_id(e, vm_id), KNOB_TTL);
}

unsigned policy_max_depth(struct engine *e, struct slot *s)
{
	LOCK_SCOPE(&e->lock);

	return number_of(e, s, KNOB_MAX_DEPTH);
}

void policy_of(struct engine *e, struct slot *s, struct policy *ret)
{
	LOCK_SCOPE(&e->lock);

	*ret = (struct policy){
		.retention.keep_within = duration_of(e, s, KNOB_KEEP_WITHIN),
		.retention.max_count = number_of(e, s, KNOB_MAX_COUNT),
		.retention.ttl = duration_of(e, s, KNOB_TTL),
		.min_free = room_of(e, s, KNOB_MIN_FREE),
		.schedule = value_of(e, s, KNOB_SCHEDULE),
		.schedule_name = value_of(e, s, KNOB_SCHEDULE_NAME),
		.prune_schedule = value_of(e, s, KNOB_PRUNE_SCHEDULE),
	};
	for (enum keep_rule rule = KEEP_LAST; rule < N_KEEP_RULES; rule++)
		ret->retention.keep[rule] = number_of(e, s, KNOB_KEEP_LAST + rule);
}

void policy_clear(struct policy *p)
{
	free(p->schedule);
	free(p->schedule_name);
	free(p->prune_schedule);
}

/* One that this version does not know is left where it is. */
static void take(void *opaque, const char *knob, const char *value)
{
	char **values = opaque;

	for (enum knob k = 0; k < N_KNOBS; k++)
		if (streq(knobs[k].name, knob))
			values[k] = xstrdup(value);
}

int policy_load(struct registry *r, uint32_t vm_id, char *ret[N_KNOBS], struct err *err)
{
	return registry_knobs(r, vm_id, take, ret, err);
}

void policy_values_free(char *values[N_KNOBS])
{
	for (enum knob k = 0; k < N_KNOBS; k++)
		free(values[k]);
}

/* ---- setting ---- */

static int set_knob(struct engine *e, struct slot *s, enum knob k, const char *text,
		    struct err *err)
{
	char **place = s ? &s->knobs[k] : &e->knobs[k];
	int r = text ? knobs[k].check(text, err) : 0;

	if (r >= 0)
		r = registry_set_knob(e->registry, s ? s->id : 0, knobs[k].name, text, err);
	if (r < 0)
		return err_wrap(err, "%s cannot be '%s'", knobs[k].name, text ?: "default");
	pthread_mutex_lock(&e->lock);
	free(*place);
	*place = xstrdup(text);
	if (s)
		keeper_want(e, s);
	else
		keeper_want_all(e);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

static int task_knob(struct engine *e, struct slot *s, struct task *t, struct err *err)
{
	return set_knob(e, s, t->flags, t->text, err);
}

static int chore_knob(struct engine *e, struct chore *c, struct err *err)
{
	int r = set_knob(e, NULL, c->knob, c->text, err);

	if (r < 0)
		engine_set_last_error(e, 0, err->msg);
	return r;
}

static void set_for_all(struct engine *e, enum knob k, const char *text, engine_done *done,
			void *opaque)
{
	struct chore *c = xnew(struct chore);

	c->run = chore_knob;
	c->done = done;
	c->opaque = opaque;
	c->knob = k;
	c->text = xstrdup(text);
	chore_submit(e, c);
}

void engine_set_knob(struct engine *e, uint32_t vm_id, enum knob k, const char *text,
		     engine_done *done, void *opaque)
{
	struct task *t;

	if (!vm_id) {
		set_for_all(e, k, text, done, opaque);
		return;
	}
	t = task_new(task_knob, done, opaque);
	t->flags = k;
	t->text = xstrdup(text);
	task_submit(e, vm_id, t);
}
