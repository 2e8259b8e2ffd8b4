/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file `metrics`. All samples of a metric stand together, as the format wants it, so
 * the VMs are gone through once for each of them; nothing is asked of libvirt, and no file
 * is looked at but the file system of the store.
 */
#include "common/cleanup.h"
#include "fs/core.h"
#include "fs/prometheus.h"
#include "fs/text.h"

#include <errno.h>

DEFINE_CLEANUP(struct vm_list, vm_list_unref);
DEFINE_CLEANUP(struct orphan_list, orphan_list_unref);
DEFINE_CLEANUP(struct pool_list, pool_list_unref);

/* One VM, with what is wanted of it. */
struct subject {
	const struct vm *vm;
	char *label; /* vm="..." */
	struct vm_measures *measures; /* NULL: not known yet */
	struct job_status job;
};

struct subjects {
	size_t n;
	struct subject *at;
};

static void subjects_clear(struct subjects *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->at[i].label);
		vm_measures_unref(s->at[i].measures);
	}
	free(s->at);
}

static char *label(const char *key, const char *value)
{
	cleanup_free char *escaped = prom_label(value);

	return xasprintf("%s=\"%s\"", key, escaped);
}

static struct subjects subjects(struct fs *fs, const struct vm_list *list)
{
	struct subjects s = { list->n, xcalloc(list->n, sizeof(*s.at)) };

	for (size_t i = 0; i < s.n; i++) {
		struct subject *of = &s.at[i];

		of->vm = list->vms[i];
		of->label = label("vm", of->vm->name);
		of->measures = engine_vm_measures(fs->e, of->vm->id);
		engine_job_status(fs->e, of->vm->id, &of->job);
	}
	return s;
}

/* ---- of each VM ---- */

static void print_snapshots(FILE *out, const struct subjects *s)
{
	prom_metric(out, "kwsfs_vm_snapshots", "gauge", "Snapshots of the VM.");
	for (size_t i = 0; i < s->n; i++)
		prom_sample(out, "kwsfs_vm_snapshots", s->at[i].label, s->at[i].vm->n_snapshots);

	prom_metric(out, "kwsfs_vm_newest_snapshot_timestamp_seconds", "gauge",
		    "When the newest snapshot of the VM was taken; absent if it has none.");
	for (size_t i = 0; i < s->n; i++)
		if (vm_latest(s->at[i].vm))
			prom_sample(out, "kwsfs_vm_newest_snapshot_timestamp_seconds",
				    s->at[i].label, vm_latest(s->at[i].vm)->created.tv_sec);
}

static void print_depths(struct fs *fs, FILE *out, const struct subjects *s)
{
	prom_metric(out, "kwsfs_disk_chain_depth", "gauge",
		    "Layers of the disk's chain, from the one that the VM writes to down to the base.");
	for (size_t i = 0; i < s->n; i++) {
		const struct vm_measures *m = s->at[i].measures;

		for (size_t d = 0; m && d < m->n_disks; d++) {
			cleanup_free char *disk = label("disk", m->disks[d].target);
			cleanup_free char *both = xasprintf("%s,%s", s->at[i].label, disk);

			prom_sample(out, "kwsfs_disk_chain_depth", both, m->disks[d].depth);
		}
	}
	prom_metric(out, "kwsfs_vm_max_chain_depth", "gauge",
		    "Layers that the chain of a disk of the VM may have; more snapshots are refused.");
	for (size_t i = 0; i < s->n; i++) {
		enum knob_source source;
		cleanup_free char *most =
			engine_knob(fs->e, s->at[i].vm->id, KNOB_MAX_DEPTH, &source);

		if (most)
			prom_sample(out, "kwsfs_vm_max_chain_depth", s->at[i].label,
				    strtoul(most, NULL, 10));
	}
}

static void print_tombstones(FILE *out, const struct subjects *s)
{
	prom_metric(out, "kwsfs_vm_tombstones", "gauge",
		    "Layers of deleted snapshots of the VM that are not merged yet.");
	for (size_t i = 0; i < s->n; i++)
		prom_sample(out, "kwsfs_vm_tombstones", s->at[i].label, s->at[i].job.tombstones);
}

/* ---- of each snapshot ---- */

static void print_of_snapshot(FILE *out, const char *name, const struct subject *of,
			      const struct snapshot *s, uint64_t value)
{
	cleanup_free char *escaped = prom_label(s->name);
	cleanup_free char *labels = xasprintf("%s,snapshot=\"%s\"", of->label, escaped);

	prom_sample(out, name, labels, value);
}

static void print_held_by(FILE *out, const char *name, const struct subject *of, bool shared)
{
	const struct vm_measures *m = of->measures;

	for (size_t i = 0; m && i < m->n_snapshots; i++) {
		const struct snapshot_measure *held = &m->snapshots[i];
		/* Measured in the same order, as long as nothing has changed since. */
		bool same = i < of->vm->n_snapshots && of->vm->snapshots[i].id == held->id;
		const struct snapshot *s = same ? &of->vm->snapshots[i] :
						  vm_snapshot(of->vm, held->id);

		if (s && held->known)
			print_of_snapshot(out, name, of, s, shared ? held->shared : held->exclusive);
	}
}

static void print_held(FILE *out, const struct subjects *s)
{
	prom_metric(out, "kwsfs_snapshot_exclusive_bytes", "gauge",
		    "Room that the snapshot's own layers occupy: what its disks hold that those of "
		    "its parent do not.");
	for (size_t i = 0; i < s->n; i++)
		print_held_by(out, "kwsfs_snapshot_exclusive_bytes", &s->at[i], false);
	prom_metric(out, "kwsfs_snapshot_shared_bytes", "gauge",
		    "Room that the layers of its parent occupy, and of that one's, down to the first "
		    "snapshot: its images lie on them.");
	for (size_t i = 0; i < s->n; i++)
		print_held_by(out, "kwsfs_snapshot_shared_bytes", &s->at[i], true);
}

/* ---- of all ---- */

static void print_gauge(FILE *out, const char *name, uint64_t value, const char *help)
{
	prom_metric(out, name, "gauge", help);
	prom_sample(out, name, NULL, value);
}

static void print_counter(FILE *out, const char *name, uint64_t value, const char *help)
{
	prom_metric(out, name, "counter", help);
	prom_sample(out, name, NULL, value);
}

static void print_times(FILE *out, const struct engine_metrics *m)
{
	prom_histogram(out, "kwsfs_snapshot_duration_seconds",
		       "Time that taking a snapshot took, from its order to its record.",
		       &m->snapshots);
	prom_histogram(out, "kwsfs_freeze_upper_bound_seconds",
		       "Time in which the file systems of a guest were frozen, the snapshot taken and "
		       "they were thawed again: they were frozen for no longer than this.",
		       &m->freezes);
	prom_histogram(out, "kwsfs_clone_duration_seconds",
		       "Time that making a clone took, also as a spare of a pool.", &m->clones);
	prom_histogram(out, "kwsfs_claim_duration_seconds",
		       "Time that taking a spare of a pool took, from its order to its record.",
		       &m->claims);
	prom_histogram(out, "kwsfs_recovery_seconds",
		       "Time from when a VM was seen to have failed, or its recovery was ordered, until "
		       "another one that was started in its place ran.", &m->recoveries);
	prom_histogram(out, "kwsfs_merge_duration_seconds",
		       "Time that merging a layer took, of the attempt that came to its end.",
		       &m->merges);
	print_counter(out, "kwsfs_merged_bytes_total", m->merged,
		      "Data that merges which came to their end had to move.");
	print_counter(out, "kwsfs_exported_bytes_total", m->exported,
		      "Bytes that were read from images in the mount; not those that the kernel had "
		      "in its cache.");
}

/* Those that somebody waits for are there from the start: a rate needs a first value. */
static bool is_shown(const struct engine_metrics *m, int code)
{
	return m->errors[code] || code == EIO || code == ENOSPC || code == EHOSTDOWN ||
	       code == ETIMEDOUT || code == EUCLEAN;
}

static void print_errors(FILE *out, const struct engine_metrics *m)
{
	prom_metric(out, "kwsfs_errors_total", "counter",
		    "Operations that were refused or failed, by the name of the errno; repetitions of "
		    "a background failure count once.");
	for (int code = 1; code < ERRNO_END; code++) {
		cleanup_free char *labels = is_shown(m, code) ?
			label("errno", strerrorname_np(code) ?: "unknown") : NULL;

		if (labels)
			prom_sample(out, "kwsfs_errors_total", labels, m->errors[code]);
	}
}

static uint64_t count(const struct histogram *h)
{
	uint64_t n = 0;

	for (size_t i = 0; i <= h->n; i++)
		n += h->counts[i];
	return n;
}

static void print_recoveries(FILE *out, const struct engine_metrics *m)
{
	prom_metric(out, "kwsfs_recoveries_total", "counter",
		    "Recoveries of VMs: another one was started (done), or ran already (told), or "
		    "there is none (failed).");
	prom_sample(out, "kwsfs_recoveries_total", "result=\"done\"", count(&m->recoveries));
	prom_sample(out, "kwsfs_recoveries_total", "result=\"told\"", m->recoveries_told);
	prom_sample(out, "kwsfs_recoveries_total", "result=\"failed\"", m->recoveries_failed);
}

static void print_jobs(FILE *out, const struct engine_metrics *m)
{
	prom_metric(out, "kwsfs_jobs", "gauge", "VMs by what their background job does.");
	prom_sample(out, "kwsfs_jobs", "state=\"running\"", m->jobs_running);
	prom_sample(out, "kwsfs_jobs", "state=\"waiting\"", m->jobs_waiting);
	prom_sample(out, "kwsfs_jobs", "state=\"failed\"", m->jobs_failed);
}

#define ORPHANS_AGE_MS (3600 * 1000)

/* They are looked for when somebody lists them; and for this, now and then. */
static void print_orphans(struct fs *fs, FILE *out)
{
	cleanup(orphan_list_unref_p) struct orphan_list *list = engine_orphans(fs->e);
	uint64_t bytes = 0;

	engine_orphans_refresh_later(fs->e, ORPHANS_AGE_MS);
	if (!list->looked)
		return;
	for (size_t i = 0; i < list->n; i++)
		bytes += list->orphans[i].allocated;
	print_gauge(out, "kwsfs_orphans", list->n,
		    "Images that nobody needs, as of the last look: see lost+found.");
	print_gauge(out, "kwsfs_orphans_bytes", bytes, "Room that they occupy.");
}

static void print_store(struct fs *fs, FILE *out)
{
	struct statvfs st;

	if (engine_statvfs(fs->e, &st) < 0)
		return;
	print_gauge(out, "kwsfs_store_size_bytes", (uint64_t)st.f_blocks * st.f_frsize,
		    "Size of the file system of the store; without one, of the state.");
	print_gauge(out, "kwsfs_store_free_bytes", (uint64_t)st.f_bavail * st.f_frsize,
		    "Room that is free on it.");
}

static void print_pools(struct fs *fs, FILE *out)
{
	cleanup(pool_list_unref_p) struct pool_list *list = engine_pools(fs->e);

	prom_metric(out, "kwsfs_pool_spares_wanted", "gauge", "Spares that the pool shall keep ready.");
	for (size_t i = 0; i < list->n; i++) {
		cleanup_free char *pool = label("pool", list->pools[i].name);

		prom_sample(out, "kwsfs_pool_spares_wanted", pool, list->pools[i].settings.spare);
	}
	prom_metric(out, "kwsfs_pool_spares_ready", "gauge", "Spares of the pool that can be taken.");
	for (size_t i = 0; i < list->n; i++) {
		cleanup_free char *pool = label("pool", list->pools[i].name);
		struct pool_health health;

		engine_pool_health(fs->e, &list->pools[i], &health);
		prom_sample(out, "kwsfs_pool_spares_ready", pool, health.ready);
		free(health.error);
	}
}

int show_metrics(struct fs *fs, const struct node *n, FILE *out, struct err *err)
{
	cleanup(vm_list_unref_p) struct vm_list *list = engine_vms(fs->e);
	cleanup(subjects_clear) struct subjects s = subjects(fs, list);
	struct engine_metrics m;

	engine_metrics(fs->e, &m);
	prom_metric(out, "kwsfs_build_info", "gauge", "The version of kwsfs.");
	prom_sample(out, "kwsfs_build_info", "version=\"" KWSFS_VERSION "\"", 1);
	print_gauge(out, "kwsfs_libvirt_up", engine_connected(fs->e),
		    "Whether the connection to libvirt stands.");
	print_gauge(out, "kwsfs_vms", s.n, "VMs.");
	print_times(out, &m);
	print_errors(out, &m);
	print_recoveries(out, &m);
	print_jobs(out, &m);
	print_orphans(fs, out);
	print_store(fs, out);
	print_snapshots(out, &s);
	print_depths(fs, out, &s);
	print_tombstones(out, &s);
	print_held(out, &s);
	print_pools(fs, out);
	return 0;
}
