/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VM on the dashboard: a line, and under it its snapshots as a table whose first column
 * is the tree. The tree is drawn row by row, each an SVG as high as its row, so that rows may
 * have any height and pages may break between any two; the table says the same in words, so
 * whoever cannot see the lines misses nothing.
 */
#include "fs/dashboard.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "fs/dashboard-words.h"
#include "fs/html.h"
#include "fs/tree-layout.h"

#include <inttypes.h>

#define NAME_SHOWN 80         /* characters */
#define DESCRIPTION_SHOWN 300
#define ERROR_SHOWN 1000

/* ---- the line ---- */

static void draw_state(const char *state, FILE *out)
{
	static const struct {
		const char *state;
		enum word word;
		const char *class;
	} states[] = {
		{ "running", W_RUNNING, "good" },   { "shut off", W_SHUT_OFF, "off" },
		{ "paused", W_PAUSED, "warning" },  { "in shutdown", W_SHUTTING_DOWN, "warning" },
		{ "crashed", W_CRASHED, "alarm" },  { "suspended", W_SUSPENDED, "off" },
	};

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (!streq(state, states[i].state))
			continue;
		fprintf(out, "<span class=\"chip %s\">", states[i].class);
		say(states[i].word, out);
		fputs("</span>", out);
		return;
	}
	fputs("<span class=\"chip off\">", out);
	html_text(state, out);
	fputs("</span>", out);
}

static enum bar how_deep(const struct vm_facts *vm)
{
	unsigned percent = 100 * vm->depth / (vm->max_depth ?: 1);

	return percent >= 95 ? BAR_ALARM : percent >= 80 ? BAR_WARNING : BAR_CALM;
}

static void draw_depth(const struct vm_facts *vm, FILE *out)
{
	char text[64];

	if (vm->depth == 0 || vm->max_depth == 0)
		return;
	draw_bar((double)vm->depth / vm->max_depth, how_deep(vm), out);
	snprintf(text, sizeof(text), "%u / %u", vm->depth, vm->max_depth);
	say_with(W_DEPTH_OF, text, out);
}

static void draw_newest(const struct facts *f, const struct vm_facts *vm, FILE *out)
{
	const struct snapshot *newest = vm_latest(vm->vm);
	cleanup_free char *age = NULL;

	if (!newest)
		return;
	age = drawn_duration(difftime(f->now.tv_sec, newest->created.tv_sec));
	say_with(W_NEWEST, age, out);
}

void draw_job(const struct job_status *job, FILE *out)
{
	double rate = job->seconds > 0 ? job->done / job->seconds : 0;

	fprintf(out, "%s, ", job->kind);
	say(W_DISK, out);
	fputc(' ', out);
	html_text(job->target, out);
	if (!job->total)
		return;
	fprintf(out, " <progress max=\"%" PRIu64 "\" value=\"%" PRIu64 "\"></progress> %.0f %%",
		job->total, job->done, 100.0 * job->done / job->total);
	if (rate >= 1) {
		cleanup_free char *left = drawn_duration((job->total - job->done) / rate);

		fputs(", ", out);
		say_with(W_JOB_LEFT, left, out);
	}
}

static void draw_line(const struct facts *f, const struct vm_facts *vm, FILE *out)
{
	fprintf(out, "<summary><h3 id=n%" PRIu32 "><bdi>", vm->vm->id);
	html_text_cut(vm->vm->name, NAME_SHOWN, out);
	fputs("</bdi></h3> ", out);
	draw_state(vm->vm->state, out);
	fputs(" <span class=count>", out);
	say_count(W_N_SNAPSHOTS, vm->vm->n_snapshots, out);
	fputs("</span> <span class=depth>", out);
	draw_depth(vm, out);
	fputs("</span> <span class=newest>", out);
	draw_newest(f, vm, out);
	fputs("</span>", out);
	if (vm->job.running) {
		fprintf(out, " <span class=\"chip job\">%s</span>", vm->job.kind);
	}
	if (vm->job.failed || vm->last_error[0]) {
		fprintf(out, " <span class=\"chip %s\">", vm->job.failed ? "alarm" : "warning");
		say(vm->job.failed ? W_MERGES_FAIL : W_LAST_ERROR, out);
		fputs("</span>", out);
	}
	fputs("</summary>\n", out);
}

/* ---- the tree ---- */

#define LANE_WIDTH 14
#define DOT_AT "1.25em" /* from the top of a row: the middle of its first line */
#define FROM_TOP ""
#define FROM_DOT " y1=" DOT_AT

static int lane_x(int lane)
{
	return LANE_WIDTH / 2 + 1 + lane * LANE_WIDTH;
}

static void draw_lane(int lane, const char *from, const char *to, FILE *out)
{
	fprintf(out, "<line%s x1=%d x2=%d%s y2=%s />", lane == 0 ? " class=c" : "",
		lane_x(lane), lane_x(lane), from, to);
}

static void draw_lanes(uint32_t lanes, FILE *out)
{
	for (int lane = 0; lane < LANES_MAX; lane++)
		if (lanes & 1u << lane)
			draw_lane(lane, FROM_TOP, "100%", out);
}

static void draw_dot(int lane, const char *class, FILE *out)
{
	fprintf(out, "<circle%s cx=%d cy=" DOT_AT " r=4.5 />", class, lane_x(lane));
}

static void draw_graph(const struct tree_row *row, const struct vm *vm, FILE *out)
{
	const struct snapshot *s = &vm->snapshots[row->snapshot];

	fputs("<td class=g><svg aria-hidden=true>", out);
	draw_lanes(row->passes, out);
	if (row->lane >= 0) {
		for (int lane = 0; lane < LANES_MAX; lane++)
			if (row->joins & 1u << lane)
				fprintf(out, "<line x1=%d x2=%d y2=" DOT_AT " />",
					lane_x(lane), lane_x(row->lane));
		if (row->above && row->below)
			draw_lane(row->lane, FROM_TOP, "100%", out);
		else if (row->above)
			draw_lane(row->lane, FROM_TOP, DOT_AT, out);
		else if (row->below)
			draw_lane(row->lane, FROM_DOT, "100%", out);
		draw_dot(row->lane, s->id == vm->current ? " class=c" : s->pinned ? " class=p" : "", out);
	}
	fputs("</svg>", out);
}

static enum word consistency_word(enum consistency c)
{
	switch (c) {
	case CONSISTENCY_OFFLINE:
		return W_OFFLINE;
	case CONSISTENCY_FILESYSTEM:
		return W_FILESYSTEM;
	case CONSISTENCY_CRASH:
		return W_CRASH;
	case CONSISTENCY_UNKNOWN:
		break;
	}
	return W_UNKNOWN;
}

/* As a word of a shell: between quotes if it has to be. The caller frees it. */
static char *shell_word(const char *s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
	char *text = NULL;
	size_t size;
	FILE *out;

	if (s[strspn(s, plain)] == '\0')
		return xstrdup(s);
	out = open_memstream(&text, &size);
	fputc('\'', out);
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", out);
		else
			fputc(*s, out);
	}
	fputc('\'', out);
	fclose(out);
	return text;
}

static char *drawn_name(const char *name)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	fputs("<bdi>", out);
	html_text_cut(name, NAME_SHOWN, out);
	fputs("</bdi>", out);
	fclose(out);
	return text;
}

static void draw_parent(const struct snapshot *parent, FILE *out)
{
	cleanup_free char *name = parent ? drawn_name(parent->name) : NULL;

	if (!parent)
		return;
	fputs(" <small>", out);
	say_with(W_TAKEN_ON, name, out);
	fputs("</small>", out);
}

static char *drawn_day(time_t t)
{
	char text[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d", &tm);
	return xstrdup(text);
}

/* What it was taken on is said where it does not stand in the next row. */
static void draw_name(const struct vm *vm, const struct tree_row *row, const struct tree_row *next,
		      FILE *out)
{
	const struct snapshot *s = &vm->snapshots[row->snapshot];
	bool is_next = next && vm->snapshots[next->snapshot].id == s->parent;
	const struct snapshot *parent = is_next || !s->parent ? NULL : vm_snapshot(vm, s->parent);

	fputs("<th scope=row><bdi>", out);
	html_text_cut(s->name, NAME_SHOWN, out);
	fputs("</bdi>", out);
	if (s->id == vm->current) {
		fputs(" <b class=\"chip now\">", out);
		say(W_CURRENT, out);
		fputs("</b>", out);
	}
	if (s->pinned) {
		fputs(" <b class=\"chip pin\">", out);
		say(W_PINNED, out);
		fputs("</b>", out);
	}
	if (s->expires > 0) {
		cleanup_free char *day = drawn_day(s->expires);

		fputs(" <b class=\"chip pin\">", out);
		say_with(W_UNTIL, day, out);
		fputs("</b>", out);
	}
	draw_parent(parent, out);
}

/* End tags of cells and rows are left out, as HTML allows: there are many of them. */
static void draw_row(const struct facts *f, const struct vm_facts *vm, const struct tree_row *row,
		     const struct tree_row *next, FILE *out)
{
	const struct snapshot *s = &vm->vm->snapshots[row->snapshot];
	uint64_t held = vm->held[row->snapshot];

	fputs("<tr>", out);
	draw_graph(row, vm->vm, out);
	draw_name(vm->vm, row, next, out);
	fputs("<td>", out);
	draw_moment(&s->created, out);
	fputs("<td>", out);
	draw_duration(difftime(f->now.tv_sec, s->created.tv_sec), out);
	fputs("<td class=n>", out);
	if (held == HELD_UNKNOWN)
		say(W_NOT_TO_BE_SEEN, out);
	else
		draw_bytes(held, out);
	fputs("<td>", out);
	say(consistency_word(s->consistency), out);
	fputs(s->description[0] ? "<td dir=auto>" : "<td>", out);
	html_text_cut(s->description, DESCRIPTION_SHOWN, out);
	fputc('\n', out);
}

static void draw_head(const struct tree_layout *layout, const struct vm *vm, FILE *out)
{
	static const enum word columns[] = { W_SNAPSHOT, W_TAKEN, W_AGE, W_HOLDS, W_CONSISTENCY,
					     W_DESCRIPTION };
	cleanup_free char *name = drawn_name(vm->name);

	fputs("<table><caption><span>", out);
	say_with(W_TREE, name, out);
	fprintf(out, "</span></caption>\n<thead><tr><th scope=col><svg width=%d height=1 aria-hidden=true></svg>"
		"<span class=v>", lane_x(layout->lanes));
	say(W_TREE_COLUMN, out);
	fputs("</span>", out);
	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
		fprintf(out, "<th scope=col%s>", columns[i] == W_HOLDS ? " class=n" : "");
		say(columns[i], out);
	}
	fputs("<tbody>\n", out);
}

/* What it stands on is said where it does not stand in the next row: it may be older than all
 * that is listed. */
static void draw_now(const struct vm *vm, const struct tree_layout *layout, FILE *out)
{
	bool is_next = vm->snapshots[layout->rows[0].snapshot].id == vm->current;
	const struct snapshot *current = is_next ? NULL : vm_snapshot(vm, vm->current);

	fputs("<tr class=now><td class=g><svg aria-hidden=true>", out);
	if (vm->current)
		draw_lane(0, FROM_DOT, "100%", out);
	draw_dot(0, " class=o", out);
	fputs("</svg><th scope=row>", out);
	say(W_NOW, out);
	draw_parent(current, out);
	fputs("<td colspan=5>", out);
	draw_state(vm->state, out);
	fputc('\n', out);
}

/* A command with the VM's folder, which may be copied into a shell whatever its name is. */
static char *drawn_command(const struct facts *f, const char *command, const struct vm_facts *vm,
			   const char *rest)
{
	cleanup_free char *folder = xasprintf("%s/snapshots/%s/", f->mountpoint, vm->folder);
	cleanup_free char *quoted = shell_word(folder);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	fprintf(out, "<code>%s <bdi>", command);
	html_text(quoted, out);
	fprintf(out, "</bdi>%s</code>", rest);
	fclose(out);
	return text;
}

/* Says how many are not shown, with the lines that lead there. */
static void draw_older(const struct facts *f, const struct vm_facts *vm, size_t n,
		       const struct tree_row *first, FILE *out)
{
	cleanup_free char *command = drawn_command(f, "ls -lt", vm, "");
	uint32_t lanes = first->passes | first->joins;

	if (first->above)
		lanes |= 1u << first->lane;
	fputs("<tr class=more><td class=g><svg aria-hidden=true>", out);
	draw_lanes(lanes, out);
	fputs("</svg><td colspan=6>", out);
	say_count_with(W_OLDER, n, command, out);
	fputc('\n', out);
}

static size_t undrawn(const struct tree_layout *layout, size_t rows)
{
	size_t n = 0;

	for (size_t i = 0; i < rows; i++)
		n += layout->rows[i].lane < 0;
	return n;
}

static void draw_table(const struct facts *f, const struct vm_facts *vm, size_t max_rows, FILE *out)
{
	size_t n = vm->vm->n_snapshots, shown = n < max_rows ? n : max_rows;
	struct tree_layout layout;

	tree_lay_out(vm->vm, &layout);
	fprintf(out, "<div class=scroll tabindex=0 role=group aria-labelledby=n%" PRIu32 ">", vm->vm->id);
	draw_head(&layout, vm->vm, out);
	draw_now(vm->vm, &layout, out);
	for (size_t i = 0; i < shown; i++)
		draw_row(f, vm, &layout.rows[i], i + 1 < n ? &layout.rows[i + 1] : NULL, out);
	if (shown < n)
		draw_older(f, vm, n - shown, &layout.rows[shown], out);
	fputs("</table></div>\n", out);
	if (undrawn(&layout, shown)) {
		fputs("<p class=note>", out);
		say_count(W_BRANCHES, undrawn(&layout, shown), out);
		fputs("\n", out);
	}
	free(layout.rows);
}

/* ---- what is under the line ---- */

static void begin_fact(enum word name, FILE *out)
{
	fputs("<div><dt>", out);
	say(name, out);
	fputs("<dd>", out);
}

static void end_fact(FILE *out)
{
	fputs("</div>\n", out);
}

static void draw_planned(enum word name, time_t t, FILE *out)
{
	struct timespec moment = { .tv_sec = t };

	if (!t)
		return;
	begin_fact(name, out);
	draw_moment(&moment, out);
	fputs(" UTC", out);
	end_fact(out);
}

static void draw_facts(const struct vm_facts *vm, FILE *out)
{
	fputs("<dl class=facts>\n", out);
	begin_fact(W_HELD, out);
	draw_bytes(vm->held_by_all, out);
	end_fact(out);
	begin_fact(W_WAITING, out);
	fprintf(out, "%zu", vm->job.tombstones);
	end_fact(out);
	begin_fact(W_QUIESCE, out);
	fputs(quiesce_to_string(vm->vm->quiesce), out);
	end_fact(out);
	draw_planned(W_NEXT_SNAPSHOT, vm->outlook.next_snapshot, out);
	draw_planned(W_NEXT_PRUNE, vm->outlook.next_prune, out);
	if (!streq(vm->ttl, "none")) {
		begin_fact(W_TTL, out);
		html_text(vm->ttl, out);
		end_fact(out);
	}
	if (vm->job.running) {
		begin_fact(W_RUNNING_JOBS, out);
		draw_job(&vm->job, out);
		end_fact(out);
	}
	if (vm->last_error[0]) {
		begin_fact(W_LAST_ERROR, out);
		html_text_cut(vm->last_error, ERROR_SHOWN, out);
		end_fact(out);
	}
	fputs("</dl>\n", out);
}

void draw_vm_link(const struct vm_facts *vm, FILE *out)
{
	fprintf(out, "<a href=\"#vm%" PRIu32 "\"><bdi>", vm->vm->id);
	html_text_cut(vm->vm->name, NAME_SHOWN, out);
	fputs("</bdi></a>", out);
}

void dashboard_draw_vm(const struct facts *f, const struct vm_facts *vm, size_t max_rows, bool open,
		       FILE *out)
{
	fprintf(out, "<details class=vm id=vm%" PRIu32 "%s>", vm->vm->id, open ? " open" : "");
	draw_line(f, vm, out);
	draw_facts(vm, out);
	if (vm->vm->n_snapshots > 0) {
		draw_table(f, vm, max_rows, out);
	} else {
		cleanup_free char *command = drawn_command(f, "mkdir", vm, "NAME");

		fputs("<p class=note>", out);
		say_with(W_NONE_YET, command, out);
		fputs("\n", out);
	}
	fputs("</details>\n", out);
}
