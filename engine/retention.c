/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keep_ rules are counted as Proxmox counts them. They are applied one after the
 * other, each to the snapshots from the newest to the oldest: a rule keeps the newest one
 * of each hour, day and so on, until it has kept its number, and an hour or day out of
 * which an earlier rule has kept one is not counted and gets no other. What no rule has
 * kept in the end goes. keep_within is restic's: it reaches back from the newest snapshot,
 * not from now, so that nothing goes only because no new ones were taken.
 *
 * Pinned and expired ones are no part of that. Whatever the rules say, these stay: a
 * pinned one, one on which clones stand, one that a pool publishes, the one that the VM
 * stands on (unless it has expired: that somebody asked for), and, as long as that lasts,
 * one of which an image is open.
 *
 * Hours, days and weeks (ISO 8601) are those of the local time zone, as in crontab.
 */
#include "engine/retention.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "common/vec.h"

static const struct {
	const char *name;
	const char *period; /* strftime's: the same for two moments of one period; NULL: each is one */
} rules[N_KEEP_RULES] = {
	[KEEP_LAST] = { "keep_last", NULL },
	[KEEP_HOURLY] = { "keep_hourly", "%Y-%m-%d %H" },
	[KEEP_DAILY] = { "keep_daily", "%Y-%m-%d" },
	[KEEP_WEEKLY] = { "keep_weekly", "%G-%V" },
	[KEEP_MONTHLY] = { "keep_monthly", "%Y-%m" },
	[KEEP_YEARLY] = { "keep_yearly", "%Y" },
};

struct period {
	char text[24];
};

/* What the plan works with. */
struct work {
	const struct vm *vm;
	const struct retention *r;
	const struct circumstances *c;
	struct verdict *verdicts;
	bool *in_question; /* for each snapshot: no rule has kept it yet */
};

static void settle(struct work *w, size_t i, bool goes, const char *why)
{
	/* It would go, and cannot. */
	if (goes && w->c->open && w->c->open[i])
		w->verdicts[i] = (struct verdict){ .why = "open", .waits = true };
	else
		w->verdicts[i] = (struct verdict){ .goes = goes, .why = why };
}

static bool is_current(const struct work *w, size_t i)
{
	return w->vm->snapshots[i].id == w->vm->current;
}

/* ---- time ---- */

time_t retention_expiry(const struct retention *r, const struct snapshot *s)
{
	if (s->expires != EXPIRES_BY_TTL)
		return s->expires;
	return duration_is_zero(&r->ttl) ? EXPIRES_NEVER :
					   duration_after(s->created.tv_sec, &r->ttl);
}

static void apply_time(struct work *w)
{
	for (size_t i = 0; i < w->vm->n_snapshots; i++) {
		const struct snapshot *s = &w->vm->snapshots[i];
		time_t expiry = retention_expiry(w->r, s);

		if (s->pinned)
			settle(w, i, false, "pinned");
		else if (w->c->cloned && w->c->cloned[i])
			settle(w, i, false, "clones");
		else if (w->c->published && w->c->published[i])
			settle(w, i, false, "published");
		else if (expiry != EXPIRES_NEVER && expiry <= w->c->now)
			settle(w, i, true, "expired");
		else
			w->in_question[i] = true;
	}
}

/* ---- keep_ rules ---- */

bool retention_has_keep_rules(const struct retention *r)
{
	for (size_t i = 0; i < N_KEEP_RULES; i++)
		if (r->keep[i])
			return true;
	return !duration_is_zero(&r->keep_within);
}

static struct period period_of(const struct work *w, size_t i, const char *format)
{
	struct period p = { "" };
	struct tm tm;

	if (format) {
		localtime_r(&w->vm->snapshots[i].created.tv_sec, &tm);
		strftime(p.text, sizeof(p.text), format, &tm);
	} else {
		snprintf(p.text, sizeof(p.text), "%zu", i);
	}
	return p;
}

typedef vec_of(struct period) periods;

static bool has_period(const periods *v, const struct period *p)
{
	for (size_t i = 0; i < v->n; i++)
		if (streq(v->at[i].text, p->text))
			return true;
	return false;
}

/* Takes part in the rules, and none has kept it so far: or has, if `kept`. */
static bool is_candidate(const struct work *w, size_t i, bool kept)
{
	return w->in_question[i] && (w->verdicts[i].why != NULL) == kept;
}

static void apply_rule(struct work *w, enum keep_rule rule)
{
	periods earlier = { 0 }, own = { 0 };

	for (size_t i = 0; i < w->vm->n_snapshots; i++)
		if (is_candidate(w, i, true))
			vec_push(&earlier, period_of(w, i, rules[rule].period));
	for (size_t i = w->vm->n_snapshots; i-- > 0 && own.n < w->r->keep[rule];) {
		struct period p = period_of(w, i, rules[rule].period);

		if (!is_candidate(w, i, false) || has_period(&earlier, &p) || has_period(&own, &p))
			continue;
		vec_push(&own, p);
		settle(w, i, false, rules[rule].name);
	}
	vec_free(&earlier);
	vec_free(&own);
}

static void apply_within(struct work *w)
{
	time_t since;

	if (duration_is_zero(&w->r->keep_within) || w->vm->n_snapshots == 0)
		return;
	since = duration_before(vm_latest(w->vm)->created.tv_sec, &w->r->keep_within);
	for (size_t i = 0; i < w->vm->n_snapshots; i++)
		if (is_candidate(w, i, false) && w->vm->snapshots[i].created.tv_sec >= since)
			settle(w, i, false, "keep_within");
}

static void apply_keep_rules(struct work *w)
{
	if (!retention_has_keep_rules(w->r))
		return;
	apply_rule(w, KEEP_LAST);
	apply_within(w);
	for (enum keep_rule rule = KEEP_HOURLY; rule < N_KEEP_RULES; rule++)
		apply_rule(w, rule);
	for (size_t i = 0; i < w->vm->n_snapshots; i++)
		if (is_candidate(w, i, false))
			settle(w, i, !is_current(w, i), is_current(w, i) ? "current" : "no_rule");
}

/* ---- number and room ---- */

/* The oldest that may go although nothing says that it shall; n_snapshots if there is none. */
static size_t oldest_to_spare(const struct work *w)
{
	for (size_t i = 0; i + 1 < w->vm->n_snapshots; i++)
		if (w->in_question[i] && !w->verdicts[i].goes && !w->verdicts[i].waits &&
		    !is_current(w, i))
			return i;
	return w->vm->n_snapshots;
}

static size_t count_going(const struct work *w, bool waiting_too)
{
	size_t n = 0;

	for (size_t i = 0; i < w->vm->n_snapshots; i++)
		n += w->verdicts[i].goes || (waiting_too && w->verdicts[i].waits);
	return n;
}

static void apply_count(struct work *w)
{
	size_t i;

	while (w->r->max_count && w->vm->n_snapshots - count_going(w, true) > w->r->max_count &&
	       (i = oldest_to_spare(w)) < w->vm->n_snapshots)
		settle(w, i, true, "max_count");
}

static void apply_room(struct work *w)
{
	size_t i;

	while (w->c->want_room && count_going(w, false) == 0 &&
	       (i = oldest_to_spare(w)) < w->vm->n_snapshots)
		settle(w, i, true, "min_free");
}

void retention_plan(const struct vm *vm, const struct retention *r, const struct circumstances *c,
		    struct verdict *ret)
{
	cleanup_free bool *in_question = xcalloc(vm->n_snapshots, sizeof(*in_question));
	struct work w = { vm, r, c, ret, in_question };

	for (size_t i = 0; i < vm->n_snapshots; i++)
		ret[i] = (struct verdict){ 0 };
	apply_time(&w);
	if (c->all_rules)
		apply_keep_rules(&w);
	apply_count(&w);
	apply_room(&w);
	for (size_t i = 0; i < vm->n_snapshots; i++)
		if (!ret[i].why)
			ret[i].why = "-";
}
