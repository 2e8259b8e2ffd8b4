/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * .kws/status: what a person wants to know of a VM, on one screen. Keyed lines like those
 * of cgroup's: a later key is a later line, and what is said more than once has its
 * disk after the key.
 */
#include "fs/text.h"

#include "common/cleanup.h"
#include "fs/core.h"

#include <inttypes.h>

static void print_planned(const char *key, time_t t, FILE *out)
{
	if (!t)
		return;
	fprintf(out, "%s ", key);
	print_seconds(t, out);
	fputc('\n', out);
}

static const char *role_of(const struct chain_layer_info *layer)
{
	return layer->number == 0 ? "active" : layer->base ? "base" : "deleted";
}

/* "layer DISK NUMBER BYTES WHOSE", from the one that is written to down to the base. */
static void print_layers(const struct chain_layer_info *layers, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++) {
		const struct chain_layer_info *l = &layers[i];

		fprintf(out, "layer %s %u %" PRIu64 " ", l->target, l->number, l->allocated);
		if (l->snapshot)
			fprintf(out, "snapshot %s\n", l->snapshot->name);
		else
			fprintf(out, "%s\n", role_of(l));
	}
}

static void print_chains(struct fs *fs, const struct vm *vm, FILE *out)
{
	cleanup_free struct chain_layer_info *layers = NULL;
	enum knob_source source;
	cleanup_free char *max_depth = engine_knob(fs->e, vm->id, KNOB_MAX_DEPTH, &source);
	struct err err = ERR_INIT;
	size_t n = 0;

	if (engine_chains(vm, &layers, &n, &err) < 0) {
		fprintf(out, "chain_error %s\n", err.msg);
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (i + 1 == n || layers[i + 1].number == 0)
			fprintf(out, "depth %s %u of %s\n", layers[i].target, layers[i].number + 1,
				max_depth);
	print_layers(layers, n, out);
}

int show_status(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup_free char *last_error = engine_last_error(fs->e, n->vm->id);
	struct job_status job;
	struct outlook outlook;

	engine_job_status(fs->e, n->vm->id, &job);
	engine_outlook(fs->e, n->vm->id, &outlook);
	fprintf(out, "state %s\n", n->vm->state);
	fprintf(out, "libvirt %s\n", engine_connected(fs->e) ? "connected" : "gone");
	fprintf(out, "snapshots %zu\n", n->vm->n_snapshots);
	fprintf(out, "tombstones %zu\n", job.tombstones);
	fprintf(out, "job %s\n", job.running ? "running" : job.failed ? "failed" : "idle");
	if (job.running)
		print_job(&job, out);
	print_planned("next_snapshot", outlook.next_snapshot, out);
	print_planned("next_prune", outlook.next_prune, out);
	if (last_error[0])
		fprintf(out, "last_error %s\n", last_error);
	print_chains(fs, n->vm, out);
	return 0;
}
