/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pools on the dashboard, and who would take whose place. */
#include "fs/dashboard.h"

#include "common/cleanup.h"
#include "common/mem.h"
#include "fs/html.h"

#define NAME_SHOWN 80 /* characters */
#define ERROR_SHOWN 300
#define SUCCESSORS_MAX 20

/* ---- tables ---- */

struct column {
	enum word name;
	bool number;
};

static void begin_table(const char *title, const struct column *columns, size_t n, FILE *out)
{
	fprintf(out, "<div class=scroll tabindex=0 role=group aria-labelledby=%s>"
		"<table aria-labelledby=%s>\n<thead><tr>", title, title);
	for (size_t i = 0; i < n; i++) {
		fprintf(out, "<th scope=col%s>", columns[i].number ? " class=n" : "");
		say(columns[i].name, out);
	}
	fputs("<tbody>\n", out);
}

static void end_table(FILE *out)
{
	fputs("</table></div>\n", out);
}

static void draw_name(const char *name, FILE *out)
{
	fputs("<bdi>", out);
	html_text_cut(name, NAME_SHOWN, out);
	fputs("</bdi>", out);
}

/* ---- pools ---- */

static void draw_pool(const struct pool_facts *p, FILE *out)
{
	fputs("<tr><th scope=row>", out);
	draw_name(p->pool->name, out);
	fprintf(out, "<td class=n>%zu / %u<td class=n>%zu<td class=n>%zu<td>", p->health.ready,
		p->pool->settings.spare, p->current, p->outdated);
	draw_name(p->pool->path, out);
	if (p->health.error[0]) {
		fputs("<br><small>", out);
		html_text_cut(p->health.error, ERROR_SHOWN, out);
		fputs("</small>", out);
	}
	fputc('\n', out);
}

void draw_pools(const struct facts *f, FILE *out)
{
	static const struct column columns[] = {
		{ W_POOL }, { W_SPARES, true }, { W_INSTANCES, true }, { W_OUTDATED, true },
		{ W_PUBLISHES },
	};

	if (f->n_pools == 0)
		return;
	begin_section("pools", W_POOLS, out);
	begin_table("pools", columns, sizeof(columns) / sizeof(columns[0]), out);
	for (size_t i = 0; i < f->n_pools; i++)
		draw_pool(&f->pools[i], out);
	end_table(out);
	end_section(out);
}

/* ---- recovery ---- */

static void draw_way(enum recovery_way way, FILE *out)
{
	say(way == 0 ? W_RUNS_ALREADY : way == RECOVER_BY_START ? W_WOULD_START : W_WOULD_CLONE, out);
}

static void draw_successor(const struct vm_facts *vm, FILE *out)
{
	const struct successor *s = &vm->successor;

	fputs("<tr><th scope=row>", out);
	draw_vm_link(vm, out);
	if (s->name) {
		fprintf(out, "<td class=n>%.3f<td>", s->similarity);
		draw_name(s->name, out);
		fputs("<td>", out);
		draw_way(s->way, out);
	} else {
		fputs("<td class=n><td colspan=2>", out);
		say(W_NOBODY, out);
	}
	fputc('\n', out);
}

/* Who has nobody first, and then whose best candidate is the least like it. */
static int worst_first(const void *a, const void *b)
{
	const struct vm_facts *x = *(struct vm_facts *const *)a, *y = *(struct vm_facts *const *)b;
	double one = x->successor.name ? x->successor.similarity : -1;
	double other = y->successor.name ? y->successor.similarity : -1;

	if (one != other)
		return one < other ? -1 : 1;
	return x < y ? -1 : x > y; /* by name, as they are */
}

static void draw_successors(const struct facts *f, size_t shown, FILE *out)
{
	cleanup_free const struct vm_facts **worst = xcalloc(f->n_compared, sizeof(*worst));
	size_t n = 0;

	for (size_t i = 0; i < f->n_vms; i++)
		if (f->vms[i].successor.looked)
			worst[n++] = &f->vms[i];
	qsort(worst, n, sizeof(*worst), worst_first);
	for (size_t i = 0; i < shown; i++)
		draw_successor(worst[i], out);
}

void draw_recovery(const struct facts *f, FILE *out)
{
	static const struct column columns[] = {
		{ W_VM_THAT_FAILS }, { W_SIMILARITY, true }, { W_BEST_CANDIDATE }, { W_WHAT_IS_DONE },
	};
	size_t shown = f->n_compared < SUCCESSORS_MAX ? f->n_compared : SUCCESSORS_MAX;
	size_t others = f->n_compared - shown + f->n_not_compared;

	if (shown == 0)
		return;
	begin_section("recovery", W_RECOVERY, out);
	begin_table("recovery", columns, sizeof(columns) / sizeof(columns[0]), out);
	draw_successors(f, shown, out);
	end_table(out);
	if (others) {
		fputs("<p class=note>", out);
		say_count(W_OTHER_SUCCESSORS, others, out);
		fputs("\n", out);
	}
	end_section(out);
}
