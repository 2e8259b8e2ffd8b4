/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/text.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <inttypes.h>

void print_time(const struct timespec *t, FILE *out)
{
	char seconds[32];
	struct tm tm;

	gmtime_r(&t->tv_sec, &tm);
	strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(out, "%s.%09ldZ", seconds, t->tv_nsec);
}

int show_version(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%s\n", KWSFS_VERSION);
	return 0;
}

int show_state(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%s\n", n->vm->state);
	return 0;
}

/* Keyed lines like those of cgroup's: a later key is a later line. */
int show_status(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	struct job_status job;

	engine_job_status(fs->e, n->vm->id, &job);
	fprintf(out, "libvirt %s\n", engine_connected(fs->e) ? "connected" : "gone");
	fprintf(out, "snapshots %zu\n", n->vm->n_snapshots);
	fprintf(out, "tombstones %zu\n", job.tombstones);
	fprintf(out, "job %s\n", job.running ? "running" : job.failed ? "failed" : "idle");
	if (job.running && job.what[0])
		fprintf(out, "what %s\n", job.what);
	if (job.running && job.total)
		fprintf(out, "done %" PRIu64 "\ntotal %" PRIu64 "\n", job.done, job.total);
	return 0;
}

int show_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *msg = engine_last_error(fs->e, n->vm->id);

	if (msg[0])
		fprintf(out, "%s\n", msg);
	return 0;
}

int show_quiesce(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%s\n", quiesce_to_string(n->vm->quiesce));
	return 0;
}

int show_domain_xml(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *xml = NULL;
	int r = engine_domain_xml(fs->e, n->vm->id, n->snapshot->id, &xml, err);

	if (r < 0)
		return r;
	fputs(xml, out);
	return 0;
}

int show_description(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	if (n->snapshot->description[0])
		fprintf(out, "%s\n", n->snapshot->description);
	return 0;
}

int show_pin(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%d\n", n->snapshot->pinned);
	return 0;
}

int show_revert_help(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fputs("# write 1 [keep] [force] [start] to go back to this snapshot\n", out);
	return 0;
}

int show_latest(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fputs(vm_latest(n->vm)->name, out);
	return 0;
}

int show_current(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fputs(vm_snapshot(n->vm, n->vm->current)->name, out);
	return 0;
}

int show_parent(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "../%s", vm_snapshot(n->vm, n->snapshot->parent)->name);
	return 0;
}
