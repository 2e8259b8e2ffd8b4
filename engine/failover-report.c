/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What became of a VM's failures, as somebody reads it. */
#include "engine/failover.h"

#include <inttypes.h>

static void print_time(const char *what, const struct timespec *t, FILE *out)
{
	char text[32];
	struct tm tm;

	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", gmtime_r(&t->tv_sec, &tm));
	fprintf(out, "%s %s.%03ldZ", what, text, t->tv_nsec / 1000000);
}

static bool is_there(const char *text)
{
	return text && text[0];
}

/* What takes the place, or was to. */
static void print_chosen(const struct failover *f, FILE *out)
{
	if (is_there(f->chosen))
		fprintf(out, "  chosen %s, similarity %.3f, %s\n", f->chosen, f->similarity,
			failover_way_to_string(f->way));
	if (f->state == FAILOVER_DONE)
		fprintf(out, "  replacement %s, %s %.3f s\n", f->replacement,
			f->way == WAY_RUNS ? "told after" : "ran after", f->seconds);
	else if (is_there(f->replacement))
		fprintf(out, "  replacement %s was begun\n", f->replacement);
}

static void print_passed(const char *lines, FILE *out)
{
	cleanup_free char *copy = xstrdup(lines ?: "");
	char *rest = NULL;

	for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		fprintf(out, "  passed over %s\n", line);
}

static void print(const struct failover *f, FILE *out)
{
	static const char *const states[] = {
		[FAILOVER_BEGUN] = "goes on", [FAILOVER_DONE] = "done", [FAILOVER_FAILED] = "failed",
	};

	print_time("failure", &f->failed, out);
	fprintf(out, " %s, %s\n", f->ordered ? "by order" : "by itself", states[f->state]);
	if (is_there(f->fenced))
		fprintf(out, "  fenced, it was %s\n", f->fenced);
	print_passed(f->passed, out);
	print_chosen(f, out);
	if (is_there(f->error))
		fprintf(out, "  error %s\n", f->error);
}

static void print_outlook(struct engine *e, uint32_t vm, FILE *out)
{
	struct failover_kept kept = failover_kept(e, vm);

	if (kept.row.given_up)
		fputs("given up: it has failed too often within an hour, with those that have taken its "
		      "place; write 1 to auto, or to recover\n", out);
	if (kept.put_off.tv_sec) {
		print_time("put off until", &kept.put_off, out);
		fputs(": it has failed before within an hour, with those that have taken its place\n",
		      out);
	}
}

int engine_recovery_report(struct engine *e, uint32_t vm_id, char **ret, struct err *err)
{
	struct failover *found = NULL;
	size_t n = 0, size;
	int r = registry_failovers(e->registry, vm_id, &found, &n, err);
	FILE *out;

	if (r < 0)
		return r;
	out = open_memstream(ret, &size);
	print_outlook(e, vm_id, out);
	for (size_t i = 0; i < n; i++)
		print(&found[i], out);
	fclose(out);
	failovers_free(found, n);
	return 0;
}
