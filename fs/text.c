/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/text.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <errno.h>
#include <inttypes.h>

void print_time(const struct timespec *t, FILE *out)
{
	char seconds[32];
	struct tm tm;

	gmtime_r(&t->tv_sec, &tm);
	strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(out, "%s.%09ldZ", seconds, t->tv_nsec);
}

char *time_text(const struct timespec *t)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	print_time(t, out);
	fclose(out);
	return text;
}

void print_seconds(time_t t, FILE *out)
{
	char text[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	fputs(text, out);
}

int show_version(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%s\n", KWSFS_VERSION);
	return 0;
}

int show_fsck_help(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fputs("# kwsfs fsck asks here: check or repair\n", out);
	return 0;
}

int show_orphans_last_error(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *msg = engine_orphans_last_error(fs->e);

	if (msg[0])
		fprintf(out, "%s\n", msg);
	return 0;
}

int show_state(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fprintf(out, "%s\n", n->vm->state);
	return 0;
}

/* Rate and time left as soon as there is something to tell them by. */
void print_job(const struct job_status *job, FILE *out)
{
	double rate = job->seconds > 0 ? job->done / job->seconds : 0;

	fprintf(out, "kind %s\ndisk %s\nstep %s\n", job->kind, job->target, job->step);
	if (!job->total)
		return;
	fprintf(out, "done %" PRIu64 "\ntotal %" PRIu64 "\n", job->done, job->total);
	fprintf(out, "rate %.0f\n", rate);
	if (rate >= 1)
		fprintf(out, "left %.0f\n", (job->total - job->done) / rate);
}

int show_job(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	struct job_status job;

	engine_job_status(fs->e, n->vm->id, &job);
	if (!job.running || job.id != n->key.snapshot)
		return err_set(err, ESTALE, "the job has ended");
	print_job(&job, out);
	return 0;
}

int show_cancel_help(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	fputs("# write 1 to break the job off; what it merges stays as it was before\n", out);
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

size_t domain_xml_length(const struct node *n)
{
	return n->snapshot->domain_length;
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

static const char *suffix_of(enum disk_shape shape)
{
	return row_of(shape == SHAPE_RAW ? KIND_DISK_RAW : KIND_DISK_QCOW2)->suffix;
}

/* As sha256sum prints and checks it; what is no checksum is a comment to it. */
int show_checksums(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	struct checksum *sums = NULL;
	size_t n_sums = 0;
	int r = engine_checksums(fs->e, n->snapshot->id, &sums, &n_sums, err);

	if (r < 0)
		return r;
	if (n_sums == 0)
		fputs("# write 1 to have the checksums of this snapshot's disks made\n", out);
	for (size_t i = 0; i < n_sums; i++) {
		const struct checksum *c = &sums[i];

		if (c->sha256)
			fprintf(out, "%s  %s%s\n", c->sha256, c->target, suffix_of(c->shape));
		else if (c->total)
			fprintf(out, "# %s%s is being read: %" PRIu64 " of %" PRIu64 " bytes\n",
				c->target, suffix_of(c->shape), c->done, c->total);
		else
			fprintf(out, "# %s%s waits\n", c->target, suffix_of(c->shape));
	}
	checksums_free(sums, n_sums);
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
