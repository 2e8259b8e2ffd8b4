/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The page of the dashboard. It holds all that it needs, and may do nothing else: the policy
 * in its head allows the one style sheet and the one script that are in it, by their
 * hashes, and nothing to be loaded. Without the script all is to be seen, only the VMs cannot be
 * searched.
 *
 * The radio buttons of the languages come first in the body, for the style sheet to know by
 * them what is to be hidden in all that follows.
 */
#include "fs/dashboard.h"

#include "common/cleanup.h"
#include "fs/dashboard-words.h"
#include "fs/dashboard.css.h"
#include "fs/dashboard.js.h"
#include "fs/html.h"

#include <inttypes.h>

/* So many rows of snapshots in all, but some of each VM: a browser is to open the page. */
#define ROWS_MAX 10000
#define ROWS_LEAST 10
#define OPEN_MAX 5    /* VMs that are open when the page is */
#define ERRORS_MAX 50
#define ERROR_SHOWN 300 /* characters */

/* ---- the frame ---- */

static void draw_begin(const struct facts *f, FILE *out)
{
	fputs("<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
	      "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
	      "style-src 'sha256-" DASHBOARD_CSS_SHA256 "'; "
	      "script-src 'sha256-" DASHBOARD_JS_SHA256 "'; "
	      "base-uri 'none'; form-action 'none'\">\n"
	      "<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
	      "<meta name=color-scheme content=\"light dark\">\n"
	      "<meta name=generator content=\"kwsfs " KWSFS_VERSION "\">\n<title>kwsfs: ", out);
	html_text(f->host, out);
	fputs("</title>\n<style>" DASHBOARD_CSS "</style>\n</head>\n<body>\n"
	      "<input type=radio name=language id=en class=v checked>"
	      "<input type=radio name=language id=ko class=v>\n", out);
}

static void draw_header(const struct facts *f, FILE *out)
{
	char *moment = NULL;
	size_t size;
	FILE *text = open_memstream(&moment, &size);

	draw_moment(&f->now, text);
	fclose(text);
	fputs("<header>\n<div><h1>kwsfs <small>", out);
	html_text(f->host, out);
	fputs("</small></h1>\n<p>", out);
	say_with(W_AS_OF, moment, out);
	fputs("</p></div>\n<div class=languages>"
	      "<label for=en lang=en>English</label><label for=ko lang=ko>한국어</label></div>\n"
	      "</header>\n<main>\n", out);
	free(moment);
}

void begin_section(const char *id, enum word title, FILE *out)
{
	fprintf(out, "<section aria-labelledby=%s>\n<h2 id=%s>", id, id);
	say(title, out);
	fputs("</h2>\n", out);
}

void end_section(FILE *out)
{
	fputs("</section>\n", out);
}

/* ---- the summary ---- */

struct totals {
	size_t running, snapshots, tombstones, jobs, failed;
	uint64_t held;
};

static struct totals add_up(const struct facts *f)
{
	struct totals t = { 0 };

	for (size_t i = 0; i < f->n_vms; i++) {
		const struct vm_facts *vm = &f->vms[i];

		t.running += vm->vm->active;
		t.snapshots += vm->vm->n_snapshots;
		t.tombstones += vm->job.tombstones;
		t.jobs += vm->job.running;
		t.failed += vm->job.failed;
		t.held += vm->held_by_all;
	}
	return t;
}

static void begin_tile(enum word name, const char *class, FILE *out)
{
	fprintf(out, "<div%s><dt>", class);
	say(name, out);
	fputs("<dd>", out);
}

static void tile(enum word name, size_t n, const char *class, FILE *out)
{
	begin_tile(name, class, out);
	fprintf(out, "%zu <small>", n);
}

static void end_tile(FILE *out)
{
	fputs("</small></div>\n", out);
}

static void draw_summary(const struct facts *f, FILE *out)
{
	struct totals t = add_up(f);
	cleanup_free char *held = drawn_bytes(t.held);

	begin_section("summary", W_SUMMARY, out);
	fputs("<dl class=tiles>\n", out);
	tile(W_VMS, f->n_vms, "", out);
	say_count(W_RUNNING_OF_THEM, t.running, out);
	end_tile(out);
	tile(W_SNAPSHOTS, t.snapshots, "", out);
	say_with(W_HELD_BY_THEM, held, out);
	end_tile(out);
	tile(W_JOBS, t.jobs, t.failed ? " class=alarm" : "", out);
	if (t.failed)
		say_count(W_JOBS_FAILED, t.failed, out);
	end_tile(out);
	tile(W_TOMBSTONES, t.tombstones, "", out);
	say(W_TOMBSTONES_ARE, out);
	end_tile(out);
	if (f->orphans_looked) {
		tile(W_ORPHANS, f->n_orphans, "", out);
	} else {
		begin_tile(W_ORPHANS, "", out);
		fputs("? <small>", out);
	}
	say(f->orphans_looked ? W_ORPHANS_ARE : W_ORPHANS_UNKNOWN, out);
	end_tile(out);
	begin_tile(W_LIBVIRT, f->connected ? "" : " class=alarm", out);
	fputs("<small class=word>", out);
	say(f->connected ? W_CONNECTED : W_GONE, out);
	end_tile(out);
	fputs("</dl>\n", out);
	end_section(out);
}

/* ---- free space ---- */

#define SECONDS_SOON (3 * 86400.0)
#define SECONDS_FAR (10 * 365.25 * 86400)

/* Until it is full at the present rate; less than 0: it does not get full, or it is not known. */
static double full_in(const struct space *s)
{
	return s->has_trend && s->rate < 0 ? s->free / -s->rate : -1;
}

static void draw_trend(const struct space *s, FILE *out)
{
	cleanup_free char *left = drawn_duration(full_in(s)), *span = drawn_duration(s->span);

	if (!s->has_trend)
		say(W_NO_TREND, out);
	else if (s->rate >= 0)
		say(W_NOT_LESS, out);
	else if (full_in(s) > SECONDS_FAR)
		say(W_NOT_SOON, out);
	else
		say_with(W_FULL_IN, left, out);
	if (!s->has_trend)
		return;
	fputs(" <small>", out);
	say_with(W_OVER, span, out);
	fputs("</small>", out);
}

static enum bar how_full(const struct space *s)
{
	double left = full_in(s), part = s->total ? (double)s->free / s->total : 0;

	if (part < .05 || (left >= 0 && left < SECONDS_SOON / 3))
		return BAR_ALARM;
	return part < .15 || (left >= 0 && left < SECONDS_SOON) ? BAR_WARNING : BAR_CALM;
}

static void draw_space(const struct space *s, FILE *out)
{
	cleanup_free char *free_bytes = drawn_bytes(s->free), *total = drawn_bytes(s->total);

	fputs("<li><code>", out);
	html_text(s->folder, out);
	fputs("</code> ", out);
	draw_bar(s->total ? 1 - (double)s->free / s->total : 0, how_full(s), out);
	fputs(" <b>", out);
	say_with(W_FREE, free_bytes, out);
	fprintf(out, "</b> <small>/ %s</small> <span>", total);
	draw_trend(s, out);
	fputs("</span>\n", out);
}

static void draw_spaces(const struct facts *f, FILE *out)
{
	if (f->n_spaces == 0)
		return;
	begin_section("space", W_ROOM, out);
	fputs("<ul class=spaces>\n", out);
	for (size_t i = 0; i < f->n_spaces; i++)
		draw_space(&f->spaces[i], out);
	fputs("</ul>\n", out);
	end_section(out);
}

/* ---- jobs and errors ---- */

static void draw_jobs(const struct facts *f, FILE *out)
{
	if (add_up(f).jobs == 0)
		return;
	begin_section("jobs", W_RUNNING_JOBS, out);
	fputs("<ul class=list>\n", out);
	for (size_t i = 0; i < f->n_vms; i++) {
		if (!f->vms[i].job.running)
			continue;
		fputs("<li>", out);
		draw_vm_link(&f->vms[i], out);
		fputs(" <span>", out);
		draw_job(&f->vms[i].job, out);
		fputs("</span>\n", out);
	}
	fputs("</ul>\n", out);
	end_section(out);
}

static void draw_error(const struct vm_facts *vm, FILE *out)
{
	fputs("<li>", out);
	draw_vm_link(vm, out);
	fputs(" <span>", out);
	html_text_cut(vm->last_error, ERROR_SHOWN, out);
	fputs("</span>\n", out);
}

/* Of what is about no VM. */
static void draw_error_of(const char *folder, const char *error, FILE *out)
{
	if (!error[0])
		return;
	fprintf(out, "<li><code>%s</code> <span>", folder);
	html_text_cut(error, ERROR_SHOWN, out);
	fputs("</span>\n", out);
}

static void draw_errors(const struct facts *f, FILE *out)
{
	size_t n = 0;

	begin_section("errors", W_ERRORS, out);
	fputs("<ul class=list>\n", out);
	draw_error_of("lost+found", f->orphans_error, out);
	draw_error_of("snapshots", f->last_error, out);
	for (size_t i = 0; i < f->n_vms; i++)
		if (f->vms[i].last_error[0] && n++ < ERRORS_MAX)
			draw_error(&f->vms[i], out);
	if (n > ERRORS_MAX) {
		fputs("<li class=note>", out);
		say_count(W_MORE_ERRORS, n - ERRORS_MAX, out);
	} else if (n == 0 && !f->orphans_error[0] && !f->last_error[0]) {
		fputs("<li class=note>", out);
		say(W_NO_ERRORS, out);
	}
	fputs("</ul>\n", out);
	end_section(out);
}

/* ---- the VMs ---- */

/* For the script, which shows them: without it they could do nothing. */
static void draw_tools(FILE *out)
{
	fputs("<div class=tools id=tools hidden><label for=find>", out);
	say(W_FIND, out);
	fputs("</label><input type=search id=find autocomplete=off spellcheck=false>"
	      "<output id=found for=find></output>\n<button type=button id=open>", out);
	say(W_OPEN_ALL, out);
	fputs("</button><button type=button id=close>", out);
	say(W_CLOSE_ALL, out);
	fputs("</button></div>\n", out);
}

static void draw_vms(const struct facts *f, FILE *out)
{
	size_t rows = f->n_vms ? ROWS_MAX / f->n_vms : 0;

	begin_section("vms", W_VMS, out);
	draw_tools(out);
	if (f->n_vms == 0) {
		fputs("<p class=note>", out);
		say(W_NO_VMS, out);
		fputs("\n", out);
	}
	for (size_t i = 0; i < f->n_vms; i++)
		dashboard_draw_vm(f, &f->vms[i], rows < ROWS_LEAST ? ROWS_LEAST : rows,
				  f->n_vms <= OPEN_MAX, out);
	end_section(out);
}

static void draw_meanings(FILE *out)
{
	static const struct {
		enum word word, meaning;
	} meanings[] = {
		{ W_HOLDS, W_MEANS_HOLDS },
		{ W_DEPTH, W_MEANS_DEPTH },
		{ W_CONSISTENCY, W_MEANS_CONSISTENCY },
		{ W_TOMBSTONES, W_MEANS_TOMBSTONE },
		{ W_ORPHANS, W_MEANS_ORPHAN },
		{ W_ROOM, W_MEANS_TREND },
		{ W_SIMILARITY, W_MEANS_SIMILARITY },
	};

	fputs("<details class=meanings><summary><h2>", out);
	say(W_MEANINGS, out);
	fputs("</h2></summary><dl>\n", out);
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
		fputs("<dt>", out);
		say(meanings[i].word, out);
		fputs("<dd>", out);
		say(meanings[i].meaning, out);
		fputs("\n", out);
	}
	fputs("</dl></details>\n", out);
}

void dashboard_draw(const struct facts *f, FILE *out)
{
	draw_begin(f, out);
	draw_header(f, out);
	draw_summary(f, out);
	draw_spaces(f, out);
	draw_jobs(f, out);
	draw_errors(f, out);
	draw_pools(f, out);
	draw_recovery(f, out);
	draw_vms(f, out);
	fputs("</main>\n<footer>\n", out);
	draw_meanings(out);
	fputs("<p>kwsfs " KWSFS_VERSION "</footer>\n<script>" DASHBOARD_JS "</script>\n</body>\n</html>\n",
	      out);
}
